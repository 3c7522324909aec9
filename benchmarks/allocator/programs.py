"""What the recipe asks of the allocator for batches of any length: traced once, replayed as often as wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from allocator.caching import Allocator, Block, OutOfMemoryError

if TYPE_CHECKING:
    from allocator.recipe import Event, Trace

WORKSPACE = 8_519_680
"""cuBLAS's workspace, 8.125 MiB; allocated before the first step."""


class Request(NamedTuple):
    """An allocation of `fixed + per_token * tokens` bytes, or the end of the step's own or the last step's storage."""

    kind: str
    """"new", "free" or "free of last step"."""
    storage: int
    fixed: float = 0.0
    per_token: float = 0.0


@dataclass(frozen=True)
class Program:
    """Events before training and of the first step as they are, and requests of every later step."""

    start: tuple[Event, ...]
    step: tuple[Request, ...]

    def sizes(self, tokens: int) -> list[int]:
        """Bytes of every new storage of a step, 0 elsewhere."""
        return [int(one.fixed + one.per_token * tokens) for one in self.step]


class Peaks(NamedTuple):
    """Highest bytes so far."""

    allocated: int
    reserved: int


def program(trace: Trace, lengths: Sequence[int]) -> Program:
    """The program of a trace whose steps had `lengths` tokens in all: five, of which three are different at the end.

    Raises:
        ValueError: steps differ in more than sizes, or sizes are not linear in tokens.
    """
    local = [_local(trace[i], trace[i - 1]) for i in range(3, 6)]
    if len({tuple(one[:2] for one in step) for step in local}) != 1:
        raise ValueError("the steps of the trace differ")
    first, second, third = (float(lengths[i]) for i in range(2, 5))
    step = []
    for a, b, c in zip(*local, strict=True):
        slope = (b[2] - a[2]) / (second - first)
        fixed = a[2] - slope * first
        if abs(fixed + slope * third - c[2]) > _ROUNDED:
            raise ValueError(f"a size is not linear in tokens: {a[2]}, {b[2]}, {c[2]} bytes")
        step.append(Request(a[0], a[1], fixed, slope))
    return Program((*trace[0], *trace[1]), tuple(step))


_ROUNDED = 2**16
"""Bytes that blocks of rows may add."""


def _local(events: Sequence[Event], before: Sequence[Event]) -> list[tuple[str, int, int]]:
    """Events with storages counted within the step."""
    mine = {event.storage: i for i, event in enumerate(events) if event.size}
    last = {event.storage: i for i, event in enumerate(before) if event.size}
    found = []
    for event in events:
        if event.size:
            found.append(("new", mine[event.storage], event.size))
        elif event.storage in mine:
            found.append(("free", mine[event.storage], 0))
        else:
            found.append(("free of last step", last[event.storage], 0))
    return found


def replay(what: Program, lengths: Sequence[int], capacity: int | None = None) -> list[Peaks]:
    """Peaks after each step of so many tokens.

    Raises:
        OutOfMemoryError: the capacity is too small.
    """
    allocator = Allocator(capacity)
    held: dict[int, Block] = {}
    for event in what.start:
        if event.size:
            held[event.storage] = allocator.allocate(event.size)
        elif event.storage in held:
            allocator.free(held.pop(event.storage))
    allocator.allocate(WORKSPACE)
    last: dict[int, Block] = {}
    peaks = []
    sizes = {tokens: what.sizes(tokens) for tokens in set(lengths)}
    for tokens in lengths:
        now: dict[int, Block] = {}
        for request, size in zip(what.step, sizes[tokens], strict=True):
            if request.kind == "new":
                now[request.storage] = allocator.allocate(size)
            elif request.kind == "free":
                allocator.free(now.pop(request.storage))
            elif request.storage in last:
                allocator.free(last.pop(request.storage))
        for block in last.values():
            allocator.free(block)
        last = now
        peaks.append(Peaks(allocator.peak_allocated, allocator.peak_reserved))
    return peaks


def least_capacity(what: Program, lengths: Sequence[int], peaks: Peaks, rounds: int = 6) -> int:
    """The smallest capacity, in bytes, with which these steps get through (to one part in 2 ** rounds of the range)."""
    low, high = peaks
    for _ in range(rounds):
        middle = (low + high) // 2
        try:
            replay(what, lengths, middle)
        except OutOfMemoryError:
            low = middle
        else:
            high = middle
    return high
