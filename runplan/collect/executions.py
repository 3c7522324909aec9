"""How often a job ran, when and for how long, from the lines it wrote itself. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runplan.jobs.attempts import Record


@dataclass(frozen=True)
class Execution:
    """One time that a job ran."""

    job_id: str
    started_at: str
    """ISO 8601 text in UTC."""
    exit_code: int | None = None
    """None while it runs, and for ever when it was killed."""
    seconds: float | None = None
    trained: bool = False
    """Whether a training started its trainer: one that is complete already, or gives way to another job, does not."""


def executions(records: Sequence[Record]) -> tuple[Execution, ...]:
    """Every time a job ran, in the order in which it began; a requeued job runs twice under one number."""
    found: list[Execution] = []
    for record in records:
        if record.event == "started":
            found.append(Execution(record.job_id, record.time))
        elif record.event == "ended" and record.exit_code is not None:
            _end(found, record)
        elif record.event == "attempt" and found and found[-1].job_id == record.job_id:
            found[-1] = replace(found[-1], trained=True)
    return tuple(found)


def _end(found: list[Execution], record: Record) -> None:
    for place in range(len(found) - 1, -1, -1):
        if found[place].job_id == record.job_id and found[place].exit_code is None:
            spent = record.seconds if record.seconds is not None and record.seconds >= 0 else None
            found[place] = replace(found[place], exit_code=record.exit_code, seconds=spent)
            return


def moment(text: str) -> datetime | None:
    """ISO 8601 text as a moment; None when it is none, or names no time zone."""
    try:
        made = datetime.fromisoformat(text)
    except ValueError:
        return None
    return made if made.tzinfo else None


def owner(ran: Sequence[Execution], created: str) -> Execution | None:
    """The execution during which something was made: the last that had begun by then. None when that is not known."""
    at = moment(created)
    found = None
    for one in ran:
        began = moment(one.started_at)
        if at is not None and began is not None and began <= at:
            found = one
    return found
