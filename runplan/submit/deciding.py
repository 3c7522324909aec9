"""The edge around `due.py`: reads logs, checkpoints and limits where another attempt is to learn from them."""

from __future__ import annotations

from functools import cache

from runplan.errors import SubmitError
from runplan.observe import JobState, Observed
from runplan.slurm import read_cluster
from runplan.submit.answers import Done, Limits, answer
from runplan.submit.due import Another, Decision, find_due
from runplan.submit.machine import is_alive
from runplan.submit.world import World, done_by
from runplan.written import Job, WrittenGroup

LOCAL = "local-"
LEARNS = frozenset({JobState.timeout, JobState.host_oom})
"""Endings after which another attempt asks for more."""


def decide(group: WrittenGroup, world: World, only: frozenset[JobState], *, via: str) -> Decision:
    """What is due of a group as it is now.

    Raises:
        SubmitError: jobs are to be tried again and SLURM does not say which are over.
    """
    if only and via != "local" and world.known.queue is None:
        raise SubmitError(
            "SLURM does not answer (squeue), so nobody knows which jobs are over: nothing was submitted; "
            "run the same again later"
        )
    if world.known.queue is None:
        only -= {JobState.unknown}  # SLURM may know them, elsewhere

    def another(job: Job, seen: Observed) -> Another:
        attempts = world.ledger.of(job.token)
        options = attempts[-1].options if attempts else ()
        if seen.state not in LEARNS:
            return answer(job, seen, options)
        done = done_by(job, seen) if seen.state is JobState.timeout else Done()
        return answer(job, seen, options, done, _limits(job.resources.get("partition")))

    begun, here = dict(world.settled.nothing), None
    if via == "local":
        here = {job.token for job in group.jobs if _runs_here(job, world)}
        begun |= {job.token: () for job in group.jobs if _interrupted_here(world.states[job.token])}
    return find_due(group, world.states, only, begun, another, here)


def _runs_here(job: Job, world: World) -> bool:
    job_id = world.states[job.token].job_id
    return job_id is not None and bool(is_alive(job_id, world.records[job.token]))


def _interrupted_here(seen: Observed) -> bool:
    """Whether a job was stopped on this machine, by Ctrl-C or with the machine: calling again goes on with it."""
    return seen.state is JobState.cancelled and (seen.job_id or "").startswith(LOCAL)


@cache
def _limits(partition: str | None) -> Limits:
    cluster = _cluster()
    found = cluster.partition(partition) if cluster else None
    if found is None:
        return Limits()
    return Limits(found.time_limit_s, found.memory_gib_per_node or None)


_cluster = cache(read_cluster)
