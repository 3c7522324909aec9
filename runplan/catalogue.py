"""The models and GPU types of `conf/`, with which earlier logs are matched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from runplan.estimate.workload import Gpu
from runplan.facts import Architecture
from runplan.suggest import by_size

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ARCHITECTURE = tuple(item.name for item in fields(Architecture))


@lru_cache(maxsize=1024)
def _read(path: Path, modified_ns: int) -> Mapping[str, Any]:  # noqa: ARG001 - part of the key: an edited file is read again
    """One file's own keys; nothing of a file that is not YAML (composing it says so where it matters)."""
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a safe loader
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _composed(directory: Path, name: str, seen: frozenset[str] = frozenset()) -> dict[str, Any]:
    """A group file over the files its defaults list names in the same group, in their order."""
    path = directory / f"{name}.yaml"
    if name in seen or not path.is_file():
        return {}
    own = _read(path, path.stat().st_mtime_ns)
    merged: dict[str, Any] = {}
    own_keys = {key: value for key, value in own.items() if key != "defaults"}
    entries = [entry for entry in own.get("defaults", ()) if isinstance(entry, str)]
    for entry in entries if "_self_" in entries else [*entries, "_self_"]:
        merged.update(own_keys if entry == "_self_" else _composed(directory, entry, seen | {name}))
    return merged


def _group(conf_dirs: Iterable[Path], group: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """(option, composed keys) of a group; earlier folders win, as on Hydra's search path."""
    seen: set[str] = set()
    for conf_dir in conf_dirs:
        directory = Path(conf_dir) / group
        for path in sorted(directory.glob("*.yaml"), key=lambda file: by_size(file.stem)) if directory.is_dir() else ():
            if path.stem not in seen and not path.stem.startswith("_"):
                seen.add(path.stem)
                yield path.stem, _composed(directory, path.stem)


def options(conf_dirs: Iterable[Path], group: str) -> dict[str, dict[str, Any]]:
    """The options of a config group with their keys, interpolations as they stand.

    Args:
        conf_dirs: configuration folders, the user's own before the shipped one.
        group: `model`, `resources`, …
    """
    return dict(_group(conf_dirs, group))


def _known(value: Any) -> bool:
    return value is not None and not (isinstance(value, str) and ("${" in value or value == "???"))


def architecture(keys: Mapping[str, Any]) -> Architecture | None:
    """The architecture that a model file states in full, else None (`hf` reads it from a folder)."""
    given = {name: keys[name] for name in _ARCHITECTURE if _known(keys.get(name))}
    try:
        return Architecture(**given)
    except TypeError:
        return None


def models(conf_dirs: Iterable[Path]) -> dict[str, Architecture]:
    """Architectures of `conf/model` by every name a log may use: option, short and full name, folder, repository.

    Args:
        conf_dirs: configuration folders, the user's own before the shipped one.
    """
    found: dict[str, Architecture] = {}
    for option, keys in _group(conf_dirs, "model"):
        known = architecture(keys)
        if known is None:
            continue
        names = [option, *(keys.get(key) for key in ("name", "full_name", "folder", "repo_id"))]
        for name in names:
            if _known(name) and isinstance(name, str) and name:
                found.setdefault(name, known)
                found.setdefault(name.rsplit("/", 1)[-1], known)
    return found


def model_folders(conf_dirs: Iterable[Path]) -> dict[str, str]:
    """Options of `conf/model` by the name of the folder that holds the model.

    Args:
        conf_dirs: configuration folders, the user's own before the shipped one.
    """
    found: dict[str, str] = {}
    for option, keys in _group(conf_dirs, "model"):
        for name in (keys.get("folder"), str(keys.get("repo_id") or "").rpartition("/")[2]):
            if _known(name) and isinstance(name, str) and name:
                found.setdefault(name, option)
    return found


def gpus(conf_dirs: Iterable[Path]) -> dict[str, Gpu]:
    """GPU types of `conf/resources` by option name and by their `gpu` key.

    Args:
        conf_dirs: configuration folders, the user's own before the shipped one.
    """
    found: dict[str, Gpu] = {}
    for option, keys in _group(conf_dirs, "resources"):
        numbers = [
            keys.get(key) for key in ("gpu_memory_gib", "memory_bandwidth_gb_per_s", "bf16_tflops", "fp32_tflops")
        ]
        if not all(isinstance(number, int | float) for number in numbers):
            continue
        name = keys["gpu"] if _known(keys.get("gpu")) else option
        memory, bandwidth, bf16, fp32 = (float(number) for number in numbers if number is not None)
        gpu = Gpu(str(name), memory, bandwidth, bf16, fp32, bool(keys.get("supports_bf16", True)))
        found.setdefault(option, gpu)
        found.setdefault(gpu.name, gpu)
    return found
