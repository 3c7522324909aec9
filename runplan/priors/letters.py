"""Text as a trainer wrote it, whatever a terminal, a shell or a file system made of its bytes."""

from __future__ import annotations

import json
import re

# What quotations, log collectors and launchers put before a line: `> `, Ray's `(task, pid=7) `, a time, `0: `,
# `[rank0]: `, `[trainer0|0]:`.
LINE_PREFIX = (
    rb"(?:\x1b\[[0-9;]*m|> |\0)*+(?:\([\w,=.: -]{0,60}pid=\d{1,9}[\w,=.: -]{0,40}\) )?"
    rb"(?:\d{4}-\d\d-\d\d[T ][\d:.,]{8,18}Z? )?"
    rb"(?:(?:\[[\w|]{1,20}\]|\d{1,5}): ?){0,2}"
)
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_ZEROS = 32
"""Letters of two bytes that show without a mark that they are such."""
_DOCKER = b'{"log":'
_HEAD = 1 << 16
_LONGEST_LABEL = 120
_KNOWN = re.compile(LINE_PREFIX + rb"[ \t]*")
_DIGITS = re.compile(rb"\d+")
_NAMED = re.compile(rb"(?<![A-Za-z])[A-Z][a-z]{2}(?![A-Za-z])")
_ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def plain_bytes(data: bytes) -> bytes:
    """A text in UTF-8, as a trainer wrote it.

    PowerShell writes what it redirects as UTF-16, which begins with a mark; Docker keeps each line in one of JSON; and
    what collectors put before each line is taken off where a printed config shows it.
    """
    if data[:2] in _UTF_16:
        data = data.decode("utf-16", "replace").encode("utf-8", "replace")
    elif data[1:_ZEROS:2] == bytes(_ZEROS // 2):
        data = data.decode("utf-16-le", "replace").encode("utf-8", "replace")
    if data.startswith(_DOCKER):
        data = b"".join(map(_docker_line, data.splitlines()))
    end = data.find(b"\n")
    if data[max(0, end - 2) : end] == b"\r\r":  # Windows, twice
        data = data.replace(b"\r\r\n", b"\n")
    return _unlabelled(data)


def _docker_line(line: bytes) -> bytes:
    try:
        said = json.loads(line)["log"]
        return str(said).encode("utf-8", "replace")
    except (ValueError, KeyError, TypeError):  # half of a line
        return b""


def _unlabelled(data: bytes) -> bytes:
    r"""A text without what stands before each of its lines: a time, a host, a container's name, whatever a tool writes.

    torchtune prints an empty line before its config, so there the label stands alone. Its digits may be others
    elsewhere, and a name of three letters, as of a month.

    >>> _unlabelled(b"Nov 9 n1: Running X with resolved config:\nNov 9 n1: \nNov 10 n2: seed: 1\n")
    b'Running X with resolved config:\n\nseed: 1\n'
    """
    at = data.find(b" with resolved config:", 0, _HEAD)
    start = data.find(b"\n", at) + 1 if at >= 0 else 0
    label = data[start : data.find(b"\n", start)].rstrip()
    if not start or not 0 < len(label) <= _LONGEST_LABEL or _KNOWN.fullmatch(label):
        return data
    shape = rb" +".join(_NAMED.sub(rb"[A-Z][a-z]{2}", _DIGITS.sub(rb"\\d+", re.escape(word))) for word in label.split())
    pattern = re.compile(b"^" + shape + (b"(?: |$)" if label[-1:].isalnum() else b" ?"), re.MULTILINE)
    before = max(data.rfind(b"\n", 0, at), data.rfind(b"\r", 0, at)) + 1
    stands = pattern.match(data, before)
    return pattern.sub(b"", data) if stands and stands.end() <= data.rfind(b"Running ", before, at) else data


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
