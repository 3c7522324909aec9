"""Looks at a group, everything once: one `squeue` and one `sacct` however many runs, and only the ends of logs.

`status` and `collect` look; `submit` looks under the group's lock and settles what a crash left open
(`submit/snapshot.py`).
"""

from __future__ import annotations

import os
import pwd
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from runplan.files.file_names import LEDGER, RESULTS
from runplan.files.written import Job, WrittenGroup
from runplan.jobs.attempts import Attempt, Ledger, Record, is_local, moment
from runplan.jobs.copies import copy_note, works_elsewhere
from runplan.jobs.ledger import read_ledger, read_records
from runplan.jobs.observe import REFUSED, JobState, Observed, SlurmJobs, current_job, observe
from runplan.jobs.processes import CLOCKS_S, is_alive
from runplan.jobs.seen import JobSeen, Sight, SlurmAnswer, ending_of, log_name
from runplan.slurm.commands import LEAST_S, read_accounting, read_queue
from runplan.slurm.queue import SlurmJob
from runplan.submit.recover import settle

TAIL_BYTES = 1 << 16
SLURM_S = 30.0
"""Seconds that SLURM has to answer where jobs depend on it."""
BY_HAND_S = 5.0
"""The same where none does, as far as the ledger knows."""
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
FULL = "SubmitJob"
"""What is in the names of limits on jobs in the queue: AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit."""
_UNBEGUN = frozenset({JobState.not_submitted, JobState.held, JobState.pending})


def look(group: WrittenGroup, timeout_s: float = SLURM_S) -> Sight:
    """A group as it is now, with what its jobs said.

    Reads the ledger, the records of all jobs and the ends of the logs of those that began; asks SLURM once. Nothing
    is written. Why a record cannot be read is in `JobSeen.unread`.

    Args:
        group: as `read_group` has it.
        timeout_s: seconds after which SLURM counts as silent.

    Raises:
        OSError: the ledger cannot be read (it is missing: fine).
    """
    ledger = read_ledger(group.directory)
    records, unread = records_of(group)
    since = _asked_since(ledger, records)
    slurm, known = _ask_both(since, users_of(group.directory), timeout_s)
    if since is None and any(not ledger.of(job.token) and not records[job.token] for job in group.jobs):
        slurm, known = _ask_queue(users_of(group.directory), min(timeout_s, BY_HAND_S))
    ledger = ledger.joined(settle(group.jobs, ledger, records, known, works_elsewhere).found)
    jobs, observed = {}, {}
    for job in group.jobs:
        seen, observed[job.token] = look_at(job, ledger.of(job.token), records[job.token], known)
        jobs[job.token] = replace(seen, unread=unread[job.token]) if job.token in unread else seen
        if observed[job.token].state is JobState.not_submitted and job.token in ledger.refused:
            why = ledger.refused[job.token] or "submit again to see why"
            why += "; submit again as jobs end" if FULL in why else ""
            observed[job.token] = replace(observed[job.token], reason=f"{REFUSED}: {why}")
    copy, free = copy_note(group, ledger, known), _free_bytes(group.directory)
    collected = _collected_at(group.directory)
    return Sight(datetime.now(UTC), ledger, known, slurm, jobs, observed, copy, free, collected)


def _collected_at(directory: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp((directory / RESULTS).stat().st_mtime, UTC)
    except OSError:
        return None


def _free_bytes(directory: Path) -> int | None:
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return None


def records_of(group: WrittenGroup) -> tuple[dict[str, tuple[Record, ...]], dict[str, str]]:
    """What the jobs of a group wrote, by token; and why, of those whose records cannot be read."""
    records, unread = {}, {}
    for job in group.jobs:
        try:
            found = read_records(job.directory)
        except OSError as error:
            unread[job.token], found = f"{error.filename or job.directory}: {error.strerror or error}", ()
        records[job.token] = tuple(record for record in found if record.token == job.token)
    return records, unread


def users_of(group: Path) -> str:
    """Ids of users whose jobs may belong to a group, with commas: the caller, and the owner of its ledger."""
    users = {os.getuid()}
    with suppress(OSError, KeyError):  # no ledger yet; SLURM refuses numbers that have no name
        users.add(pwd.getpwuid((group / LEDGER).stat().st_uid).pw_uid)
    return ",".join(str(uid) for uid in sorted(users))


def read_slurm_jobs(ledger: Ledger, records: Mapping[str, Sequence[Record]], users: str) -> SlurmJobs:
    """What SLURM says of the jobs that a ledger and records name; accounting only of those that left the queue.

    Both share a time limit of `SLURM_S`; accounting has at least `LEAST_S`, however long the queue took.
    """
    began = time.monotonic()
    queue = read_queue(SLURM_S, uid=users)
    open_since = [
        tried[-1].intended_at
        for tried in ledger.attempts.values()
        if _needs_accounting(tried[-1], records.get(tried[-1].token, ()), queue)
    ]
    if not open_since and not ledger.damaged:
        return SlurmJobs(queue)
    since = min((at for text in open_since if (at := moment(text))), default=LONG_AGO)
    left_s = max(LEAST_S, SLURM_S - (time.monotonic() - began))
    return SlurmJobs(queue, read_accounting(since, left_s, uid=users))


def _needs_accounting(attempt: Attempt, records: Sequence[Record], queue: Mapping[str, SlurmJob] | None) -> bool:
    if attempt.job_id is None:
        return True
    done = any(one.event == "ended" and one.job_id == attempt.job_id and one.exit_code == 0 for one in records)
    waits = (queue or {}).get(attempt.job_id)
    return not done and not (waits is not None and waits.active)


def _asked_since(ledger: Ledger, records: Mapping[str, Sequence[Record]]) -> datetime | None:
    """When the first job that SLURM may know of was submitted or began; None without one."""
    tried = [attempt for tries in ledger.attempts.values() for attempt in tries]
    times = [one.intended_at for one in tried if one.via != "local" and not is_local(one.job_id)]
    times += [one.time for some in records.values() for one in some if not is_local(one.job_id)]
    if not times:
        return None
    known = [when for text in times if (when := moment(text)) is not None]
    return min(known, default=LONG_AGO)


def _ask_both(since: datetime | None, users: str, timeout_s: float) -> tuple[SlurmAnswer, SlurmJobs]:
    if since is None:
        return SlurmAnswer.not_asked, SlurmJobs(None)
    if shutil.which("squeue") is None:
        return SlurmAnswer.absent, SlurmJobs(None)
    with ThreadPoolExecutor(2) as both:  # each may take seconds
        queue = both.submit(read_queue, timeout_s, users)
        accounting = both.submit(read_accounting, since, timeout_s, users)
        known = SlurmJobs(queue.result(), accounting.result())
    return (SlurmAnswer.silent if known.queue is None else SlurmAnswer.answered), known


def _ask_queue(users: str, timeout_s: float) -> tuple[SlurmAnswer, SlurmJobs]:
    """Whether somebody submitted jobs of a group past its ledger; no answer is as good as none."""
    queue = read_queue(timeout_s, users) if shutil.which("squeue") else None
    return (SlurmAnswer.not_asked if queue is None else SlurmAnswer.answered), SlurmJobs(queue)


def look_at(
    job: Job, attempts: Sequence[Attempt], records: Sequence[Record], known: SlurmJobs, *, logs: bool = True
) -> tuple[JobSeen, Observed]:
    """One job, the ends of its logs included where it began.

    Args:
        job: the job.
        attempts: its submissions.
        records: what it wrote.
        known: what SLURM says.
        logs: whether to read logs at all.
    """
    alive = is_alive(current_job(attempts, records), attempts, records, job.directory)
    observed = observe(attempts, records, known, alive=alive)
    mine = tuple(records)
    if not logs or observed.job_id is None or observed.state in _UNBEGUN:
        return JobSeen(job.directory.is_dir(), records=mine), observed
    seen = _read_logs(job, mine, observed.job_id, observed.slurm)
    if observed.state is JobState.completed or (observed.slurm is not None and observed.slurm.active):
        return seen, observed
    return seen, observe(attempts, records, known, ending_of(seen.tail), alive=alive)


def _read_logs(job: Job, records: tuple[Record, ...], job_id: str, slurm: SlurmJob | None) -> JobSeen:
    if not job.directory.is_dir():
        return JobSeen(there=False, records=records)
    name = log_name(job_id, slurm)
    path = job.directory / name if name else _newest(job.directory, "slurm-", ".out", 0.0)
    tail, written_at = _tail(path)
    began = next((moment(record.time) for record in reversed(records) if record.event == "started"), None)
    since = began.timestamp() - CLOCKS_S if began else 0.0
    return JobSeen(
        there=True,
        records=records,
        log=str(path) if written_at is not None else None,
        tail=tail,
        written_at=written_at,
        disk_log=_tail(_newest(job.directory / "logs", "log_", ".txt", since))[0] if job.kind == "train" else b"",
        gpu_metrics=_tail(job.directory / "gpu_metrics.csv")[0] if job.kind == "train" else b"",
    )


def _newest(folder: Path, start: str, end: str, since: float) -> Path | None:
    """The file of such a name that was written last, if that was not before `since`."""
    try:
        with os.scandir(folder) as entries:
            names = [entry for entry in entries if entry.name.startswith(start) and entry.name.endswith(end)]
            times = {entry.path: entry.stat().st_mtime for entry in names if entry.is_file()}
    except OSError:
        return None
    path = max(times, key=lambda name: (times[name], name), default=None)
    return Path(path) if path is not None and times[path] >= since else None


def _tail(path: Path | None) -> tuple[bytes, float | None]:
    """The end of a regular file and when it was written; nothing of what cannot be read."""
    if path is None:
        return b"", None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a fifo of that name must not hold us
    except OSError:
        return b"", None
    try:
        status = os.fstat(handle)
        start = max(0, status.st_size - TAIL_BYTES)
        return os.pread(handle, min(status.st_size, TAIL_BYTES), start), status.st_mtime
    except OSError:  # a directory, or gone meanwhile
        return b"", None
    finally:
        os.close(handle)
