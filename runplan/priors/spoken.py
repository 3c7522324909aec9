r"""Where in a log something is said: all of it but the middle of long lines, on which a bar is only redrawn.

A redrawn bar (`\r`, no newline) makes a line of megabytes. What is printed meanwhile ends in a newline and hence
stands at the end of such a line. Words are looked for in these places only: the rest is most of the file.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

Span = tuple[int, int]

_NEAR_BYTES = 4000
"""Kept at both ends of a long line; no message is longer."""
_MOST_MISSES = 40


class Word(NamedTuple):
    """What is looked for, and the place in it of a byte that bars and numbers do not have.

    A single byte is found ten times as fast as a word, so where it is rare the word is looked for at its places only.
    """

    text: bytes
    rare: int


def last_place(data: bytes, word: Word, start: int = 0, end: int = sys.maxsize) -> int:
    """`data.rfind(word.text, start, end)` for a word that little is written of.

    >>> last_place(b"hot: checkpoint saved, 3h", Word(b"heckpoint", 0))
    6
    """
    text, rare = word
    byte, first, rest = text[rare], start + rare, len(text) - rare - 1
    end = max(end - rest, 0)
    for _ in range(_MOST_MISSES):
        at = data.rfind(byte, first, end)
        if at < 0:
            return -1
        if data.startswith(text, at - rare):
            return at - rare
        end = at
    return data.rfind(text, start, end + rest)


def spoken_spans(data: bytes) -> list[Span]:
    r"""Start and end of each part of a text in which messages can stand, in order.

    >>> spoken_spans(b"one\n" + b"\r" * 20_000 + b"Saved.\ntwo\n")
    [(0, 4004), (16010, 20015)]
    """
    size = len(data)
    if data.find(b"\n", 0, _NEAR_BYTES) < 0:
        return [(0, size)]
    spans: list[Span] = []
    start = at = 0
    while at + _NEAR_BYTES < size:
        newline = data.rfind(b"\n", at, at + _NEAR_BYTES)
        if newline >= 0:
            at = newline + 1
            continue
        end = data.find(b"\n", at + _NEAR_BYTES)
        end = size if end < 0 else end
        if end - at > 2 * _NEAR_BYTES:
            spans.append((start, at + _NEAR_BYTES))
            start = end - _NEAR_BYTES
        at = end + 1
    return [*spans, (start, size)]


def spoken_text(data: bytes, spans: list[Span]) -> bytes:
    """The spans of a text, one after the other."""
    return data if len(spans) == 1 else b"\n".join([data[start:end] for start, end in spans])
