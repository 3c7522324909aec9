"""What a group is reckoned to cost, in the hours that its jobs are counted in: of GPUs, or of CPU cores. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runplan.estimate.intervals import total
from runplan.estimate.workload import Interval
from runplan.units import HOUR_S, short_hours

GPU_HOURS = "GPU hours"
CORE_HOURS = "CPU core-hours"


def total_hours(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is counted and how much, as people read it: `GPU hours` unless no job has a GPU, `CPU core-hours` of those.

    Args:
        document: a plan document (`plan.json`).
    """
    hours, cores = document["totals"]["gpu_hours"], _core_hours(document)
    found = []
    if hours["p50"] is None or hours["p50"] > 0 or cores is None:
        found.append((GPU_HOURS, _shown(hours["p50"], hours["p95"])))
    if cores is not None:
        found.append((CORE_HOURS, _shown(*cores)))
    return found


def _core_hours(document: Mapping[str, Any]) -> Interval | None:
    """Of jobs that ask for no GPU, by the cores that they ask for; None when there are none."""
    parts = [
        Interval(*(seconds * resources["cpus_per_task"] / HOUR_S for seconds in (time_s["p50"], time_s["p95"])))
        for resources, time_s in _jobs(document)
        if resources["gpus"] == 0 and resources["cpus_per_task"] and None not in time_s.values()
    ]
    return total(parts) if parts else None


def _jobs(document: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Request and time of every job that counts; kept runs that the plan lacks do not."""
    for run in document["runs"]:
        if not run.get("orphaned"):
            yield run["resources"], run["estimate"]["time_s"]
            yield from ((cell["resources"], cell["time_s"]) for cell in run["cells"])


def _shown(p50: float | None, p95: float | None) -> str:
    if p50 is None:
        return "unknown"
    return short_hours(p50) + (f" (p95 {short_hours(p95)})" if p95 is not None else "")
