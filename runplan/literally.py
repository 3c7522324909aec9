"""Text stays as it was typed: Hydra reads `2026_01_31`, `1.10`, `1e5` and `true` as numbers and truth values. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runplan.config import text_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORDS = re.compile(r"[\w.+-]+(?:,[\w.+-]+)*")
"""Values without quotes, brackets or anything else that Hydra's grammar knows."""


def as_typed(lines: Sequence[str]) -> list[str]:
    """Override lines in which text that Hydra would read as something else stands in quotes.

    >>> as_typed(["group.name=2026_01_31", "trainer.version=1.10,1.2", "seed=1_000", "site.account=null"])
    ['group.name="2026_01_31"', 'trainer.version="1.10",1.2', 'seed=1_000', 'site.account=null']
    """
    return [_as_typed(line) for line in lines]


def _as_typed(line: str) -> str:
    key, _, value = line.partition("=")
    if key.lstrip("+") not in text_keys() or not _WORDS.fullmatch(value):
        return line
    words = (word if _read(word) == word else f'"{word}"' for word in value.split(","))
    return f"{key}={','.join(words)}"


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
