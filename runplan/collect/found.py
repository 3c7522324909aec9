"""What was found of a group: plain facts, the only thing that everything after reading looks at. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runplan.collect.attempts import Attempt
from runplan.collect.curves import Curve
from runplan.collect.inspect_log import EvalLog
from runplan.priors.record import PriorRun


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
    logs: tuple[LogFile, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    last_words: str = ""
    """The end of its last job's log that says something."""


@dataclass(frozen=True)
class FoundRun:
    """A run: what was planned and what is there."""

    entry: Mapping[str, Any]
    """The run in `plan.json`."""
    cells: tuple[FoundCell, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    """At training it."""
    prior: PriorRun | None = None
    """What its newest training log says."""
    curve: Curve = Curve()
    last_words: str = ""

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.entry["name"])

    @property
    def trained(self) -> bool:
        """Whether training it was planned."""
        return bool(self.entry["recipe"])


@dataclass(frozen=True)
class FoundGroup:
    """A group: its plan, and its runs in the plan's order."""

    directory: str
    document: Mapping[str, Any]
    runs: tuple[FoundRun, ...]
    accounting: Mapping[str, Mapping[str, Any]]
    """Job id → what `sacct` says of it."""
