"""What a run does when its GPU runs out of memory: other configurations with the same effective batch, in order. Pure.

A rung halves the batch and doubles the accumulation (of an odd batch: the largest whole part, accumulated as many times
more), down to 1; the last one recomputes activations. Steps do not change: torchtune 0.6.1 counts ⌊⌊rows / batch⌋ /
accumulation⌋ steps an epoch (`drop_last=True`), which depends on their product alone, and so do warm-up, schedule and
the rows of every step. What can differ is the end of an epoch: rows that do not fill a step are dropped with the batch
they are in, or, where they fill a smaller batch, their gradient is carried into the next epoch's first step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runplan.plan import Rung
from runplan.verify.feasible import exceedance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runplan.config import Config
    from runplan.estimate.workload import Sizing
    from runplan.plan import Composed, Recipe

FAILED_STEPS = 10
"""Optimizer steps that an attempt is taken to do before it runs out: long rows come early among thousands."""
UNLIKELY = 0.01
"""Chance below which no time is asked for."""
MOST_RUNGS = 2
"""Unless `trainer.max_rungs` is set: a quarter of the batch. Below that it is the estimate that is wrong."""


def plan_rungs(config: Config, composed: Composed, recipe: Recipe) -> tuple[Rung, ...]:
    """The configurations that follow on finetune.yaml, at most `trainer.max_rungs`, in the order of trial.

    None without a GPU, for a recipe of the user's own (which may read other keys) and where the user set the batch or
    the accumulation; `trainer.max_rungs` asks for them all the same, but for the user's own recipe. Activation
    checkpointing that the user switched off stays off.

    Args:
        config: complete.
        composed: the same run as it was asked for: what is in `estimated` is not the user's.
        recipe: what trains.
    """
    if recipe.custom:
        return ()
    most = config.trainer.max_rungs
    if most is None:
        own = {"batch_size", "gradient_accumulation_steps"} - composed.estimated
        most = 0 if own or config.trainer.device != "cuda" else MOST_RUNGS
    batch, accumulation = config.batch_size or 1, config.gradient_accumulation_steps or 1
    recomputes = bool(config.activation_checkpointing)
    sizes: list[tuple[int, int, bool]] = []
    while batch > 1:
        smaller = next(part for part in range(batch // 2, 0, -1) if batch % part == 0)
        accumulation *= batch // smaller
        batch = smaller
        sizes.append((batch, accumulation, recomputes))
    if not recomputes and composed.config.activation_checkpointing is None:
        sizes.append((batch, accumulation, True))
    return tuple(Rung(f"finetune.rung{number}.yaml", *size) for number, size in enumerate(sizes[:most], start=1))


def room_s(rungs: Sequence[Rung], sizing: Sizing, memory_gib: float) -> float:
    """Seconds of failed attempts that the job's time has to have room for, since rungs run inside the same job.

    An attempt costs its start-up, its first step and some more. As many are counted as are likely to fail: the first
    with the chance that what is needed exceeds the GPU, each further one with that chance again.

    Args:
        rungs: what would be tried.
        sizing: of the first attempt.
        memory_gib: what a process may use of a GPU, in GiB.
    """
    needed = sizing.needed_memory_gib
    chance = exceedance(needed.p50, needed.p95, memory_gib)
    failed = sum(chance ** (number + 1) > UNLIKELY for number in range(len(rungs)))
    once = sum(sizing.parts_s.get(part, 0.0) for part in ("startup", "first_step"))
    return failed * (once + FAILED_STEPS / sizing.it_per_s) if failed else 0.0
