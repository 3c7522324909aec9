"""What a whole group needs and asks for, verified: rows of the summary, and requests that SLURM would refuse. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from runplan.config import Config
from runplan.errors import Problem
from runplan.facts import CREATE_DATASET
from runplan.plan import Check, Request
from runplan.slurm.cluster import Cluster
from runplan.units import parse_slurm_time
from runplan.verify.cluster import check_cluster, closed_partitions, distinct


def verify_group(
    things: Sequence[Check],
    requests: Sequence[Request],
    configs: Mapping[str, Config],
    command: str,
    cluster: Cluster | None,
    would_take: Callable[[Request], tuple[bool | None, str]] | None,
) -> tuple[tuple[Check, ...], list[Problem], list[Problem]]:
    """All rows, every request that cannot be met, and what those should know that can.

    Args:
        things: rows of models, datasets and whatever else is no cluster.
        requests: of all jobs.
        configs: of each run, by its name, which is that of its jobs.
        command: the override line that makes this plan again.
        cluster: what SLURM said; None where there is none.
        would_take: asks SLURM about a request; None where it cannot be asked.
    """
    tested = {request: would_take(request) for request in dict.fromkeys(map(distinct, requests))} if would_take else {}
    declared = {name: declared_limit_s(config) for name, config in configs.items()}
    cluster_checks, problems = check_cluster(cluster, list(dict.fromkeys(requests)), declared, tested)
    rows = (*(_with_command(check, command) for check in things), *cluster_checks)
    return rows, list(problems), closed_partitions(cluster, requests)


def declared_limit_s(config: Config) -> int | None:
    """`resources.time_limit` in seconds; None where it is not set."""
    return parse_slurm_time(config.resources.time_limit) if config.resources.time_limit else None


def _with_command(check: Check, command: str) -> Check:
    """The check with the whole command as its fix, where the fix is to add to it."""
    if check.fix != CREATE_DATASET:
        return check
    return replace(check, fix=f"python -m runplan -m {command} {CREATE_DATASET}")
