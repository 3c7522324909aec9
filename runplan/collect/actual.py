"""Estimates beside actual values: time, speed, memory, GPU-hours; and how often p95 covered them. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runplan.collect.results import rounded
from runplan.jobs.observe import JobState
from runplan.units import HOUR_S, parse_memory_gib, parse_slurm_time

if TYPE_CHECKING:
    from runplan.collect.found import FoundGroup, FoundJob, FoundRun
    from runplan.priors.record import PriorRun


@dataclass(frozen=True)
class Compared:
    """One quantity: its estimate and what it was; None for what is not known."""

    p50: float | None = None
    p95: float | None = None
    actual: float | None = None

    @property
    def ratio(self) -> float | None:
        """Actual to p50."""
        return self.actual / self.p50 if self.actual is not None and self.p50 else None

    @property
    def inside(self) -> bool | None:
        """Whether p95 covered it."""
        return self.actual <= self.p95 if self.actual is not None and self.p95 is not None else None


@dataclass(frozen=True)
class JobActual:
    """One job of a group."""

    run: str
    kind: str
    """`train` or `cell`."""
    cell: str | None
    state: str
    time_s: Compared
    """Wall time; actual only of a job that ended well."""
    s_per_step: Compared
    """Of an optimizer step; there is no p95 of it."""
    memory_gib: Compared
    """Peak on one GPU: of the process as nvidia-smi saw it, else what the trainer's allocator reserved."""
    host_memory_gib: Compared
    """What was asked of SLURM (as p95) and the most that one task used, where SLURM accounted it."""
    gpus: int
    gpu_hours_requested: float | None
    gpu_hours_used: float | None
    """By every time the job ran; None where the end of one is not known."""
    config: str | None = None
    """What it ran with in the end, where that is not what was planned and estimated."""


def actuals(group: FoundGroup) -> list[JobActual]:
    """Every job of a group, in the order of the plan: a run's training before its cells."""
    return [job for run in group.runs for job in _of_run(run)]


def _of_run(run: FoundRun) -> list[JobActual]:
    found = []
    if run.job is not None:
        estimate = run.entry["estimate"]
        speed = estimate["it_per_s"]
        done = run.job.observed.state is JobState.completed
        prior = run.prior if done else None
        found.append(
            _actual(
                run,
                run.job,
                run.entry["resources"],
                estimate["time_s"],
                s_per_step=Compared(1 / speed if speed else None, None, prior.s_per_step if prior else None),
                memory=_compared(estimate["peak_memory_gib"], _peak_gib(prior)),
            )
        )
    found += [
        _actual(run, cell.job, cell.entry["resources"], cell.entry["time_s"], cell=cell.entry["dir"])
        for cell in run.cells
    ]
    return found


def _actual(
    run: FoundRun,
    job: FoundJob,
    resources: Mapping[str, Any],
    time_s: Mapping[str, float | None],
    *,
    cell: str | None = None,
    s_per_step: Compared = Compared(),
    memory: Compared = Compared(),
) -> JobActual:
    observed = job.observed
    gpus = resources["gpus"] or 0
    limit = parse_slurm_time(resources["time"]) if resources["time"] else None
    spent = [one.seconds for one in job.ran]
    if spent and spent[-1] is None:
        spent[-1] = observed.seconds
    known = [seconds for seconds in spent if seconds is not None]
    used = math.fsum(known) * gpus / HOUR_S if len(known) == len(spent) else None
    done = observed.state is JobState.completed
    return JobActual(
        run=run.name,
        kind="cell" if cell else "train",
        cell=cell,
        state=observed.state.value,
        time_s=_compared(time_s, observed.seconds if done else None),
        s_per_step=s_per_step,
        memory_gib=memory,
        host_memory_gib=Compared(
            None, parse_memory_gib(resources["mem"]) if resources.get("mem") else None, observed.max_rss_gib
        ),
        gpus=gpus,
        gpu_hours_requested=limit * gpus / HOUR_S if limit is not None else None,
        gpu_hours_used=used,
        config=job.config,
    )


def _compared(interval: Mapping[str, float | None], actual: float | None) -> Compared:
    return Compared(interval["p50"], interval["p95"], actual)


def _peak_gib(prior: PriorRun | None) -> float | None:
    if prior is None or prior.process_peak_gib is not None:
        return prior.process_peak_gib if prior else None
    return prior.peak_memory_gib.reserved if prior.peak_memory_gib else None


def record_of(job: JobActual) -> dict[str, Any]:
    """A job as plain data."""
    return {
        "run": job.run,
        "kind": job.kind,
        "cell": job.cell,
        "state": job.state,
        "config": job.config,
        "time_s": _record(job.time_s),
        "s_per_step": {"estimated": rounded(job.s_per_step.p50), "actual": rounded(job.s_per_step.actual),
                       "ratio": rounded(job.s_per_step.ratio)},
        "peak_memory_gib": _record(job.memory_gib),
        "host_memory_gib": {
            "requested": rounded(job.host_memory_gib.p95),
            "used": rounded(job.host_memory_gib.actual),
        },
        "gpus": job.gpus,
        "gpu_hours": {"requested": rounded(job.gpu_hours_requested), "used": rounded(job.gpu_hours_used)},
    }  # fmt: skip


def _record(compared: Compared) -> dict[str, Any]:
    return {
        "p50": rounded(compared.p50),
        "p95": rounded(compared.p95),
        "actual": rounded(compared.actual),
        "ratio": rounded(compared.ratio),
        "inside_p95": compared.inside,
    }


def totals(jobs: Sequence[JobActual], document: Mapping[str, Any]) -> dict[str, Any]:
    """What all jobs took together, and how often the estimates were right."""
    used = [job.gpu_hours_used for job in jobs if job.gpu_hours_used is not None]
    asked = [job.gpu_hours_requested for job in jobs if job.gpu_hours_requested is not None]
    kinds = {"training": "train", "evaluation": "cell"}
    return {
        "gpu_hours": {
            "p50": document["totals"]["gpu_hours"]["p50"],
            "p95": document["totals"]["gpu_hours"]["p95"],
            "requested": rounded(math.fsum(asked)),
            "used": rounded(math.fsum(used)),
            "unknown_jobs": len(jobs) - len(used),
        },
        **{name: coverage([job.time_s for job in jobs if job.kind == kind]) for name, kind in kinds.items()},
        "memory": coverage([job.memory_gib for job in jobs]),
        "speed": coverage([job.s_per_step for job in jobs]),
    }


def coverage(compared: Sequence[Compared]) -> dict[str, Any]:
    """How many of some estimates can be compared, how many p95 covered, and the median ratio of actual to p50."""
    inside = [one.inside for one in compared if one.inside is not None]
    ratios = [one.ratio for one in compared if one.ratio is not None]
    return {
        "compared": len(ratios),
        "inside_p95": sum(inside) if inside else None,
        "median_ratio": rounded(statistics.median(ratios)) if ratios else None,
    }
