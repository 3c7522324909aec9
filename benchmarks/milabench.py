"""Published runs of milabench as cases: torchtune's LoRA recipes on data centre GPUs, in batches of 1 to 72 rows.

Their rows are alpaca_cleaned's, padded to the longest of a batch; how long those are is published for batches of 8
alone (412 tokens, whose scatter is 100). A gamma distribution stands for them that has both. A run was 30 optimizer
steps long, so that its longest row is that of so many, not of the dataset.

Constants were chosen with the 8B rows in sight; `TAUGHT` are those that chose them. The 70B rows were looked at
afterwards; that dataset's rows are shorter (`ALPACA`, by what is said of it: about two thirds).
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from published import log_of

from runplan.estimate import steps
from runplan.estimate.workload import Adapter, Gpu, Workload
from runplan.facts import Architecture, Lengths
from runplan.priors.record import PriorRun

SHAPE, MEAN, ROWS = 3.5, 220.0, 51_760
ALPACA = 0.65
STEPS = 30
IDLE_GIB = 359 / 1024
"""What NVML says an idle GPU holds, an L40S; of the others it is not published and taken to be the same, but for
what a process can have at most."""
LLAMA_70B = Architecture("llama3_1", 8192, 80, 64, 8, 128, 28672, 128256, 131072)
GPU_NAMES = {
    "A100-SXM4-80GB": "a100-80",
    "H100 80GB HBM3": "h100-80",
    "H200": "h200-141",
    "L40S": "l40s-48",
    "MI325X": "mi325x-256",
}
TAUGHT = {
    ("H100 80GB HBM3", 1, (1, 4, 8, 24)),
    ("H100 80GB HBM3", 4, (1, 4, 16, 24)),
    ("H200", 8, (8,)),
    ("L40S", 1, (1, 4, 8, 24)),
    ("L40S", 4, (1,)),
    ("MI325X", 1, (1, 4, 8, 16, 24, 64)),
    ("MI325X", 8, (1, 4, 8, 16, 24, 48)),
}
"""GPU, how many, batches: their speed chose constants. What the allocator loses, how wide p95 of a step is, and that
FSDP takes nothing from long steps, was chosen with all rows in sight."""

LINES = "mi325x-256"
"""The GPU type whose times were seen to be straight lines by all of its rows, those of 70B among them."""


_OTHER_MEMORY = {"MI325X", "A100-SXM4-80GB"}
"""Runs that held memory by other rules: of ROCm, and of torchtune 0.2.1, which copied the logits to shift them."""


@cache
def lengths(scale: float, rows: int) -> Lengths:
    """Rows drawn from the gamma distribution, none longer than the longest of `rows` usually is."""
    rng = random.Random(1)
    drawn = Counter(round(scale * max(40.0, rng.gammavariate(SHAPE, MEAN / SHAPE))) for _ in range(ROWS))
    whole = Lengths(tuple(sorted(drawn.items())))
    return whole.cut(round(steps.padded_length(whole, min(rows, ROWS))))


class Run(NamedTuple):
    """One published run."""

    name: str
    workload: Workload
    prior: PriorRun
    """What its log tells a later plan."""
    measured: Mapping[str, float]
    taught: frozenset[str]


def milabench_runs(path: Path, start: Workload, gpus: Mapping[str, Gpu]) -> list[Run]:
    """Every run.

    Args:
        path: more_published_runs.csv.
        start: a workload of Llama-3.1-8B with the recipe's defaults.
        gpus: GPU types by name.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "milabench" and row["method"] == "lora"]
    return [_run(row, start, gpus) for row in rows if "tests/runs" not in row["source_ref"]]


def _run(row: Mapping[str, str], start: Workload, gpus: Mapping[str, Gpu]) -> Run:
    n, batch, accumulation = (int(row[name]) for name in ("num_gpus", "batch_size", "grad_accum"))
    large = row["model"].endswith("70B")
    mlp = row["lora_targets"].endswith("mlp")
    w = replace(
        start,
        architecture=LLAMA_70B if large else start.architecture,
        adapter=Adapter(int(row["lora_rank"]), ("q_proj", "v_proj", *(["output_proj"] * mlp)), apply_to_mlp=mlp),
        gpu=gpus[GPU_NAMES[row["gpu"]]],
        gpus=n,
        lengths=lengths(ALPACA if large else 1.0, STEPS * accumulation * batch * n),
        max_seq_len=8192,
        packed=False,
        batch_size=batch,
        effective_batch_size=batch * n * accumulation,
        gradient_accumulation_steps=accumulation,
        loss_chunks=8 if mlp else 0,
        model_name="70B" if large else "8B",
        dataset="alpaca" if large else "alpaca_cleaned",
    )
    tokens = steps.padded_length(w.lengths, batch) * batch * n * accumulation
    measured = {"s/step": tokens / float(row["tokens_per_s"])}
    if row["gpu"] not in _OTHER_MEMORY:
        measured["process"] = min(float(row["peak_mem_gib"]) - IDLE_GIB, w.gpu.memory_gib)
    taught = {"process"}
    if (large and w.gpu.name == LINES) or any(
        (gpu, count) == (row["gpu"], n) and batch in batches and not large for gpu, count, batches in TAUGHT
    ):
        taught.add("s/step")
    name = f"{row['model']}_{row['gpu'].split()[0]}_x{n}_b{batch}"
    told = {"tokens_per_s": float(row["tokens_per_s"]), "process_peak_gib": measured.get("process")}
    log = log_of(name, w, measured["s/step"], STEPS, dataset=w.dataset, **told)
    return Run(name, w, log, measured, frozenset(taught))
