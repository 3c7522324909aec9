"""What the user may have meant: near words for a mistyped one, quotes for text. Pure."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from runplan.pasting import pasted_word

if TYPE_CHECKING:
    from collections.abc import Iterable

_PLAIN = re.compile(r"[\w./-]+")
"""A path that Hydra's grammar reads as it is."""
QUOTING = "quote text for the shell and for Hydra: 'prompt=\"Q: {input}\"'"


def quoted(line: str) -> str:
    """How to write an override line whose value Hydra's grammar cannot read: as text, or as a list of texts."""
    key, _, value = line.partition("=")
    if value.startswith("[") and value.endswith("]"):
        written = f"[{','.join(as_text(part.strip()) for part in value[1:-1].split(','))}]"
    else:
        written = as_text(value)
    return f"quote text for the shell and for Hydra: {pasted_word(f'{key}={written}')}"


def splits_at_random(path: str) -> str:
    """How to have a file without splits split: the override line that takes the place of `dataset.path`."""
    written = path if _PLAIN.fullmatch(path) else as_text(path)
    return f"split it at random: {pasted_word(f'dataset.source={written}')} dataset.create=true instead of dataset.path"


def lacking_split(role: str, path: str, splits: int) -> str:
    """What to do about a split that is not there: name another; what is one list alone, or has one, can be split."""
    name = [f"name it with dataset.{role}_split="] if splits else []
    return ", or ".join([*name, *([splits_at_random(path)] if splits <= 1 else [])])


def as_text(text: str) -> str:
    """A text in double quotes for Hydra's grammar, in place of quotes that it may stand in already."""
    return double_quoted(text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text)


def double_quoted(text: str) -> str:
    """A text in double quotes, as Hydra's grammar reads them: a backslash counts only before a quote and at the end."""
    text = re.sub(r'(\\*)"', r'\1\1\\"', text)
    text = re.sub(r"(\\+)\Z", r"\1\1", text)
    return f'"{text}"'


_NUMBERS = re.compile(r"(\d+(?:\.\d+)?)", re.ASCII)
CLOSE = 0.7
"""Similarity (difflib's ratio) from which two words are taken for the same one, mistyped."""


def _similarity(word: str, other: str) -> float:
    word, other = word.lower(), other.lower()
    if word == other:
        return 1.0
    if len(word) > 3 and sorted(word) == sorted(other):  # letters in the wrong order: of short words the ratio sees few
        return 0.9
    matcher = SequenceMatcher(None, word, other)
    # The two upper bounds are much cheaper than the ratio, and most words are far apart.
    if matcher.real_quick_ratio() < CLOSE or matcher.quick_ratio() < CLOSE:
        return 0.0
    return matcher.ratio()


def _key_similarity(key: str, other: str) -> float:
    """As whole keys, or, with less weight, as their last parts: `rank` means `lora.rank`, `lora.lr` `optimizer.lr`."""
    whole = _similarity(key, other)
    last = _similarity(key.rpartition(".")[2], other.rpartition(".")[2])
    return max(whole, 0.85 + 0.1 * whole if last == 1.0 else 0.9 * last)


def near(word: str, words: Iterable[str], most: int = 3) -> tuple[str, ...]:
    """The words most like `word`, nearest first, at most `most`; empty when none is close.

    Dotted keys are compared as a whole and by their last parts.
    """
    rated = [(_key_similarity(word, other), other) for other in dict.fromkeys(words)]
    best = sorted((pair for pair in rated if pair[0] >= CLOSE), key=lambda pair: (-pair[0], pair[1]))
    return tuple(other for _, other in best[:most])


def did_you_mean(word: str, words: Iterable[str], otherwise: str = "") -> str:
    """`did you mean lora.rank?`, or `otherwise` when nothing is close."""
    found = near(word, words)
    return f"did you mean {' or '.join(found)}?" if found else otherwise


def by_size(name: str) -> tuple[str | float, ...]:
    """What names are sorted by, so that numbers in them count as such.

    >>> sorted(["70B", "8B", "8B-base", "1B", "a100-80", "a10-24"], key=by_size)
    ['1B', '8B', '8B-base', '70B', 'a10-24', 'a100-80']
    """
    return tuple(float(part) if i % 2 else part for i, part in enumerate(_NUMBERS.split(name)))


def listed(words: Iterable[str], most: int = 30) -> str:
    """Words in order, the smaller number first, with commas; a long list is cut with its length said."""
    every = sorted(words, key=by_size)
    return ", ".join(every[:most]) + (f", … ({len(every)} in all)" if len(every) > most else "")
