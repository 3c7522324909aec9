"""torch's caching allocator of GPU memory, simulated: what it reserves for a sequence of requests.

Source: c10/cuda/CUDACachingAllocator.cpp of torch 2.x with its default settings (no expandable segments), one stream.
Requests are rounded up to 512 bytes; those of at most 1 MiB are cut from segments of 2 MiB, larger ones from segments
of 20 MiB, those of 10 MiB or more get a segment of their own in steps of 2 MiB. A free block is taken by best fit, the
rest is split off, neighbours merge when freed, segments go back to the GPU only when it has no more to give.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field

MIB = 2**20
ROUNDING = 512
SMALL = MIB
SMALL_SEGMENT = 2 * MIB
LARGE_SEGMENT = 20 * MIB
LARGE = 10 * MIB


class OutOfMemoryError(Exception):
    """Neither free blocks nor the GPU hold as much as is asked for."""


@dataclass(eq=False, slots=True)
class Block:
    """A piece of a segment; pieces of one segment are chained."""

    segment: int
    place: int
    size: int
    small: bool
    free: bool = False
    before: Block | None = None
    after: Block | None = None


Pool = list[tuple[int, int, int, Block]]
"""Free blocks by size, segment and place."""


@dataclass
class Allocator:
    """What is reserved and allocated; sizes are bytes."""

    capacity: int | None = None
    """Bytes that the GPU has for segments; None: no end."""
    reserved: int = 0
    allocated: int = 0
    peak_reserved: int = 0
    peak_allocated: int = 0
    _pools: dict[bool, Pool] = field(default_factory=lambda: {True: [], False: []})
    _segments: int = 0

    def allocate(self, size: int) -> Block:
        """A block of at least `size` bytes.

        Raises:
            OutOfMemoryError: it does not fit, not even after all unused segments were given back.
        """
        size = max(ROUNDING, -(-size // ROUNDING) * ROUNDING)
        small = size <= SMALL
        pool = self._pools[small]
        place = bisect_left(pool, (size, -1, -1))
        block = pool.pop(place)[3] if place < len(pool) else self._segment(size, small)
        block.free = False
        rest = block.size - size
        if rest >= ROUNDING if small else rest > SMALL:
            self._split(block, size)
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return block

    def free(self, block: Block) -> None:
        """Give a block back; it merges with free neighbours."""
        self.allocated -= block.size
        if block.before is not None and block.before.free:
            block = self._merge(block.before, block, block.before)
        if block.after is not None and block.after.free:
            block = self._merge(block, block.after, block.after)
        self._keep(block)

    def _segment(self, size: int, small: bool) -> Block:
        large = LARGE_SEGMENT if size < LARGE else -(-size // SMALL_SEGMENT) * SMALL_SEGMENT
        asked = SMALL_SEGMENT if small else large
        if self.capacity is not None and self.reserved + asked > self.capacity:
            self._release()
            if self.reserved + asked > self.capacity:
                raise OutOfMemoryError
        self._segments += 1
        self.reserved += asked
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        return Block(self._segments, 0, asked, small)

    def _release(self) -> None:
        """Give every segment that nothing is allocated in back to the GPU."""
        for pool in self._pools.values():
            whole = [entry for entry in pool if entry[3].before is None and entry[3].after is None]
            self.reserved -= sum(entry[0] for entry in whole)
            gone = {id(entry[3]) for entry in whole}
            pool[:] = [entry for entry in pool if id(entry[3]) not in gone]

    def _split(self, block: Block, size: int) -> None:
        rest = Block(block.segment, block.place + size, block.size - size, block.small, before=block, after=block.after)
        if block.after is not None:
            block.after.before = rest
        block.after, block.size = rest, size
        self._keep(rest)

    def _merge(self, first: Block, second: Block, known: Block) -> Block:
        """Both as one block, neither of them kept; `known` is the one that was free."""
        pool = self._pools[known.small]
        pool.pop(bisect_left(pool, (known.size, known.segment, known.place)))
        first.size += second.size
        first.after = second.after
        if second.after is not None:
            second.after.before = first
        return first

    def _keep(self, block: Block) -> None:
        block.free = True
        insort(self._pools[block.small], (block.size, block.segment, block.place, block))
