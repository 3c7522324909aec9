"""What one earlier log says about speed: its run as a `Step`, its time, and how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from runplan.estimate.logs.other_trainers import TRANSFORMERS
from runplan.estimate.logs.settings import (
    adapter_of,
    checkpointing_of,
    find_gpu,
    match_model,
    peak_in_use_gib,
    s_per_step,
    trains_adapters,
    variants,
)
from runplan.estimate.memory import closed_form
from runplan.estimate.memory.weights import ELEMENT_BYTES
from runplan.estimate.speed.gpu_constants import peak_flops
from runplan.estimate.speed.step import Step, packed_span
from runplan.estimate.speed.work import work
from runplan.estimate.steps import new_of_range, padded_between
from runplan.estimate.workload import TRL, Gpu
from runplan.facts import Architecture
from runplan.priors.record import PriorRun
from runplan.units import GIB

NOISE = 0.035
"""Relative noise of one log's steady speed (same run again on the same cluster)."""
NOISE_PROCESSOR = 0.075
"""What processors add to that: who shared their cores, caches and clocks that day, nobody knows."""
UNKNOWN_GPU = 0.50
"""What it adds that a log does not say on which GPU it ran."""
UNKNOWN_NAME, UNKNOWN_ACCUMULATION, UNKNOWN_CHECKPOINTING, UNKNOWN_TARGETS, SHORT = 0.10, 0.10, 0.06, 0.03, 0.08
"""What it adds that a model is known by its size alone, that a log does not say its accumulation, its checkpointing, or
what its adapters sit on, and that it has fewer than `SETTLED_STEPS` (guesses)."""
SETTLED_STEPS = 20
"""Steps after which a trainer's average of the speed has forgotten the first one."""
VARIANT = 0.15
"""How far cards of one name differ in speed (standard deviation of the logarithm): A100 by their bandwidth, 1555 to
2039 GB/s, H100 by their form."""
NOTED_SIGMA = 0.03
"""Relative error of a length that the log's own plan counted: by chance, batches are longer or shorter than others."""
TOO_MANY = 1.1
"""A log that trained so many times the tokens its job script notes was not of these rows."""
TOKENS_OF_PEAK_SIGMA = 0.2
WAITED_SIGMA = 0.1
"""Relative errors of lengths: told by a peak of memory; of the longest of several GPUs' batches, told by their mean."""
MEAN_OVER_LONGEST, LEAST_TOKENS = 0.8, 8
"""Tokens of a usual batch over those of the longest, whose peak a log tells; a peak that tells fewer tells nothing."""
_PROCESSOR_PEAKS = 1000.0
"""What the best processors do of `CPU`'s peak: some hundred TFLOP/s with matrix units on a hundred cores."""
LEAST_SHARE = 2e-4
"""Part of a GPU's peak FLOP/s below which no launch overhead explains a step's time."""


@dataclass(frozen=True)
class Observation:
    """One log as a measurement of speed."""

    run: PriorRun
    step: Step
    seconds: float
    """Of one optimizer step."""
    noise: float
    """Standard deviation of the logarithm, beside what a guessed length adds."""
    gpu_known: bool
    tokens_known: bool
    """False when the log does not tell how long its batches are."""
    tokens_sigma: float = 0.0
    """Relative error of the length of its batches."""
    tokens_at_least: float = 0.0
    """Tokens of a sequence that count in the loss, as the trainer's logger says; with the prompt and padding there are
    more."""
    outlier: str = ""
    """Why the log cannot be true; empty when nothing speaks against it."""
    repeats: int = 1
    """Logs that it stands for, of one and the same step."""

    @property
    def run_noise(self) -> float:
        """The part of `noise` that differs from run to run of the same step."""
        return math.hypot(NOISE, NOISE_PROCESSOR if (self.run.gpu or "").startswith("cpu") else 0.0)


def observe(
    run: PriorRun, models: Mapping[str, Architecture], gpus: Mapping[str, Gpu], assumed: Gpu
) -> Observation | str:
    """A log as a measurement, or the reason why it measures nothing about speed.

    Args:
        run: the log.
        models: architectures by name.
        gpus: GPU types by name.
        assumed: GPU of a log that does not say (its noise then covers other types).
    """
    seconds = s_per_step(run)
    if not seconds or not math.isfinite(seconds) or seconds <= 0 or not run.batch_size or run.batch_size < 1:
        return "no speed or no batch size"
    if not trains_adapters(run):
        return f"recipe {run.recipe} does not train adapters"
    matched = match_model(run, models)
    if matched is None:
        return f"model {run.model or 'unknown'} is not known"
    dtype = run.dtype or "bf16"
    if dtype not in ELEMENT_BYTES:
        return f"number format {dtype} is not modelled"
    gpu = find_gpu(run.gpu, gpus)
    step, known, tokens_sigma = _step(run, matched[0], gpu or assumed, dtype, seconds)
    return Observation(
        run,
        step,
        seconds,
        noise=_noise(run, by_name=matched[1], gpu_known=gpu is not None),
        gpu_known=gpu is not None,
        tokens_known=known,
        tokens_sigma=tokens_sigma,
        tokens_at_least=_trained_tokens(run, seconds),
        outlier=contradiction(step, seconds, tokens_sigma) if gpu is not None and known else "",
    )


def _step(run: PriorRun, a: Architecture, gpu: Gpu, dtype: str, seconds: float) -> tuple[Step, bool, float]:
    """One optimizer step of a log, whether it tells how long its batches are, and the relative error of that."""
    batch, accumulation = run.batch_size or 1, run.gradient_accumulation_steps or 1
    n_gpus = run.num_gpus or 1
    packed = bool(run.packed)
    noted = _noted_tokens(run, seconds)
    tokens, known, sigma = 0.0, False, 0.0
    if packed and run.max_seq_len:
        tokens, known = float(run.max_seq_len), True
    elif run.tokens_per_s:
        tokens, known = run.tokens_per_s * seconds / (accumulation * batch * n_gpus), True
        if n_gpus > 1 and run.trainer != TRL:
            tokens, sigma = tokens * waited_for(batch, n_gpus), WAITED_SIGMA
    elif noted:
        tokens, known, sigma = noted, True, NOTED_SIGMA
    else:
        tokens = _tokens_of_peak(run, a, gpu.name)
        known, sigma = tokens > 0, TOKENS_OF_PEAK_SIGMA
    if run.max_seq_len:
        tokens = min(tokens, float(run.max_seq_len))
    step = Step(
        a,
        adapter_of(run),
        replace(gpu, cores=run.cpus or 0) if gpu.name == "cpu" else gpu,
        n_gpus,
        dtype,
        checkpointing_of(run, a),
        bool(run.compile),
        packed,
        batch,
        tokens,
        _span(run, batch, tokens, noted=noted > 0, masks=run.trainer == TRL and gpu.name == "cpu"),
        accumulation,
        TRL if run.trainer in TRANSFORMERS else "torchtune",
        _varied(run) if noted and not packed else 0.0,
    )
    return step, known, sigma


def _span(run: PriorRun, batch: int, tokens: float, *, noted: bool, masks: bool) -> float:
    """Tokens that one is multiplied with, as `planned_step` has them: of a packed row, or half of a sequence's.

    Where kernels take `masks`, as TRL's do on processors, rows of one batch that differ in length have one, which saves
    no work, and so have packs, which are laid end to end.
    """
    if masks and run.packed:
        return batch * tokens
    if run.packed:
        return packed_span(tokens, run.padded_tokens[0] if noted else 0.0)
    differ = batch > 1 and not (noted and run.padded_tokens[-1] <= run.padded_tokens[0])
    return tokens if masks and differ else tokens / 2


def _noted_tokens(run: PriorRun, seconds: float) -> float:
    """Tokens of a padded sequence by what its job script notes; 0 where it does not, or more of them were trained."""
    if not run.padded_tokens:
        return 0.0
    alone = 1 if run.packed or run.trainer == TRL else run.num_gpus or 1
    tokens = padded_between(run.padded_tokens, (run.batch_size or 1) * alone)
    return tokens if run.packed or _trained_tokens(run, seconds) < TOO_MANY * tokens else 0.0


def _varied(run: PriorRun) -> float:
    """`Step.varied` of a log, whose rows' lengths span twice what the mean longest of 64 rows is above the mean.

    That is some two standard deviations.
    """
    distinct = 1 + 2 * (run.padded_tokens[-1] - run.padded_tokens[0])
    return new_of_range(distinct, batches_of(run)) if (run.gpu or "").startswith("cpu") else 0.0


def batches_of(run: PriorRun) -> int:
    """Batches that a log's run has done, as far as it says."""
    return (run.steps_done or run.steps_total or 1) * (run.gradient_accumulation_steps or 1)


def waited_for(batch: int, gpus: int) -> float:
    """Tokens of the longest of several GPUs' batches over those of a mean batch, of rows of unknown lengths.

    The longest of n rows has about 1 + 0.5 ln n times their mean length (alpaca_cleaned: 412 tokens in batches of 8).
    """
    return (1 + 0.5 * math.log(batch * gpus)) / (1 + 0.5 * math.log(batch))


def _trained_tokens(run: PriorRun, seconds: float) -> float:
    """Tokens of a sequence that count in the loss; 0 when the log does not tell."""
    return (
        (run.trained_tokens_per_s or 0.0) * seconds / ((run.gradient_accumulation_steps or 1) * (run.batch_size or 1))
    )


def _tokens_of_peak(run: PriorRun, a: Architecture, gpu: str) -> float:
    """Padded tokens a sequence that the log's peak of allocated memory tells, 0 when it tells nothing.

    The peak is that of the longest batch; a batch is some four fifths of it on average.
    """
    peak = peak_in_use_gib(run)
    if not peak:
        return 0.0
    parts = closed_form.footprint_of_log(run, a, gpu, compiled=bool(run.compile))
    rest = peak * GIB - parts.fixed
    per_token = max(per for _, per in parts.moments)
    longest = rest / per_token / (run.batch_size or 1)
    return MEAN_OVER_LONGEST * longest if longest >= LEAST_TOKENS else 0.0


def _noise(run: PriorRun, *, by_name: bool, gpu_known: bool) -> float:
    """Standard deviation of the logarithm: that of any log, and what each thing adds that this one leaves open."""
    terms = (
        NOISE,
        NOISE_PROCESSOR if (run.gpu or "").startswith("cpu") else 0.0,
        0.0 if by_name else UNKNOWN_NAME,
        0.0 if gpu_known else UNKNOWN_GPU,
        0.0 if run.gradient_accumulation_steps else UNKNOWN_ACCUMULATION,
        0.0 if run.activation_checkpointing is not None else UNKNOWN_CHECKPOINTING,
        0.0 if run.lora_targets is not None else UNKNOWN_TARGETS,
        0.0 if (run.steps_done or 0) >= SETTLED_STEPS else SHORT,
    )
    return math.sqrt(sum(term * term for term in terms))


def contradiction(step: Step, seconds: float, doubt: float = 0.0) -> str:
    """Why a log cannot be true: more arithmetic than the GPU's peak allows; empty where it can.

    Args:
        step: what was done.
        seconds: of one optimizer step.
        doubt: relative error of the step's tokens; three times that is allowed for.
    """
    if step.tokens < 1:
        return f"{step.tokens:.2g} tokens a sequence by its own figures"
    mode = (step.checkpointing, step.packed, False)
    tokens = step.batch * step.tokens * step.accumulation
    flop = work(step.architecture, step.adapter, step.dtype, mode, tokens, step.span, step.trainer).flop
    share = flop / seconds / peak_flops(step.gpu, step.dtype)
    allowed = math.exp(3 * doubt)
    if share > allowed * (_PROCESSOR_PEAKS if step.gpu.name == "cpu" else 1.0):
        return f"{share:.0%} of the peak of {step.gpu.name}, more than it can do"
    if share < LEAST_SHARE / allowed and step.gpu.name != "cpu":
        return f"{share:.2%} of the peak of {step.gpu.name}, slower than any launch overhead explains"
    return ""


def placed(seen: Observation, target: Gpu, gpus: Mapping[str, Gpu]) -> Observation:
    """A log whose GPU type is open, on the type that is planned for if its name allows that.

    A log without any name is put there, too, and stays one of unknown GPU.
    """
    cards = variants(seen.run.gpu, gpus)
    gpu = next((card for card in cards if card.name == target.name), cards[0]) if cards else target
    step = replace(seen.step, gpu=gpu)
    doubt = math.hypot(seen.tokens_sigma, VARIANT if cards else UNKNOWN_GPU)
    outlier = contradiction(step, seen.seconds, doubt) if seen.tokens_known else ""
    noise = math.sqrt(seen.noise**2 - UNKNOWN_GPU**2 + VARIANT**2) if cards else seen.noise
    return replace(seen, step=step, noise=noise, gpu_known=bool(cards), outlier=outlier)
