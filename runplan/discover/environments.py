"""Conda and virtual environments of this machine, and which trainers they have. Starts no Python of theirs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from runplan.discover.found import Environment
from runplan.paths import home
from runplan.read.environment import packages_in

_MOST = 200
"""Environments that are looked at."""


def environments(conda_says: str, cwd: Path) -> tuple[Environment, ...]:
    """Every environment that is known without searching: of conda, of this shell, of the current folder.

    Args:
        conda_says: what `conda env list --json` printed; empty where there is no conda, or no answer.
        cwd: where `.venv` and `venv` are looked for.
    """
    root = _conda_root()
    listed = [*_of_json(conda_says), *_of_file(), *_below(root)]
    conda = dict.fromkeys(str(Path(path)) for path in listed if path)
    active = os.environ.get("CONDA_PREFIX", "")
    if active:
        conda.setdefault(active)
    found = [
        _environment("conda", _conda_name(path, root), path, active=path == active)
        for path in [*conda][:_MOST]
        if _is_dir(path)
    ]
    venv = os.environ.get("VIRTUAL_ENV") or (sys.prefix if sys.prefix != sys.base_prefix else "")
    others = dict.fromkeys(filter(None, [venv, str(cwd / ".venv"), str(cwd / "venv")]))
    found += [
        _environment("venv", path, path, active=path == venv)
        for path in others
        if path not in conda and _is_file(f"{path}/bin/activate")
    ]
    return tuple(found)


def _conda_root() -> str:
    """Where conda itself is installed, as its own variables say."""
    program = os.environ.get("CONDA_EXE", "")
    return str(Path(program).parent.parent) if program else os.environ.get("CONDA_ROOT", "")


def _of_json(text: str) -> list[str]:
    try:
        said = json.loads(text).get("envs", [])
    except (ValueError, AttributeError, RecursionError):
        return []
    return [path for path in said if isinstance(path, str)] if isinstance(said, list) else []


def _of_file() -> list[str]:
    """The list that conda keeps of every environment its user made."""
    try:
        lines = (home() / ".conda/environments.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line.strip() for line in lines if line.strip().startswith("/")]


def _below(root: str) -> Iterable[str]:
    folders = [*os.environ.get("CONDA_ENVS_PATH", "").split(os.pathsep), f"{root}/envs" if root else ""]
    for folder in filter(None, folders):
        try:
            yield from (str(path) for path in sorted(Path(folder).iterdir()))
        except OSError:
            continue


def _conda_name(path: str, root: str) -> str:
    """What `conda activate` takes: the name below an `envs` folder, `base`, else the path."""
    place = Path(path)
    if path == root:
        return "base"
    return place.name if place.parent.name in {"envs", ".conda"} else path


def _environment(kind: str, name: str, path: str, *, active: bool) -> Environment:
    found = packages_in(Path(path))
    return Environment(kind, name, path, found.get("torchtune"), active, found.get("trl"))


def _is_dir(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except OSError:
        return False


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:
        return False
