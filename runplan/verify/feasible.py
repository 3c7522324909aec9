"""Whether a sized run can work: small checks on its size and its limits, each with its own reason.

Two kinds of answer: a problem makes the run impossible, a risk is said and left to the user.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runplan.errors import Problem
from runplan.estimate.memory import nf4
from runplan.estimate.memory.weights import quantised_shapes, weight_bytes
from runplan.estimate.speed.gpu_constants import is_amd
from runplan.estimate.workload import TRL
from runplan.recipe import CAPABILITIES
from runplan.units import GIB, number_of, parse_memory_gib, short_time, slurm_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runplan.estimate.workload import Gpu, Workload
    from runplan.workloads import Sized

    Needs = Callable[[Workload, int, int], float]

MOST_GPUS_PER_NODE = 8
"""What torchtune 0.6.1's distributed recipe says of itself: a single node, 1 to 8 GPUs."""

Z95 = 1.6448536269514722  # standard normal quantile at 95 %


@dataclass(frozen=True)
class Verdict:
    """What one check found: a reason why the run is impossible, a risk, or neither."""

    problem: Problem | None = None
    risk: Problem | None = None


FINE = Verdict()
USUAL_RANK = 64
"""Adapters of a higher rank are rare, and take memory that counts."""
SHORT = 64
"""Nobody cuts sequences below this."""


def exceedance(p50: float, p95: float, limit: float) -> float:
    """Probability that a log-normal quantity with this median and 95 % quantile exceeds a limit."""
    if p95 <= p50:
        return 0.0 if p50 <= limit else 1.0
    sigma = math.log(p95 / p50) / Z95
    return 0.5 * math.erfc(math.log(limit / p50) / sigma / math.sqrt(2))


def check_memory(sized: Sized, gpus: Mapping[str, Gpu], needs: Needs) -> Verdict:
    """What the batch needs must fit the GPU: p50 above it is impossible, p95 above it a risk.

    Args:
        sized: the run.
        gpus: GPU types that could be asked for instead.
        needs: p95 of the memory that another workload needs with a batch and accumulation, in GiB.
    """
    sizing, gpu = sized.sizing, sized.workload.gpu
    usable = gpu.memory_gib
    needed = sizing.needed_memory_gib
    if needed.p95 <= usable:
        return FINE
    what = (
        f"batch {sizing.batch_size} needs {needed.p50:.1f} GiB (p95 {needed.p95:.1f} GiB) of GPU memory, "
        f"{gpu.name} has {usable:.1f} GiB"
    )
    user_set = sized.workload.batch_size is not None
    where = "batch_size, resources" if user_set else "resources, max_seq_len"
    advice = _memory_advice(sized, gpus, needs)
    if needed.p50 > usable or not user_set:
        return Verdict(problem=Problem(what, where, advice))
    chance = exceedance(needed.p50, needed.p95, usable)
    return Verdict(risk=Problem(f"{what}: {chance:.0%} risk of running out", where, advice))


def _memory_advice(sized: Sized, gpus: Mapping[str, Gpu], needs: Needs) -> str:
    """What would make room; of what can be reckoned, only what does."""
    workload, sizing, gpus = sized.workload, sized.sizing, _instead(sized.workload, gpus)

    def with_(**changes: Any) -> float:
        return needs(replace(workload, **changes), sizing.batch_size, sizing.gradient_accumulation_steps)

    options = []
    if workload.batch_size is not None and sizing.largest_batch_size >= 1:
        options.append(f"batch_size={sizing.largest_batch_size} (the largest that fits)")
    longest = workload.max_seq_len if workload.packed else min(workload.max_seq_len, workload.lengths.longest)
    usable = workload.gpu.memory_gib
    if not workload.activation_checkpointing and with_(activation_checkpointing=True) <= usable:
        options.append("activation_checkpointing=true")
    small = replace(workload.adapter, rank=USUAL_RANK)
    if workload.adapter.rank > USUAL_RANK and with_(adapter=small) <= usable:
        options.append(f"lora.rank={USUAL_RANK}")
    if _weights_gib(workload) < usable and longest > SHORT:  # else no activation is small enough
        options.append(f"a max_seq_len below {longest}")
    if _can_quantise(workload):
        four_bits = with_(adapter=replace(workload.adapter, quantize_base=True))
        options += [f"lora.quantize_base=true (QLoRA, weights in 4 bits: {four_bits:.1f} GiB)"] * (four_bits <= usable)
    options += _larger(gpus, sizing.needed_memory_gib.p95)[:2]
    if sizing.largest_batch_size == 0 and workload.trainer == "torchtune":  # TRL's GPUs hold the whole model each
        per_node = sized.config.resources.gpus_per_node or MOST_GPUS_PER_NODE
        counts = (count for count in (2, 4, 8) if workload.gpus < count <= per_node)
        enough = next((count for count in counts if with_(gpus=count) <= usable), None)
        options += [f"resources.gpus={enough} (weights are sharded over GPUs)"] if enough else []
    options = options or _together(sized, gpus, needs)
    if not options:
        return "use a smaller model: no GPU that runplan knows is large enough"
    return f"try {' or '.join(options)}"


def _together(sized: Sized, gpus: Mapping[str, Gpu], needs: Needs) -> list[str]:
    """The fewest of the smallest GPUs that hold the run, in bf16 where they have it and nothing else was asked for."""
    workload, sizing = sized.workload, sized.sizing
    whole = sorted(gpus.values(), key=_gib)
    for count in (1, 2, 4, 8) if workload.trainer == "torchtune" else (1,):
        for gpu in whole:
            dtype = "bf16" if gpu.supports_bf16 and sized.config.dtype is None else workload.dtype
            there = replace(workload, gpu=gpu, gpus=count, dtype=dtype)
            needed = needs(there, sizing.batch_size, sizing.gradient_accumulation_steps)
            if needed <= gpu.memory_gib:
                several = f" resources.gpus={count}" if count > 1 else ""
                return [f"resources={gpu.name}{several} ({needed:.0f} of {gpu.memory_gib:.0f} GiB a GPU)"]
    return []


def _gib(gpu: Gpu) -> float:
    return gpu.memory_gib


def _larger(gpus: Mapping[str, Gpu], needed_gib: float) -> list[str]:
    """GPUs with so much memory, the smallest first."""
    return [
        f"resources={name} ({gpu.memory_gib:.0f} GiB)"
        for name, gpu in sorted(gpus.items(), key=lambda item: item[1].memory_gib)
        if gpu.memory_gib >= needed_gib
    ]


def _instead(workload: Workload, gpus: Mapping[str, Gpu]) -> Mapping[str, Gpu]:
    """Whole GPUs that a run could have instead: of its GPU's maker, for whom torch is installed, and with its dtype."""
    return {
        name: gpu
        for name, gpu in gpus.items()
        if "-mig-" not in name
        and name != "cpu"
        and is_amd(gpu) == is_amd(workload.gpu)
        and (gpu.supports_bf16 or workload.dtype != "bf16")
    }


def _weights_gib(workload: Workload) -> float:
    """The weights on one GPU, in GiB: the least that any setting leaves there."""
    sharing = 1 if workload.trainer == "trl" else workload.gpus
    return weight_bytes(workload.architecture, workload.adapter, workload.dtype) / sharing / GIB


def _can_quantise(w: Workload) -> bool:
    """Whether the trainer can hold the weights in 4 bits, and does not yet."""
    can = any(row.trainer == w.trainer and row.quantised_base for row in CAPABILITIES)
    then = replace(w.adapter, quantize_base=True)
    return can and not w.adapter.quantize_base and not nf4.problem(quantised_shapes(w.architecture, then), w.gpus)


def check_rows(sized: Sized) -> Verdict:
    """A batch needs its rows: torchtune drops the last, incomplete batch, trains 0 steps and exits 0.

    TRL takes an incomplete batch as it is.
    """
    workload, sizing = sized.workload, sized.sizing
    if sizing.steps_per_epoch >= 1:
        return FINE
    wanted = sizing.batch_size * sizing.gradient_accumulation_steps * workload.gpus
    rows = "packed sequences" if workload.packed else "rows"
    n_rows = workload.lengths.rows
    return Verdict(
        problem=Problem(
            f"{number_of(n_rows, 'training row')} give{'s' * (n_rows == 1)} no whole optimizer step of {wanted} {rows} "
            f"({sizing.batch_size} a batch × {sizing.gradient_accumulation_steps} accumulated "
            f"× {number_of(workload.gpus, 'GPU')}); "
            "the trainer would stop after 0 steps without an error",
            "effective_batch_size, batch_size, packed",
            "use a smaller effective_batch_size, packed=false, or more rows",
        )
    )


def check_cut(sized: Sized) -> Verdict:
    """Rows longer than `max_seq_len` lose their end, which is the answer that they should teach."""
    rows, most = sized.rows, sized.workload.max_seq_len
    longer = sum(number for tokens, number in rows.counts if tokens > most) if rows else 0
    if not rows or not longer:
        return FINE
    about = "" if rows.measured else "about "
    few = f"{longer} of {rows.rows} training rows {'is' if longer == 1 else 'are'}"
    what = f"{few} longer than {most} tokens, the longest has {about}{rows.longest}: the trainer cuts what is beyond"
    fix = f"max_seq_len={rows.longest} keeps all whole; or shorten such rows, or leave them out"
    return Verdict(risk=Problem(what, "max_seq_len", fix))


def check_window(sized: Sized) -> Verdict:
    """Torchtune lets every token see all before it, also in models that were made to see fewer (Mistral 7B v0.1).

    transformers, which evaluates, does as the model's config.json says.
    """
    rows, w = sized.rows, sized.workload
    window = w.architecture.sliding_window
    longer = sum(number for tokens, number in rows.counts if tokens > window) if rows and window else 0
    if not rows or not window or not longer or w.max_seq_len <= window or w.trainer == TRL:
        return FINE
    few = f"{longer} of {rows.rows} training rows {'is' if longer == 1 else 'are'}"
    what = f"{few} longer than the {window} tokens that this model looks back (sliding_window in its config.json)"
    what += ": torchtune trains it to look back to the beginning, which evaluation will not let it do"
    return Verdict(risk=Problem(what, "max_seq_len", f"use max_seq_len={window}, or trainer=trl, which keeps to it"))


def check_steps(sized: Sized) -> Verdict:
    """Few optimizer steps, or more warm-up than steps, teach little."""
    steps, warmup = sized.sizing.steps_total, sized.config.optimizer.num_warmup_steps or 0
    minimum = sized.config.estimator.minimum_steps
    scheduled = sized.config.optimizer.lr_scheduler != "none"
    if scheduled and 0 < steps <= warmup:
        return Verdict(
            risk=Problem(
                f"{steps} optimizer steps in all, {warmup} of them warm-up: the learning rate never reaches its peak",
                "optimizer.num_warmup_steps",
                f"use optimizer.num_warmup_steps={max(1, steps // 10)}, more epochs, or a smaller effective_batch_size",
            )
        )
    if 0 < steps < minimum:
        return Verdict(
            risk=Problem(
                f"only {steps} optimizer step{'s' * (steps > 1)} in all, fewer than {minimum}",
                "effective_batch_size, epochs",
                "use more epochs, more rows, or a smaller effective_batch_size",
            )
        )
    return FINE


def check_time(sized: Sized, limit_s: int | None, partition: str) -> Verdict:
    """The limit of the partition: p50 above it is impossible, p95 above it a risk that is said with its chance."""
    time_s = sized.sizing.time_s
    if limit_s is None or time_s.p95 <= limit_s:
        return FINE
    what = f"needs {short_time(time_s.p50)} (p95 {short_time(time_s.p95)}), {partition} allows {slurm_time(limit_s)}"
    fix = "use fewer epochs, another partition, a faster GPU, or more of them (resources.gpus)"
    if time_s.p50 > limit_s:
        return Verdict(problem=Problem(what, "resources.partition, resources.time", fix))
    chance = exceedance(time_s.p50, time_s.p95, limit_s)
    return Verdict(risk=Problem(f"{what}: {chance:.0%} risk of being cut off", "resources.partition", fix))


def check_asked_time(sized: Sized, asked_s: int | None) -> Verdict:
    """A wall time the user set is kept; when the estimate says it is short, that is said."""
    time_s = sized.sizing.time_s
    if asked_s is None or time_s.p95 <= asked_s:
        return FINE
    chance = exceedance(time_s.p50, time_s.p95, asked_s)
    return Verdict(
        risk=Problem(
            f"resources.time={slurm_time(asked_s)} is set, the estimate is {short_time(time_s.p50)} "
            f"(p95 {short_time(time_s.p95)}): {chance:.0%} risk of being cut off",
            "resources.time",
            "leave resources.time to the estimate or ask for more",
        )
    )


def check_asked_memory(asked: str | None, needed_gib: float) -> Verdict:
    """Host memory the user set is kept; when the job needs more, that is said. `0` asks SLURM for all of a node."""
    asked_gib = parse_memory_gib(asked) if asked else 0.0
    if not asked_gib or asked_gib >= needed_gib:
        return FINE
    return Verdict(
        risk=Problem(
            f"resources.mem={asked} is set, training needs about {needed_gib:.0f} GiB of host memory to load the model "
            "and to save it: the job may be killed",
            "resources.mem",
            "leave resources.mem to the estimate or ask for more",
        )
    )


def judge(sized: Sized, checks: tuple[Callable[[Sized], Verdict], ...]) -> tuple[list[Problem], list[Problem]]:
    """(problems, risks) of one run, in the order of the checks."""
    verdicts = [check(sized) for check in checks]
    return [v.problem for v in verdicts if v.problem], [v.risk for v in verdicts if v.risk]


OF_ROWS = (check_rows, check_cut, check_window)
"""What is asked of the training rows."""
