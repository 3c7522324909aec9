"""Published runs found when every constant had been chosen, as cases: none of them chose one, then or since.

ODISSEI's benchmark of torchtune's 1B LoRA on Dutch and American clusters (and one log of it from Finland), runs of 8B
on gaming cards with torchtune of 2024, and two of transformers' layers. Where a source states tokens without padding,
the part of a pack that is filled (`fill`) turns them into steps. Where rows are alpaca_cleaned's, the gamma
distribution of `milabench` stands for their lengths: it says 396 tokens of the longest of eight, cut at 512 as
torchtune before 0.3 did, and the peaks of memory of 105 such steps say 404.

Of recipes before 0.3 speed is not compared, as their loss took time that no recipe takes any more: they handed
cross-entropy the logits as (rows, vocabulary, tokens), and torch gives that softmax one block a row, whose threads walk
along the vocabulary five times, one wait for memory after the other (`waits`). One row is not compared at all: a recipe
that wraps with FSDP1, which torchtune gave up with 0.3, too.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from milabench import ROWS, lengths
from published import log_of

from runplan.estimate import steps
from runplan.estimate.workload import TRL, Adapter, Gpu, Workload
from runplan.facts import Architecture, Lengths
from runplan.priors.record import MemoryGib, PriorRun

GPU_NAMES = {
    "A100 40GB": "a100-40",
    "A100 80GB": "a100-80",
    "H100 80GB HBM3": "h100-80",
    "H100 94GB HBM2e": "h100-94",
    "RTX 3090": "rtx3090-24",
    "RTX 4090": "rtx4090-24",
}
TINY_LLAMA = "TinyLlama-1.1B"
SHAPES: Mapping[str, Architecture] = {TINY_LLAMA: Architecture("llama2", 2048, 22, 32, 4, 64, 5632, 32000, 2048)}
SOURCES = (
    "torchtune-gpu-benchmark log",
    "torchtune-gpu-benchmark",
    "peft-experiments",
    "llm-tracker",
    "rdna3-training-tests",
)
SITES = ("OSSC", "Della", "Mahti", "Snellius")
PACK, CUT, STEPS = 2048, 512, 500
DROPOUT = 0.05
"""Of adapters: builders of 8B had it up to 0.2, and their configurations could not say otherwise."""
WALKS = 5
"""Times that the softmax of such logits and its gradient walk along the vocabulary: for the largest, for the sum, to
write; for the sum of gradients, to write (SoftMax.cu of torch 2.3)."""


class Run(NamedTuple):
    """One published run."""

    name: str
    workload: Workload
    prior: PriorRun
    """What its log tells a later plan."""
    measured: Mapping[str, float]
    s_per_step: float | None
    """None of a run that ran out of memory; also in `measured` where it can be compared."""


def later_runs(path: Path, start: Workload, shapes: Mapping[str, Architecture], gpus: Mapping[str, Gpu]) -> list[Run]:
    """Every run that states what an estimate needs.

    Args:
        path: more_published_runs.csv.
        start: a workload of Llama-3.1-8B with the recipe's defaults.
        shapes: architectures of conf/model.
        gpus: GPU types by name.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] in SOURCES]
    return [_run(row, start, shapes, gpus) for row in rows if not row["notes"].startswith("not compared")]


def fill() -> float:
    """Part of a pack of 2,048 tokens that rows of alpaca_cleaned fill.

    A row that does not fit any more begins the next pack, so that half of a row drawn by its length is left.
    """
    whole = lengths(1.0, ROWS).cut(PACK)
    return 1 - sum(tokens**2 * rows for tokens, rows in whole.counts) / whole.tokens / 2 / PACK


def waits(run: Run, estimated_s: float) -> float:
    """Seconds a step of the softmax's walk, if that is all that a run took longer than was estimated."""
    batches = run.workload.gradient_accumulation_steps or 1
    return ((run.s_per_step or 0.0) - estimated_s) / batches / WALKS / run.workload.architecture.vocab_size


def _run(row: Mapping[str, str], start: Workload, shapes: Mapping[str, Architecture], gpus: Mapping[str, Gpu]) -> Run:
    w = _workload(row, start, shapes, gpus)
    seconds = None if row["notes"].startswith("out of memory") else _seconds(row, w)
    measured = {"s/step": seconds} if seconds and w.model_name != "8B" else {}
    if row["peak_mem_kind"] == "alloc" and w.trainer != TRL:
        measured["allocated"] = float(row["peak_mem_gib"])
        measured["reserved"] = float(re.findall(r"reserved ([\d.]+)", row["notes"])[0])
    site = next((f"_{site}" for site in SITES if site in row["notes"]), "")
    kind = row["method"] if row["method"] != "lora" else row["framework"].split()[0]
    name = f"{w.model_name}_{w.gpu.name}_x{w.gpus}_b{w.batch_size}x{w.gradient_accumulation_steps}_{kind}{site}"
    log = log_of(
        name,
        w,
        seconds or 0.0,
        STEPS,
        dataset=w.dataset,
        trainer_version=w.trainer_version,
        peak_memory_gib=MemoryGib(measured.get("allocated"), None, measured.get("reserved")),
    )
    return Run(name, w, log, measured, seconds)


def _workload(
    row: Mapping[str, str], start: Workload, shapes: Mapping[str, Architecture], gpus: Mapping[str, Gpu]
) -> Workload:
    n, batch, accumulation = (int(row[name]) for name in ("num_gpus", "batch_size", "grad_accum"))
    packed, targets = row["packed"] == "True", row["lora_targets"]
    model = next((name for name in ("1B", "8B") if f"{name}-Instruct" in row["model"]), TINY_LLAMA)
    projections = targets.removesuffix("+mlp").split(",")
    w = replace(
        start,
        architecture=shapes[model] if model in shapes else SHAPES[model],
        adapter=Adapter(
            int(row["lora_rank"]),
            tuple(f"{name.removesuffix('_proj')}_proj" for name in projections),
            apply_to_mlp=targets.endswith("mlp"),
            quantize_base=row["method"] == "qlora",
        ),
        gpu=gpus[GPU_NAMES[row["gpu"]]],
        gpus=n,
        lengths=lengths(1.0, ROWS).cut(PACK if packed else CUT),
        max_seq_len=PACK if packed else CUT,
        packed=packed,
        activation_checkpointing=row["activation_ckpt"] == "True",
        batch_size=batch,
        effective_batch_size=batch * n * accumulation,
        gradient_accumulation_steps=accumulation,
        model_name=model,
        dataset="alpaca_cleaned",
    )
    if model == TINY_LLAMA:  # plain text in rows of one length
        plain = Lengths(((1024, 273 * batch * accumulation),))
        return replace(w, trainer=TRL, trainer_version=row["framework"], lengths=plain, max_seq_len=1024, packed=False)
    if model == "1B":
        return w
    old = replace(
        w,
        architecture=replace(w.architecture, family="llama3", max_position_embeddings=8192, rope_scaling_factor=None),
        adapter=replace(w.adapter, dropout=DROPOUT),
        loss_chunks=0,
        trainer_version="0.2.0",
    )
    return old if row["framework"] == "torchtune" else replace(old, trainer=TRL, trainer_version=row["framework"])


def _seconds(row: Mapping[str, str], w: Workload) -> float:
    if row["it_per_s"]:
        return 1 / float(row["it_per_s"])
    each = PACK * fill() if w.packed else steps.padded_length(w.lengths, w.batch_size or 1)
    return each * (w.batch_size or 1) * (w.gradient_accumulation_steps or 1) / float(row["tokens_per_s"])
