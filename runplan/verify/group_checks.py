"""What only the group as a whole can get wrong: budget, levels that are one thing, batches that confound factors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runplan.errors import Problem
from runplan.naming import level_text
from runplan.plan import RunType
from runplan.units import short_hours, some_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runplan.estimate.workload import Interval
    from runplan.plan import PlannedRun

SHOWN_RUNS = 4
_NOT_THE_ROWS = frozenset(
    {
        "name",
        "task",
        "path",
        "source",
        "file",
        "create",
        "generator",
        "word_length",
        "n_words",
        "train_fraction",
        "seed",
        "word_list",
    }
)
"""Keys of `dataset` that name, find or make its file; the others say what of it is trained on."""


def group_risks(
    runs: Sequence[PlannedRun], factors: Mapping[str, Sequence[Any]], gpu_hours: Interval, budget: float | None
) -> list[Problem]:
    """All risks of a group as a whole.

    Args:
        runs: all of them.
        factors: swept keys with two or more levels.
        gpu_hours: of all runs.
        budget: GPU-hours that they should not exceed; None for no limit.
    """
    return [
        *check_budget(runs, gpu_hours, budget),
        *check_effective_batch(runs, tuple(factors)),
        *check_seeds(runs, tuple(factors)),
        *check_leaks(runs),
        *check_same_things(runs, tuple(factors)),
        *check_repeated_training(runs, factors),
    ]


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
        fix = f"without {some_of(dropped, SHOWN_RUNS)} it needs {short_hours(left)}"
    else:
        fix = "it fits at p50; keep a reserve"
    return [Problem(what, "budget.gpu_hours", fix)]


def check_leaks(runs: Sequence[PlannedRun]) -> list[Problem]:
    """A risk for each dataset of which validation or test rows are training rows, too."""
    datasets = {run.dataset.path: run.dataset for run in runs if run.config.train and run.dataset}
    return [
        Problem(
            f"{rows} of {dataset.rows(role)} {role} rows of {dataset.path} "
            f"{f'is a {first} row' if rows == 1 else f'are {first} rows'}, too: it measures what was learnt by heart",
            "dataset.path",
            "take them out of one of the two splits",
        )
        for dataset in datasets.values()
        for (first, role), rows in dataset.leaks.items()
        if first == "train"
    ]


def check_same_things(runs: Sequence[PlannedRun], factors: Sequence[str]) -> list[Problem]:
    """A risk for each two levels of a model or dataset factor that stand for one and the same folder or file."""
    found = []
    for key in factors:
        root = key.partition(".")[0]
        if root not in _IDENTITY:
            continue
        levels: dict[str, dict[str, str]] = {}
        for run in runs:
            if key in run.composed.factors and run.type is not RunType.control:
                level = level_text(key, run.composed.factors[key], run.composed.choices)
                identity, place = _IDENTITY[root](run)
                levels.setdefault(level, {})[identity] = place
        alike: dict[frozenset[str], list[str]] = {}
        for level, things in levels.items():
            alike.setdefault(frozenset(things), []).append(level)
        for names in alike.values():
            if len(names) > 1:
                place = ", ".join(dict.fromkeys(levels[names[0]].values()))
                what = f"{key}={','.join(names)} are the same {root}, {place}: their trainings differ by chance alone"
                found.append(Problem(what, key, f"give each level a {root} of its own, or drop {key} from the sweep"))
    return found


def check_repeated_training(runs: Sequence[PlannedRun], factors: Mapping[str, Sequence[Any]]) -> list[Problem]:
    """A risk for each factor that only evaluation knows: its levels train the same again."""
    if not any(run.type is RunType.fine_tuned for run in runs):
        return []
    return [
        Problem(
            f"{key} changes evaluation alone: each training is done {len(levels)} times, the same but for chance",
            key,
            f"drop {key} from the sweep where that is not what you want",
        )
        for key, levels in factors.items()
        if key.partition(".")[0] == "evaluation"
    ]


def _dataset_identity(run: PlannedRun) -> tuple[str, str]:
    path = run.dataset.path if run.dataset else ""
    rows = {key: str(value) for key, value in vars(run.config.dataset).items() if key not in _NOT_THE_ROWS}
    return f"{path} {sorted(rows.items())}", path


_IDENTITY: Mapping[str, Callable[[PlannedRun], tuple[str, str]]] = {
    "model": lambda run: (run.model.path, run.model.path),
    "dataset": _dataset_identity,
}
"""What tells two levels of such a factor apart, and where it is; by the first part of the key."""


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
    said = "; ".join(f"{size} in {some_of(names, SHOWN_RUNS)}" for size, names in sorted(sizes.items()))
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


def merge_risks(risks: Sequence[Problem], runs: Sequence[PlannedRun]) -> list[Problem]:
    """Risks that several runs share, said once with the names of the runs.

    Args:
        risks: of single runs.
        runs: all of them.
    """
    runs_of: dict[tuple[str, str, str], list[str]] = {}
    for risk in risks:
        runs_of.setdefault((risk.what, risk.where, risk.fix), []).append(risk.run)
    every = {sum(run.sizing is not None for run in runs): "all fine-tuned runs", len(runs): "all runs"}
    return [
        Problem(
            what,
            where,
            fix,
            run=every[len(names)] if len(names) in every and len(names) > 1 else some_of(names, SHOWN_RUNS),
        )
        for (what, where, fix), names in runs_of.items()
    ]
