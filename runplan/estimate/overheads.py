"""Time and memory beside the steps: start-up, first step, checkpoints; allocator and CUDA context. Learnt from logs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runplan.estimate import allocator, intervals, memory
from runplan.estimate.crowded import Crowded
from runplan.estimate.observation import Observation, adapter_of, default_checkpointing, find_gpu, match_model
from runplan.estimate.plausible import Odd, learn_times, odd_memory, usual_times
from runplan.estimate.speed import TRL
from runplan.estimate.two_parts import Timed, TwoParts
from runplan.estimate.workload import Adapter, Gpu, Interval
from runplan.facts import Architecture
from runplan.priors.record import PriorRun
from runplan.units import GIB

GB = 1e9
IMPORT_S = 12.0
"""Importing torch and torchtune, CUDA's start (8 s on a quiet CPU machine)."""
IMPORT_PROCESSOR_S = 8.0
"""The same where no GPU is started; chosen with recorded CPU runs in sight (4 to 5 s alone, 8 to 11 s as jobs)."""
LOGGER_S = 8.0
"""Of that, what passes before torchtune's logger starts: the imports."""
LOGGER_PROCESSOR_S = 6.0
READ_GB_PER_S = 0.6
"""Reading a checkpoint from a cluster's file system and moving it to the GPU (82 s for 16 GB in a JUWELS log)."""
SAVE_S = 1.0  # the work of a save beside writing
WRITE_GB_PER_S = 0.08
"""Merging adapters and writing the checkpoint: 33 s to 285 s for 2.5 GB in recorded logs."""
TOKENIZE_ROW_S = 0.0004
IMPORT_TRL_S = 4.0
"""What transformers, datasets, PEFT and TRL take to import more than torchtune, on a processor."""
PREPARE_ROW_S = 0.0007
"""A row's way through TRL before training: written as a conversation, tokenised, its labels built, cut."""
FIRST_STEP_S = {"eager": 3.0, "packed": 25.0, "compile": 60.0, "processor": 0.2}
"""Flex attention, which packed rows use, is compiled in the first step (28.5 s seen); so is a compiled model. A
processor loads no kernels (0.1 to 0.3 s in recorded runs, by which this was chosen)."""


@dataclass(frozen=True)
class Learnt:
    """A factor on a prior median, and how far it is trusted: log-normal."""

    log_factor: float
    sigma: float
    n: int = 0

    def of(self, median: float) -> Interval:
        """The interval around a prior median."""
        return intervals.from_median(median * math.exp(self.log_factor), self.sigma)


def learn(ratios: Iterable[float], spread: float, noise: float) -> Learnt:
    """What logs say about a factor: their median, shrunk to 1, robust to single wild values.

    Args:
        ratios: observed over expected, one a log.
        spread: standard deviation of the logarithm before any log.
        noise: standard deviation of the logarithm from one run to the next.
    """
    logs = [math.log(ratio) for ratio in ratios if ratio > 0 and math.isfinite(ratio)]
    if not logs:
        return Learnt(0.0, spread)
    trust = len(logs) / (len(logs) + (noise / spread) ** 2)
    left = spread * spread * (1 - trust)
    return Learnt(trust * statistics.median(logs), math.sqrt(left + noise * noise), len(logs))


@dataclass(frozen=True)
class Overheads:
    """Everything about a run that is not its steps."""

    startup: TwoParts
    first_step: Mapping[str, Learnt]
    """By what is compiled in it (`first_step_kind`)."""
    checkpoint: TwoParts
    held: Mapping[bool, Learnt]
    """What the allocator holds in vain, over what is usual; by packed."""
    needed: Learnt
    """What of it is needed, over what is usual."""
    allocated: Learnt
    """Measured over computed allocated memory."""
    odd: tuple[Odd, ...] = ()
    """What logs say of it that does not count, and why."""


def startup_parts_s(
    architecture: Architecture, dtype: str, gpu: str, rows: int = 0, trainer: str | None = None
) -> tuple[float, float]:
    """Usual seconds of start-up: imports, with rows that are tokenised before training; reading the base model."""
    size = architecture.params * memory.ELEMENT_BYTES[dtype] / GB
    imports = IMPORT_PROCESSOR_S if gpu.startswith("cpu") else IMPORT_S
    if trainer == TRL:
        return imports + IMPORT_TRL_S + rows * PREPARE_ROW_S, size / READ_GB_PER_S
    return imports + rows * TOKENIZE_ROW_S, size / READ_GB_PER_S


def checkpoint_parts_s(
    architecture: Architecture, adapter: Adapter, dtype: str, adapter_only: bool
) -> tuple[float, float]:
    """Usual seconds of one save at the end of an epoch: a small work of its own, and writing."""
    bytes_each = memory.ELEMENT_BYTES[dtype]
    size = memory.adapter_params(architecture, adapter) * bytes_each / GB
    if not adapter_only:
        size += architecture.params * bytes_each / GB
    return SAVE_S, size / WRITE_GB_PER_S


def first_step_kind(packed: bool, compiled: bool, gpu: str) -> str:
    """Which first step it is: what is compiled in it."""
    if compiled:
        return "compile"
    if gpu.startswith("cpu"):
        return "processor"
    return "packed" if packed and not gpu.startswith(memory.NO_FLEX_ATTENTION) else "eager"


def learn_overheads(
    runs: Iterable[PriorRun],
    observations: Iterable[Observation],
    models: Mapping[str, Architecture],
    gpus: Mapping[str, Gpu] | None = None,
    crowds: Iterable[Crowded] = (),
) -> Overheads:
    """What logs say about start-up, first step, checkpoints and the allocator.

    Args:
        runs: the logs.
        observations: those of them that measure speed.
        models: architectures by the names logs use.
        gpus: GPU types by name.
        crowds: batches that ran out of memory.
    """
    known = [(run, *found, _dtype(run)) for run in runs if (found := match_model(run, models)) is not None]
    first: dict[str, list[tuple[str, float]]] = {kind: [] for kind in FIRST_STEP_S}
    for run, *_ in known:
        if run.first_step_s:
            kind = first_step_kind(bool(run.packed), bool(run.compile), run.gpu or "")
            first[kind].append((run.path, max(LEAST_S, run.first_step_s - (run.s_per_step or 0.0))))
    firsts = {kind: usual_times("first step", some, FIRST_STEP_S[kind], 0.6) for kind, some in first.items()}
    starts = [(run.path, one) for run, a, _, dtype in known for one in _startup(run, a, dtype)]
    startup, odd_starts = learn_times("start-up", starts, READ_GB_PER_S)
    saves = [(run.path, one) for run, a, _, dtype in known for one in _saves(run, a, dtype)]
    checkpoint, odd_saves = learn_times("checkpoint", saves, WRITE_GB_PER_S)
    held, odd = _held(known, gpus or {})
    needed = _needed(crowds, odd)
    ratios = _allocated_ratios(observations)
    named = {one.path for one in odd}
    odd += [_unlike(path, ratio) for path, ratio in ratios if not 0.9 < ratio < 1.1 and path not in named]
    return Overheads(
        startup,
        {kind: learn(some, 0.6, 0.3) for kind, (some, _) in firsts.items()},
        checkpoint,
        {packed: learn(some, allocator.SPREAD, allocator.NOISE) for packed, some in held.items()},
        needed,
        learn([ratio for _, ratio in ratios if 0.9 < ratio < 1.1], 0.012, 0.02),
        (*odd, *odd_starts, *odd_saves, *(one for _, slow in firsts.values() for one in slow)),
    )


Known = tuple[PriorRun, Architecture, bool, str]
"""A log, its model, whether its name said so, and its number format."""


def _dtype(run: PriorRun) -> str:
    return run.dtype if run.dtype in memory.ELEMENT_BYTES else "bf16"


def _held(known: Iterable[Known], gpus: Mapping[str, Gpu]) -> tuple[dict[bool, list[float]], list[Odd]]:
    """What the allocator held in vain over what is usual, by packed; and memory that cannot be."""
    ratios: dict[bool, list[float]] = {True: [], False: []}
    odd: list[Odd] = []
    for run, a, by_name, dtype in known:
        if why := _odd_memory(run, a, dtype, gpus, by_name=by_name):
            odd.append(Odd(run.path, "memory", why))
        elif held := _held_part(run, a, dtype):
            uneven = 0.0 if run.packed else 1.0
            usual = allocator.held_part(_checkpointing(run, a), run.num_gpus or 1, uneven, _logits_part(run, a, dtype))
            ratios[bool(run.packed)].append(held / usual)
    return ratios, odd


def _checkpointing(run: PriorRun, a: Architecture) -> bool:
    said = run.activation_checkpointing
    return default_checkpointing(a, run.num_gpus or 1) if said is None else said


LEAST_S = 0.05
"""Shorter times are as good as none, and their logarithms would outweigh all others."""


def _startup(run: PriorRun, a: Architecture, dtype: str) -> tuple[Timed, ...]:
    """Start-up as a log has it: from the start of the job, else from that of the trainer's logger."""
    constant, scaled = startup_parts_s(a, dtype, run.gpu or "", trainer=run.trainer)
    if run.startup_s:
        return (Timed(run.startup_s, constant, scaled),)
    before = LOGGER_PROCESSOR_S if (run.gpu or "").startswith("cpu") else LOGGER_S
    return (Timed(run.loading_s, constant - before, scaled),) if run.loading_s else ()


def _saves(run: PriorRun, a: Architecture, dtype: str) -> tuple[Timed, ...]:
    """The median of a log's saves."""
    if not run.checkpoint_s:
        return ()
    usual = checkpoint_parts_s(a, adapter_of(run), dtype, bool(run.save_adapter_weights_only))
    return (Timed(max(LEAST_S, statistics.median(run.checkpoint_s)), *usual),)


def _odd_memory(run: PriorRun, a: Architecture, dtype: str, gpus: Mapping[str, Gpu], *, by_name: bool) -> str:
    """Why a log's peak cannot be right; of a model known by its size alone, the weights say nothing."""
    sharing = 1 if run.trainer == TRL else run.num_gpus or 1
    weights = memory.weight_bytes(a, adapter_of(run), dtype) / sharing / GIB if by_name else 0.0
    gpu = find_gpu(run.gpu, gpus)
    return odd_memory(run, weights, gpu.memory_gib if gpu and gpu.name != "cpu" else None)


LEAST_FILLED = 0.5
"""A run that lacked memory with less of the GPU's in use by the formulas ran beside something else."""


def _needed(crowds: Iterable[Crowded], odd: list[Odd]) -> Learnt:
    """What packed runs that lacked memory say about what the allocator needs: at least so much.

    Such a bound counts where it lies above what the other logs say (a censored value, taken at its bound).
    """
    ratios: list[float] = []
    for one in crowds:
        parts = one.parts_gib()
        if parts is None:
            continue
        stays, freed = parts
        if stays + freed < LEAST_FILLED * one.gpu.memory_gib:
            why = f"batch {one.batch} ran out with {stays + freed:.3g} of {one.gpu.memory_gib:.3g} GiB by the formulas"
            odd.append(Odd(one.run.path, "memory", f"{why}: something else was on the GPU, or other settings"))
            continue
        context = memory.CUDA_CONTEXT_GIB * (2 if (one.run.num_gpus or 1) > 1 else 1)
        lacked = one.gpu.memory_gib - context - stays * (1 + allocator.ROUNDED_UP) - freed
        ratio = lacked / freed / allocator.needed_part(one.checkpointing, uneven=0.0)
        if ratio > math.exp(_learn_needed(ratios).log_factor):
            ratios.append(ratio)
    return _learn_needed(ratios)


def _learn_needed(ratios: Iterable[float]) -> Learnt:
    return learn(ratios, allocator.NEEDED_SPREAD, allocator.NEEDED_NOISE)


_FREED_GIB = 0.3
"""Of less, reserved memory says nothing: it comes in blocks of 2 to 20 MiB."""


def _footprint(run: PriorRun, a: Architecture, dtype: str) -> memory.Footprint:
    """Memory of a logged run's steps by the formulas of its trainer; compiled runs as if eager."""
    modes = (_checkpointing(run, a), bool(run.packed), (run.gradient_accumulation_steps or 1) > 1, False)
    form = memory.footprint_of(run.trainer)
    return form(a, adapter_of(run), dtype, modes, 8, run.num_gpus or 1, run.gpu or "")


def _logits_part(run: PriorRun, a: Architecture, dtype: str) -> float | None:
    """Logits as a part of what a step allocates and frees; None where the loss keeps none."""
    if run.trainer == TRL:
        return None
    return memory.head_bytes(a, dtype, 8, compiled=False)[0] / max(per for _, per in _footprint(run, a, dtype).moments)


def _held_part(run: PriorRun, a: Architecture, dtype: str) -> float:
    """The part of the memory that came and went which the allocator held in vain; 0 when the log does not tell."""
    block = run.peak_memory_gib
    held = (block.allocated or block.active) if block else None
    if block is None or not block.reserved or not held or not 1.0 <= block.reserved / held < 2.5:
        return 0.0
    parts = _footprint(run, a, dtype)
    stays = parts.fixed / GIB
    if held - stays < _FREED_GIB:
        return 0.0
    return max(0.01, (block.reserved - held - allocator.ROUNDED_UP * stays) / (held - stays))


def _allocated_ratios(observations: Iterable[Observation]) -> list[tuple[str, float]]:
    """Path, and measured over computed memory, of the logs that leave nothing to guess: packed rows, eager."""
    found = []
    for seen in observations:
        run, task = seen.run, seen.task
        peak = run.peak_memory_gib.allocated if run.peak_memory_gib else None
        if not (peak and task.packed and run.max_seq_len and not task.compile) or run.activation_checkpointing is None:
            continue
        mode = (task.checkpointing, True, task.accumulation > 1, False)
        form = memory.footprint_of(task.trainer)
        parts = form(task.architecture, task.adapter, task.dtype, mode, 8, task.gpus, task.gpu.name)
        found.append((run.path, peak * GIB / parts.peak_bytes(task.batch, run.max_seq_len)))
    return found


def _unlike(path: str, ratio: float) -> Odd:
    why = f"{ratio:.2g} times the allocated memory that the formulas give: other settings than it tells"
    return Odd(path, "memory", why)
