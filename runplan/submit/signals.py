"""Signals to stop, noted instead of obeyed, so that work stops at a point of its own choosing. An edge."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_TO_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def noted_signals(*, obey_second: bool = False) -> Iterator[list[int]]:
    """While this holds, a signal to stop is only noted, in the list that this yields.

    Args:
        obey_second: whether a second one raises `KeyboardInterrupt`.
    """
    noted: list[int] = []

    def note(number: int, _frame: object) -> None:
        noted.append(number)
        if obey_second and len(noted) > 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in _TO_STOP}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
