"""Whether jobs work in copies of a run's or a group's directory: these have the same tokens. An edge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runplan.files.written import Job, WrittenGroup
    from runplan.jobs.attempts import Ledger
    from runplan.jobs.observe import SlurmJobs
    from runplan.slurm.queue import SlurmJob


def works_elsewhere(job: Job, found: SlurmJob) -> bool:
    """Whether a SLURM job runs in a copy of a job's directory, which then holds the same script with the same token."""
    if not found.place or found.token != job.token:
        return False
    place = Path(found.place)
    try:
        if place.samefile(job.directory):
            return False
        return f"token={job.token}" in (place / job.script).read_text(errors="replace").splitlines()
    except (OSError, ValueError):  # a name that this locale cannot say, or with a NUL
        return False


def copy_note(group: WrittenGroup, ledger: Ledger, known: SlurmJobs) -> str:
    """A note on a group that was copied together with its ledger; empty where its jobs run here.

    The first job whose directory SLURM tells decides.
    """
    for job in group.jobs:
        last = ledger.last(job.token)
        found = known.job(last.job_id) if last is not None and last.job_id is not None else None
        if found is None or not found.place or found.token != job.token:
            continue
        if not works_elsewhere(job, found):
            return ""
        return (
            f"{job.path} is job {found.job_id}, which works in {found.place}: this group is a copy, with the other's "
            "ledger. To submit it by itself, remove its ledger.jsonl, and jobs.jsonl of runs that began"
        )
    return ""
