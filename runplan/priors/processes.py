"""Many logs read on all cores: forked workers take turns, each writes what it read to a file of its own.

It is written as Python's `marshal` has it, three times as fast as JSON: the file lives as long as the reading.

`multiprocessing.Pool` does the same at twice the cost: for milliseconds of work, its import, threads and pickles count.
"""

from __future__ import annotations

import marshal
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from runplan.priors.contents import keep_large_blocks
from runplan.priors.files import LogFile
from runplan.priors.log import read_log

_PARALLEL_FROM = 300
_MAX_PROCESSES = 8
_CHUNK = 32
_TICKET_BYTES = 4
_MAX_TICKETS = 8192
"""What fits into a pipe that nobody reads yet: 64 KiB on Linux, half of it on small pages."""


Fields = dict[str, Any] | None


def read_logs(logs: Sequence[LogFile]) -> list[Fields]:
    """What every log says, in order; on several processes where it pays."""
    keep_large_blocks()
    workers = _processes() if len(logs) >= _PARALLEL_FROM else 1
    return in_processes(read_log, logs, workers) if workers > 1 else [read_log(log) for log in logs]


def _processes() -> int:
    """How many processes may work at once; 1 where forking is not safe: with threads, or elsewhere than on Linux."""
    if sys.platform != "linux" or threading.active_count() > 1:
        return 1
    return min(_MAX_PROCESSES, len(os.sched_getaffinity(0)))


def in_processes(do: Callable[[LogFile], Fields], logs: Sequence[LogFile], workers: int) -> list[Fields]:
    """`do(log)` of every log, in order, by this process and `workers - 1` forked ones.

    What a worker did not deliver (it was killed, the disk is full) is done here.

    Args:
        do: gives plain values.
        logs: what to do it with.
        workers: processes in all.
    """
    size = max(_CHUNK, -(-len(logs) // _MAX_TICKETS))
    chunks = [logs[at : at + size] for at in range(0, len(logs), size)]
    done: dict[int, list[Fields]] = {}
    with suppress(OSError), tempfile.TemporaryDirectory(prefix="runplan-") as folder:
        tickets, office = os.pipe()
        os.write(office, b"".join(number.to_bytes(_TICKET_BYTES, "little") for number in range(len(chunks))))
        os.close(office)
        children: dict[int, str] = {}
        try:
            for number in range(1, workers):
                path = f"{folder}/{number}"
                children[_worker(do, chunks, tickets, path)] = path
            done.update(_turns(do, chunks, tickets))
        finally:
            os.close(tickets)
            for child in children:
                os.waitpid(child, 0)
        for path in children.values():
            done.update(_delivered(path, chunks))
    return [said for number, chunk in enumerate(chunks) for said in (done.get(number) or [do(log) for log in chunk])]


def _turns(
    do: Callable[[LogFile], Fields], chunks: Sequence[Sequence[LogFile]], tickets: int
) -> Iterator[tuple[int, list[Fields]]]:
    """Chunks done by this process: reading a ticket from the pipe that all share takes it from the others."""
    while ticket := os.read(tickets, _TICKET_BYTES):
        number = int.from_bytes(ticket, "little")
        yield number, [do(log) for log in chunks[number]]


def _worker(do: Callable[[LogFile], Fields], chunks: Sequence[Sequence[LogFile]], tickets: int, path: str) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with Path(path).open("wb") as file:
            for turn in _turns(do, chunks, tickets):
                marshal.dump(turn, file)
        code = 0
    finally:
        # Nothing of the parent's may run twice: no buffers flushed, no temporary folder removed.
        os._exit(code)


def _delivered(path: str, chunks: Sequence[Sequence[LogFile]]) -> Iterator[tuple[int, list[Fields]]]:
    """What a worker wrote, up to the first turn that is not whole."""
    with suppress(OSError, EOFError, ValueError, TypeError), Path(path).open("rb") as file:
        while True:
            number, said = marshal.load(file)  # noqa: S302 - written by our own process a moment ago
            if len(said) != len(chunks[number]):
                return
            yield number, said
