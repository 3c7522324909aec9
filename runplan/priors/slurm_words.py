"""SLURM's words for states, memory and resources, and the job numbers in names of files."""

from __future__ import annotations

import re
from typing import Any

from runplan.priors.names import gpu_key
from runplan.units import used_memory_gib

_JOB_NAME = re.compile(r"(?:slurm|finetune|job|train)[-_.](\d+(?:_\d+)?)\.(?:out|err|log)")
_LAST_NUMBER = re.compile(r"(?<![\d.])(\d{4,12}(?:_\d{1,9})?)\.(?:out|err|log)$")
_TRES_GPU = re.compile(r"gres/gpu(?::([\w.-]+))?=(\d+)")
STATES = {
    "COMPLETED": "completed",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "TIMEOUT": "timeout",
    "OUT_OF_MEMORY": "host_oom",
    "NODE_FAIL": "node_fail",
    "BOOT_FAIL": "node_fail",
    "PREEMPTED": "preempted",
    "RUNNING": "running",
    "DEADLINE": "timeout",
}
"""SLURM's words for states, and ours."""


def job_id(file_name: str) -> str | None:
    """The job number in a log's name, as `slurm-%j.out` and `slurm-%A_%a.out` have it.

    >>> job_id("slurm-123_4.out"), job_id("train.log")
    ('123_4', None)
    """
    match = _JOB_NAME.fullmatch(file_name)
    return match[1] if match else None


def likely_job(file_name: str) -> str | None:
    """The job number that a log's name ends in, whatever stands before it: to be believed where another text names it.

    >>> likely_job("llama-3-8b-4711.out"), likely_job("llama-3.out")
    ('4711', None)
    """
    match = _LAST_NUMBER.search(file_name)
    return job_id(file_name) or (match[1] if match else None)


def is_job_text(path: str) -> bool:
    """Whether a file is called after a program of SLURM's that says how jobs were; such are kept beside or above logs.

    >>> is_job_text("../sacct_4711.txt"), is_job_text("notes.txt")
    (True, False)
    """
    return "sacct" in path or "scontrol" in path or "seff" in path  # of every file: a loop takes three times as long


def tres_fields(tres: str) -> dict[str, Any]:
    """GPUs of a job, and its host memory where it has one node, by SLURM's list of trackable resources.

    >>> tres_fields("billing=8,cpu=8,gres/gpu:a100=1,gres/gpu=1,mem=64G,node=1")
    {'num_gpus': 1, 'gpu': 'a100', 'asked_mem_gib': 64.0}
    """
    fields: dict[str, Any] = {}
    for gpu, count in _TRES_GPU.findall(tres):
        fields["num_gpus"] = int(count)
        if gpu:
            fields["gpu"] = gpu_key(gpu)
    parts = dict(part.partition("=")[::2] for part in tres.split(","))
    if parts.get("node") == "1" and (memory := used_memory_gib(parts.get("mem", ""))):
        fields["asked_mem_gib"] = memory
    return fields
