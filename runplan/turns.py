"""Conversations that torchtune cannot train with: who speaks after whom. Pure.

The rules are those of torchtune 0.6.1's `validate_messages`, which stops a training at the first row that breaks one,
however late that row comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

_FEWEST = 2


class BadTurns(NamedTuple):
    """Conversations of a split that torchtune cannot train with."""

    role: str
    rows: int
    first: int
    fault: str
    without_prompt: bool
    """Whether only without a system prompt of the run's own."""


def turns_fault(speakers: Sequence[str]) -> tuple[str, bool]:
    """What is wrong with a conversation, or nothing; and whether a system prompt of the run's own puts it right.

    Args:
        speakers: `role` of every message in turn.

    With a system prompt of its own, a run leaves out the system messages of its rows.
    """
    if len(speakers) < _FEWEST:
        return f"has {len(speakers)} messages" if len(speakers) != 1 else "has 1 message", False
    before = ""
    for speaker in (each for each in speakers if each != "system"):
        if speaker == "assistant" and before != "user":
            return f"has 'assistant' {f'after {before!r}' if before else 'first'}, must be after 'user'", False
        if speaker == before == "user":
            return "has 'user' twice in a row", False
        before = speaker
    return ("has 'system' after the first message", True) if "system" in speakers[1:] else ("", False)


def bad_turns(role: str, conversations: Iterable[tuple[int, Sequence[str]]]) -> list[BadTurns]:
    """The faults of a split, one row a kind: how many conversations have it, and which is the first.

    Args:
        role: of the split.
        conversations: row number, from 0, and who speaks in turn.
    """
    found: dict[tuple[str, bool], list[int]] = {}
    for i, speakers in conversations:
        fault = turns_fault(speakers)
        if fault[0]:
            found.setdefault(fault, []).append(i)
    return [BadTurns(role, len(rows), rows[0], what, only) for (what, only), rows in found.items()]
