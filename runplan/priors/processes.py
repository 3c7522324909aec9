"""Many logs read on all cores: forked workers take turns, each writes what it read to a file of its own.

`multiprocessing.Pool` does the same at twice the cost: for milliseconds of work, its import, threads and pickles count.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from runplan.priors.files import LogFile, keep_large_blocks
from runplan.priors.log import log_text

_PARALLEL_FROM = 300
_MAX_PROCESSES = 8
_CHUNK = 32
_TICKET_BYTES = 4
_MAX_TICKETS = 8192
"""What fits into a pipe that nobody reads yet: 64 KiB on Linux, half of it on small pages."""


def log_texts(logs: Sequence[LogFile]) -> list[str]:
    """What every log says as JSON, in order; on several processes where it pays."""
    workers = _processes() if len(logs) >= _PARALLEL_FROM else 1
    return in_processes(log_text, logs, workers) if workers > 1 else [log_text(log) for log in logs]


def _processes() -> int:
    """How many processes may work at once; 1 where forking is not safe: with threads, or elsewhere than on Linux."""
    if sys.platform != "linux" or threading.active_count() > 1:
        return 1
    return min(_MAX_PROCESSES, len(os.sched_getaffinity(0)))


def in_processes(do: Callable[[LogFile], str], logs: Sequence[LogFile], workers: int) -> list[str]:
    """`do(log)` of every log, in order, by this process and `workers - 1` forked ones.

    What a worker did not deliver (it was killed, the disk is full) is done here.

    Args:
        do: gives one line of text, without its newline.
        logs: what to do it with.
        workers: processes in all.
    """
    keep_large_blocks()
    size = max(_CHUNK, -(-len(logs) // _MAX_TICKETS))
    chunks = [logs[at : at + size] for at in range(0, len(logs), size)]
    done: dict[int, list[str]] = {}
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
    return [line for number, chunk in enumerate(chunks) for line in (done.get(number) or [do(log) for log in chunk])]


def _turns(
    do: Callable[[LogFile], str], chunks: Sequence[Sequence[LogFile]], tickets: int
) -> Iterator[tuple[int, list[str]]]:
    """Chunks done by this process: reading a ticket from the pipe that all share takes it from the others."""
    while ticket := os.read(tickets, _TICKET_BYTES):
        number = int.from_bytes(ticket, "little")
        yield number, [do(log) for log in chunks[number]]


def _worker(do: Callable[[LogFile], str], chunks: Sequence[Sequence[LogFile]], tickets: int, path: str) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with Path(path).open("w", encoding="utf-8") as file:
            file.writelines("\n".join([str(number), *lines, ""]) for number, lines in _turns(do, chunks, tickets))
        code = 0
    finally:
        # Nothing of the parent's may run twice: no buffers flushed, no temporary folder removed.
        os._exit(code)


def _delivered(path: str, chunks: Sequence[Sequence[LogFile]]) -> Iterator[tuple[int, list[str]]]:
    with suppress(OSError, ValueError, IndexError), Path(path).open(encoding="utf-8", newline="\n") as file:
        while head := file.readline():
            number = int(head)
            lines = _lines(file, len(chunks[number]))
            if lines is None:
                return
            yield number, lines


def _lines(file: IO[str], number: int) -> list[str] | None:
    """So many whole lines; None when the file ends before."""
    lines = [file.readline() for _ in range(number)]
    return [line[:-1] for line in lines] if all(line.endswith("\n") for line in lines) else None
