"""Looks at a group, everything once: one `squeue` and one `sacct` however many runs, and only the ends of logs."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from runplan.attempts import Attempt, Ledger, Record, moment
from runplan.ledger import read_ledger, read_records
from runplan.observe import JobState, Known, Observed, current_job, observe
from runplan.present import LEDGER
from runplan.queue import SlurmJob
from runplan.slurm import read_accounting, read_queue
from runplan.status.seen import LOCAL, JobSeen, Sight, SlurmAnswer, ending_of, log_name
from runplan.written import Job, WrittenGroup

TAIL_BYTES = 1 << 16
CLOCKS_S = 5.0
"""By how much a file server's clock and this machine's may differ, and what a job needs to write its first line."""
_UNBEGUN = frozenset({JobState.not_submitted, JobState.held, JobState.pending})


def look(group: WrittenGroup, timeout_s: float = 30.0) -> dict[str, Observed]:
    """Every job of a group as it is now, by token.

    Reads the ledger, the records of all jobs and the ends of the logs of those that began; asks SLURM once. Nothing
    is written.

    Args:
        group: as `read_group` has it.
        timeout_s: seconds after which SLURM counts as silent.

    Raises:
        OSError: the ledger or a record cannot be read (it is missing: fine).
    """
    sight = look_closely(group, timeout_s)
    for seen in sight.jobs.values():
        if seen.unread:
            raise OSError(seen.unread)
    return dict(sight.observed)


def look_closely(group: WrittenGroup, timeout_s: float = 30.0) -> Sight:
    """A group as it is now, with what its jobs said; as `look`, but a record that cannot be read is only told of."""
    ledger = read_ledger(group.directory)
    records, unread = {}, {}
    for job in group.jobs:
        try:
            found = read_records(job.directory)
        except OSError as error:
            unread[job.token], found = f"{error.filename or job.directory}: {error.strerror or error}", ()
        records[job.token] = tuple(record for record in found if record.token == job.token)
    slurm, known = _ask(_asked_since(ledger, records), _owner(group.directory), timeout_s)
    jobs, observed = {}, {}
    for job in group.jobs:
        seen, observed[job.token] = _look_at(job, ledger.of(job.token), records[job.token], known)
        jobs[job.token] = replace(seen, unread=unread[job.token]) if job.token in unread else seen
    return Sight(datetime.now(UTC), ledger, known, slurm, jobs, observed)


def _asked_since(ledger: Ledger, records: Mapping[str, Iterable[Record]]) -> datetime | None:
    """When the first job began its way that SLURM may know of; None when there is none."""
    tried = [attempt for tries in ledger.attempts.values() for attempt in tries]
    times = [one.intended_at for one in tried if one.via != "local" and not (one.job_id or "").startswith(LOCAL)]
    times += [one.time for some in records.values() for one in some if not one.job_id.startswith(LOCAL)]
    if not times:
        return None
    known = [when for text in times if (when := moment(text)) is not None]
    return min(known, default=datetime(1970, 1, 2, tzinfo=UTC))


def _owner(group: Path) -> int | None:
    """Whose jobs the group's are: who owns its ledger, if there is one."""
    try:
        return (group / LEDGER).stat().st_uid
    except OSError:
        return None


def _ask(since: datetime | None, uid: int | None, timeout_s: float) -> tuple[SlurmAnswer, Known]:
    if since is None:
        return SlurmAnswer.not_asked, Known(None)
    if shutil.which("squeue") is None:
        return SlurmAnswer.absent, Known(None)
    with ThreadPoolExecutor(2) as both:  # each may take seconds
        queue = both.submit(read_queue, timeout_s, uid)
        accounting = both.submit(read_accounting, since, timeout_s, uid)
        known = Known(queue.result(), accounting.result())
    return (SlurmAnswer.silent if known.queue is None else SlurmAnswer.answered), known


def _look_at(
    job: Job, attempts: tuple[Attempt, ...], records: tuple[Record, ...], known: Known
) -> tuple[JobSeen, Observed]:
    """One job, its log included where it began."""
    alive = _alive(current_job(attempts, records), records, job.directory)
    observed = observe(attempts, records, known, alive=alive)
    if observed.job_id is None or observed.state in _UNBEGUN:
        return JobSeen(job.directory.is_dir(), records=records), observed
    seen = _read_logs(job, records, observed.job_id, observed.slurm)
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


def _alive(job_id: str | None, records: Iterable[Record], directory: Path) -> bool | None:
    """Whether the process of a job without SLURM runs on this machine; None for what cannot be told.

    A process that started after the job's first line only has its number by chance.
    """
    if job_id is None or not job_id.startswith(LOCAL):
        return None
    begun = [record for record in records if record.job_id == job_id and record.event == "started"]
    host = begun[-1].more.get("host") if begun else None
    if host is not None and host != socket.gethostname():
        return None
    pid, when = job_id.removeprefix(LOCAL), moment(begun[-1].time) if begun else None
    started = _started_at(pid) if pid.isdecimal() else None
    if started is None or (when is not None and started > when.timestamp() + CLOCKS_S):
        return False if host is not None else None  # else it may run on another machine
    works = _works_in(pid, directory)
    return None if works is False and host is None else works


def _started_at(pid: str) -> float | None:
    """When a process of this machine started, in seconds since the epoch; None when it is not there or ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        if fields[0] in {b"Z", b"X"}:
            return None
        boot = next(line for line in Path("/proc/stat").read_bytes().splitlines() if line.startswith(b"btime "))
        return float(boot.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _works_in(pid: str, directory: Path) -> bool | None:
    """Whether a process stands in a directory, as our scripts do; None when another user's cannot be asked."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(directory)
    except OSError:
        return None
