"""How the GPUs, cores and memory of one machine are shared out among jobs. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runplan.units import parse_memory_gib

if TYPE_CHECKING:
    from runplan.files.written import Job


@dataclass(frozen=True)
class Machine:
    """What a machine has to share out."""

    gpus: tuple[str, ...]
    """As `CUDA_VISIBLE_DEVICES` names them."""
    cpus: int
    memory_gib: float


@dataclass(frozen=True)
class Share:
    """What one job holds while it runs."""

    gpus: tuple[str, ...]
    cpus: int
    memory_gib: float


def impossible(job: Job, machine: Machine) -> str | None:
    """Why a job can never run on a machine; None when it can.

    Cores are not among the reasons: a job that planned with more of them is slower, not wrong.
    """
    wanted, memory = job.resources["gpus"] or 0, _memory_gib(job)
    if wanted > len(machine.gpus):
        has = f"{len(machine.gpus)} GPU{'s' if len(machine.gpus) > 1 else ''}" if machine.gpus else "no GPU"
        return f"asks for {wanted} GPU{'s' if wanted > 1 else ''}, this machine has {has}"
    if memory > machine.memory_gib:
        return f"asks for {memory:g} GiB of memory, this machine has {machine.memory_gib:.1f} GiB"
    return None


def share_for(job: Job, machine: Machine, held: Collection[Share]) -> Share | None:
    """What a job would get now, beside those that run; None when it has to wait. GPUs are never shared."""
    free = [gpu for gpu in machine.gpus if not any(gpu in share.gpus for share in held)]
    wanted = job.resources["gpus"] or 0
    share = held_by(job, machine, free[:wanted])
    fits = (
        wanted <= len(free)
        and share.cpus <= machine.cpus - sum(each.cpus for each in held)
        and share.memory_gib <= machine.memory_gib - sum(each.memory_gib for each in held)
    )
    return share if fits else None


def held_by(job: Job, machine: Machine, gpus: Sequence[str]) -> Share:
    """What a job holds while it runs on these GPUs."""
    cpus = min(max(1, job.resources["cpus_per_task"] or 1), machine.cpus)
    return Share(tuple(gpus), cpus, _memory_gib(job))


def ready(waiting: Sequence[Job], done: Mapping[str, bool]) -> tuple[list[Job], list[Job]]:
    """The jobs that may start and those that never will, since what they wait for failed.

    Args:
        waiting: jobs that have not run.
        done: token → whether it succeeded, of the jobs that are over.
    """
    may, never = [], []
    for job in waiting:
        if job.after is None or done.get(job.after) is True:
            may.append(job)
        elif done.get(job.after) is False:
            never.append(job)
    return may, never


def _memory_gib(job: Job) -> float:
    text = job.resources["mem"]
    return parse_memory_gib(text) if text else 0.0
