"""A group's status: its runs, what they add up to, and what to do next. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING

from runplan.jobs.attempts import Record, moment
from runplan.jobs.observe import JobState, Observed
from runplan.jobs.seen import Sight, SlurmAnswer
from runplan.status.forecast import later, number
from runplan.status.job import JobStatus, job_status
from runplan.units import HOUR_S, some_of

if TYPE_CHECKING:
    from runplan.files.written import Job, WrittenGroup

MIB = 2**20
_NOTED = 5
"""How many directories or lines that are wrong are named."""
_CELLS_IN_ORDER = (
    *(JobState.oom, JobState.host_oom, JobState.timeout, JobState.node_fail, JobState.preempted, JobState.failed),
    *(JobState.cancelled, JobState.running, JobState.pending, JobState.held, JobState.unknown, JobState.not_submitted),
)
"""The state of several evaluations together is the first of these that one of them has."""
_UNSETTLED = frozenset({JobState.held, JobState.pending, JobState.running, JobState.unknown})


@dataclass(frozen=True)
class RunStatus:
    """A run: its training, if it has one, and its evaluations."""

    name: str
    type: str
    """`fine-tuned`, `control` or `eval-only`."""
    training: JobStatus | None
    cells: tuple[JobStatus, ...] = ()

    @property
    def jobs(self) -> tuple[JobStatus, ...]:
        """All jobs of the run, its training first."""
        return (*((self.training,) if self.training else ()), *self.cells)

    @property
    def evaluated(self) -> int:
        """How many of its evaluations are completed."""
        return sum(cell.state is JobState.completed for cell in self.cells)

    @property
    def trained(self) -> bool:
        """Whether there is nothing left to train."""
        return self.training is None or self.training.state is JobState.completed

    @property
    def ends_at(self) -> datetime | None:
        """When all of its jobs that are under way will have ended; None when that is not known."""
        return _last_end(self.jobs)

    @property
    def state(self) -> JobState:
        """Of the training until it is completed, then of the evaluations together."""
        if self.training is not None and not self.trained:
            return self.training.state
        states = {cell.state for cell in self.cells}
        return next((state for state in _CELLS_IN_ORDER if state in states), JobState.completed)


@dataclass(frozen=True)
class GroupStatus:
    """A group at one moment."""

    name: str
    directory: str
    at: datetime
    slurm: SlurmAnswer
    accounting: bool
    """Whether `sacct` answered."""
    runs: tuple[RunStatus, ...]
    gpu_hours: float
    """Used so far, earlier attempts included, as far as jobs said when they began and ended."""
    gpu_hours_p50: float | None = None
    gpu_hours_p95: float | None = None
    notes: tuple[str, ...] = ()
    """What is wrong with the group itself."""
    command: str = ""
    """The overrides that planned it."""
    collected_at: datetime | None = None
    """When results were last collected."""

    @property
    def jobs(self) -> tuple[JobStatus, ...]:
        """All jobs, in the order in which they are submitted."""
        return tuple(job for run in self.runs for job in run.jobs)

    @property
    def states(self) -> dict[JobState, int]:
        """How many runs are in each state, in the order of the states."""
        found = Counter(run.state for run in self.runs)
        return {state: found[state] for state in JobState if state in found}

    @property
    def failed(self) -> bool:
        """Whether some job ended badly; one in an unknown state has not."""
        return any(map(_ended_badly, self.jobs))

    @property
    def fallen(self) -> frozenset[str]:
        """Tokens of evaluations that ended before they began because their training did: they are retried with it."""
        cells = [cell for cell in self._untrained if cell.started_at is None]
        return frozenset(cell.token for cell in cells if cell.state.ended_badly)

    @property
    def in_vain(self) -> frozenset[str]:
        """Tokens of evaluations that are not submitted, and cannot be before their training is tried again."""
        return frozenset(cell.token for cell in self._untrained if cell.state is JobState.not_submitted)

    @property
    def _untrained(self) -> list[JobStatus]:
        """Evaluations whose training ended badly."""
        ended = [run for run in self.runs if run.training is not None and _ended_badly(run.training)]
        return [cell for run in ended for cell in run.cells]

    @property
    def to_collect(self) -> bool:
        """Whether a run has results that nobody collected since."""
        ready = [run for run in self.runs if run.trained and run.evaluated]
        ends = [job.ended_at for run in ready for job in run.jobs if job.state is JobState.completed]
        at = self.collected_at
        return bool(ready) and (at is None or any(end is None or end > at for end in ends))

    @property
    def over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return not any(job.state in _UNSETTLED for job in self.jobs)

    @property
    def steps(self) -> tuple[int, int | None]:
        """Optimizer steps done, and of how many; None where some run's number is not known."""
        trainings = [run.training for run in self.runs if run.training is not None]
        totals = [job.total for job in trainings]
        known = [total for total in totals if total is not None]
        return sum(job.done or 0 for job in trainings), sum(known) if len(known) == len(totals) else None

    @property
    def ends_at(self) -> datetime | None:
        """When all that was submitted will have ended; None when that is not known of some job, or it is over."""
        return _last_end(self.jobs)


def _ended_badly(job: JobStatus) -> bool:
    """Whether a job ended badly; one in an unknown state has not."""
    return job.state.ended_badly and job.state is not JobState.unknown


def _last_end(jobs: Sequence[JobStatus]) -> datetime | None:
    going = [job for job in jobs if job.state in _UNSETTLED]
    ends = [job.ends_at for job in going if job.ends_at is not None]
    return max(ends) if ends and len(ends) == len(going) else None


def group_status(group: WrittenGroup, sight: Sight) -> GroupStatus:
    """The status of a group that was looked at."""
    jobs = {
        job.token: job_status(
            job, sight.ledger.of(job.token), sight.jobs[job.token], sight.observed[job.token], sight.at
        )
        for job in group.jobs
    }
    of_run: dict[str, list[Job]] = {}
    for job in group.jobs:
        of_run.setdefault(job.run, []).append(job)
    runs = tuple(_run(entry, of_run.get(str(entry["dir"]), []), jobs) for entry in group.document["runs"])
    return GroupStatus(
        name=str(group.document.get("group", group.directory.name)),
        directory=str(group.directory),
        at=sight.at,
        slurm=sight.slurm,
        accounting=sight.known.accounting is not None,
        runs=runs,
        gpu_hours=_gpu_hours(group, sight),
        gpu_hours_p50=number(group.document, "totals", "gpu_hours", "p50"),
        gpu_hours_p95=number(group.document, "totals", "gpu_hours", "p95"),
        notes=tuple(_notes(group, sight)),
        command=str(group.document.get("command", "")),
        collected_at=sight.collected_at,
    )


def _run(entry: Mapping[str, object], mine: Sequence[Job], jobs: Mapping[str, JobStatus]) -> RunStatus:
    training = next((jobs[job.token] for job in mine if job.kind == "train"), None)
    cells = tuple(
        _after(jobs[job.token], training if job.after is not None else None) for job in mine if job.kind == "cell"
    )
    return RunStatus(str(entry["dir"]), str(entry.get("type", "")), training, cells)


def _after(cell: JobStatus, training: JobStatus | None) -> JobStatus:
    """An evaluation with what follows from the training that it needs."""
    if training is None or cell.started_at is not None:
        return cell
    if _ended_badly(training) and cell.state is not JobState.completed:
        return replace(cell, reason=f"its training did not complete ({training.state.value})", ends_at=None)
    if cell.state is JobState.pending and not training.state.over:
        begins = max(filter(None, (training.ends_at, cell.starts_at)), default=None)
        left = cell.remaining_s
        ends = later(begins, left) if training.ends_at is not None else None
        return replace(cell, reason="waiting for the training", ends_at=ends)
    return cell


def _gpu_hours(group: WrittenGroup, sight: Sight) -> float:
    total = 0.0
    for job in group.jobs:
        gpus = number(job.resources, "gpus") or 0
        total += gpus * _used_s(sight.jobs[job.token].records, sight.observed[job.token], sight.at) / HOUR_S
    return total


def _used_s(records: Sequence[Record], observed: Observed, at: datetime) -> float:
    """Seconds that all tries of a job ran: from their first line to their last, or as long as SLURM says."""
    total, begun, mine = 0.0, {}, False
    for record in records:
        if record.event == "started":
            begun[record.job_id] = record
        elif record.event == "ended" and record.job_id in begun:
            del begun[record.job_id]
            total += record.seconds or 0.0
            mine = mine or record.job_id == observed.job_id
    last = begun.get(observed.job_id or "")
    if observed.state is JobState.running:
        started = moment(last.time) if last else None
        return total + (max(0.0, (at - started).total_seconds()) if started else 0.0)
    return total + (0.0 if mine and last is None else observed.seconds or 0.0)


def _notes(group: WrittenGroup, sight: Sight) -> Iterator[str]:
    if sight.slurm is SlurmAnswer.silent:
        yield "SLURM does not answer (squeue failed): shown is what the jobs said themselves; ask again later"
    elif sight.slurm is SlurmAnswer.absent:
        yield "there is no squeue on this machine: shown is what the jobs said themselves"
    if sight.free_bytes is not None and sight.free_bytes < MIB:
        yield "the group's disk is full: jobs cannot save or write logs there; free some space before you submit again"
    if sight.ledger.damaged:
        lines = some_of([*map(str, sight.ledger.damaged)], _NOTED)
        what = f"lines {lines} are" if len(sight.ledger.damaged) > 1 else f"line {lines} is"
        yield f"ledger.jsonl: {what} passed over: cut short by a crash, or edited"
    if sight.copy:
        yield sight.copy
    gone = list(_gone(group, sight))
    if gone:
        yield f"directories that are gone: {_some(gone)}; plan the same again to write them anew"
    if unread := [seen.unread for seen in sight.jobs.values() if seen.unread]:
        yield f"cannot be read: {_some(unread)}"
    strangers = len(set(sight.ledger.attempts) - {job.token for job in group.jobs})
    if strangers:
        jobs = f"{strangers} jobs of the ledger belong" if strangers > 1 else "1 job of the ledger belongs"
        yield f"{jobs} to no run of plan.json any more"


def _gone(group: WrittenGroup, sight: Sight) -> Iterator[str]:
    """Directories that are not there: a run's, or that of an evaluation of a run that is there."""
    for run, mine in groupby(group.jobs, key=lambda job: job.run):
        there = {job.name: sight.jobs[job.token].there for job in mine}
        yield from [name for name in there if not there[name]] if any(there.values()) else [run]


def _some(names: Sequence[str]) -> str:
    return some_of([name if name.isprintable() else repr(name) for name in names], _NOTED)
