"""Estimators beside each other: runplan's two, and the formulas that others publish or use.

Each takes a workload and the earlier logs and answers by quantity with (p50, p95); what it has no answer for is left
out, and a formula without an interval has no p95.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from runplan.errors import Problem
from runplan.estimate import calibrated, intervals, rules
from runplan.estimate.calibration import calibrate
from runplan.estimate.logs.settings import match_model
from runplan.estimate.memory import outside_torch
from runplan.estimate.memory.weights import ELEMENT_BYTES
from runplan.estimate.speed.step import planned_step
from runplan.estimate.workload import Gpu, Workload
from runplan.facts import Architecture
from runplan.priors.record import PriorRun
from runplan.units import GB_PER_GIB

Answer = Mapping[str, tuple[float, float | None]]
Estimator = Callable[[Workload, Sequence[PriorRun], Mapping[str, Gpu], Mapping[str, Architecture]], Answer]


def by_calibrated(
    w: Workload, priors: Sequence[PriorRun], gpus: Mapping[str, Gpu], models: Mapping[str, Architecture]
) -> Answer:
    """estimator=calibrated."""
    learnt = calibrate(priors, gpus, models)
    sizing = calibrated.size(w, learnt)
    posterior = learnt.speed(w.gpu, w.lengths, w.dataset, w.trainer, w.trainer_version)
    step = planned_step(w, sizing.batch_size, sizing.gradient_accumulation_steps)
    log_step_s, sigma = posterior.log_step_s(step)
    step_s = intervals.from_median(math.exp(log_step_s), sigma)
    context = outside_torch.usual_gib(w.gpu.name, w.gpus)
    peak = sizing.peak_memory_gib
    return {
        "allocated": (sizing.allocated_gib, None),
        "reserved": (peak.p50 - context, peak.p95 - context),
        "process": (peak.p50, peak.p95),
        "batch": (sizing.largest_batch_size, None),
        "s/step": step_s,
        "wall": (sizing.time_s.p50, sizing.time_s.p95),
    }


def by_rules(
    w: Workload, priors: Sequence[PriorRun], gpus: Mapping[str, Gpu], models: Mapping[str, Architecture]
) -> Answer:
    """estimator=rules: fixed factors on the nearest log."""
    del gpus, models
    sizing = rules.size(w, priors)
    if isinstance(sizing, Problem):
        return {}
    peak, time_s = sizing.peak_memory_gib, sizing.time_s
    step = 1 / sizing.it_per_s
    return {
        "allocated": (peak.p50, None),
        "reserved": (peak.p50, peak.p95),
        "process": (peak.p50, peak.p95),
        "batch": (sizing.largest_batch_size, None),
        "s/step": (step, rules.P95_OVER_P50 * step),
        "wall": (time_s.p50, time_s.p95),
    }


def by_ratio(
    w: Workload, priors: Sequence[PriorRun], gpus: Mapping[str, Gpu], models: Mapping[str, Architecture]
) -> Answer:
    """Parameter-ratio scaling: the log of the nearest model size; memory by parameters, time by parameters and rows."""
    del gpus
    params = w.architecture.params
    matched = [(run, found[0].params) for run in priors if (found := match_model(run, models))]
    usable = [(run, size) for run, size in matched if run.s_per_step or run.it_per_s]
    if not usable:
        return {}
    run, size = min(usable, key=lambda item: abs(math.log(item[1] / params)))
    rows = (w.batch_size or 1) * (w.gradient_accumulation_steps or 1)
    rows_before = (run.batch_size or 1) * (run.gradient_accumulation_steps or 1)
    step = (run.s_per_step or 1 / (run.it_per_s or 1)) * params / size * rows / rows_before
    found: dict[str, tuple[float, float | None]] = {"s/step": (step, None)}
    if w.max_steps_per_epoch:
        found["wall"] = (step * w.max_steps_per_epoch * w.epochs, None)
    block = run.peak_memory_gib
    for name, value in {"allocated": block and block.allocated, "reserved": block and block.reserved}.items():
        if value:
            found[name] = (value * params / size, None)
    if run.process_peak_gib:
        found["process"] = (run.process_peak_gib * params / size, None)
    return found


def by_accelerate(
    w: Workload, priors: Sequence[PriorRun], gpus: Mapping[str, Gpu], models: Mapping[str, Architecture]
) -> Answer:
    """`accelerate estimate-memory`: training with Adam takes four times the model (its documentation)."""
    del priors, gpus, models
    held = 4 * ELEMENT_BYTES[w.dtype] * w.architecture.params / 2**30
    return dict.fromkeys(("allocated", "reserved", "process"), (held, None))


def by_llama_factory(
    w: Workload, priors: Sequence[PriorRun], gpus: Mapping[str, Gpu], models: Mapping[str, Architecture]
) -> Answer:
    """LLaMA-Factory's table of hardware requirements: LoRA in 16 bits takes about 2 GB per billion parameters."""
    del priors, gpus, models
    held = 2.0 * w.architecture.params / 1e9 * GB_PER_GIB
    return dict.fromkeys(("allocated", "reserved", "process"), (held, None))


ESTIMATORS: Mapping[str, Estimator] = {
    "calibrated": by_calibrated,
    "rules": by_rules,
    "parameter ratio": by_ratio,
    "accelerate x4": by_accelerate,
    "LLaMA-Factory 2 GB/B": by_llama_factory,
}
