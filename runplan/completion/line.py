"""A command line that is still being typed, taken apart as a shell would. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

_UNSAFE = re.compile(r"([^\w@%+=:,./~^-])")
_UNSAFE_IN_BASH = re.compile(r"([^\w@%+=:,./~^\[\]-])")


class Line(NamedTuple):
    """A command line up to the cursor."""

    words: tuple[str, ...]
    """Whole words behind the program's name, unquoted."""
    current: str
    """The word at the cursor, unquoted; empty behind a space."""


def read_line(text: str) -> Line:
    """Words of a line up to the cursor; a quote that is still open holds the rest.

    >>> read_line("runplan status 'my gro")
    Line(words=('status',), current='my gro')
    >>> read_line("runplan ")
    Line(words=(), current='')
    """
    words: list[str] = []
    word, quote, inside = "", "", False
    letters = iter(text)
    for letter in letters:
        if quote:
            if letter == quote:
                quote = ""
            elif letter == "\\" and quote == '"':
                word += next(letters, "")
            else:
                word += letter
        elif letter in "'\"":
            quote, inside = letter, True
        elif letter == "\\":
            word += next(letters, "")
            inside = True
        elif letter.isspace():
            if word or inside:
                words.append(word)
            word, inside = "", False
        else:
            word += letter
    return Line(tuple(words[1:]), word if words else "")


def escaped(word: str, *, brackets: bool = True) -> str:
    r"""A word as a shell reads it back, with a backslash before each special letter.

    Args:
        word: what the shell shall read.
        brackets: whether `[` and `]` are special, as they are in zsh.

    >>> escaped("my group/")
    'my\\ group/'
    """
    return (_UNSAFE if brackets else _UNSAFE_IN_BASH).sub(r"\\\1", word)
