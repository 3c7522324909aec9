"""What a job asks of SLURM, from its size: time from p95, CPU memory from the weights, the rest from the config."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from runplan.estimate.workload import Interval
from runplan.plan import Request
from runplan.units import HOUR_S, parse_memory_gib, parse_slurm_time, round_up_time_s, slurm_memory, slurm_time

if TYPE_CHECKING:
    from runplan.config import Config, Resources

CPUS_PER_GPU = 4
CPU = "cpu"
"""Name of the resources without GPUs."""
_GPUS_ASKED = re.compile(r"(?<![^,])(?P<kind>(?:gres/)?gpu(?::(?!\d+(?:,|$))[\w.-]+)?)(?:[:=]\d+)?(?=,|$)")
"""`gpu`, `gpu:4`, `gpu:a100` or `gpu:a100:4` among generic resources."""


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


def evaluation_request(
    config: Config, job_name: str, p95_s: float, mem_gib: float, limit_s: int | None, gpus: int = 1
) -> Request:
    """The request of an evaluation cell: GPUs of the same kind or none where there are none, its own time."""
    resources = config.resources
    gpus = 0 if resources.gpu == CPU else gpus
    return Request(
        job_name=job_name,
        time_s=time_to_ask_s(p95_s, limit_s),
        mem_gib=math.ceil(mem_gib),
        cpus_per_task=CPUS_PER_GPU * max(1, gpus),
        gpus=gpus,
        gres=_gres_of(resources, gpus),
        **_placement(resources),
    )


def gpu_hours(time_s: Interval, request: Request) -> Interval:
    """GPU hours of one job."""
    return Interval(*(part * request.gpus / HOUR_S for part in time_s))


def _gres_of(resources: Resources, gpus: int) -> str | None:
    """The generic resources of a training with another number of GPUs: of the same type, and what else is named.

    None where the number cannot be told from the text: then GPUs of any type are asked for.
    """
    if resources.gres is None or resources.gpus == gpus:
        return resources.gres
    found, changed = _GPUS_ASKED.subn(rf"\g<kind>:{gpus}", resources.gres)
    return found if changed == 1 and gpus else None


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
