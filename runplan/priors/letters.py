"""Text as a trainer wrote it, whatever a terminal, a shell or a file system made of its bytes."""

from __future__ import annotations

import re

# What quotations, log collectors and launchers put before a line: `> `, a time, `0: `, `[rank0]: `, `[trainer0|0]:`.
LINE_PREFIX = (
    rb"(?:\x1b\[[0-9;]*m|> |\0)*+(?:\d{4}-\d\d-\d\d[T ][\d:.,]{8,18}Z? )?"
    rb"(?:(?:\[[\w|]{1,20}\]|\d{1,5}): ?){0,2}"
)
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def plain_bytes(data: bytes) -> bytes:
    """A text in UTF-8: PowerShell writes what it redirects as UTF-16, which begins with a mark."""
    if data[:2] not in _UTF_16:
        return data
    return data.decode("utf-16", "replace").encode("utf-8", "replace")


def tidy(text: bytes) -> bytes:
    """A text without colours, and without the zeros that network file systems leave where lines were lost."""
    if text.find(b"\x1b") >= 0:
        text = _ESCAPE.sub(b"", text)
    return text.replace(b"\0", b"") if text.find(b"\0") >= 0 else text


def settled(text: bytes) -> bytes:
    r"""A text without its last word where nothing follows it: it may be the half of one that is still being written.

    >>> settled(b"batch_size: 3"), settled(b"batch_size: 32\n")
    (b'batch_size: ', b'batch_size: 32\n')
    """
    if not text or text[-1:].isspace():
        return text
    return text[: max(text.rfind(space) for space in (b" ", b"\n", b"\r", b"\t")) + 1]
