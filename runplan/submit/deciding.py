"""The edge around `due.py`: reads logs, checkpoints and limits where another attempt is to learn from them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import cache

from runplan.errors import SubmitError
from runplan.files.file_names import RESUME, TRAINER_CONFIG
from runplan.files.written import Job, WrittenGroup
from runplan.jobs.attempts import is_local
from runplan.jobs.observe import JobState, Observed
from runplan.jobs.processes import is_alive
from runplan.jobs.seen import JobSeen
from runplan.priors.parse import parse_text
from runplan.slurm.commands import read_cluster
from runplan.submit.due import Decision, Retry, find_due
from runplan.submit.retries import Done, Limits, plan_retry
from runplan.submit.snapshot import Snapshot

RESUME_S = 120.0
"""It reads the archives of an epoch."""
LEARNS = frozenset({JobState.timeout, JobState.host_oom})
"""Endings after which another attempt asks for more."""


def decide(group: WrittenGroup, snapshot: Snapshot, only: frozenset[JobState], *, via: str) -> Decision:
    """What is due of a group as it is now.

    Raises:
        SubmitError: jobs are to be tried again and SLURM does not say which are over.
    """
    if only and via != "local" and snapshot.known.queue is None:
        raise SubmitError(
            "SLURM does not answer (squeue), so nobody knows which jobs are over: nothing was submitted; "
            "run the same again later"
        )
    if snapshot.known.queue is None:
        only -= {JobState.unknown}  # SLURM may know them, elsewhere

    def retry(job: Job, seen: Observed) -> Retry:
        attempts = snapshot.ledger.of(job.token)
        options = attempts[-1].options if attempts else ()
        if seen.state not in LEARNS:
            return plan_retry(job, seen, options)
        done = done_by(job, seen, snapshot.jobs[job.token]) if seen.state is JobState.timeout else Done()
        return plan_retry(job, seen, options, done, _limits(job.resources.get("partition")))

    begun, here = dict(snapshot.settled.nothing), None
    if via == "local":
        here = {job.token for job in group.jobs if _runs_here(job, snapshot)}
        begun |= {job.token: () for job in group.jobs if _interrupted_here(snapshot.states[job.token])}
    return find_due(group, snapshot.states, only, begun, retry, here)


def _runs_here(job: Job, snapshot: Snapshot) -> bool:
    job_id = snapshot.states[job.token].job_id
    return is_alive(job_id, snapshot.ledger.of(job.token), snapshot.records[job.token], job.directory) is True


def done_by(job: Job, seen: Observed, left: JobSeen) -> Done:
    """How far the last attempt of a job came, by its log, and what the next one continues."""
    steps = (parse_text(left.tail) or {}).get("steps_done")
    done = Done(steps if isinstance(steps, int) else None)
    if job.kind != "train":
        return done
    tries = [one for one in left.records if one.event == "attempt" and one.job_id == seen.job_id]
    resumed = tries[-1].more.get("resumed_epoch") if tries else None
    earlier = (resumed + 1) * (job.entry["steps"]["per_epoch"] or 0) if isinstance(resumed, int) else 0
    return replace(done, earlier_steps=earlier, saved_epochs=_saved_epochs(job))


def _saved_epochs(job: Job) -> int:
    """Epochs that the next attempt does not train again, by the word of the program that it asks itself."""
    configs = [TRAINER_CONFIG, *(rung["file"] for rung in job.entry.get("rungs", ()))]
    if not (job.directory / RESUME).is_file():
        return 0
    try:
        said = subprocess.run(
            [sys.executable, RESUME, str(job.entry["config"]["epochs"]), *configs],
            cwd=job.directory, capture_output=True, text=True, timeout=RESUME_S, check=False,
        ).stdout.split()  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return int(said[-1]) + 1 if said else 0


def _interrupted_here(seen: Observed) -> bool:
    """Whether a job was stopped on this machine, by Ctrl-C or with the machine: calling again goes on with it."""
    return seen.state is JobState.cancelled and is_local(seen.job_id)


@cache
def _limits(partition: str | None) -> Limits:
    cluster = _cluster()
    found = cluster.partition(partition) if cluster else None
    if found is None:
        return Limits()
    return Limits(found.time_limit_s, found.memory_gib_per_node or None)


_cluster = cache(read_cluster)
