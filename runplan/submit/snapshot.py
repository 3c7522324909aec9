"""A group before anything is submitted: as it is, and what became of submissions that a crash left open. An edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from runplan.files.written import Job, WrittenGroup
from runplan.jobs.attempts import Ledger, Record, is_local
from runplan.jobs.copies import works_elsewhere
from runplan.jobs.ledger import append, read_ledger
from runplan.jobs.look import look_at, read_slurm_jobs, records_of, users_of
from runplan.jobs.observe import JobState, Observed, SlurmJobs
from runplan.jobs.seen import JobSeen
from runplan.submit.recover import Settled, settle


@dataclass(frozen=True)
class Snapshot:
    """A group's jobs as they are; everything by token."""

    ledger: Ledger
    records: Mapping[str, tuple[Record, ...]]
    known: SlurmJobs
    states: Mapping[str, Observed]
    jobs: Mapping[str, JobSeen]
    settled: Settled


def look_and_settle(group: WrittenGroup, *, logs: bool) -> Snapshot:
    """What is known of a group's jobs; submissions that a crash left open are looked for, and recorded when found.

    The caller holds the group's lock.

    Args:
        group: the group.
        logs: whether to read the ends of logs, which know more of how jobs ended than SLURM does.

    Raises:
        OSError: the ledger or a record cannot be read (it is missing: fine), or the ledger cannot be written.
    """
    ledger = read_ledger(group.directory)
    records, unread = records_of(group)
    if unread:
        raise OSError("; ".join(unread.values()))
    known = read_slurm_jobs(ledger, records, users_of(group.directory))
    settled = settle(group.jobs, ledger, records, known, works_elsewhere)
    if settled.found:
        append(group.directory, [_found_event(job, settled) for job in group.jobs if job.token in settled.found])
        ledger = read_ledger(group.directory)
    states, jobs = {}, {}
    for job in group.jobs:
        attempts = ledger.of(job.token)
        if job.token in settled.nothing:  # the attempt that counts is the one before
            attempts = attempts[:-1]
        last = attempts[-1].job_id if attempts else None
        told = logs and (known.queue is not None or is_local(last))  # else it may still run
        jobs[job.token], seen = look_at(job, attempts, records[job.token], known, logs=told)
        states[job.token] = replace(seen, state=JobState.held) if job.token in settled.unknown else seen
    return Snapshot(ledger, records, known, states, jobs, settled)


def _found_event(job: Job, settled: Settled) -> dict[str, str]:
    return {"event": "submitted", "token": job.token, "job_id": settled.found[job.token], "path": job.path}
