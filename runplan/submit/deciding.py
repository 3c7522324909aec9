"""The edge around `due.py`: reads logs, checkpoints and limits where another attempt is to learn from them."""

from __future__ import annotations

from functools import cache

from runplan.errors import SubmitError
from runplan.observe import JobState, Observed
from runplan.slurm import read_cluster
from runplan.submit.answers import Done, Limits, answer
from runplan.submit.due import Another, Decision, find_due
from runplan.submit.world import World, done_by
from runplan.written import Job, WrittenGroup

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

    return find_due(group, world.states, only, world.settled.nothing, another)


@cache
def _limits(partition: str | None) -> Limits:
    cluster = _cluster()
    found = cluster.partition(partition) if cluster else None
    if found is None:
        return Limits()
    return Limits(found.time_limit_s, found.memory_gib_per_node or None)


_cluster = cache(read_cluster)
