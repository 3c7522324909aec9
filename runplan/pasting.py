"""Shell words for lines that people copy from a screen or a page: always one line, whatever is in the words. Pure.

Scripts quote with `shlex`, which leaves a newline as it is; shown, it would be lost, and the copied line would say
something else.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHORT = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def has_control(text: str) -> bool:
    """Whether a text holds characters that move the cursor instead of being seen: newlines, tabs, escapes."""
    return any(_is_control(char) for char in text)


def pasted_word(word: str) -> str:
    """A word as bash, zsh and ksh read it from one line: as `shlex.quote` has it, or in `$'…'` with escapes."""
    if not has_control(word):
        return shlex.quote(word)
    return f"$'{''.join(_escaped(char) for char in word)}'"


def pasted(words: Iterable[str]) -> str:
    """Words as a line that a shell reads again; of words without control characters what `shlex.join` makes."""
    return " ".join(pasted_word(word) for word in words)


def _is_control(char: str) -> bool:
    return char < " " or "\x7f" <= char <= "\x9f" or char in "\u2028\u2029"


def _escaped(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    return "".join(f"\\x{byte:02x}" for byte in char.encode()) if _is_control(char) else char
