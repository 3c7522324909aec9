"""What one log and the files beside it say, in plain values, ready for the index."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Any

from runplan.priors.contents import read_text
from runplan.priors.files import LogFile
from runplan.priors.names import better_gpu
from runplan.priors.parse import parse_text
from runplan.priors.record import MemoryGib, PriorRun
from runplan.priors.samples import is_recording
from runplan.priors.saved import unlike, with_adapter, with_results
from runplan.priors.siblings import LATER_NS, adapter_beside, job_beside, sibling_fields

_MEMORY = ("peak_memory_gib", "init_memory_gib")
_KEPT = frozenset(item.name for item in fields(PriorRun)) | {"disk_log", "gigabytes", "again", "job_s", "job"}
_SETTINGS = ("params_b", "lora_rank", "epochs", "max_seq_len", "packed", "dtype")
"""By which a config is known to be another run's; a batch is made smaller after it was too large."""
_OF_THE_JOB = frozenset({"gpu", "num_gpus", "process_peak_gib", "job_s", "asked_mem_gib", "cpus"})


def read_log(log: LogFile) -> dict[str, Any] | None:
    """Fields of the record, and what joins it with others; None when it is no training log or cannot be read."""
    try:
        text = read_text(log.path, log.size)
    except OSError:
        return None
    if log.errors:  # what it was asked comes first, how it ended last
        with suppress(OSError):
            text += b"\n" + read_text(f"{log.folder}/{log.errors[0]}", log.errors[1])
    said = parse_text(text, log.name)
    if said is None:
        return None
    for name in _MEMORY:
        if isinstance(memory := said.get(name), MemoryGib):
            said[name] = [memory.allocated, memory.active, memory.reserved]
    beside = sibling_fields(log.folder, [name for name, _, _ in log.siblings], log.name) if log.siblings else {}
    _check_samples(log, said, beside)
    if _foreign(said, beside):
        beside = {key: value for key, value in beside.items() if key in _OF_THE_JOB}
    _add_job(log, said, beside)
    gpu = better_gpu(said.get("gpu") if said.get("device") else None, beside.get("gpu"), said.get("gpu"))
    results = beside.pop("results", None)
    said = with_adapter({**beside, **said}, adapter_beside(log)) if log.siblings else said
    said = with_results(said, results) if results else said
    if gpu:
        said["gpu"] = gpu
    if said.get("steps_per_epoch") and said.get("epochs") and not said.get("steps_total"):
        said["steps_total"] = said["steps_per_epoch"] * said["epochs"]
    return {name: value for name, value in said.items() if name in _KEPT}


def _check_samples(log: LogFile, said: Mapping[str, Any], beside: dict[str, Any]) -> None:
    """Leave out samples of a later job in the same folder, and those of more GPUs than the run had."""
    seen = beside.pop("sampled_gpus", None)
    later = log.written_ns + LATER_NS
    foreign = any(at > later for name, _, at in log.siblings if name == "gpu_metrics.csv" or is_recording(name))
    if foreign or (seen or 0) > (said.get("num_gpus") or beside.get("num_gpus") or 1):
        beside.pop("process_peak_gib", None)


def _add_job(log: LogFile, said: dict[str, Any], beside: dict[str, Any]) -> None:
    """Add what SLURM's programs said of the job, in the log or in a file: of its threads more than the script knows."""
    if job := {**said.get("job", {}), **job_beside(log)}:
        said["job"] = job
        beside |= {"cpus": job["cpus"]} if "cpus" in job else {}


def _foreign(said: Mapping[str, Any], beside: Mapping[str, Any]) -> bool:
    """Whether the config beside a log is not what it ran with: another run's, or edited since."""
    return any(unlike(key, said, beside) for key in _SETTINGS)
