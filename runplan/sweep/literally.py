"""Text stays as it was typed: Hydra reads `2026_01_31`, `1.10`, `1e5` and `true` as numbers and truth values. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runplan.config import several_texts, text_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORDS = re.compile(r"[~/\w.+-]+(?:,[~/\w.+-]+)*")
"""Values without quotes, brackets or anything else that Hydra's grammar knows; and `~`, which it does not."""


def as_typed(lines: Sequence[str]) -> list[str]:
    """Override lines in which text that Hydra would read as something else, or not at all, stands in quotes.

    >>> as_typed(["group.name=2026_01_31", "trainer.version=1.10,1.2", "seed=1_000", "site.account=null"])
    ['group.name="2026_01_31"', 'trainer.version="1.10",1.2', 'seed=1_000', 'site.account=null']
    >>> as_typed(["dataset.path=~/a.json,/b/c.json"])
    ['dataset.path="~/a.json",/b/c.json']
    >>> as_typed(["group.name=größe"])
    ['group.name="größe"']
    >>> as_typed(["site.modules=[gcc,3.10]", "++site.env.SALT=007"])
    ['site.modules=[gcc,"3.10"]', '++site.env.SALT="007"']
    """
    return [_as_typed(line) for line in lines]


def _as_typed(line: str) -> str:
    name, _, value = line.partition("=")
    key = name.lstrip("+")
    if key in several_texts() and value.startswith("[") and _WORDS.fullmatch(value[1:-1]):
        return f"{name}=[{_quoted(value[1:-1])}]" if value.endswith("]") else line
    if not (key in text_keys() or key.rpartition(".")[0] in several_texts()) or not _WORDS.fullmatch(value):
        return line
    return f"{name}={_quoted(value)}"


def _quoted(words: str) -> str:
    return ",".join(
        word if _read(word) == word and word.isascii() and "~" not in word else f'"{word}"' for word in words.split(",")
    )


def _read(word: str) -> str:
    """The text that Hydra and OmegaConf make of an unquoted word."""
    if word.lower() in {"true", "false"}:
        return word.title()
    for kind in (int, float):
        try:
            return str(kind(word))
        except ValueError:
            continue
    return word
