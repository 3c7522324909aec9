"""Whether the process of a job without SLURM still exists. An edge."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

from runplan.jobs.attempts import LOCAL, Attempt, Record, is_local, moment

CLOCKS_S = 5.0
"""By how much a file server's clock and this machine's may differ, and what a job needs to write its first line."""


def is_alive(
    job_id: str | None, attempts: Sequence[Attempt], records: Sequence[Record], directory: Path
) -> bool | None:
    """Whether the process of a job without SLURM runs on this machine; None for what cannot be told.

    A process that started after the job's first record, or that works in another directory, has its number by chance.

    Args:
        job_id: of the job; other jobs than `local-<pid>` cannot be told.
        attempts: its submissions.
        records: what it wrote.
        directory: where its script is.
    """
    if job_id is None or not is_local(job_id):
        return None
    begun = [record for record in records if record.job_id == job_id and record.event == "started"]
    host = begun[-1].more.get("host") if begun else None
    host = host or next((one.host for one in reversed(attempts) if one.job_id == job_id and one.host), None)
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
    """Whether a directory is a process's working directory; None for another user's process, which cannot be asked."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(directory)
    except OSError:
        return None
