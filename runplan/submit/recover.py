"""Submissions whose outcome is not recorded: found again by their token, or known to have made no job.

A job of the token that the ledger already knows is an earlier attempt, and never taken for this one. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from runplan.jobs.attempts import Attempt, Ledger, Record, moment
from runplan.jobs.observe import SlurmJobs
from runplan.slurm.queue import SlurmJob

if TYPE_CHECKING:
    from runplan.files.written import Job

CLOCKS_DIFFER = timedelta(minutes=10)
"""How much SLURM's clock, those of the nodes and this machine's may differ."""


@dataclass(frozen=True)
class Settled:
    """What is now known of submissions whose outcome was not recorded."""

    found: Mapping[str, str] = field(default_factory=dict)
    """Token → job."""
    nothing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Token → options of a submission that made no job."""
    unknown: frozenset[str] = frozenset()
    """Tokens of which nobody can tell: SLURM does not answer."""


def settle(
    jobs: Sequence[Job],
    ledger: Ledger,
    records: Mapping[str, Sequence[Record]],
    known: SlurmJobs,
    elsewhere: Callable[[Job, SlurmJob], bool] = lambda _job, _found: False,
) -> Settled:
    """Look for the jobs of a group that its ledger does not know.

    Args:
        jobs: all of the group.
        ledger: its ledger.
        records: what jobs wrote into their directories, by token.
        known: what SLURM says.
        elsewhere: whether a job of SLURM's works in a copy of a job's directory.
    """
    every: dict[str, list[SlurmJob]] = {}
    runs: dict[str, list[SlurmJob]] = {}
    """By script, of jobs that somebody gave another comment."""
    for known_job in _every(known):
        every.setdefault(known_job.token, []).append(known_job)
        if not known_job.token and known_job.script and known_job.active:
            runs.setdefault(known_job.script, []).append(known_job)
    unsettled = {attempt.token: attempt for attempt in ledger.unsettled}
    found: dict[str, str] = {}
    nothing: dict[str, tuple[str, ...]] = {}
    unknown: set[str] = set()
    for job in jobs:
        attempt = unsettled.get(job.token)
        own = [each for each in every.get(job.token, ()) if not elsewhere(job, each)]
        own += runs.get(str(job.directory / job.script), ())
        if attempt is None:
            if not ledger.of(job.token) and (job_id := _by_hand(own, damaged=bool(ledger.damaged))):
                found[job.token] = job_id
            continue
        job_id = find_job(
            attempt,
            ledger.job_ids(job.token),
            records.get(job.token, ()),
            every.get(attempt.array, ()) if attempt.array else own,
        )
        if job_id is not None:
            found[job.token] = job_id
        elif known.queue is None and attempt.via != "local":
            unknown.add(job.token)
        else:
            nothing[job.token] = attempt.options
    return Settled(found, nothing, frozenset(unknown))


def find_job(
    attempt: Attempt, earlier: frozenset[str], records: Sequence[Record], jobs: Iterable[SlurmJob]
) -> str | None:
    """The job that an attempt made, from what it wrote itself or from what SLURM says; None when there is none.

    Args:
        attempt: one of which the end is not recorded.
        earlier: jobs of the same token that are known.
        records: what jobs of the token wrote.
        jobs: what SLURM knows.
    """
    for record in reversed(records):
        # whatever its time: what was there before went into the ledger before the intent did
        if record.event == "started" and record.job_id not in earlier:
            return record.job_id
    intended = moment(attempt.intended_at)
    since = intended - CLOCKS_DIFFER if intended else None
    asked = attempt.array or attempt.token
    made = [
        (job.active, job.submitted_at, _id_of(attempt, job))
        for job in jobs
        if job.token == asked and (since is None or _not_before(job.submitted_at, since))
    ]
    fresh = [each for each in made if each[2] not in earlier]
    return max(fresh)[2] if fresh else None


def _not_before(local: str, since: datetime) -> bool:
    """Whether a local time of SLURM's is, or may be, at or after a moment: in autumn an hour comes twice."""
    try:
        at = datetime.strptime(local, "%Y-%m-%dT%H:%M:%S")  # noqa: DTZ007 - made aware below, both ways
    except ValueError:
        return True
    return any(at.replace(fold=fold).astimezone() >= since for fold in (0, 1))


def _id_of(attempt: Attempt, job: SlurmJob) -> str:
    """A job's id; of an array, which may be listed as a whole, the id of the attempt's task."""
    return f"{job.job_id.partition('_')[0]}_{attempt.task}" if attempt.array else job.job_id


def _by_hand(jobs: Iterable[SlurmJob], *, damaged: bool) -> str | None:
    """A job that somebody submitted past the ledger, or whose lines in it are damaged: then also one that is over."""
    made = [(job.submitted_at, job.job_id) for job in jobs if job.active or damaged]
    return max(made)[1] if made else None


def _every(known: SlurmJobs) -> Iterator[SlurmJob]:
    yield from (known.queue or {}).values()
    yield from (known.accounting or {}).values()
