"""The edge that looks at a group before anything is submitted: its ledger, its jobs' records, SLURM, its logs."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from runplan.attempts import Attempt, Ledger, Record, moment
from runplan.ledger import append, read_ledger, read_records
from runplan.observe import Ending, JobState, Known, Observed, current_job, observe
from runplan.present import LEDGER
from runplan.priors.parse import parse_text
from runplan.queue import SlurmJob
from runplan.slurm import read_accounting, read_queue
from runplan.submit.answers import Done
from runplan.submit.machine import is_alive
from runplan.submit.recover import Settled, settle
from runplan.written import Job, WrittenGroup

TAIL = 1 << 20
"""Bytes of a log that are read: of its end, where that is cut off."""
RESUMES = "resume.py"
"""What a run has that continues behind the last epoch that was saved."""


@dataclass(frozen=True)
class World:
    """A group's jobs as they are."""

    ledger: Ledger
    records: Mapping[str, tuple[Record, ...]]
    known: Known
    states: Mapping[str, Observed]
    settled: Settled


def look(group: WrittenGroup, *, endings: bool) -> World:
    """What is known of a group's jobs; submissions that a crash left open are looked for, and recorded when found.

    The caller holds the group's lock.

    Args:
        group: the group.
        endings: whether to read the logs of jobs of which SLURM says only that they failed.
    """
    ledger = read_ledger(group.directory)
    records = {
        job.token: tuple(record for record in read_records(job.directory) if record.token == job.token)
        for job in group.jobs
    }
    known = ask(ledger, records, users_of(group.directory))
    settled = settle(group.jobs, ledger, records, known)
    if settled.found:
        append(group.directory, [found_event(job, settled) for job in group.jobs if job.token in settled.found])
        ledger = read_ledger(group.directory)
    states = {job.token: _state(job, ledger, records[job.token], known, settled) for job in group.jobs}
    world = World(ledger, records, known, states, settled)
    return replace(world, states={job.token: _with_ending(job, world) for job in group.jobs}) if endings else world


def found_event(job: Job, settled: Settled) -> dict[str, str]:
    """The line of the ledger for a job that was found."""
    return {"event": "submitted", "token": job.token, "job_id": settled.found[job.token], "path": job.path}


def users_of(group: Path) -> str:
    """Whose jobs may be a group's, as numbers: of whoever submits now, and of whose ledger it is."""
    users = {os.getuid()}
    owner = (group / LEDGER).stat().st_uid
    with suppress(KeyError):  # SLURM refuses numbers that have no name
        users.add(pwd.getpwuid(owner).pw_uid)
    return ",".join(str(uid) for uid in sorted(users))


def ask(ledger: Ledger, records: Mapping[str, Sequence[Record]], users: str) -> Known:
    """What SLURM says of the jobs that a ledger and records name; accounting only of those that left the queue."""
    queue = read_queue(uid=users)
    open_since = [
        tried[-1].intended_at
        for tried in ledger.attempts.values()
        if _needs_accounting(tried[-1], records.get(tried[-1].token, ()), queue)
    ]
    if not open_since and not ledger.damaged:
        return Known(queue)
    since = min((at for text in open_since if (at := moment(text))), default=datetime(2000, 1, 1, tzinfo=UTC))
    return Known(queue, read_accounting(since, uid=users))


def _needs_accounting(attempt: Attempt, records: Sequence[Record], queue: Mapping[str, SlurmJob] | None) -> bool:
    if attempt.job_id is None:
        return True
    done = any(one.event == "ended" and one.job_id == attempt.job_id and one.exit_code == 0 for one in records)
    waits = (queue or {}).get(attempt.job_id)
    return not done and not (waits is not None and waits.active)


def _state(
    job: Job, ledger: Ledger, records: Sequence[Record], known: Known, settled: Settled, ending: Ending | None = None
) -> Observed:
    attempts = ledger.of(job.token)
    if job.token in settled.nothing:  # the attempt that counts is the one before
        attempts = attempts[:-1]
    job_id = current_job(attempts, records)
    seen = observe(attempts, records, known, ending, alive=is_alive(job_id, records) if job_id else None)
    return replace(seen, state=JobState.held) if job.token in settled.unknown else seen


def _with_ending(job: Job, world: World) -> Observed:
    """The state of a job, with what its log says where that says more than SLURM does."""
    seen = world.states[job.token]
    if seen.state not in {JobState.failed, JobState.unknown, JobState.cancelled} or seen.job_id is None:
        return seen
    told = world.known.queue is not None or seen.job_id.startswith("local-")  # else it may still run
    fields = log_fields(job, seen) if told else {}
    if not fields:
        return seen
    ending = Ending(str(fields["state"]), str(fields.get("reason") or ""))
    return _state(job, world.ledger, world.records[job.token], world.known, world.settled, ending)


def log_fields(job: Job, seen: Observed) -> Mapping[str, object]:
    """What the log of a job's last attempt says, as `priors` reads it; empty when there is none, or nothing in it."""
    log = log_of(job, seen)
    if log is None:
        return {}
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            return parse_text(file.read(), log.name) or {}
    except OSError:
        return {}


def log_of(job: Job, seen: Observed) -> Path | None:
    """The log of a job's last attempt; a task of an array has it under a number of its own, which SLURM may forget."""
    raw = seen.slurm.raw_id if seen.slurm and seen.slurm.raw_id else seen.job_id
    log = job.directory / f"slurm-{raw}.out"
    if log.is_file():
        return log
    if "_" not in (seen.job_id or ""):
        return None
    logs = list(job.directory.glob("slurm-*.out"))
    return max(logs, key=lambda path: path.stat().st_mtime) if logs else None


def done_by(job: Job, seen: Observed) -> Done:
    """How far the last attempt of a job came, by its log and its checkpoints."""
    steps = log_fields(job, seen).get("steps_done")
    saved = 0
    if job.kind == "train" and (job.directory / RESUMES).is_file():
        saved = len(list((job.directory / "artifacts").glob("epoch_*")))
    return Done(steps if isinstance(steps, int) else None, saved)
