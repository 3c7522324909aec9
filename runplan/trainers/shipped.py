"""What every trainer's runs carry along: programs that runplan ships, and the first lines of its configurations."""

from __future__ import annotations

from functools import cache

from runplan.paths import RECIPES_DIR
from runplan.plan import Plan, PlannedRun


@cache
def shipped(name: str) -> str:
    """The text of a file of `runplan/recipes/`."""
    return (RECIPES_DIR / name).read_text(encoding="utf-8")


def header_lines(plan: Plan, run: PlannedRun) -> list[str]:
    """Comment lines that say which run this is; a line break inside a value must not end the comment."""
    overrides = " ".join(run.composed.overrides)
    lines = [f"{plan.group}/{run.name}", *([overrides] if overrides else [])]
    return ["".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line) for line in lines]
