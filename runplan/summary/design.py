"""What kind of experiment a sweep is, in words."""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Any

from runplan.plan import Composed, Design

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPLICATION = "seed"
TIMES = "\N{MULTIPLICATION SIGN}"


def design_type(
    factors: Mapping[str, Sequence[Any]],
    combinations: int | None = None,
    paired: Sequence[Sequence[str]] = (),
) -> str:
    """The type of a design: `2x2 factorial`, `single factor, 3 levels`, `single run`.

    Seeds are replication: `2x2 factorial, 3 replicates (seed)`. Factors that are paired (zipped) count as one. A
    design that leaves combinations out says so: `2x2 factorial, 3 of 4 combinations`.

    Args:
        factors: swept keys with two or more levels.
        combinations: how many combinations (seeds included) are planned; None = all.
        paired: keys whose levels go together, a list a pairing.
    """
    sizes, seen = [], set()
    for key, levels in factors.items():
        partners = next((tuple(keys) for keys in paired if key in keys), (key,))
        if key != REPLICATION and len(levels) > 1 and partners not in seen:
            seen.add(partners)
            sizes.append(len(levels))
    replicates = len(factors.get(REPLICATION, ()))
    parts = [_head(sizes)]
    whole = math.prod(sizes) * max(1, replicates)
    if combinations is not None and combinations != whole:
        parts.append(f"{combinations} of {whole} combinations")
    if replicates > 1:
        parts.append(f"{replicates} replicates ({REPLICATION})")
    return ", ".join(parts)


def _head(sizes: Sequence[int]) -> str:
    if not sizes:
        return "single run"
    if len(sizes) == 1:
        return f"single factor, {sizes[0]} levels"
    return "x".join(map(str, sizes)) + " factorial"


def design_title(kind: str) -> str:
    """A design type as a heading: with a multiplication sign, `2*2 Factorial Design, 3 replicates (seed)`."""
    head, *rest = kind.split(", ")
    if head.endswith(" factorial"):
        head = head.removesuffix(" factorial").replace("x", TIMES) + " Factorial Design"
    elif head == "single factor":
        head = "Single-Factor Design"
    elif head == "single run":
        head = "Single Run"
    return ", ".join([head, *rest])


def design_of(composed: Sequence[Composed]) -> Design:
    """What is varied in a sweep: its factors with two or more levels, and what such a design is called."""
    levels: dict[str, dict[object, object]] = {}
    for item in composed:
        for key, level in item.factors.items():
            levels.setdefault(key, {}).setdefault(_hashable(level), level)
    factors = {key: tuple(known.values()) for key, known in levels.items() if len(known) > 1}
    return Design(design_type(factors, len(composed), composed[0].config.sweep.zip), factors)


def _hashable(level: object) -> object:
    """Something that is equal for equal levels; lists and mappings have no hash of their own."""
    return level if isinstance(level, str | int | float | Enum | None) else (type(level), repr(level))
