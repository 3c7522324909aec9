"""Candidates for the word at the cursor: verbs, options, config groups and their options, keys, values, folders."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

from runplan.completion.line import Line
from runplan.help_text import groups, named_folders

Verbs = Mapping[str, tuple[Callable[[Sequence[str]], int], str]]

OPTIONS = (
    "--help", "--version", "--multirun", "--show", "--cfg", "--resolve", "--package", "--info", "--config-dir",
    "--config-name", "--config-path", "--hydra-help", "--shell-completion",
)  # fmt: skip
AFTER_OPTION: Mapping[str, tuple[str, ...]] = {
    "--cfg": ("job", "hydra", "all"),
    "-c": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "-i": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
_FOLDER_OPTIONS = frozenset({"--config-dir", "-cd", "--config-path", "-cp"})
_HYDRA_KEYS = ("hydra.sweep.dir", "hydra.run.dir", "hydra.searchpath")
_FILE_KEYS = frozenset(
    {
        *("model.path", "dataset.path", "dataset.word_list", "evaluation.script", "recipe.custom", "priors.paths"),
        *("site.models_dir", "site.data_dir", "site.tasks_dir", "site.output_root", "site.venv", "site.priors"),
        *_HYDRA_KEYS,
    }
)
_GPU_KEYS = frozenset({"priors.gpu", "site.gpu"})
_VALUES: Mapping[str, tuple[str, ...]] = {"packed": ("auto", "true", "false")}
_MARKS = re.compile(r"^(?:\+\+?|~)?")
_CHOICE = re.compile(r"(--[a-z][a-z-]*)[ =]\{([^}]*)\}")


def candidates(line: Line, verbs: Verbs, cwd: Path) -> list[str]:
    """Words that the one at the cursor may become, whole; a finished one ends with a space.

    Args:
        line: what was typed.
        verbs: word → (function, line of the help), as the command line has them.
        cwd: where relative folders begin.
    """
    if line.words and line.words[0] in verbs:
        return _of_verb(line, verbs[line.words[0]][0], cwd)
    if line.words[:1] == ("help",):
        return [word.replace("=", " ") for word in _keys(line.current, groups()) if not word.startswith("+")]
    known = groups(named_folders(line.words))
    if line.current.startswith("-") or (line.words and line.words[-1] in {*AFTER_OPTION, *_FOLDER_OPTIONS}):
        return _of_option(line, cwd)
    if "=" in line.current:
        return _values(line.current, cwd, known)
    return [*(_fitting([*verbs, "help"], line.current) if not line.words else []), *_keys(line.current, known)]


def _of_option(line: Line, cwd: Path) -> list[str]:
    """Options, and what may follow one."""
    before = line.words[-1] if line.words else ""
    if before in _FOLDER_OPTIONS:
        return _paths(line.current, cwd, folders_only=True)
    return _fitting(AFTER_OPTION.get(before, OPTIONS), line.current)


def _fitting(words: Iterable[str], current: str) -> list[str]:
    return [f"{word} " for word in words if word.startswith(current)]


def _of_verb(line: Line, verb: Callable[[Sequence[str]], int], cwd: Path) -> list[str]:
    """A verb's options, as its own help has them, and folders: groups, logs, models."""
    before = line.words[-1]
    if line.current.startswith("-") or before.startswith("--"):
        text = _help_of(verb)
        choices = dict(_CHOICE.findall(text))
        if before in choices and not line.current.startswith("-"):
            return _fitting(choices[before].split(","), line.current)
        if line.current.startswith("-"):
            return _fitting(sorted({*re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)}), line.current)
    return _paths(line.current, cwd, folders_only=True)


def _help_of(verb: Callable[[Sequence[str]], int]) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        verb(["--help"])
    return text.getvalue()


def _keys(current: str, known: Mapping[str, list[str]]) -> list[str]:
    """`model=`, `lora.`, `lora.rank=`: one level of the schema at a time; groups outside of it are added with `+`."""
    mark = _MARKS.match(current)
    sign = mark.group() if mark else ""
    prefix = current[len(sign) :]
    if prefix.startswith("hydra"):
        return [f"{sign}{key}=" for key in _HYDRA_KEYS if key.startswith(prefix)]
    schema = _schema()
    outer = prefix.rpartition(".")[0]
    if sign == "+":
        from runplan.config import OPEN_KEYS  # noqa: PLC0415 - as in `_schema`

        names = [f"{key}." for key in OPEN_KEYS]
    else:
        names = [name for key in schema if key.rpartition(".")[0] == outer for name in _forms(key, schema, known)]
    if sign == "~":
        return _fitting((f"~{group}" for group in known if group in schema), current)
    found = [f"{sign}{name}" for name in names if name.startswith(prefix)]
    if sign or not prefix or not found:  # `exp` becomes `+experiment=`, but does not stand beside `epochs=`
        found += [f"{sign or '+'}{group}=" for group in known if group not in schema and group.startswith(prefix)]
    return found


def _forms(key: str, schema: Mapping[str, Any], known: Mapping[str, list[str]]) -> list[str]:
    """`lora=` where it is chosen from a group, `lora.` where it has keys, `seed=` else."""
    if not is_dataclass(schema[key]):
        return [f"{key}="]
    return [*([f"{key}="] if key in known else []), f"{key}."]


def _schema(cls: Any = None, prefix: str = "") -> dict[str, Any]:
    """Every dotted key → its type."""
    if cls is None:
        from runplan.config import Config as cls  # noqa: N813, PLC0415 - options and folders do not wait for OmegaConf
    hints = get_type_hints(cls)
    found: dict[str, Any] = {}
    for item in fields(cls):
        found[f"{prefix}{item.name}"] = hints[item.name]
        if is_dataclass(hints[item.name]):
            found |= _schema(hints[item.name], f"{prefix}{item.name}.")
    return found


def _values(current: str, cwd: Path, known: Mapping[str, list[str]]) -> list[str]:
    """Values behind `key=`, or behind the last comma of a sweep; those that the sweep has are not offered again."""
    name, _, value = current.partition("=")
    key = name.lstrip("+~")
    if key in _FILE_KEYS:
        opening = "[" if value.startswith("[") or key in {"priors.paths", "site.priors"} else ""
        head, comma, last = value.removeprefix("[").rpartition(",")
        return [f"{name}={opening}{head}{comma}{path}" for path in _paths(last, cwd)]
    given, comma, last = value.rpartition(",")
    used = {*given.split(",")}
    return [
        f"{name}={given}{comma}{word}" for word in _words_for(key, known) if word.startswith(last) and word not in used
    ]


def _words_for(key: str, known: Mapping[str, list[str]]) -> Sequence[str]:
    if key in known:
        return known[key]
    if key in _GPU_KEYS:
        return known.get("resources", [])
    if key in _VALUES:
        return _VALUES[key]
    kinds = _kinds(_schema().get(key))
    if bool in kinds:
        return ["true", "false"]
    return [member.name for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum) for member in kind]


def _kinds(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__args__", (hint,)) if hint is not None else ()


def _paths(current: str, cwd: Path, *, folders_only: bool = False) -> list[str]:
    """Folders (and files) that a path may go on with; a folder ends with `/`, so that the next Tab looks inside."""
    folder, slash, start = current.rpartition("/")
    place = cwd / os.path.expanduser(f"{folder}{slash}")  # noqa: PTH111 - `~nobody` stays as it is
    try:
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except OSError:
        return []
    found = []
    for entry in entries:
        if not entry.name.startswith(start) or (entry.name.startswith(".") and not start) or "\n" in entry.name:
            continue
        is_folder = _is_folder(entry)
        if is_folder or not folders_only:
            found.append(f"{folder}{slash}{entry.name}{'/' * is_folder}")
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
