"""What people type, read and checked: levels with commas, GPUs as `2 h100-80`, override lines. Pure."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterable

from runplan.ask.lines import Answer
from runplan.ask.settings import Form
from runplan.suggest import did_you_mean, listed

_GPUS = re.compile(r"(?:(?P<before>\d+)\s*(?:[x×*]\s*|\s+))?(?P<name>[A-Za-z]\S*)(?:\s+(?:[x×*]\s*)?(?P<after>\d+))?")


class NotUnderstood(ValueError):  # noqa: N818 - what happened, in a word; it never leaves the interview
    """An answer that cannot be taken, and why, in words for the one who gave it."""


def read_typed(text: str, form: Form) -> Answer:
    """The levels that a typed line names.

    Raises:
        NotUnderstood: the line is no such answer.
    """
    text = text.strip()
    if form is Form.text:
        return ("" if text == '""' else text,)
    if form is Form.lines:
        return _lines(text)
    levels = _split(text)
    if form is Form.whole:
        _check(levels, int, "whole number")
    elif form is Form.number:
        _check(levels, float, "number")
    return tuple(dict.fromkeys(levels))


def shown(levels: Iterable[str], form: Form) -> str:
    """Levels as one would type them again."""
    levels = tuple(levels)
    if form is Form.text:
        return levels[0] if levels and levels[0] else '""'
    if form is Form.lines:
        return shlex.join(levels)
    return ",".join(f'"{level.replace(chr(34), chr(34) * 2)}"' if re.search(r'[,"]|^\s|\s$', level) else level
                    for level in levels)  # fmt: skip


def _split(text: str) -> list[str]:
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise NotUnderstood(f"{text}: {error}; put a value that holds a comma in double quotes") from error
    levels = [level.strip() for level in rows[0]] if rows else []
    if not levels or not all(levels):
        raise NotUnderstood("a value is missing; write one, or several with commas between them")
    return levels


def _check(levels: Iterable[str], read: type[int | float], what: str) -> None:
    for level in levels:
        try:
            fine = level.isascii() and "_" not in level and not level.startswith("+") and read(level) is not None
        except ValueError:
            fine = False
        if not fine:
            raise NotUnderstood(f"{level!r} is no {what}")


def _lines(text: str) -> Answer:
    try:
        lines = shlex.split(text)
    except ValueError as error:
        raise NotUnderstood(f"{error}; quote as in a shell") from error
    wrong = [line for line in lines if "=" not in line.strip("=") and not line.startswith("~")]
    if wrong or not lines:
        raise NotUnderstood(f"{wrong[0] if wrong else 'nothing'}: write KEY=VALUE, or KEY=VALUE,VALUE to vary it")
    return tuple(lines)


def read_gpus(text: str, known: Iterable[str], gpu: str, gpus: str) -> tuple[str, str]:
    """GPU type and number from `2`, `h100-80`, `2 h100-80`, `2x h100-80` or `h100-80 x2`.

    Args:
        text: what was typed.
        known: GPU types.
        gpu: the type where only a number is given.
        gpus: the number where only a type is given.

    Raises:
        NotUnderstood: no such type, or no such number.
    """
    text, known = text.strip(), tuple(known)
    if text.isdecimal():
        name, number = gpu, text
    else:
        found = _GPUS.fullmatch(text)
        if found is None or (found["before"] and found["after"]):
            raise NotUnderstood(f"{text!r}: write a number, a GPU type, or both: 2 {gpu}")
        name, number = found["name"], found["before"] or found["after"] or gpus
    if name not in known:
        fix = did_you_mean(name, known, f"choose among {listed(known)}")
        raise NotUnderstood(f"there is no GPU type {name}; {fix}")
    if int(number) < 1:
        raise NotUnderstood("a job needs at least 1 GPU")
    return name, str(int(number))
