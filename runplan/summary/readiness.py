"""What keeps a group's runs from being submitted, in words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runplan.errors import NotReadyError

if TYPE_CHECKING:
    from runplan.plan import Plan


def not_ready(plan: Plan, *, written: bool) -> NotReadyError:
    """Everything that is missing or invalid, with the command that gets it.

    Args:
        plan: one that is not ready.
        written: whether its group was written, or only looked at.
    """
    lines = [
        f"  {check.kind} {check.name} is {check.status.value}: {check.path}\n      {check.fix}"
        for check in plan.lacking
    ]
    done = "is written, but not ready: nothing was submitted" if written else "would not be ready; nothing was written"
    return NotReadyError("\n".join([f"{plan.directory} {done}", *lines, "  then run the same again"]))
