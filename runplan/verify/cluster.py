"""Whether the cluster would take what the runs ask for. Pure; without an answer nothing blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from runplan.errors import Problem
from runplan.facts import Status
from runplan.plan import Check, Request
from runplan.slurm.cluster import Cluster, NodeShape, Partition, parse_gres
from runplan.slurm.sbatch import asked_options, value_problems
from runplan.units import slurm_time

_FEATURE = re.compile(r"[A-Za-z_][\w.:+-]*")


def check_cluster(
    cluster: Cluster | None,
    requests: Sequence[Request],
    time_limits: Mapping[str, int | None] | None = None,
    tested: Mapping[Request, tuple[bool | None, str]] | None = None,
) -> tuple[tuple[Check, ...], tuple[Problem, ...]]:
    """One row a partition and account that is asked for, and every request that cannot be met.

    Args:
        cluster: what SLURM said; None where there is none.
        requests: of all jobs; a problem's run is its request's job name.
        time_limits: job name → `resources.time_limit` in seconds, used where SLURM does not tell its own.
        tested: distinct request (see `distinct`) → what `sbatch --test-only` said; its yes counts more than what
            is concluded here, but for the time limit, since SLURM may queue such a job for ever.
    """
    problems = [problem for request in requests for problem in value_problems(request)]
    for request in requests:
        too_long = list(_time_problems(cluster, request, (time_limits or {}).get(request.job_name)))
        ok, message = (tested or {}).get(distinct(request), (None, ""))
        found = [] if ok or cluster is None else list(_problems(cluster, request))
        if ok is False and not found and not too_long:
            fix = "change what it names: resources.*, site.account, site.partition"
            asked = "" if any(value_problems(request)) else f" ({asked_options(request)})"
            found = [Problem(f"sbatch refuses the request: {message}{asked}", "resources", fix, request.job_name)]
        problems += too_long + found
    return _rows(cluster, requests), tuple(dict.fromkeys(problems))


def distinct(request: Request) -> Request:
    """The same request without its name: what `sbatch --test-only` is asked once for."""
    return replace(request, job_name="runplan")


def time_limit_s(cluster: Cluster | None, request: Request, declared_s: int | None = None) -> int | None:
    """The longest time a request may ask for, in seconds; None = no limit is known.

    The partition's limit where SLURM tells it, else `declared_s` (`resources.time_limit`).
    """
    partition = cluster.partition(request.partition) if cluster else None
    return declared_s if partition is None else partition.time_limit_s


def _rows(cluster: Cluster | None, requests: Sequence[Request]) -> tuple[Check, ...]:
    if cluster is None:
        return (Check("cluster", "SLURM", "", Status.unchecked, "no SLURM on this machine"),)
    rows = []
    if cluster.slow:
        rows.append(Check("cluster", "SLURM", "", Status.unchecked, "; ".join(cluster.slow)))
    for name in dict.fromkeys(request.partition for request in requests):
        partition = cluster.partition(name)
        if partition is not None:
            rows.append(Check("cluster", f"partition {partition.name}", "", Status.ok, _describe(partition)))
        elif cluster.partitions:
            rows.append(Check("cluster", f"partition {name or '(default)'}", "", Status.invalid, "does not exist"))
    for account in dict.fromkeys(request.account for request in requests if request.account):
        known = cluster.accounts
        status = Status.unchecked if known is None else Status.ok if account in known else Status.invalid
        rows.append(Check("cluster", f"account {account}", "", status, "" if status is Status.ok else _of(known)))
    return tuple(rows)


def closed_partitions(cluster: Cluster | None, requests: Sequence[Request]) -> list[Problem]:
    """A risk for each partition that is down while SLURM takes jobs for it: they wait until it is opened again."""
    if cluster is None:
        return []
    named = dict.fromkeys(request.partition for request in requests)
    closed = [each for each in map(cluster.partition, named) if each is not None and not each.up]
    fix = "choose another one, or submit all the same: the jobs begin when it is up again"
    return [Problem(f"partition {each.name} is not up now", "resources.partition", fix) for each in closed]


def _describe(partition: Partition) -> str:
    limit = "no time limit" if partition.time_limit_s is None else f"limit {slurm_time(partition.time_limit_s)}"
    gpus = f", up to {partition.gpus_per_node} GPUs a node" if partition.shapes else ""
    return f"{'up' if partition.up else 'not up'}, {limit}{gpus}"


def _problems(cluster: Cluster, request: Request) -> Iterator[Problem]:
    if request.account and cluster.accounts is not None and request.account not in cluster.accounts:
        yield _problem(request, f"account {request.account} is not yours", "account", _of(cluster.accounts))
    if request.qos and cluster.qos is not None and request.qos not in cluster.qos:
        yield _problem(request, f"QOS {request.qos} is not yours", "qos", _of(cluster.qos))
    partition = cluster.partition(request.partition)
    if partition is None:
        if cluster.partitions:
            names = ", ".join(each.name for each in cluster.partitions)
            unknown = ", ".join(cluster.unknown_partitions(request.partition))
            what = f"there is no partition {unknown}" if request.partition else "no partition is the default"
            yield _problem(request, what, "partition", f"choose one of: {names}")
        return
    yield from _access_problems(partition, request)
    yield from _node_problems(partition, request)


def _time_problems(cluster: Cluster | None, request: Request, declared_s: int | None) -> Iterator[Problem]:
    limit_s = time_limit_s(cluster, request, declared_s)
    if limit_s is not None and request.time_s > limit_s:
        where = f"partition {request.partition}" if request.partition else "the partition"
        what = f"asks for {slurm_time(request.time_s)}, {where} allows {slurm_time(limit_s)}"
        yield _problem(request, what, "time", "ask for less, or choose a partition that allows it")


def _access_problems(partition: Partition, request: Request) -> Iterator[Problem]:
    if not partition.up:
        yield _problem(request, f"partition {partition.name} is not up", "partition", "choose another one")
    account, allowed = request.account, partition.accounts
    if account and ((allowed is not None and account not in allowed) or account in partition.denied_accounts):
        what = f"account {account} may not use partition {partition.name}"
        yield _problem(request, what, "account", _of(allowed) if allowed else "choose another account")
    if request.qos and partition.qos is not None and request.qos not in partition.qos:
        what = f"QOS {request.qos} is not allowed in partition {partition.name}"
        yield _problem(request, what, "qos", _of(partition.qos))


def _node_problems(partition: Partition, request: Request) -> Iterator[Problem]:
    """What no node of the partition has; nothing when SLURM did not tell its kinds of nodes."""
    if not partition.shapes:
        return
    missing = [name for name in _features(request) if name not in partition.features]
    if missing:
        what = f"no node of partition {partition.name} has feature {', '.join(missing)}"
        yield _problem(request, what, "constraint", _of(partition.features))
        return
    shapes = [shape for shape in partition.shapes if _has_features(shape, request)]
    gpus, types = parse_gres(request.gres) if request.gres else (request.gpus, ())
    unknown = [name for name in types if partition.gpu_types and name not in partition.gpu_types]
    if unknown:
        what = f"no node of partition {partition.name} has GPUs of type {unknown[0]}"
        yield _problem(request, what, "gres", _of(partition.gpu_types))
        return
    wanted = {
        "gpus": (gpus, max((shape.gpus for shape in shapes), default=0), "GPUs"),
        "cpus_per_task": (request.cpus_per_task, max((shape.cpus for shape in shapes), default=0), "CPUs"),
        "mem": (request.mem_gib or 0, max((shape.memory_gib for shape in shapes), default=0.0), "GiB"),
    }
    short = False
    for key, (asked, most, unit) in wanted.items():
        if asked > most:
            short = True
            what = f"asks for {asked} {unit} on a node, the largest of partition {partition.name} has {most:g} {unit}"
            yield _problem(request, what, key, "ask for less, or choose another partition")
    if not short and not any(_fits(shape, gpus, request) for shape in shapes):
        together = f"{gpus} GPUs, {request.cpus_per_task} CPUs and {request.mem_gib or 0} GiB"
        what = f"no node of partition {partition.name} has {together} at once"
        yield _problem(request, what, "gpus", "ask for less, or choose another partition")


def _fits(shape: NodeShape, gpus: int, request: Request) -> bool:
    enough_memory = shape.memory_gib >= (request.mem_gib or 0)
    return shape.gpus >= gpus and shape.cpus >= request.cpus_per_task and enough_memory


def _features(request: Request) -> list[str]:
    """The names in a constraint such as `a100&gpu80`, `[rack1|rack2]` or `gpu80*2`; of exclusions (`!x`) none."""
    text = re.sub(r"![^&|,]+", "", request.constraint or "")
    return _FEATURE.findall(text)


def _has_features(shape: NodeShape, request: Request) -> bool:
    """Whether a kind of node may satisfy the constraint; alternatives and counts are left to SLURM."""
    text = request.constraint or ""
    if any(mark in text for mark in "|[(*!"):
        return True
    return set(_features(request)) <= set(shape.features)


def _of(names: Sequence[str] | None) -> str:
    return "accounting does not say" if names is None else f"choose one of: {', '.join(names)}"


def _problem(request: Request, what: str, key: str, fix: str) -> Problem:
    return Problem(what, f"resources.{key}", fix, request.job_name)
