"""Reading as much of a log as matters."""

from __future__ import annotations

import os

_WHOLE_BYTES = 64 << 20
_END_BYTES = 2 << 20
_PIECE_BYTES = 64 << 10
_PIECES = 48


def keep_large_blocks() -> None:
    """Make glibc keep the memory of a freed log for the next one.

    To get it from the kernel each time costs more than reading the log. glibc keeps blocks up to the size of the
    largest that was ever freed; the zeros of this one are never written.
    """
    bytes(16 << 20)


def read_text(path: str, size: int) -> bytes:
    """The bytes of a log; of one above 64 MiB its two ends and pieces in between, each ended by a newline.

    Raises:
        OSError: the file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        if size <= _WHOLE_BYTES:
            return _read_all(descriptor, size)
        step = (size - 2 * _END_BYTES) // _PIECES
        pieces = [os.pread(descriptor, _END_BYTES, 0)]
        pieces += [os.pread(descriptor, _PIECE_BYTES, _END_BYTES + i * step) for i in range(_PIECES)]
        pieces.append(os.pread(descriptor, _END_BYTES, size - _END_BYTES))
        return b"\n".join(pieces)
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, size: int) -> bytes:
    first = os.read(descriptor, size + 1)
    if len(first) >= size or not first:
        return first[:size] if len(first) > size else first
    pieces = [first]
    while sum(map(len, pieces)) < size and (more := os.read(descriptor, size)):
        pieces.append(more)
    return b"".join(pieces)
