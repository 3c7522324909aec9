"""Everything that is wrong with one config file of the user's, with line numbers; Hydra stops at the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runplan.config import OPEN_KEYS, Config, iter_keys
from runplan.errors import Problem
from runplan.paths import CONF_DIR, user_conf_dirs
from runplan.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NOT_KEYS = ("defaults", "hydra")
_GLOBAL = "# @package _global_"


def _folders() -> list[Path]:
    """Folders of config groups, the user's first."""
    return [*(conf.path for conf in user_conf_dirs()), CONF_DIR]


def find(name: str) -> Path | None:
    """The file of a config such as `lora/mine`; the user's come first."""
    return next((path for folder in _folders() if (path := folder / f"{name}.yaml").is_file()), None)


def option_files(group: str) -> list[str]:
    """Names of the files of a group."""
    return sorted({path.stem for folder in _folders() for path in (folder / group).glob("*.yaml")}) if group else []


def options_that_say(group: str, word: str) -> list[str]:
    """Options of a group whose file has a text with `word` in it, whatever is between its letters: `Llama-3.2-1B`."""
    wanted = _letters(word)
    return [name for name in option_files(group) if len(wanted) > 2 and wanted in _letters(_values(group, name))]


def _values(group: str, name: str) -> str:
    path = find(f"{group}/{name}")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path else []
    return " ".join(line.partition(":")[2] for line in lines if not line.lstrip().startswith("#"))


def _letters(text: str) -> str:
    return "".join(char for char in text.lower() if char.isalnum())


def find_circle() -> list[str]:
    """Files of one group whose defaults lists lead back to the first, as `site/a, site/b, site/a`; empty for none."""
    for conf in user_conf_dirs():
        for path in sorted(conf.path.glob("*/*.yaml")):
            chain = [f"{path.parent.name}/{path.stem}"]
            while (following := _next_in_circle(chain)) is not None:
                chain.append(following)
                if following == chain[0]:
                    return chain
                if following in chain[:-1]:
                    break
    return []


def _next_in_circle(chain: list[str]) -> str | None:
    """The first file of the same group that a file's defaults list names."""
    group, path = chain[-1].rpartition("/")[0], find(chain[-1])
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) if path else None
    except (yaml.YAMLError, OSError, UnicodeDecodeError):
        return None
    defaults = values.get("defaults") if isinstance(values, dict) else None
    names = [name for name in defaults if isinstance(name, str)] if isinstance(defaults, list) else []
    return next((f"{group}/{name}" for name in names if name != "_self_"), None)


def undecodable() -> list[Path]:
    """The user's config files that are not UTF-8 text."""
    return [path for conf in user_conf_dirs() for path in sorted(conf.path.rglob("*.yaml")) if not _is_text(path)]


def _is_text(path: Path) -> bool:
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    return True


def file_problems(name: str) -> list[Problem]:
    """Unknown keys and values of the wrong type in a config such as `lora/mine`; empty when it cannot be found."""
    path = find(name)
    if path is None:
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    prefix = "" if text.startswith(_GLOBAL) or "/" not in name else name.rpartition("/")[0].replace("/", ".") + "."
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException, OSError):
        return []
    known = frozenset(iter_keys())
    return [
        problem
        for key, line, value in _entries(root, values, prefix, known)
        if (problem := _problem(key, value, known, f"{path}, line {line}"))
    ]


def _entries(node: Any, values: Any, prefix: str, known: frozenset[str]) -> Iterator[tuple[str, int, Any]]:
    """Key, line and value of every leaf of a YAML mapping; mappings under known groups are entered."""
    if not isinstance(node, yaml.MappingNode) or not isinstance(values, dict):
        return
    for name, inner in node.value:
        key = f"{prefix}{name.value}"
        if name.value in _NOT_KEYS or name.value not in values:
            continue
        value = values[name.value]
        if isinstance(value, dict) and key in known and key not in OPEN_KEYS:
            yield from _entries(inner, value, f"{key}.", known)
        else:
            yield key, name.start_mark.line + 1, value


def _problem(key: str, value: Any, known: frozenset[str], where: str) -> Problem | None:
    if key not in known:
        return Problem(f"there is no key {key}", where, did_you_mean(key, known, "`runplan --cfg job` lists all keys"))
    if value == MISSING:
        return None
    try:
        OmegaConf.update(OmegaConf.structured(Config), key, value, merge=True)
    except OmegaConfBaseException as error:
        return Problem(f"{key}: {str(error).splitlines()[0]}", where, f"`runplan help {key}` says what it takes")
    return None
