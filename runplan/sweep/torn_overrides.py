"""Overrides that the shell split into several words: spaces around `=` and commas, text without its quotes. Pure."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from runplan.errors import Problem
from runplan.keys import described
from runplan.pasting import pasted_word
from runplan.suggest import as_text

if TYPE_CHECKING:
    from collections.abc import Sequence

_LINE = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@-]*=|~")
_NUMBER = re.compile(r"[-+]?[\d.]+(?:e[-+]?\d+)?", re.IGNORECASE)


def torn_lines(words: Sequence[str]) -> tuple[list[str], list[Problem]]:
    """Words that are whole overrides, and a problem for each override that was torn apart.

    Args:
        words: the override words of a command, in order.
    """
    whole: list[str] = []
    problems: list[Problem] = []
    for line, pieces in _gathered(words):
        problem = _problem(line, pieces)
        if problem is None:
            whole += [line, *pieces]
        else:
            problems.append(problem)
    return whole, problems


def _gathered(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each word that begins a line, with those behind it that do not."""
    found: list[tuple[str, list[str]]] = []
    for word in words:
        if not found or _LINE.match(word) or word in _keys():
            found.append((word, []))
        else:
            found[-1][1].append(word)
    return found


def _problem(line: str, pieces: list[str]) -> Problem | None:
    """What is wrong with a line; None where it is whole, or where nobody knows what was meant."""
    key, equals, value = line.partition("=")
    if not pieces:
        return Problem(f"{line!r} is no override", line, f"write {line}=true") if line in _switches() else None
    said = repr(" ".join([line, *pieces]))
    joined = "".join([value, *pieces])
    if not equals or not value:
        value = joined.removeprefix("=")
        lacks = "has spaces around =" if "=" in said else "has no ="
        return _told(f"{said} {lacks}", key, f"{key}={value}") if value and (equals or key in _keys()) and key else None
    if line.endswith(",") or any(piece.startswith(",") or piece.endswith(",") for piece in pieces):
        return _told(f"{said} has spaces around a comma", key, f"{key}={joined}")
    if all(_NUMBER.fullmatch(each) for each in (value, *pieces)):
        return _told(f"{said} has no commas between its values", key, f"{key}={','.join([value, *pieces])}")
    if key in _texts():
        text = pasted_word(f"{key}={as_text(' '.join([value, *pieces]))}")
        return Problem(f"{said} came without its quotes", key, f"quote text for the shell and for Hydra: {text}")
    return None


def _told(what: str, key: str, line: str) -> Problem:
    return Problem(what, key.lstrip("+~"), f"write {pasted_word(line)}")


@cache
def _keys() -> frozenset[str]:
    return frozenset(key.name for key in described())


@cache
def _switches() -> frozenset[str]:
    """Keys without a group that are true or false: people write the name alone."""
    return frozenset(key.name for key in described() if key.kind == "true or false" and "." not in key.name)


@cache
def _texts() -> frozenset[str]:
    return frozenset(key.name for key in described() if key.kind == "text")
