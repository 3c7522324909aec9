"""What one earlier log says about speed: its run as a `Task`, its time, and how far to trust it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePath

from runplan.estimate.memory import torchtune_step
from runplan.estimate.speed.roofline import TRL, Task, peak_flops, work
from runplan.estimate.workload import Adapter, Gpu
from runplan.facts import Architecture
from runplan.priors.record import PriorRun

CPU = Gpu("cpu", 64.0, 40.0, 0.3, 0.3)
"""Stands for a processor among the GPUs; its constants are rough, logs of CPU runs correct them."""
DEFAULT_ADAPTER = Adapter(8, ("q_proj", "v_proj", "output_proj"), apply_to_mlp=True)
NOISE = 0.035
"""Relative noise of one log's steady speed (same run again on the same cluster)."""
NOISE_PROCESSOR = 0.15
"""What processors add to that: cores, caches and clocks are shared (as RUN_PROCESSOR in posterior.py)."""
UNKNOWN_GPU = 0.50
"""What it adds that a log does not say on which GPU it ran."""
_NOT_LORA = re.compile(r"full|qat|dpo|ppo|knowledge|kd_|(?<!finetun)eval|generat", re.IGNORECASE)
"""Recipes by name or class; `LoRAFinetuneValRecipe…` trains and validates."""
TOKENS_OF_PEAK_SIGMA = 0.2
WAITED_SIGMA = 0.1
"""Relative errors of lengths: told by a peak of memory; of the longest of several GPUs' batches, told by their mean."""
_LAST_RESORT = 0.15
"""Parameters of a model matched by size alone may differ by this much."""


@dataclass(frozen=True)
class Observation:
    """One log as a measurement of speed."""

    run: PriorRun
    task: Task
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
    """Logs that it stands for, of one and the same task."""

    @property
    def run_noise(self) -> float:
        """The part of `noise` that differs from run to run of the same task."""
        return math.hypot(NOISE, NOISE_PROCESSOR if (self.run.gpu or "").startswith("cpu") else 0.0)


@lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """A model's name without what differs between a builder, a folder and a repository: `llama321b`.

    >>> canonical("torchtune.models.llama3_2.lora_llama3_2_1b") == canonical("meta-llama/Llama-3.2-1B-Instruct")
    True
    """
    last = re.split(r"[/:]", name.strip().rstrip("/"))[-1]
    last = last.rsplit("torchtune.models.", 1)[-1] if "torchtune.models." in last else last
    last = last.rsplit(".", 1)[-1] if re.search(r"\.q?lora_|^[a-z0-9_]+\.[a-z0-9_]+$", last) else last
    words = re.sub(r"^(q?lora_|meta-)", "", last.lower())
    words = re.sub(r"[-_ ](instruct|base|chat|hf)\b|[-_]?(instruct|base)$", "", words)
    return re.sub(r"[^a-z0-9]", "", words)


def match_model(run: PriorRun, models: Mapping[str, Architecture]) -> tuple[Architecture, bool] | None:
    """The architecture of a log's model and whether its name said so (else its size did); None when neither does."""
    if run.model:
        if run.model in models:
            return models[run.model], True
        wanted = canonical(run.model)
        for name, found in models.items():
            if canonical(name) == wanted:
                return found, True
    if run.params_b is None or run.params_b <= 0:
        return None
    billions = run.params_b
    nearest = min(models.values(), key=lambda a: abs(math.log(a.params / 1e9 / billions)), default=None)
    if nearest is None or abs(math.log(nearest.params / 1e9 / billions)) >= _LAST_RESORT:
        return None
    return nearest, False


def find_gpu(name: str | None, gpus: Mapping[str, Gpu]) -> Gpu | None:
    """The GPU type a log names, None when it names none that is known."""
    if not name:
        return None
    if name in gpus:
        return gpus[name]
    return CPU if name.lower().startswith("cpu") else None


def default_checkpointing(architecture: Architecture, gpus: int) -> bool:
    """Activation checkpointing in torchtune 0.6.1's own LoRA configs: from 3B on one GPU, from 70B on several."""
    return architecture.params > (2.5e9 if gpus == 1 else 40e9)


def checkpointing_of(run: PriorRun, architecture: Architecture) -> bool:
    """Whether a log's run kept no activations; where it does not say, as its trainer has it."""
    if run.activation_checkpointing is not None:
        return run.activation_checkpointing
    return run.trainer == TRL or default_checkpointing(architecture, run.num_gpus or 1)


def dtype_of(run: PriorRun) -> str:
    """The number format of a log's weights; bf16 where it names none that is modelled."""
    return run.dtype if run.dtype in torchtune_step.ELEMENT_BYTES else "bf16"


def same_dataset(run: PriorRun, dataset: str) -> bool:
    """Whether a log names the planned dataset, wherever its file lay."""
    return bool(dataset) and bool(run.dataset) and _stem(dataset) == _stem(run.dataset or "")


def _stem(dataset: str) -> str:
    return PurePath(dataset).stem.lower()


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
    seconds = run.s_per_step or (1 / run.it_per_s if run.it_per_s else None)
    if not seconds or not math.isfinite(seconds) or seconds <= 0 or not run.batch_size or run.batch_size < 1:
        return "no speed or no batch size"
    if run.recipe and _NOT_LORA.search(run.recipe):
        return f"recipe {run.recipe} does not train adapters"
    matched = match_model(run, models)
    if matched is None:
        return f"model {run.model or 'unknown'} is not known"
    dtype = run.dtype or "bf16"
    if dtype not in torchtune_step.ELEMENT_BYTES:
        return f"number format {dtype} is not modelled"
    gpu = find_gpu(run.gpu, gpus)
    task, known, tokens_sigma = _task(run, matched[0], gpu or assumed, dtype, seconds)
    unsure = _noise(run, by_name=matched[1], gpu_known=gpu is not None)
    outlier = contradiction(task, seconds, tokens_sigma) if gpu is not None and known else ""
    least = _trained_tokens(run, seconds)
    return Observation(run, task, seconds, unsure, gpu is not None, known, tokens_sigma, least, outlier)


def _task(run: PriorRun, a: Architecture, gpu: Gpu, dtype: str, seconds: float) -> tuple[Task, bool, float]:
    batch, accumulation = run.batch_size or 1, run.gradient_accumulation_steps or 1
    n_gpus = run.num_gpus or 1
    checkpointing = checkpointing_of(run, a)
    packed = bool(run.packed)
    adapter = adapter_of(run)
    tokens, known, sigma = 0.0, False, 0.0
    if packed and run.max_seq_len:
        tokens, known = float(run.max_seq_len), True
    elif run.tokens_per_s:
        tokens, known = run.tokens_per_s * seconds / (accumulation * batch * n_gpus), True
        if n_gpus > 1 and run.trainer != TRL:
            tokens, sigma = tokens * waited_for(batch, n_gpus), WAITED_SIGMA
    else:
        tokens = _tokens_of_peak(run, a, adapter, dtype, checkpointing, gpu.name)
        known, sigma = tokens > 0, TOKENS_OF_PEAK_SIGMA
    if run.max_seq_len:
        tokens = min(tokens, float(run.max_seq_len))
    # A pack holds many short rows that do not attend to each other.
    span = tokens / 4 if packed else tokens / 2
    task = Task(
        a,
        adapter,
        gpu,
        n_gpus,
        dtype,
        checkpointing,
        bool(run.compile),
        packed,
        batch,
        tokens,
        span,
        accumulation,
        known,
        TRL if run.trainer == TRL else "torchtune",
    )
    return task, known, sigma


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


def adapter_of(run: PriorRun) -> Adapter:
    """The adapters of a log; what it does not say as torchtune 0.6.1 has it."""
    targets, start = run.lora_targets, _adapter_start(run)
    if targets is None:
        return start
    attention = tuple(name for name in targets if name in {"q_proj", "k_proj", "v_proj", "output_proj"})
    mlp = any(name in {"mlp", "w1", "w2", "w3", "gate_proj", "up_proj", "down_proj"} for name in targets)
    return replace(start, attn_modules=attention, apply_to_mlp=mlp)


def _adapter_start(run: PriorRun) -> Adapter:
    return replace(DEFAULT_ADAPTER, rank=run.lora_rank or DEFAULT_ADAPTER.rank, quantize_base=bool(run.quantize_base))


def _tokens_of_peak(
    run: PriorRun, a: Architecture, adapter: Adapter, dtype: str, checkpointing: bool, gpu: str
) -> float:
    """Padded tokens a sequence that the log's peak of allocated memory tells, 0 when it tells nothing.

    The peak is that of the longest batch; a batch is some four fifths of it on average.
    """
    block = run.peak_memory_gib
    peak = (block.allocated or block.active) if block else None
    if not peak:
        return 0.0
    mode = (checkpointing, bool(run.packed), (run.gradient_accumulation_steps or 1) > 1, bool(run.compile))
    parts = torchtune_step.footprint_of(run.trainer)(a, adapter, dtype, mode, 8, run.num_gpus or 1, gpu)
    rest = peak * 2**30 - parts.fixed
    per_token = max(per for _, per in parts.moments)
    longest = rest / per_token / (run.batch_size or 1)
    return 0.8 * longest if longest >= 8 else 0.0


def _noise(run: PriorRun, *, by_name: bool, gpu_known: bool) -> float:
    terms = [NOISE]
    terms.append(NOISE_PROCESSOR if run.gpu and run.gpu.startswith("cpu") else 0.0)
    terms.append(0.0 if by_name else 0.10)
    terms.append(0.0 if gpu_known else UNKNOWN_GPU)
    terms.append(0.0 if run.gradient_accumulation_steps else 0.10)
    terms.append(0.0 if run.activation_checkpointing is not None else 0.06)
    terms.append(0.0 if run.lora_targets is not None else 0.03)
    terms.append(0.0 if (run.steps_done or 0) >= 20 else 0.08)
    return math.sqrt(sum(term * term for term in terms))


_PROCESSOR_PEAKS = 1000.0
"""What the best processors do of `CPU`'s peak: some hundred TFLOP/s with matrix units on a hundred cores."""


OTHER_TRAINER, OTHER_VERSION = 0.35, 0.15
"""Standard deviations (of the logarithm) that a log of another trainer, or of another version of TRL, adds: other
frameworks run other kernels for the same model; versions of TRL differ in their loss (from 1.16 on without logits)."""


def heard_by(seen: Observation, trainer: str, version: str = "") -> Observation:
    """The log as a plan for a trainer takes it: with more noise where other kernels ran."""
    ran = seen.run.trainer or "torchtune"
    if ran != trainer:
        return replace(seen, noise=math.hypot(seen.noise, OTHER_TRAINER))
    if ran == TRL and version and seen.run.trainer_version != version:
        return replace(seen, noise=math.hypot(seen.noise, OTHER_VERSION))
    return seen


def contradiction(task: Task, seconds: float, doubt: float = 0.0) -> str:
    """Why a log cannot be true: more arithmetic than the GPU's peak allows; empty where it can.

    Args:
        task: what was done.
        seconds: of one optimizer step.
        doubt: relative error of the task's tokens; three times that is allowed for.
    """
    if task.tokens < 1:
        return f"{task.tokens:.2g} tokens a sequence by its own figures"
    mode = (task.checkpointing, task.packed, False)
    tokens = task.batch * task.tokens * task.accumulation
    flop = work(task.architecture, task.adapter, task.dtype, mode, tokens, task.span, task.trainer).flop
    share = flop / seconds / peak_flops(task.gpu, task.dtype)
    allowed = math.exp(3 * doubt)
    if share > allowed * (_PROCESSOR_PEAKS if task.gpu.name == "cpu" else 1.0):
        return f"{share:.0%} of the peak of {task.gpu.name}, more than it can do"
    if share < 2e-4 / allowed and task.gpu.name != "cpu":
        return f"{share:.2%} of the peak of {task.gpu.name}, slower than any launch overhead explains"
    return ""
