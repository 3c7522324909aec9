"""A job's request, as `plan.json` has it and as it is asked for now. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from runplan.plan import Request
from runplan.submit.due import Due
from runplan.submit.retries import OPTION_MEM, OPTION_TIME
from runplan.units import parse_memory_gib, parse_slurm_time


def request_of(resources: Mapping[str, Any], options: Sequence[str] = ()) -> Request:
    """What a job asks of SLURM.

    Args:
        resources: its `resources` in `plan.json`.
        options: what is asked beyond its script, `--mem=…` and `--time=…`; these win.
    """
    given = dict(word.partition("=")[::2] for word in options)
    memory = given.get(OPTION_MEM) or resources.get("mem")
    return Request(
        job_name=str(resources.get("job_name") or ""),
        time_s=parse_slurm_time(given.get(OPTION_TIME) or resources["time"]) or 0,
        mem_gib=math.ceil(parse_memory_gib(memory)) if memory else None,
        cpus_per_task=resources["cpus_per_task"],
        gpus=resources["gpus"] or 0,
        nodes=resources.get("nodes") or 1,
        gres=resources.get("gres"),
        partition=resources.get("partition"),
        account=resources.get("account"),
        qos=resources.get("qos"),
        constraint=resources.get("constraint"),
        exclude=resources.get("exclude"),
        extra=tuple(resources.get("extra") or ()),
    )


def by_request(due: Sequence[Due]) -> dict[Request, list[Due]]:
    """Jobs that ask for the same, whatever they are called, in order."""
    found: dict[Request, list[Due]] = {}
    for each in due:
        found.setdefault(replace(request_of(each.job.resources, each.options), job_name=""), []).append(each)
    return found
