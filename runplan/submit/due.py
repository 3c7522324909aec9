"""Which jobs of a group are to be submitted now, which cannot be, and which are settled. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runplan.jobs.attempts import is_local
from runplan.jobs.observe import JobState, Observed

if TYPE_CHECKING:
    from runplan.files.written import Job, WrittenGroup

AGAIN = tuple(state for state in JobState if state.ended_badly)
"""What `--only` can name."""


@dataclass(frozen=True)
class Due:
    """A job that is to be submitted."""

    job: Job
    options: tuple[str, ...] = ()
    """What is asked beyond what its script says, as words for sbatch: `--mem=48G` after it was out of memory."""
    after: str | None = None
    """Token of the training that has to succeed first; None for a job that may start at once."""
    replaces: str | None = None
    """An earlier job of the same cell that waits for a training which has failed, and so can never begin."""
    note: str = ""
    """What its user should know about the options."""


@dataclass(frozen=True)
class Left:
    """A job that should be submitted and cannot be."""

    job: Job
    reason: str


@dataclass(frozen=True)
class Decision:
    """What is to be done with every job of a group."""

    due: tuple[Due, ...] = ()
    """In the order in which they are submitted: a training before its cells."""
    left: tuple[Left, ...] = ()
    already: tuple[Job, ...] = ()
    """Submitted before, and waiting, running or completed."""
    ended: Mapping[JobState, tuple[Job, ...]] = field(default_factory=dict)
    """Ended badly, and not asked for again."""


@dataclass(frozen=True)
class Retry:
    """How a job that ended badly is tried again."""

    options: tuple[str, ...] = ()
    note: str = ""
    impossible: str = ""
    """Why it would end the same way."""


def find_due(
    group: WrittenGroup,
    states: Mapping[str, Observed],
    only: AbstractSet[JobState] = frozenset(),
    begun: Mapping[str, tuple[str, ...]] | None = None,
    retry: Callable[[Job, Observed], Retry] | None = None,
    here: AbstractSet[str] | None = None,
) -> Decision:
    """Sort the jobs of a group.

    Args:
        group: the group as written.
        states: of every job, by token.
        only: endings after which jobs are submitted again, trainings together with their cells; empty submits what
            was never submitted.
        begun: jobs whose submission was begun and came to nothing, by token, with the options it had: they are due
            whatever `only` says.
        retry: how a job that ended badly is tried again.
        here: where jobs are to run without SLURM: tokens of those that run so on this very machine, and that others
            can wait for; None: SLURM runs them.
    """
    sorting = _Sorting(states, only, begun or {}, retry or (lambda _job, _seen: Retry()), here)
    for job in group.jobs:
        sorting.add(job)
    return Decision(tuple(sorting.due), tuple(sorting.left), tuple(sorting.already), sorting.ended_of())


_LATER = "run this again later"


class _Sorting:
    """One pass over the jobs, in order."""

    def __init__(
        self,
        states: Mapping[str, Observed],
        only: AbstractSet[JobState],
        begun: Mapping[str, tuple[str, ...]],
        retry: Callable[[Job, Observed], Retry],
        here: AbstractSet[str] | None,
    ) -> None:
        self.states, self.only, self.begun, self.retry, self.here = states, only, begun, retry, here
        self.due: list[Due] = []
        self.left: list[Left] = []
        self.already: list[Job] = []
        self.ended: dict[JobState, list[Job]] = {}
        self.now: set[str] = set()
        """Tokens of what is due in this call."""

    def add(self, job: Job) -> None:
        """Put one job where it belongs."""
        seen = self.states[job.token]
        along = job.after in self.now and seen.state not in {JobState.completed, JobState.running}
        again = seen.state.ended_badly and (seen.state in self.only or along)
        dead = job.after is not None and self.states[job.after].state.ended_badly
        stuck = along and dead and seen.state is JobState.pending
        fresh = seen.state is JobState.not_submitted and (not self.only or along or seen.state in self.only)
        if job.token in self.begun:
            self._want(Due(job, self.begun[job.token]))
        elif seen.state is JobState.held:
            self.left.append(Left(job, "submitted or not? SLURM does not answer; run this again later"))
        elif again:
            self._again(job, seen)
        elif stuck:
            self._want(Due(job, replaces=seen.job_id))
        elif fresh:
            self._want(Due(job))
        elif _is_open(seen):
            self.left.append(Left(job, f"whether job {seen.job_id} is over is not known{_because(seen)}; {_LATER}"))
        elif seen.state.ended_badly:
            self.ended.setdefault(seen.state, []).append(job)
        elif seen.state is not JobState.not_submitted:
            self.already.append(job)

    def _again(self, job: Job, seen: Observed) -> None:
        how = self.retry(job, seen)
        if how.impossible:
            self.left.append(Left(job, how.impossible))
        else:
            self._want(Due(job, how.options, note=how.note))

    def _want(self, due: Due) -> None:
        waits, reason = self._waits(due.job)
        if reason:
            self.left.append(Left(due.job, reason))
            return
        after = due.job.after if waits else None
        self.now.add(due.job.token)
        self.due.append(Due(due.job, due.options, after, due.replaces, due.note))

    def _waits(self, job: Job) -> tuple[bool, str]:
        """Whether a job has to wait for its training, or why it cannot be submitted."""
        if job.after is None:
            return False, ""
        if job.after in self.now:
            return True, ""
        training = self.states[job.after]
        if self.here is not None and training.state in {JobState.pending, JobState.running}:
            elsewhere = f"its training ({training.job_id}) is under way elsewhere; submit again when it is done"
            return (True, "") if job.after in self.here else (False, elsewhere)
        return waits_for(training)

    def ended_of(self) -> dict[JobState, tuple[Job, ...]]:
        """The jobs that ended badly, by how."""
        return {state: tuple(jobs) for state, jobs in self.ended.items()}


def waits_for(training: Observed) -> tuple[bool, str]:
    """Whether a cell has to wait for a training in this state; or else why it cannot be submitted.

    A job that depends on one that SLURM forgot would run at once, so only a training that SLURM or its own record
    says is under way is waited for.
    """
    state = training.state
    if state is JobState.completed:
        return False, ""
    if state in {JobState.pending, JobState.running}:
        if is_local(training.job_id):
            return False, f"its training runs on this machine ({training.job_id}); submit again when it is done"
        return True, ""
    if state is JobState.not_submitted:
        return False, "its training is not submitted"
    if state is JobState.held:
        return False, "nobody knows yet whether its training was submitted"
    job = f"job {training.job_id}" if training.job_id else "no job"
    ended, next_step = f"its training ({job}) ended: {state.value}", f"--only {state.value} submits both again"
    if _is_open(training):
        ended, next_step = f"whether its training ({job}) is over is not known", _LATER
    return False, f"{ended}{_because(training)}; {next_step}"


def _is_open(seen: Observed) -> bool:
    """Whether SLURM could still tell the state of a job, but did not; a machine that lost a process never will."""
    return seen.state is JobState.unknown and seen.job_id is not None and not is_local(seen.job_id)


def _because(seen: Observed) -> str:
    return f" ({seen.reason})" if seen.reason else ""
