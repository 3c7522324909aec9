"""What one log and the files beside it say, in plain values, ready for the index."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from runplan.priors.files import LogFile, read_text
from runplan.priors.names import better_gpu
from runplan.priors.parse import parse_text
from runplan.priors.record import MemoryGib, PriorRun
from runplan.priors.siblings import sibling_fields

_MEMORY = ("peak_memory_gib", "init_memory_gib")
_KEPT = frozenset(item.name for item in fields(PriorRun)) | {"disk_log", "gigabytes", "again", "job_s"}


def read_log(log: LogFile) -> dict[str, Any] | None:
    """Fields of the record, and what joins it with others; None when it is no training log or cannot be read."""
    try:
        text = read_text(log.path, log.size)
    except OSError:
        return None
    said = parse_text(text, log.name)
    if said is None:
        return None
    for name in _MEMORY:
        if isinstance(memory := said.get(name), MemoryGib):
            said[name] = [memory.allocated, memory.active, memory.reserved]
    beside = sibling_fields(log.folder, [name for name, _, _ in log.siblings], log.name) if log.siblings else {}
    gpu = better_gpu(said.get("gpu") if said.get("device") else None, beside.get("gpu"), said.get("gpu"))
    said = {**beside, **said}
    if gpu:
        said["gpu"] = gpu
    if said.get("steps_per_epoch") and said.get("epochs") and not said.get("steps_total"):
        said["steps_total"] = said["steps_per_epoch"] * said["epochs"]
    return {name: value for name, value in said.items() if name in _KEPT}
