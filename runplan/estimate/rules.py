"""The hand method that labs use, kept exact for comparison (`estimator=rules`).

It divides by a prior's it/s whatever its batch, scales models by fixed factors, and takes the first memory line of a
log for the peak of training. That line is torchtune's "Memory stats after model init": weights only. The arithmetic
stays as it is; the evidence says so.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from runplan.errors import Problem
from runplan.estimate import steps
from runplan.estimate.workload import Interval, Sizing, Workload
from runplan.facts import Architecture
from runplan.priors.record import PriorRun

SLOWER_THAN_1B = {"1B": 1.0, "3B": 2.0, "7B": 4.5, "8B": 5.5}
MEMORY_OF_1B = {"1B": 1.0, "3B": 2.5, "7B": 5.0, "8B": 5.0}
"""How many times slower, and how many times more memory, than 1B: rules of thumb of labs."""
P95_OVER_P50 = 1.5
"""Another of them."""
_REFERENCE_B = {"1B": 1.236, "3B": 3.213, "7B": 6.74, "8B": 8.03}
_NAMED = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)[bB](?![a-zA-Z0-9])")


def size(workload: Workload, priors: Sequence[PriorRun]) -> Sizing | Problem:
    """Batch, memory and time by the hand method; a problem where the method has no answer.

    The effective batch is no bound here: without a user's batch the largest that "fits" is taken, accumulation 1.
    """
    model = size_class(workload.model_name, workload.architecture.params / 1e9)
    if model is None:
        return _no_factor(workload.model_name, workload.architecture)
    nearest = _nearest([run for run in priors if not _lacks(run, workload)], model)
    return _no_log(workload, priors) if nearest is None else _sized(workload, model, *nearest)


def size_class(name: str | None, params_b: float | None) -> str | None:
    """1B, 3B, 7B or 8B: by the size in the model's name, else by parameters within 10 %; None for other models."""
    named = _NAMED.findall((name or "").replace("_", "-"))
    if named:
        label = f"{named[-1].upper()}B"
        return label if label in SLOWER_THAN_1B else None
    for label, reference in _REFERENCE_B.items():
        if params_b and abs(params_b / reference - 1) <= 0.1:
            return label
    return None


def _no_log(workload: Workload, priors: Sequence[PriorRun]) -> Problem:
    """That no log can be used: what each lacks, and the one that lacks least by name."""
    kind = "QLoRA log (it has no factor between LoRA and QLoRA)" if workload.adapter.quantize_base else "log"
    lacking = [_lacks(run, workload) for run in priors]
    counts = Counter(lack for lacks in lacking for lack in lacks).most_common()
    if len(priors) > 1:
        least, run = min(zip(lacking, priors, strict=True), key=lambda pair: (len(pair[0]), pair[1].path))
        said = f"none of the {len(priors)} logs read has all three: "
        said += f"{', '.join(f'{number} without {lack}' for lack, number in counts)}; "
        said += f"nearest to it is {run.path}, without {' and '.join(least)}"
    elif priors:
        said = f"the only log read, {priors[0].path}, is without {' and '.join(lacking[0])}"
    else:
        said = "no log was read"
    return Problem(
        f"estimator=rules needs an earlier {kind} of a 1B, 3B, 7B or 8B model with its speed, batch size and a "
        f"memory line; {said}",
        "priors.paths",
        "name a folder with such a log, or use estimator=calibrated, which needs none",
    )


def _lacks(run: PriorRun, workload: Workload) -> list[str]:
    """What a log would need for the hand method."""
    has = {
        "QLoRA": bool(run.quantize_base) or not workload.adapter.quantize_base,
        "unquantised weights": workload.adapter.quantize_base or not run.quantize_base,
        "such a model": size_class(run.model, run.params_b) is not None,
        "its speed": _speed(run) is not None,
        "its batch size": bool(run.batch_size),
        "a memory line": _memory_line(run) is not None,
    }
    return [what for what, there in has.items() if not there]


def _no_factor(name: str, architecture: Architecture) -> Problem:
    known = ", ".join(SLOWER_THAN_1B)
    return Problem(
        f"estimator=rules has no factor for {name or 'this model'} ({architecture.params / 1e9:.2f} B parameters); "
        f"it knows {known}",
        "estimator",
        "use estimator=calibrated, which computes any model",
    )


def _memory_line(run: PriorRun) -> tuple[float, bool] | None:
    """(GiB of the log's first memory line, whether it is the init block)."""
    for block, init in ((run.init_memory_gib, True), (run.peak_memory_gib, False)):
        if block is not None:
            for value in (block.allocated, block.active, block.reserved):
                if value:
                    return value, init
    return None


def _speed(run: PriorRun) -> float | None:
    return run.it_per_s or (1 / run.s_per_step if run.s_per_step else None)


def _nearest(priors: Sequence[PriorRun], model: str) -> tuple[PriorRun, str] | None:
    """The log of the closest model size, the newest among equals, with its size class."""
    usable = [(run, label) for run in priors if (label := size_class(run.model, run.params_b))]
    wanted = _REFERENCE_B[model]
    return min(
        usable,
        key=lambda item: (abs(math.log(_REFERENCE_B[item[1]] / wanted)), -item[0].modified_s, item[0].path),
        default=None,
    )


def _sized(w: Workload, model: str, prior: PriorRun, prior_model: str) -> Sizing:
    first_line, is_init = _memory_line(prior) or (0.0, False)
    it_per_s = (_speed(prior) or 0.0) * SLOWER_THAN_1B[prior_model] / SLOWER_THAN_1B[model]
    per_unit = first_line / (prior.batch_size or 1) * MEMORY_OF_1B[model] / MEMORY_OF_1B[prior_model]
    largest = math.floor(w.gpu.memory_gib / per_unit * w.utilization)
    largest = 2 ** int(math.log2(largest)) if largest else 0
    batch = w.batch_size or max(1, largest)
    accumulation = w.gradient_accumulation_steps or 1
    per_epoch = w.lengths.rows // (batch * accumulation)
    per_epoch = per_epoch if w.max_steps_per_epoch is None else min(per_epoch, w.max_steps_per_epoch)
    train_s = per_epoch / it_per_s * w.epochs
    memory = per_unit * batch
    padded = steps.padded_length(w.lengths, batch) if w.lengths.rows else 0.0
    return Sizing(
        batch_size=batch,
        gradient_accumulation_steps=accumulation,
        largest_batch_size=largest,
        steps_per_epoch=per_epoch,
        steps_total=per_epoch * w.epochs,
        allocated_gib=memory,
        peak_memory_gib=Interval(memory, P95_OVER_P50 * memory),
        needed_memory_gib=Interval(memory, P95_OVER_P50 * memory),
        it_per_s=it_per_s,
        tokens_per_s=it_per_s * batch * accumulation * padded,
        time_s=Interval(train_s, P95_OVER_P50 * train_s),
        source="rules",
        n_priors=1,
        extrapolated=model != prior_model,
        evidence=_evidence(prior, prior_model, model, (first_line, is_init)),
        parts_s={"steps": train_s},
    )


def _evidence(prior: PriorRun, prior_model: str, model: str, line: tuple[float, bool]) -> tuple[str, ...]:
    said = [
        (
            f"{prior.path}: {prior_model}, batch {prior.batch_size}, {_speed(prior):.2f} it/s, first memory line "
            f"{line[0]:.2f} GiB; hand rules, p95 = {P95_OVER_P50} x p50"
        )
    ]
    if model != prior_model:
        slower = SLOWER_THAN_1B[model] / SLOWER_THAN_1B[prior_model]
        larger = MEMORY_OF_1B[model] / MEMORY_OF_1B[prior_model]
        said.append(f"{model} taken as {slower:.3g}x slower and {larger:.3g}x larger than {prior_model}")
    if line[1]:
        said.append(
            "that memory line is 'Memory stats after model init' (weights only), which the hand method reads as the "
            "peak of training: expect more"
        )
    return tuple(said)
