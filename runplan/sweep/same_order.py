"""Overrides in another order than a group has them: the same plan, unless names come out differently. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from runplan.naming import relevant_overrides, run_names
from runplan.plan import Composed, RunType


def in_known_order(
    composed: Sequence[Composed], command: str, document: Mapping[str, Any]
) -> tuple[list[Composed], str]:
    """The sweep and its command, in the order of a group's plan wherever the order is all that differs.

    Order decides what runs are called, and after what they are listed; where names are the same, it says nothing.

    Args:
        composed: the sweep, without keys that say what to do with a plan.
        command: its override line.
        document: the group's plan document as it is.
    """
    names = run_names(composed)
    known = _known_runs(document)
    ordered = [_as_known(one, known.get(name)) for one, name in zip(composed, names, strict=True)]
    before = document.get("command")
    same = isinstance(before, str) and _same_words(command, before, composed[0].choices)
    if not same or set(names) != set(known):
        return ordered, command
    place = {name: i for i, name in enumerate(known)}
    pairs = sorted(zip(names, ordered, strict=True), key=lambda pair: place[pair[0]])
    moved = [_with_factors(one, known[name]) for name, one in pairs]
    if run_names(moved) != list(known):
        return ordered, command
    return moved, str(before)


def _known_runs(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Entries of the runs that the sweep made, by name."""
    runs = document.get("runs", ())
    return {run["name"]: run for run in runs if run["type"] != RunType.control.value and not run.get("orphaned")}


def _as_known(one: Composed, entry: Mapping[str, Any] | None) -> Composed:
    """The combination with its overrides as its run's entry has them, where they are the same ones."""
    before = entry.get("overrides") if entry else None
    relevant = relevant_overrides(one, trained=one.config.train)
    if not isinstance(before, list) or not all(isinstance(line, str) for line in before):
        return one
    if sorted(before) != sorted(relevant) or _order_counts(relevant, one.choices):
        return one
    rest = (line for line in one.overrides if line not in relevant)
    return replace(one, overrides=(*before, *rest))


def _order_counts(lines: Sequence[str], groups: Mapping[str, Any]) -> bool:
    """Whether a later line may undo an earlier one: a key that is set twice, or whole and in part.

    Choices of groups do not count: they come before all values, whatever the order.
    """
    chosen: list[str] = []
    keys: list[str] = []
    for key in map(_key, lines):
        (chosen if key in groups else keys).append(key)
    within = any(key.startswith(f"{other}.") for key in keys for other in keys)
    return within or len({*chosen}) < len(chosen) or len({*keys}) < len(keys)


def _key(line: str) -> str:
    return line.partition("=")[0].lstrip("+~").partition("@")[0]


def _same_words(one: str, other: str, groups: Mapping[str, Any]) -> bool:
    try:
        words = shlex.split(one)
        return sorted(words) == sorted(shlex.split(other)) and not _order_counts(words, groups)
    except ValueError:
        return False


def _with_factors(one: Composed, entry: Mapping[str, Any]) -> Composed:
    """The combination with its factors in the order of its run's entry; those of one level stay where they are."""
    order = iter([key for key in entry.get("factors", ()) if key in one.factors])
    listed = frozenset(entry.get("factors", ()))
    keys = [next(order) if key in listed else key for key in one.factors]
    return replace(one, factors={key: one.factors[key] for key in keys})
