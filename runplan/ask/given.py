"""Answers that a file or flags give: levels for keys that the interview asks, override lines for all others. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runplan.ask.lines import ORDER, RAW, Answer, written
from runplan.ask.questions import State
from runplan.ask.settings import BY_KEY, OTHER, Form
from runplan.ask.typed import NotUnderstood, read_typed
from runplan.errors import Problem
from runplan.units import short_number

_GRAMMAR = frozenset("([{'\"\\")
"""Signs that only mean something in Hydra's grammar: such a value stays as it is written."""


def given_state(document: Any, lines: Sequence[str], place: str) -> tuple[State, list[Problem]]:
    """The state in which answers are given, and everything that cannot be an answer.

    Args:
        document: of the answers file: keys with a value or a list of levels; groups may be nested. None without one.
        lines: `KEY=VALUE,VALUE` of the flags; they win over the file.
        place: name of the answers file.
    """
    problems: list[Problem] = []
    answers: dict[str, Answer] = {}
    others: dict[str, str] = {}
    for key, value in _flat(document if document is not None else {}, place, problems):
        try:
            _take_value(key, value, answers, others)
        except NotUnderstood as error:
            problems.append(Problem(str(error), f"{place}: {key}", "write a value, or a list of values to vary it"))
    for line in lines:
        key, equals, value = line.partition("=")
        if not equals or not key:
            problems.append(Problem(f"{line!r} sets nothing", "--set", f"write {line.strip('=') or 'KEY'}=VALUE"))
            continue
        answers.pop(key, None)
        others.pop(key, None)
        try:
            _take_line(key, value, answers, others)
        except NotUnderstood as error:
            problems.append(Problem(str(error), f"--set {key}", "write a value, or several with commas to vary it"))
    given = frozenset({*answers, *others})
    if others:
        answers[OTHER] = tuple(others.values())
    return State(answers=answers, given=given | ({OTHER} if others else frozenset())), problems


def _flat(document: Any, place: str, problems: list[Problem], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values."""
    if not isinstance(document, Mapping):
        what = f"holds a {type(document).__name__}, not keys with answers"
        problems.append(Problem(what, place, "write KEY: VALUE, a line each"))
        return
    for name, value in document.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, place, problems, f"{key}.")
        else:
            yield key, value


def _take_value(key: str, value: Any, answers: dict[str, Answer], others: dict[str, str]) -> None:
    if value is None and key in BY_KEY:  # left open on purpose: not asked, either
        answers[key] = ()
        return
    levels = value if isinstance(value, list) else [value]
    if not levels or any(isinstance(level, list | Mapping) for level in levels):
        raise NotUnderstood(f"{value!r} is no answer")
    texts = tuple(map(_text, levels))
    if key not in ORDER:
        raw = (_written(level, text) for level, text in zip(levels, texts, strict=True))
        others[key] = f"{key}={','.join(raw)}"
        return
    setting = BY_KEY.get(key)
    if setting is not None and setting.form in {Form.whole, Form.number}:
        texts = tuple(read_typed(text, setting.form)[0] for text in texts)
    answers[key] = texts


def _text(level: Any) -> str:
    if level is None:
        return "null"
    if isinstance(level, bool):
        return str(level).lower()
    return short_number(level) if isinstance(level, int | float) else str(level)


def _written(level: Any, text: str) -> str:
    return written(text) if isinstance(level, str) else text


def _take_line(key: str, value: str, answers: dict[str, Answer], others: dict[str, str]) -> None:
    if key not in ORDER or _GRAMMAR & set(value) or (key in RAW and not value):
        others[key] = f"{key}={value}"
        return
    setting = BY_KEY.get(key)
    answers[key] = read_typed(value, setting.form if setting else Form.texts)
