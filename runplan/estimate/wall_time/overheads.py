"""Time beside the steps: start-up, first step, checkpoints. Learnt from logs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runplan.estimate.factors import Learnt, learn
from runplan.estimate.logs.figures import Odd
from runplan.estimate.logs.settings import adapter_of, dtype_of, match_model
from runplan.estimate.memory import torchtune_step
from runplan.estimate.memory.weights import ELEMENT_BYTES, adapted_params, adapter_params
from runplan.estimate.wall_time.outliers import first_step_ratios, learn_times
from runplan.estimate.wall_time.two_parts import Timed, TwoParts
from runplan.estimate.workload import TRL, Adapter
from runplan.facts import Architecture
from runplan.priors.record import PriorRun

GB = 1e9
"""Bytes, as rates of disks are stated."""
IMPORT_S = 12.0
"""Importing torch and torchtune, CUDA's start (8 s on a quiet CPU machine)."""
IMPORT_PROCESSOR_S = 6.0
"""The same where no GPU is started; chosen with recorded CPU runs in sight (3 to 5 s alone, 8 to 11 s as jobs)."""
LOGGER_S = 8.0
"""Of that, what passes before torchtune's logger starts: the imports."""
LOGGER_PROCESSOR_S = 4.5
"""The same where no GPU is started."""
READ_GB_PER_S = 0.6
"""Reading a checkpoint and moving it to the GPU: 0.14 to 0.55 GB/s from clusters' file systems the first time, 1 to
8 GB/s where an earlier job of the node left it in memory (tests/data/published_timings.csv); this lies between."""
SAVE_S = 1.0
"""Work of a save beside writing (a guess)."""
WRITE_GB_PER_S = 0.4
"""Gathering a checkpoint and writing it: 0.14 to 0.54 GB/s in four published saves of full fine-tuning, of 2.5 GB to
145 GB (tests/data/published_timings.csv)."""
MERGE_PARAM_S = 3e-9
"""Adding a product of adapters to one weight, on the processor as torchtune does (bf16, one thread of a Xeon)."""
MERGE_FLOP_PER_S = 1.2e9
"""Multiplying adapters in bf16 with one thread of a processor that does not know bf16: 1.1 to 1.5 GFLOP/s with oneDNN
held to AVX2 (torch 2.13), so that a 1B model takes half a minute with rank 16, as it did on a cluster."""
KNOWS_BF16 = ("cpu", "h100", "h200", "h20-", "gh200", "b200", "b300", "gb200", "mi300x", "mi325x", "mi355x")
"""GPUs whose machines have processors that do; there products of adapters take next to nothing."""
TOKENIZE_ROW_S = 0.0004
"""Tokenising a row before training, as packing does."""
IMPORT_TRL_S = 4.0
"""What transformers, datasets, PEFT and TRL take to import more than torchtune, on a processor."""
PREPARE_ROW_S = 0.0007
"""A row's way through TRL before training: written as a conversation, tokenised, its labels built, cut."""
FIRST_STEP_S = {"eager": 3.0, "packed": 25.0, "compile": 60.0, "processor": 0.2}
"""What it takes longer than others. Flex attention, which packed rows use, is compiled in it (28 s published once); so
is a compiled model (29 s to 104 s on A100s); else 0.6 s to 15 s (tests/data/published_timings.csv). A processor loads
no kernels (0.1 to 0.3 s in recorded runs, by which this was chosen)."""
FIRST_STEP_SPREAD, FIRST_STEP_NOISE = 0.8, 0.3
"""Standard deviations of its logarithm: from one cluster to the next (1.0 among ten published first steps, of which
the longest waited for data), and from one run to the next."""
THREADS = 4
"""Of a job that does not say how many it has: what runplan asks for."""
LEAST_S = 0.05
"""Shorter times are as good as none, and their logarithms would outweigh all others."""


@dataclass(frozen=True)
class Overheads:
    """Everything about a run that is not its steps."""

    startup: TwoParts
    first_step: Mapping[str, Learnt]
    """By what is compiled in it (`first_step_kind`)."""
    checkpoint: TwoParts
    odd: tuple[Odd, ...] = ()
    """What logs say of it that does not count, and why."""


def startup_parts_s(
    architecture: Architecture, dtype: str, gpu: str, rows: int = 0, trainer: str | None = None
) -> tuple[float, float]:
    """Usual seconds of start-up: imports, with rows that are tokenised before training; reading the base model."""
    size = architecture.params * ELEMENT_BYTES[dtype] / GB
    imports = IMPORT_PROCESSOR_S if gpu.startswith("cpu") else IMPORT_S
    if trainer == TRL:
        return imports + IMPORT_TRL_S + rows * PREPARE_ROW_S, size / READ_GB_PER_S
    return imports + rows * TOKENIZE_ROW_S, size / READ_GB_PER_S


def checkpoint_parts_s(
    architecture: Architecture, adapter: Adapter, dtype: str, adapter_only: bool, gpu: str = "", threads: int = THREADS
) -> tuple[float, float]:
    """Usual seconds of one save at the end of an epoch: a small work of its own; merging and writing.

    Args:
        architecture: of the model.
        adapter: what it is trained with.
        dtype: of its weights.
        adapter_only: whether nothing is merged.
        gpu: name of the GPU type, which tells what processors are beside it.
        threads: of those, for each GPU.
    """
    bytes_each = ELEMENT_BYTES[dtype]
    size = adapter_params(architecture, adapter) * bytes_each / GB
    if adapter_only:
        return SAVE_S, size / WRITE_GB_PER_S
    size += architecture.params * bytes_each / GB
    return SAVE_S, size / WRITE_GB_PER_S + merge_s(architecture, adapter, dtype, gpu, threads)


def merge_s(architecture: Architecture, adapter: Adapter, dtype: str, gpu: str, threads: int) -> float:
    """Usual seconds of adding products of adapters to the weights beneath them."""
    slow = ELEMENT_BYTES[dtype] == ELEMENT_BYTES["bf16"] and not gpu.startswith(KNOWS_BF16)
    products = 2 * adapter.rank / (MERGE_FLOP_PER_S * threads) if slow else 0.0
    return adapted_params(architecture, adapter) * (MERGE_PARAM_S + products)


def first_step_kind(packed: bool, compiled: bool, gpu: str) -> str:
    """Which first step it is: what is compiled in it."""
    if compiled:
        return "compile"
    if gpu.startswith("cpu"):
        return "processor"
    return "packed" if packed and not gpu.startswith(torchtune_step.NO_FLEX_ATTENTION) else "eager"


def learn_overheads(runs: Iterable[PriorRun], models: Mapping[str, Architecture]) -> Overheads:
    """What logs say about start-up, first step and checkpoints.

    Args:
        runs: the logs.
        models: architectures by the names logs use.
    """
    known = [(run, found[0]) for run in runs if (found := match_model(run, models)) is not None]
    first: dict[str, list[tuple[str, float]]] = {kind: [] for kind in FIRST_STEP_S}
    for run, _ in known:
        if run.first_step_s:
            kind = first_step_kind(bool(run.packed), bool(run.compile), run.gpu or "")
            first[kind].append((run.path, max(LEAST_S, run.first_step_s - (run.s_per_step or 0.0))))
    firsts = {kind: first_step_ratios(some, FIRST_STEP_S[kind], FIRST_STEP_SPREAD) for kind, some in first.items()}
    starts = [(run.path, one) for run, model in known if (one := _startup(run, model)) is not None]
    startup, odd_starts = learn_times("start-up", starts, READ_GB_PER_S)
    saves = [(run.path, one) for run, model in known if (one := _save(run, model)) is not None]
    checkpoint, odd_saves = learn_times("checkpoint", saves, WRITE_GB_PER_S)
    return Overheads(
        startup,
        {kind: learn(some, FIRST_STEP_SPREAD, FIRST_STEP_NOISE) for kind, (some, _) in firsts.items()},
        checkpoint,
        (*odd_starts, *odd_saves, *(one for _, slow in firsts.values() for one in slow)),
    )


def _startup(run: PriorRun, model: Architecture) -> Timed | None:
    """Start-up as a log has it: from the start of the job, else from that of the trainer's logger."""
    gpu = run.gpu or ""
    constant, scaled = startup_parts_s(model, dtype_of(run), gpu, trainer=run.trainer)
    if run.startup_s:
        return Timed(run.startup_s, constant, scaled)
    before = LOGGER_PROCESSOR_S if gpu.startswith("cpu") else LOGGER_S
    return Timed(run.loading_s, constant - before, scaled) if run.loading_s else None


def _save(run: PriorRun, model: Architecture) -> Timed | None:
    """The median of a log's saves."""
    if not run.checkpoint_s:
        return None
    usual = checkpoint_parts_s(
        model, adapter_of(run), dtype_of(run), bool(run.save_adapter_weights_only), run.gpu or "", run.cpus or THREADS
    )
    return Timed(max(LEAST_S, statistics.median(run.checkpoint_s)), *usual)
