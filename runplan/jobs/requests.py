"""What a job asks of SLURM, from its size: time from p95, CPU memory from the weights, the rest from the config."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from runplan.plan import Request
from runplan.units import parse_memory_gib, parse_slurm_time, round_up_time_s, slurm_memory, slurm_time

if TYPE_CHECKING:
    from runplan.config import Config, Resources

CPUS_PER_GPU = 4
EVALUATION_GPUS = 1
CPU = "cpu"
"""Name of the resources without GPUs."""


def asked_time_s(resources: Resources) -> int | None:
    """The wall time the user set, in seconds; None when it is runplan's to work out."""
    return None if resources.time is None else parse_slurm_time(resources.time)


def time_to_ask_s(p95_s: float, limit_s: int | None) -> int:
    """p95 rounded up to 5 minutes, at most the partition's limit (the caller says the risk)."""
    wanted = round_up_time_s(p95_s)
    return wanted if limit_s is None else min(wanted, limit_s)


def fill_request(config: Config, time_s: float, mem_gib: float, limit_s: int | None) -> None:
    """Set the request keys of a config that are runplan's to work out; what the user set stays.

    Args:
        config: a copy that may be changed.
        time_s: p95 of the training time, in seconds.
        mem_gib: CPU memory the job needs, in GiB.
        limit_s: the partition's time limit, in seconds; None when it has none or is unknown.
    """
    resources = config.resources
    if resources.time is None:
        resources.time = slurm_time(time_to_ask_s(time_s, limit_s))
    if resources.mem is None:
        resources.mem = slurm_memory(mem_gib)
    if resources.cpus_per_task is None:
        resources.cpus_per_task = cpus_of(resources)


def cpus_of(resources: Resources) -> int:
    """CPU cores that a training job asks for."""
    return resources.cpus_per_task or CPUS_PER_GPU * resources.gpus


def threads_of(cpus: int, gpus: int) -> int:
    """CPU threads of each process of a training job: one process a GPU, or one without any."""
    return max(1, cpus // max(1, gpus))


def training_request(config: Config, job_name: str) -> Request:
    """The request of a training job, from a complete config; training on the CPU asks for no GPU by itself."""
    resources = config.resources
    return Request(
        job_name=job_name,
        time_s=parse_slurm_time(resources.time or "") or 0,
        mem_gib=math.ceil(parse_memory_gib(resources.mem)) if resources.mem else None,
        cpus_per_task=cpus_of(resources),
        gpus=0 if config.trainer.device == "cpu" else resources.gpus,
        gres=resources.gres,
        **_placement(resources),
    )


def evaluation_request(config: Config, job_name: str, p95_s: float, mem_gib: float, limit_s: int | None) -> Request:
    """The request of an evaluation cell: one GPU of the same kind or none where there are none, its own time."""
    resources = config.resources
    gpus = 0 if resources.gpu == CPU else EVALUATION_GPUS
    return Request(
        job_name=job_name,
        time_s=time_to_ask_s(p95_s, limit_s),
        mem_gib=math.ceil(mem_gib),
        cpus_per_task=CPUS_PER_GPU * EVALUATION_GPUS,
        gpus=gpus,
        gres=resources.gres if resources.gpus == EVALUATION_GPUS else None,
        **_placement(resources),
    )


def _placement(resources: Resources) -> dict[str, Any]:
    """Where jobs may run and who pays, the same for trainings and evaluations."""
    return {
        "partition": resources.partition,
        "account": resources.account,
        "qos": resources.qos,
        "constraint": resources.constraint,
        "exclude": resources.exclude,
        "extra": tuple(resources.extra_sbatch),
    }
