"""The attempts at one job, as its own `jobs.jsonl` tells them (format: `runplan/jobs.py`). Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

LOCAL = "local-"


@dataclass(frozen=True)
class Attempt:
    """One time that a job ran."""

    job_id: str
    started: str
    """ISO 8601 text in UTC."""
    exit_code: int | None = None
    """None while it runs, and for ever when it was killed."""
    seconds: float | None = None

    @property
    def ended(self) -> bool:
        """Whether the job wrote its last line."""
        return self.exit_code is not None

    @property
    def in_slurm(self) -> bool:
        """Whether SLURM ran it."""
        return not self.job_id.startswith(LOCAL)


def parse_attempts(text: str, kind: str) -> tuple[Attempt, ...]:
    """All attempts in the order in which they started; lines that are cut short or not ours are passed over.

    Args:
        text: what is in `jobs.jsonl`.
        kind: `train` or `cell`.
    """
    attempts: list[Attempt] = []
    for line in text.splitlines():
        record = _record(line)
        if record is None or record.get("kind") != kind:
            continue
        job = str(record.get("job_id", ""))
        if record.get("event") == "started":
            attempts.append(Attempt(job, str(record.get("time", ""))))
        elif record.get("event") == "ended":
            _end(attempts, job, record)
    return tuple(attempts)


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _end(attempts: list[Attempt], job: str, record: dict[str, Any]) -> None:
    code, seconds = record.get("exit_code"), record.get("seconds")
    if not isinstance(code, int):
        return
    spent = float(seconds) if isinstance(seconds, int | float) and seconds >= 0 else None
    for place in range(len(attempts) - 1, -1, -1):
        if attempts[place].job_id == job and not attempts[place].ended:
            attempts[place] = replace(attempts[place], exit_code=code, seconds=spent)
            return


def moment(text: str) -> datetime | None:
    """ISO 8601 text as a moment; None when it is none, or names no time zone."""
    try:
        made = datetime.fromisoformat(text)
    except ValueError:
        return None
    return made if made.tzinfo else None


def attempt_of(attempts: Sequence[Attempt], created: str) -> Attempt | None:
    """The attempt during which something was made: the last that had started by then. None when that is not known."""
    at = moment(created)
    if at is None:
        return None
    owner = None
    for attempt in attempts:
        started = moment(attempt.started)
        if started is not None and started <= at:
            owner = attempt
    return owner
