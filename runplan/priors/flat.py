"""Simple YAML as dotted keys and plain values.

A real YAML reader costs milliseconds a file and fails on damaged text; the few keys wanted here are plain, so lines are
read as they come and what is not understood is left out.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from runplan.priors.letters import LINE_PREFIX

_LINE = re.compile(LINE_PREFIX + rb"( *)(?:(- )|([A-Za-z_][\w.]*):)[ \t]*([^\r\n]*?)[ \t]*\r?$")
_LONGEST_LINE = 2000
# A key of the first depth; `rank0:` may be a mark before each line.
_NEXT_SECTION = re.compile(rb"\n(?=[A-Za-z_][\w.]*+:)(?!rank\d)")

Flat = dict[str, Any]
"""Dotted key → scalar or list of scalars."""


def flat_yaml(text: bytes) -> Flat:
    """Dotted keys and plain values of simple block YAML; lists of scalars included, anything else left out."""
    values: Flat = {}
    for part in [text] if b"\r" in text else _NEXT_SECTION.split(text):
        for key, value in _section(part):
            values[key] = list(value) if value.__class__ is tuple else value
    return values


@lru_cache(maxsize=4096)
def _section(text: bytes) -> tuple[tuple[str, Any], ...]:
    """Keys and values, lists as tuples; runs of one sweep share most of their sections."""
    values: Flat = {}
    path: list[tuple[int, str]] = []
    for raw in text.split(b"\n"):
        line = _line(raw) if len(raw) <= _LONGEST_LINE else None
        if line is None:
            continue
        depth, key, value = line
        if key is None:
            if path and path[-1][0] <= depth and isinstance(items := values.setdefault(path[-1][1], []), list):
                items.append(value)
            continue
        while path and path[-1][0] >= depth:
            path.pop()
        dotted = f"{path[-1][1]}.{key}" if path else key
        path.append((depth, dotted))
        if value is not None:
            values[dotted] = plain(value)
    return tuple((key, tuple(value) if isinstance(value, list) else value) for key, value in values.items())


def plain(value: Any) -> Any:
    """A list may be added to, hence must not be the one that is kept for other logs."""
    return list(value) if isinstance(value, tuple) else value


@lru_cache(maxsize=4096)
def _line(raw: bytes) -> tuple[int, str | None, Any] | None:
    """Depth, key (None: a list's item) and value of a line; runs of one sweep share most of their lines."""
    match = _LINE.match(raw)
    if not match:
        return None
    indent, dash, key, value = match.groups()
    return len(indent), None if dash else key.decode(), _scalar(value) if dash else yaml_value(value)


def yaml_value(raw: bytes) -> Any:
    """A YAML value on one line: a scalar, or a list of them as a tuple."""
    if raw.startswith(b"[") and raw.endswith(b"]"):
        return tuple(_scalar(item) for item in raw[1:-1].split(b",") if item.strip())
    return _scalar(raw)


def _scalar(raw: bytes) -> Any:
    """A YAML scalar; None for null and for nothing."""
    text = raw.decode("utf-8", "replace").strip()
    if text[:1] in {"'", '"'}:
        end = text.find(text[0], 1)
        return text[1:end] if end > 0 else text[1:]
    text = text.split(" #", 1)[0].rstrip()
    if text in {"", "null", "~", "None", "|", ">"} or text.startswith("#"):
        return None
    lowered = text.lower()
    if lowered in {"true", "false"}:
        return lowered == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
