"""One job's status: what it does, how far and how fast, when it ends, why it waits or failed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from runplan.jobs.attempts import Attempt, moment, other_config
from runplan.jobs.observe import JobState, Observed
from runplan.jobs.seen import JobSeen
from runplan.status.forecast import Estimate, later, limit_s, remaining_s, slurm_moment, warning
from runplan.status.pace import Memory, evaluation_pace, gpu_memory, training_pace
from runplan.status.reasons import is_held, waiting_for

if TYPE_CHECKING:
    from runplan.files.written import Job

_SUSPENDED = frozenset({"SUSPENDED", "STOPPED"})
_REST = "suspended: it keeps its place and its memory, and goes on when it is resumed"


@dataclass(frozen=True)
class JobStatus:
    """A job as it is. Unknown is None."""

    token: str
    name: str
    kind: str
    """`train` or `cell`."""
    state: JobState
    reason: str = ""
    """Why it waits, or how it ended badly."""
    job_id: str | None = None
    attempts: int = 0
    """How often it was submitted."""
    config: str | None = None
    """Configuration of the last try within the job, where it is not the planned one."""
    log: str | None = None
    exit_code: int | None = None
    started_at: datetime | None = None
    starts_at: datetime | None = None
    """When SLURM expects it to begin."""
    ended_at: datetime | None = None
    seconds: float | None = None
    """How long it ran, or has run."""
    done: int | None = None
    """Optimizer steps; samples of an evaluation."""
    total: int | None = None
    it_per_s: float | None = None
    """Optimizer steps a second, recently."""
    estimated_it_per_s: float | None = None
    remaining_s: float | None = None
    """Seconds of work that are left, waiting not counted."""
    ends_at: datetime | None = None
    """When it will have ended."""
    limit_s: float | None = None
    """The time that was asked for."""
    warning: str = ""
    memory: Memory | None = None
    estimated_memory_gib: float | None = None
    """p50 of the plan."""
    host_memory_gib: float | None = None

    @property
    def speed_ratio(self) -> float | None:
        """Speed now over the estimate's."""
        return self.it_per_s / self.estimated_it_per_s if self.it_per_s and self.estimated_it_per_s else None


def job_status(job: Job, attempts: Sequence[Attempt], seen: JobSeen, observed: Observed, at: datetime) -> JobStatus:
    """The status of a job that was looked at.

    Args:
        job: as it was written.
        attempts: its submissions.
        seen: what it left.
        observed: what state it is in.
        at: the moment of the look, aware.
    """
    estimate = Estimate.of(job)
    running, completed = observed.state is JobState.running, observed.state is JobState.completed
    pace = training_pace(seen.tail) if job.kind == "train" else evaluation_pace(seen.tail)
    total = pace.total or (pace.per_epoch * estimate.epochs if pace.per_epoch and estimate.epochs else estimate.steps)
    done = total if completed else pace.done
    if total is not None and done is not None:
        done = min(done, total)
    started = _started(observed)
    seconds = _seconds(observed, started, at)
    remaining = remaining_s(estimate, pace, total, seconds) if not observed.state.over else None
    rests = running and observed.slurm is not None and observed.slurm.state in _SUSPENDED
    starts = _starts(observed)
    begins = (None if rests else at) if running else max(starts, at) if starts else None
    limit = limit_s(job, attempts, observed.slurm)
    written = seen.written_at if job.kind == "train" else None  # evaluations say little
    return JobStatus(
        token=job.token, name=job.name, kind=job.kind, state=observed.state, reason=_reason(job, seen, observed),
        job_id=observed.job_id, attempts=observed.attempts, log=seen.log,
        config=other_config(seen.records, observed.job_id),
        exit_code=observed.exit_code, started_at=started, starts_at=starts, ended_at=moment(observed.ended_at),
        seconds=seconds, done=done, total=total,
        it_per_s=1 / pace.s_per_step if pace.s_per_step else None, estimated_it_per_s=estimate.it_per_s,
        remaining_s=remaining, ends_at=later(begins, remaining), limit_s=limit,
        warning=_REST if rests else warning(estimate, pace, at, started, remaining, limit, written) if running else "",
        memory=gpu_memory(seen) if job.kind == "train" else None,
        estimated_memory_gib=estimate.memory_gib, host_memory_gib=observed.max_rss_gib,
    )  # fmt: skip


def _starts(observed: Observed) -> datetime | None:
    """When SLURM expects a job to begin."""
    if observed.slurm is None or observed.state is not JobState.pending or is_held(observed.reason):
        return None
    return slurm_moment(observed.slurm.start_at)


def _started(observed: Observed) -> datetime | None:
    if observed.state in {JobState.not_submitted, JobState.held, JobState.pending}:
        return None
    if told := moment(observed.started_at):
        return told
    # of a job that was cancelled before it began, SLURM gives the end as the start, too
    ran = observed.state is JobState.running or bool(observed.seconds)
    return slurm_moment(observed.slurm.start_at) if ran and observed.slurm else None


def _seconds(observed: Observed, started: datetime | None, at: datetime) -> float | None:
    if observed.state is JobState.running and started is not None:
        return max(0.0, (at - started).total_seconds())
    return observed.seconds if observed.state.over else None


def _reason(job: Job, seen: JobSeen, observed: Observed) -> str:
    reason = waiting_for(observed.reason) if observed.state is JobState.pending else observed.reason
    gone = "" if seen.there else f"its directory {job.directory} is gone"
    return "; ".join(filter(None, (reason, gone)))
