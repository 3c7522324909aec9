"""How long a training job takes, part by part: start-up, first step, steps, validation, checkpoints."""

from __future__ import annotations

import math
from dataclasses import replace

from runplan.estimate import intervals, steps
from runplan.estimate.speed.gpu_constants import Constants
from runplan.estimate.speed.roofline import micro_batch_s, step_s
from runplan.estimate.speed.step import Step
from runplan.estimate.wall_time import overheads
from runplan.estimate.workload import TRL, Interval, Workload


def time_parts(
    w: Workload, learnt: overheads.Overheads, counted: steps.Steps, step: Step, seconds: Interval, constants: Constants
) -> dict[str, Interval]:
    """Seconds of each part of a training job, each with its own error.

    Args:
        w: the run.
        learnt: what logs taught about start-up, first step and checkpoints.
        counted: its steps.
        step: one of them.
        seconds: of that.
        constants: of its GPU, as logs taught them.
    """
    ratio = seconds.p50 / step_s(step, constants)
    left_over = counted.batches_per_epoch - counted.per_epoch * step.accumulation
    batches_s = left_over * micro_batch_s(step, constants) * ratio
    training = w.epochs * (counted.per_epoch * seconds.p50 + batches_s)
    validation = w.epochs * _validation_s(w, step, constants, counted.per_epoch) * ratio
    wide = seconds.p95 / seconds.p50
    rows = w.lengths.rows if w.packed or w.trainer == TRL else 0
    kind = overheads.first_step_kind(w.packed, w.compile, w.gpu.name)
    save = overheads.checkpoint_parts_s(
        w.architecture, w.adapter, w.dtype, w.save_adapter_weights_only, w.gpu.name, w.threads
    )
    return {
        "startup": learnt.startup.of(*overheads.startup_parts_s(w.architecture, w.dtype, w.gpu.name, rows, w.trainer)),
        "first_step": learnt.first_step[kind].of(overheads.FIRST_STEP_S[kind]),
        "steps": Interval(training, training * wide),
        "validation": Interval(validation, validation * wide),
        "checkpoints": intervals.times(learnt.checkpoint.of(*save), w.epochs),
    }


def _validation_s(w: Workload, step: Step, constants: Constants, per_epoch: int) -> float:
    """Seconds of validation in one epoch: forward passes over all validation rows, every so many steps."""
    if w.validation_lengths is None or not w.validation_lengths.rows or not per_epoch:
        return 0.0
    every = w.run_val_every_n_steps or steps.validation_interval(per_epoch)
    batches = math.ceil(w.validation_lengths.rows / w.gpus / step.batch)
    rows = step.batch * (1 if w.trainer == TRL else w.gpus)
    tokens = steps.padded_length(w.validation_lengths.cut(w.max_seq_len), rows)
    looked = replace(step, packed=False, tokens=tokens, span=tokens / 2)
    return per_epoch // every * batches * micro_batch_s(looked, constants, forward_only=True)
