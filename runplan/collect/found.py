"""What reading found of a group: plain facts, the only input of everything that follows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runplan.collect.curves import Curve
from runplan.collect.executions import Execution
from runplan.collect.inspect_log import EvalLog
from runplan.jobs.observe import JobState, Observed
from runplan.priors.record import PriorRun


@dataclass(frozen=True)
class FoundJob:
    """What is known of one job: a training or an evaluation cell."""

    observed: Observed = field(default=Observed(JobState.not_submitted))
    ran: tuple[Execution, ...] = ()
    """Every time it ran."""
    log: str = ""
    """Its newest log, relative to the group; empty without one."""
    last_words: str = ""
    """The last line of that, where the job did not end well."""
    config: str | None = None
    """What its last try ran with, where that is not what was planned."""


@dataclass(frozen=True)
class LogFile:
    """One evaluation log that is there."""

    path: str
    """Relative to the group."""
    log: EvalLog | None
    problem: str = ""
    """Why it cannot be used; empty for what can be read."""


@dataclass(frozen=True)
class FoundCell:
    """An evaluation cell: what was planned and what is there."""

    entry: Mapping[str, Any]
    """The cell in `plan.json`."""
    path: str
    """Its directory, relative to the group."""
    job: FoundJob = field(default=FoundJob())
    logs: tuple[LogFile, ...] = ()


@dataclass(frozen=True)
class FoundRun:
    """A run: what was planned and what is there."""

    entry: Mapping[str, Any]
    """The run in `plan.json`."""
    cells: tuple[FoundCell, ...] = ()
    job: FoundJob | None = None
    """Its training; None for runs that are only evaluated."""
    prior: PriorRun | None = None
    """What its newest training log says."""
    curve: Curve = field(default=Curve())

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.entry["name"])


@dataclass(frozen=True)
class FoundGroup:
    """A group: its plan, and its runs in the plan's order."""

    directory: str
    document: Mapping[str, Any]
    runs: tuple[FoundRun, ...]
