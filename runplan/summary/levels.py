"""The levels of factors as tables show them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runplan.naming import level_text

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL_SHOWN = 60


def level_shown(key: str, value: Any, levels: Sequence[Any] = ()) -> str:
    """A level as tables show it: text in full up to a length, a path by its stem.

    Args:
        key: of the factor.
        value: the level.
        levels: all of the factor; a path of which another has the stem is shown with as many folders as differ.
    """
    is_plain_text = isinstance(value, str) and not key.endswith((".path", ".file", ".script"))
    text = value if is_plain_text else level_text(key, value, {})
    alike = [other for other in levels if other != value and level_text(key, other, {}) == text]
    if not is_plain_text and isinstance(value, str) and alike:
        text = _end_apart(value, [str(other) for other in alike])
    if not text:
        return '""'
    return text if len(text) <= LEVEL_SHOWN else f"{text[: LEVEL_SHOWN - 1]}…"


def _end_apart(path: str, others: Sequence[str]) -> str:
    """The end of a path, in whole parts, that none of the others has: `a/words.json` beside `b/words.json`."""
    parts = path.rstrip("/").split("/")
    ends = ("/".join(parts[-n:]) for n in range(1, len(parts)))
    taken = [f"/{other.rstrip('/')}" for other in others]
    return next((end for end in ends if not any(other.endswith(f"/{end}") for other in taken)), path)
