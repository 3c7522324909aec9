"""What somebody meant with an override line that cannot be read, or whose value is of another type. Pure.

Quotes help text alone. Keys that take numbers and choices get their line as it has to be written.
"""

from __future__ import annotations

import re
from functools import cache

from runplan.keys import described
from runplan.pasting import pasted_word
from runplan.suggest import as_text, did_you_mean, quoted

_SETTING = re.compile(r"[\s;,&|]+(?=[+~]{0,2}([A-Za-z_][\w./-]*)(?:@[\w.]+)?\s*=)")
"""Where another setting begins in a line."""
_SEPARATORS = re.compile(r"[\s,;|/]+")
_LEVEL = re.compile(r"[\w.+-]+")
_KEY = re.compile(r"[\w./@-]+", re.ASCII)
_PLAIN = re.compile(r"[\w./-]+")
_BRACKETS = re.compile(r"[\[({](.*)[\])}]")
TEXT = "text"


def meant(line: str) -> tuple[str, str] | None:
    """What is wrong with a line, in words, and how to write it; None where nobody can tell more than its reader.

    >>> meant("model=1B lora.rank=4")
    ('holds several settings', 'write each as a word of its own: model=1B lora.rank=4')
    >>> meant("lora.rank=4,,8")
    ('lacks a value beside a comma', 'write lora.rank=4,8')
    >>> meant("lora.rank=4;8")
    ('does not have commas alone between its values', 'write lora.rank=4,8')
    """
    settings = _settings(line)
    key, _, value = line.partition("=")
    name = key.strip().lstrip("+~")
    if len(settings) > 1:
        either = f"; if it is one text, {quoted(line)}" if _kind(name) == TEXT else ""
        return "holds several settings", f"write each as a word of its own: {' '.join(map(_written, settings))}{either}"
    if not _KEY.fullmatch(name):
        return "does not begin with a key", did_you_mean(name, _kinds(), "`runplan --help` lists the groups of keys")
    if line != f"{key.strip()}={value.strip()}":
        return "has blanks around =", f"write {_written(f'{key.strip()}={value.strip()}')}"
    lacks, written = levels(key, value)
    return (lacks, f"write {written}") if lacks else None


def levels(key: str, value: str) -> tuple[str, str]:
    """What several values of a key of numbers or names lack, and their line; nothing where they are none.

    >>> levels("lora.rank", "4 8"), levels("lora.rank", "four"), levels("prompt", "4 8")
    (('does not have commas alone between its values', 'lora.rank=4,8'), ('', ''), ('', ''))
    """
    kind = _kind(key.lstrip("+"))
    brackets = _BRACKETS.fullmatch(value)
    inner = brackets[1] if brackets else value
    found = [level for level in _SEPARATORS.split(inner.strip("=\"' ")) if level]
    if kind in {None, TEXT, "mapping"} or not found or not all(map(_LEVEL.fullmatch, found)):
        return "", ""
    joined = ",".join(found)
    written = _written(f"{key}=[{joined}]" if kind == "list" else f"{key}={joined}")
    if written == f"{key}={value}":
        return "", ""
    if not re.search(r"[^\w.+,-]", inner) and inner != joined:
        return "lacks a value beside a comma", written
    lacks = "does not have commas alone between its values" if len(found) > 1 else ""
    lacks = "has brackets around its values" if inner == joined else lacks
    lacks = "has = twice" if inner.startswith("=") else lacks
    return (lacks, written) if lacks and kind != "list" else ("", "")


def several(key: str, value: str) -> str:
    """The line of several values that came as one text; empty where it is one.

    >>> several("lora.rank", "4,8"), several("model", "1B 3B"), several("model", "1C")
    ('lora.rank=4,8', 'model=1B,3B', '')
    """
    written = levels(key, value)[1]
    return written or (f"{key}={value}" if "," in value and levels(key, f"{value},")[1] == f"{key}={value}" else "")


def _settings(line: str) -> list[str]:
    """The settings of a line, as long as each begins with a key or a group that there is."""
    starts = [0, *(found.end() for found in _SETTING.finditer(line) if found[1] in _kinds())]
    parts = [line[start:end] for start, end in zip(starts, [*starts[1:], len(line)], strict=True)]
    return [part.strip(" \t\r\n;,&|") for part in parts]


def _written(setting: str) -> str:
    key, equals, value = setting.partition("=")
    if _kind(key.lstrip("+")) == TEXT and not _PLAIN.fullmatch(value):
        setting = f"{key}{equals}{as_text(value)}"
    return pasted_word(setting)


def _kind(name: str) -> str | None:
    """What a key takes, nothing for a group's option; None where there is no such key."""
    return _kinds().get(name)


@cache
def _kinds() -> dict[str, str]:
    return {"experiment": "", "hydra": TEXT} | {key.name: key.kind for key in described()}
