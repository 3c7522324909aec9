"""A progress line on the terminal for large sweeps; nothing elsewhere, or for work that takes only a moment."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from runplan.units import short_time

Item = TypeVar("Item")

LEAST = 500
"""Fewer items are done within a second or two."""
MANY = 5000
"""So many take longer than one waits without a word."""
RUN_S, RUN_GB = 0.002, 0.00006
"""What planning a run takes: measured with 4,000 runs on a processor of 2023."""
EVERY_S = 0.5
_CLEAR = "\r\x1b[K"


def counted(items: Sequence[Item], doing: str) -> Iterator[Item]:
    """The items, one by one, with a line such as `composing 12,000 of 90,000 runs` that is gone at the end.

    Args:
        items: those to go through.
        doing: what is done, with `{}` in place of the numbers.
    """
    if not _is_worth_saying(len(items)):
        yield from items
        return
    due = 0.0
    try:
        for number, item in enumerate(items):
            if time.monotonic() >= due:
                _write(doing.format(f"{number:,} of {len(items):,}"))
                due = time.monotonic() + EVERY_S
            yield item
    finally:
        _write("")


@cache
def forewarn(n: int, factors: str) -> None:
    """Say at once, on a terminal or not, that very many runs are asked for, and what planning them takes; once each.

    Args:
        n: how many.
        factors: where they come from: `model 2 × seed 500`.
    """
    if n < MANY or sys.stderr is None:
        return
    takes = f"about {short_time(n * RUN_S)} and {n * RUN_GB:.1f} GB of memory"
    sys.stderr.write(
        f"note: {n:,} runs are asked for ({factors}): planning them takes {takes}; "
        "Ctrl-C stops, nothing is written before all are planned\n"
    )
    sys.stderr.flush()


@contextmanager
def phase(doing: str, n: int) -> Iterator[None]:
    """While this holds, a line such as `planning 90,000 runs`, for work that cannot say how far it is."""
    said = _is_worth_saying(n)
    if said:
        _write(doing.format(f"{n:,}"))
    try:
        yield
    finally:
        if said:
            _write("")


def _is_worth_saying(n: int) -> bool:
    return n >= LEAST and sys.stderr is not None and sys.stderr.isatty()


def _write(text: str) -> None:
    sys.stderr.write(_CLEAR + text[: shutil.get_terminal_size().columns - 1])
    sys.stderr.flush()
