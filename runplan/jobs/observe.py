"""The state of every job of a group, from what the ledger, the jobs themselves, SLURM and the logs say. Pure.

SLURM forgets (`squeue` after minutes; `sacct` may not be there), a job that was killed could not write its last line,
and a ledger knows nothing of what was started by hand. Each is believed where it knows best: the queue about what is
not over, accounting about how it ended, the job's own record about exit codes, its log about running out of memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from runplan.jobs.attempts import Attempt, Record, is_local
from runplan.slurm.queue import WAITING, SlurmJob


class JobState(Enum):
    """What a job is doing, or how it ended."""

    not_submitted = "not submitted"
    held = "held"
    """Its submission was begun, and nobody knows yet what came of it."""
    pending = "pending"
    running = "running"
    completed = "completed"
    failed = "failed"
    oom = "oom"
    """Out of GPU memory."""
    host_oom = "host_oom"
    """Out of the node's memory, or of what the job had asked for."""
    timeout = "timeout"
    cancelled = "cancelled"
    node_fail = "node_fail"
    preempted = "preempted"
    unknown = "unknown"

    @property
    def over(self) -> bool:
        """Whether the job ended."""
        return self not in {JobState.not_submitted, JobState.held, JobState.pending, JobState.running}

    @property
    def ended_badly(self) -> bool:
        """Whether it ended, and not as it should."""
        return self.over and self is not JobState.completed


REFUSED = "refused by SLURM"
"""How the reason of a job begins that was not submitted, because SLURM did not take it."""
SLURM_STATES = {
    "COMPLETED": JobState.completed,
    "FAILED": JobState.failed,
    "CANCELLED": JobState.cancelled,
    "REVOKED": JobState.cancelled,
    "TIMEOUT": JobState.timeout,
    "DEADLINE": JobState.timeout,
    "OUT_OF_MEMORY": JobState.host_oom,
    "NODE_FAIL": JobState.node_fail,
    "BOOT_FAIL": JobState.node_fail,
    "PREEMPTED": JobState.preempted,
}
WAITED = frozenset({"Dependency", "Resources", "Priority", "BeginTime", "JobHeldUser", "JobHeldAdmin"})
"""SLURM's reasons why a job waits; it may keep them when the job is over."""
NO_LOG = 53
"""What SLURM gives as the signal of a job whose log slurmstepd could not open (`IO setup failed`); no signal has it."""
STOPPED = frozenset({128 + number for number in (1, 2, 15)})
"""Exit codes of a script that got a hang-up, an interrupt or a request to end."""
QUEUED_AGAIN = frozenset({JobState.preempted, JobState.node_fail})
"""After these SLURM begins a job anew, unless it was told not to: only the queue says which."""
FROM_LOG = frozenset({"oom", "host_oom", "timeout", "cancelled", "node_fail", "preempted"})
"""States of `priors.ending` that say more than a bare failure does."""


@dataclass(frozen=True)
class Ending:
    """What the log of a job says of its end."""

    state: str
    """As in `PriorRun.state`."""
    reason: str | None = None
    """The line that says so."""


@dataclass(frozen=True)
class Observed:
    """A job as it is."""

    state: JobState
    job_id: str | None = None
    attempts: int = 0
    """How often it was submitted."""
    reason: str = ""
    """Why it waits, or how it failed."""
    exit_code: int | None = None
    started_at: str = ""
    """UTC, from the job itself; empty before."""
    ended_at: str = ""
    seconds: float | None = None
    """How long it ran, once it ended."""
    max_rss_gib: float | None = None
    slurm: SlurmJob | None = None
    """What SLURM says, if it still knows the job."""


@dataclass(frozen=True)
class SlurmJobs:
    """What SLURM knows of one group's jobs."""

    queue: Mapping[str, SlurmJob] | None
    """Jobs by id; None when the queue could not be asked."""
    accounting: Mapping[str, SlurmJob] | None = None
    """None without accounting."""

    def job(self, job_id: str) -> SlurmJob | None:
        """What SLURM knows of a job; the queue knows better while it is not over, accounting after.

        Accounting goes on to call a job running whose end it was never told of.
        """
        waits = (self.queue or {}).get(job_id)
        if waits is not None and waits.active:
            return waits
        told = (self.accounting or {}).get(job_id)
        return waits if told is None or (told.active and self.queue is not None) else told


def observe(
    attempts: Sequence[Attempt],
    records: Sequence[Record],
    known: SlurmJobs,
    ending: Ending | None = None,
    *,
    alive: bool | None = None,
) -> Observed:
    """The state of one job.

    Args:
        attempts: its submissions, as the ledger has them.
        records: what jobs with its token wrote in its directory.
        known: what SLURM says.
        ending: what the log of its last attempt says, where somebody looked.
        alive: whether the process of a job without SLURM is there; None where that cannot be told.
    """
    seen = _observe(attempts, records, known, ending, alive=alive)
    if known.queue is None and seen.state in QUEUED_AGAIN:
        return _with(seen, JobState.unknown, f"{seen.reason}; SLURM does not answer whether it is queued again")
    return seen


def _observe(  # noqa: PLR0911 - one answer a case
    attempts: Sequence[Attempt],
    records: Sequence[Record],
    known: SlurmJobs,
    ending: Ending | None,
    *,
    alive: bool | None,
) -> Observed:
    job_id = current_job(attempts, records)
    if job_id is None:
        if not attempts:
            return Observed(JobState.not_submitted)
        return Observed(JobState.held, attempts=len(attempts), reason="its submission is not recorded to the end")
    began = _last(records, job_id, "started")
    ended = _last(records, job_id, "ended")
    if began and ended and records.index(began) > records.index(ended):
        ended = None  # requeued, and running again
    slurm = known.job(job_id)
    facts = replace(_facts(began, ended, slurm), job_id=job_id, attempts=max(len(attempts), 1))
    if slurm is not None and slurm.active:
        state = JobState.pending if slurm.state in WAITING else JobState.running
        return _with(facts, state, slurm.reason if state is JobState.pending else "")
    if ended is not None and ended.exit_code == 0:
        return _with(facts, JobState.completed)
    if slurm is not None:
        return _ended(facts, SLURM_STATES.get(slurm.state, JobState.unknown), ending, slurm.reason)
    if ended is not None and ended.exit_code in STOPPED:
        return _with(facts, JobState.cancelled, f"stopped from outside (exit code {ended.exit_code})")
    if ended is not None:
        return _ended(facts, JobState.failed, ending, "")
    return _vanished(facts, known, ending, alive=alive, began=began is not None)


def _facts(began: Record | None, ended: Record | None, slurm: SlurmJob | None) -> Observed:
    """What a job and SLURM say of it, its state left open; its own word first."""
    over = slurm if slurm is not None and not slurm.active else None
    return Observed(
        JobState.unknown,
        exit_code=ended.exit_code if ended else over.exit_code if over else None,
        started_at=began.time if began else "",
        ended_at=ended.time if ended else "",
        seconds=ended.seconds if ended else over.elapsed_s if over else None,
        max_rss_gib=slurm.max_rss_gib if slurm else None,
        slurm=slurm,
    )


def current_job(attempts: Sequence[Attempt], records: Sequence[Record]) -> str | None:
    """The job that counts: of the last attempt, or one that was started by hand since; None when there is none.

    If that job gave way to one that was already running, it is that one.
    """
    job_id, ways = _latest_job(attempts, records), {}
    for record in records:
        if record.event == "gave_way":
            ways[record.job_id] = record.more.get("to")
        elif record.event == "attempt":
            ways.pop(record.job_id, None)  # requeued, it found nobody
    while job_id in ways:
        other = ways.pop(job_id)
        job_id = other if isinstance(other, str) else job_id
    return job_id


def _latest_job(attempts: Sequence[Attempt], records: Sequence[Record]) -> str | None:
    last = attempts[-1] if attempts else None
    begun = [record for record in records if record.event == "started"]
    if last is None:
        return begun[-1].job_id if begun else None
    if last.job_id is not None:
        later = [record for record in begun if record.job_id != last.job_id and record.time > last.intended_at]
        known = {attempt.job_id for attempt in attempts}
        by_hand = [record for record in later if record.job_id not in known]
        mine = [record.time for record in begun if record.job_id == last.job_id]
        if by_hand and (not mine or by_hand[-1].time > mine[-1]):
            return by_hand[-1].job_id
        return last.job_id
    known = {attempt.job_id for attempt in attempts}
    fresh = [record for record in begun if record.job_id not in known]
    return fresh[-1].job_id if fresh else None


def _ended(facts: Observed, state: JobState, ending: Ending | None, said: str) -> Observed:
    """How a job ended badly; its log may know more than SLURM."""
    plain = state in {JobState.failed, JobState.unknown}
    if plain and ending is not None and ending.state in FROM_LOG:
        return _with(facts, JobState(ending.state), ending.reason or "")
    by_training = state is JobState.cancelled and said.startswith("Dependency")
    if said in {"NonZeroExitCode", *WAITED} or state is JobState.cancelled:
        said = said if by_training else ""  # says nothing new, or why it had been waiting
    line = ending.reason if ending is not None and (plain or ending.state == state.value) else None
    code = f"exit code {facts.exit_code}" if facts.exit_code and state is not JobState.cancelled else ""
    if plain and facts.slurm is not None and not facts.ended_at and not facts.exit_code:
        code = _killed(facts.slurm.signal)
        line = f"{code}; {line}" if line else None
    return _with(facts, state, line or (f"{code} ({said})" if code and said else code or said))


def _killed(signal: int) -> str:
    """What a signal number of SLURM's says of a job that did not write its end; 0: none."""
    if signal == NO_LOG:
        return "SLURM could not open its log: its directory was moved, or the disk is full"
    return f"killed by signal {signal}" if signal else "it did not write its end: killed, or lost with its node"


def _vanished(facts: Observed, known: SlurmJobs, ending: Ending | None, *, alive: bool | None, began: bool) -> Observed:
    """A job that neither wrote its end nor is known to SLURM any more."""
    if alive:
        return _with(facts, JobState.running)
    if ending is not None and ending.state in FROM_LOG:
        return _with(facts, JobState(ending.state), ending.reason or "")
    local = is_local(facts.job_id)
    if local and alive is False:
        return _with(facts, JobState.cancelled, "its process is gone without a word, killed or lost with the machine")
    if known.queue is None or local:
        who = "this machine cannot tell" if local else "SLURM does not answer"
        return _with(
            facts, JobState.running if began else JobState.unknown, f"by its own record; {who}" if began else who
        )
    if began:
        return _with(facts, JobState.failed, "left the queue without writing its end: killed, or its node was lost")
    return _with(facts, JobState.cancelled, "left the queue before it began")


def _last(records: Sequence[Record], job_id: str, event: str) -> Record | None:
    found = [record for record in records if record.job_id == job_id and record.event == event]
    return found[-1] if found else None


def _with(facts: Observed, state: JobState, reason: str = "") -> Observed:
    return replace(facts, state=state, reason=reason)
