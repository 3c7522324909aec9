"""Standard output whose failures (a full disk, a closed pipe) are told apart from those of other files.

What its encoding cannot say is shown as far as it can; a name that is no UTF-8 comes out as it is.

Verbs turn an `OSError` into a message about the files they work on; an `OutputError` passes through them to the command
line.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from runplan.utf8 import SHOWN

if TYPE_CHECKING:
    from collections.abc import Iterator


class OutputError(Exception):
    """Standard output takes no more. Not an `OSError`, so that only the command line handles it."""

    def __init__(self, reason: OSError) -> None:
        self.reason = reason
        super().__init__(reason.strerror or str(reason))

    @property
    def unread(self) -> bool:
        """Whether the reader went away, as `head` does when it has enough, which is no failure."""
        return self.reason.errno == errno.EPIPE


class _Raw(io.FileIO):
    """A file that fails once: all that follows goes to /dev/null, including Python's own flush at exit."""

    failure: OutputError | None = None

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            self.failure = OutputError(error)
            raise self.failure from error


@contextmanager
def guarded_output() -> Iterator[None]:
    """While this holds, what `sys.stdout` cannot take raises `OutputError`, at the end at the latest."""
    before = sys.stdout
    if before is None:  # closed by whoever started this process: nobody wants to read it
        with Path(os.devnull).open("w", encoding="utf-8") as sys.stdout:
            yield
        sys.stdout = None
        return
    buffer = getattr(before, "buffer", None)
    if not isinstance(before, io.TextIOWrapper) or not isinstance(getattr(buffer, "raw", buffer), io.FileIO):
        yield  # closed, or somebody else's: a test's, a notebook's
        return
    before.flush()
    raw = _Raw(before.fileno(), "wb", closefd=False)
    whole = raw if isinstance(buffer, io.FileIO) else io.BufferedWriter(raw)  # PYTHONUNBUFFERED has no buffer
    sys.stdout = io.TextIOWrapper(
        whole, before.encoding, SHOWN,
        line_buffering=before.line_buffering, write_through=before.write_through,
    )  # fmt: skip
    try:
        yield
        sys.stdout.flush()
        if raw.failure is not None:  # somebody swallowed it, as `logging` does
            raise raw.failure
    finally:
        with suppress(OutputError):  # where something else failed, that is what counts
            sys.stdout.flush()
        sys.stdout = before
