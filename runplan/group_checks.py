"""What only the group as a whole can get wrong: its budget, and effective batches that confound its factors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runplan.errors import Problem
from runplan.units import short_hours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runplan.estimate.workload import Interval
    from runplan.plan import PlannedRun

SHOWN_RUNS = 4


def check_budget(runs: Sequence[PlannedRun], gpu_hours: Interval, budget: float | None) -> list[Problem]:
    """A risk when the group's GPU-hours exceed the budget, with the dearest runs to drop so that it fits."""
    if budget is None or gpu_hours.p95 <= budget:
        return []
    needed = f"{short_hours(gpu_hours.p50)} GPU-hours (p95 {short_hours(gpu_hours.p95)})"
    what = f"the group needs {needed}, the budget is {short_hours(budget)}"
    dropped, left = [], gpu_hours.p50
    for run in sorted(runs, key=lambda run: run.gpu_hours.p50, reverse=True):
        if left <= budget:
            break
        dropped.append(run.name)
        left -= run.gpu_hours.p50
    if len(dropped) == len(runs):
        fix = "even its cheapest run needs more: use fewer epochs or rows, or a larger budget"
    elif dropped:
        fix = f"without {_some(dropped)} it needs {short_hours(left)}"
    else:
        fix = "it fits at p50; keep a reserve"
    return [Problem(what, "budget.gpu_hours", fix)]


def check_leaks(runs: Sequence[PlannedRun]) -> list[Problem]:
    """A risk for each dataset of which validation or test rows are training rows, too."""
    datasets = {run.dataset.path: run.dataset for run in runs if run.config.train and run.dataset}
    return [
        Problem(
            f"{rows} of {dataset.rows(role)} {role} rows of {dataset.path} are {first} rows, too: "
            "they measure what was learnt by heart",
            "dataset.path",
            "take them out of one of the two splits",
        )
        for dataset in datasets.values()
        for (first, role), rows in dataset.leaks.items()
        if first == "train"
    ]


def check_effective_batch(runs: Sequence[PlannedRun], factors: Sequence[str]) -> list[Problem]:
    """A risk when runs differ in effective batch though it is no factor: its effect mixes with the factors'."""
    sizes: dict[int, list[str]] = {}
    for run in runs:
        if run.sizing is not None:
            gpus = run.config.resources.gpus
            size = run.sizing.batch_size * run.sizing.gradient_accumulation_steps * gpus
            sizes.setdefault(size, []).append(run.name)
    chosen = {"batch_size", "effective_batch_size", "gradient_accumulation_steps", "resources.gpus"} & set(factors)
    if len(sizes) < 2 or chosen:
        return []
    said = "; ".join(f"{size} in {_some(names)}" for size, names in sorted(sizes.items()))
    return [
        Problem(
            f"effective batch sizes differ though they are no factor: {said}",
            "effective_batch_size",
            "set one effective_batch_size that all runs can reach, or make it a factor",
        )
    ]


def check_seeds(runs: Sequence[PlannedRun], factors: Sequence[str]) -> list[Problem]:
    """What seeds do not replicate, where they are a factor: torchtune 0.6.1 always seeds its sampler with 0.

    Source: `DistributedSampler(..., seed=0)` in recipes/lora_finetune_single_device.py.
    """
    if "seed" not in factors or not any(run.sizing and run.config.trainer.name == "torchtune" for run in runs):
        return []
    what = "seeds change the adapters' start and dropout, but torchtune shuffles the rows alike under every seed"
    return [Problem(what, "seed", "read replicates as replicates of the start, not of the order of rows")]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_RUNS} more" if len(names) > SHOWN_RUNS else ""
    return ", ".join(names[:SHOWN_RUNS]) + more


def merge_risks(risks: Sequence[Problem], n_runs: int) -> list[Problem]:
    """Risks that several runs share, said once with the names of the runs."""
    runs_of: dict[tuple[str, str, str], list[str]] = {}
    for risk in risks:
        runs_of.setdefault((risk.what, risk.where, risk.fix), []).append(risk.run)
    return [
        Problem(what, where, fix, run="all runs" if len(names) == n_runs > 1 else _some(names))
        for (what, where, fix), names in runs_of.items()
    ]
