"""Simple YAML as dotted keys and plain values.

A real YAML reader costs milliseconds a file and fails on damaged text; the few keys wanted here are plain, so lines are
read as they come and what is not understood is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from runplan.priors.letters import LINE_PREFIX

_LINE = re.compile(LINE_PREFIX + rb"( *)(?:(- )|([A-Za-z_][\w.]*):)[ \t]*([^\r\n]*?)[ \t]*\r?$")
_LONGEST_LINE = 2000
_MARK = re.compile(rb"[{}\[\],'\"]")
# A key of the first depth; `rank0:` may be a mark before each line.
_NEXT_SECTION = re.compile(rb"\n(?=[A-Za-z_][\w.]*+:)(?!rank\d)")

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_DEEPEST = 6
"""References to references that are followed."""

Flat = dict[str, Any]
"""Dotted key → scalar or list of scalars."""


def flat_yaml(text: bytes) -> Flat:
    """Dotted keys and plain values of simple block YAML; lists of scalars included, anything else left out."""
    values: Flat = {}
    for part in [text] if b"\r" in text else _NEXT_SECTION.split(text):
        for key, value in _section(part):
            values[key] = list(value) if value.__class__ is tuple else value
    return values


def resolved(values: Flat) -> Flat:
    """Values with `${key}` replaced by what that key holds; those that name something else are left out.

    Of a path with an unknown beginning the rest is kept.

    >>> resolved({"size": 8, "batch_size": "${size}", "seed": "${oc.env:SEED}", "path": "${oc.env:HOME}/words.json"})
    {'size': 8, 'batch_size': 8, 'path': 'words.json'}
    """
    if not any(_open(value) for value in values.values()):
        return values
    found = {key: _resolved(values, value, _DEEPEST) if _open(value) else value for key, value in values.items()}
    return {key: value for key, value in found.items() if value is not None}


def _open(value: Any) -> bool:
    return any(isinstance(one, str) and "${" in one for one in (value if isinstance(value, list) else [value]))


def _resolved(values: Flat, value: Any, depth: int) -> Any:
    if not isinstance(value, str) or depth == 0:
        return None
    whole = _REFERENCE.fullmatch(value)
    if whole is not None:
        named = values.get(whole[1])
        return _resolved(values, named, depth - 1) if _open(named) else named
    parts = {match[0]: _resolved(values, match[0], depth - 1) for match in _REFERENCE.finditer(value)}
    for reference, part in parts.items():
        if isinstance(part, str | int) and not isinstance(part, bool):
            value = value.replace(reference, str(part))
    if "${" not in value:
        return value
    rest = value.rpartition("}")[2]
    return rest.lstrip("/") or None if rest.startswith("/") else None


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
        if value.__class__ is dict:
            values.update({f"{dotted}.{inner}": plain(one) for inner, one in value.items()})
        elif value is not None:
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
    if dash:
        return len(indent), None, _scalar(value)
    flow = value[:1] == b"{" and value[-1:] == b"}"
    return len(indent), key.decode(), _mapping(value) if flow else yaml_value(value)


def _mapping(raw: bytes) -> Flat:
    """A mapping on one line, in YAML's words or Python's: dotted keys and plain values, lists as tuples."""
    values: Flat = {}
    for item in _items(raw[1:-1]):
        key, _, value = (part.strip() for part in item.partition(b":"))
        name = key.strip(b"'\"").decode("utf-8", "replace")
        if value[:1] == b"{" and value[-1:] == b"}":
            values.update({f"{name}.{inner}": one for inner, one in _mapping(value).items()})
        elif name and (one := yaml_value(value)) is not None:
            values[name] = one
    return values


def _items(raw: bytes) -> Iterator[bytes]:
    """What commas part, but those within brackets and quotes."""
    start, depth, quote = 0, 0, b""
    for match in _MARK.finditer(raw):
        mark = match[0]
        if quote:
            quote = b"" if mark == quote else quote
        elif mark in b"'\"":
            quote = mark
        elif mark == b",":
            if depth == 0:
                yield raw[start : match.start()]
                start = match.end()
        else:
            depth += 1 if mark in b"{[" else -1
    yield raw[start:]


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
