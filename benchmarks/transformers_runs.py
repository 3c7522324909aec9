"""Published runs of Hugging Face's kin as cases: they train transformers' layers with PEFT's adapters, as TRL does.

None of them is TRL 1.16, whose loss holds other memory, so that they test its speed alone; no constant was chosen with
them in sight but the trend that `roofline.FILLED` names. Qwen's script adapts one product for queries, keys and values;
an adapter on queries alone stands for it.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from published import log_of

from runplan.estimate.workload import Adapter, Gpu, Workload
from runplan.facts import Architecture, Lengths
from runplan.priors.record import PriorRun

_QWEN = Architecture("qwen2", 4096, 32, 32, 32, 128, 11008, 151936, 8192, attention_bias=True)
SHAPES: dict[str, Architecture] = {
    "Qwen-1.8B": replace(
        _QWEN,
        hidden_size=2048,
        num_hidden_layers=24,
        num_attention_heads=16,
        num_key_value_heads=16,
        intermediate_size=5504,
    ),
    "Qwen-7B": _QWEN,
    "Qwen-14B": replace(
        _QWEN,
        hidden_size=5120,
        num_hidden_layers=40,
        num_attention_heads=40,
        num_key_value_heads=40,
        intermediate_size=13696,
        vocab_size=152064,
    ),
    "mistralai/Mistral-7B-v0.1": Architecture(
        "mistral", 4096, 32, 32, 8, 128, 14336, 32000, 32768, sliding_window=4096
    ),
    "ibm/PowerLM-3b": Architecture("granite", 2304, 40, 36, 36, 64, 9216, 49152, 4096, tie_word_embeddings=True),
    "meta-llama/Llama-3.2-3B": Architecture(
        "llama3_2", 3072, 28, 24, 8, 128, 8192, 128256, 131072, tie_word_embeddings=True
    ),
}
"""By the names of the table, as their config.json has it."""
_GPUS = {"A100-SXM4-80GB": "a100-80", "A100 80GB": "a100-80", "NVIDIA L40S": "l40s-48"}
_ATTENTION = ("q_proj", "k_proj", "v_proj", "output_proj")
_STEPS = 1000


class Source(NamedTuple):
    """Rows of one framework that state all that an estimate of speed needs."""

    framework: str
    adapters: Mapping[str, Adapter]
    """By `lora_targets`; rows with others are left out (embeddings that are trained, DoRA)."""
    checkpointing: bool


SOURCES = (
    Source(
        "HF Trainer+PEFT (Qwen finetune.py)",
        {"c_attn,c_proj,w1,w2": Adapter(64, ("q_proj", "output_proj"), apply_to_mlp=True)},
        checkpointing=True,
    ),
    Source(
        "HF SFTTrainer (fms-hf-tuning) none",
        {"q_proj k_proj v_proj o_proj": Adapter(16, _ATTENTION, apply_to_mlp=False)},
        checkpointing=True,
    ),
    Source(
        "PEFT + plain loop",
        {
            "q_proj,v_proj": Adapter(32, ("q_proj", "v_proj"), apply_to_mlp=False),
            "down_proj,gate_proj,up_proj": Adapter(10, (), apply_to_mlp=True),
        },
        checkpointing=False,
    ),
)


class Run(NamedTuple):
    """One published run."""

    name: str
    workload: Workload
    prior: PriorRun
    """What its log tells a later plan."""
    s_per_step: float


def transformers_runs(path: Path, start: Workload, gpus: Mapping[str, Gpu]) -> list[Run]:
    """Every run on one GPU whose step time is published.

    Args:
        path: published_runs.csv.
        start: any workload.
        gpus: GPU types by name.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        _run(row, source, start, gpus)
        for source in SOURCES
        for row in rows
        if (row["framework"], row["method"]) == (source.framework, "lora")
        and row["model"] in SHAPES
        and row["lora_targets"] in source.adapters
        and row["it_per_s"]
        and float(row["num_gpus"]) == 1
        and "dora" not in row["notes"]
    ]


def _run(row: Mapping[str, str], source: Source, start: Workload, gpus: Mapping[str, Gpu]) -> Run:
    batch, accumulation = (int(float(row[name])) for name in ("batch_size", "grad_accum"))
    per_s, steps_per_s = float(row["tokens_per_s"]), float(row["it_per_s"])
    tokens = round(per_s / steps_per_s / batch / accumulation)
    w = replace(
        start,
        trainer="trl",
        trainer_version=source.framework,  # logs of another stack say less, as those of another version do
        architecture=SHAPES[row["model"]],
        adapter=replace(source.adapters[row["lora_targets"]], rank=int(float(row["lora_rank"]))),
        gpu=gpus[_GPUS[row["gpu"]]],
        lengths=Lengths(((tokens, _STEPS * batch * accumulation),)),
        max_seq_len=tokens,
        packed=False,
        activation_checkpointing=source.checkpointing,
        batch_size=batch,
        gradient_accumulation_steps=accumulation,
        effective_batch_size=batch * accumulation,
        model_name=row["model"],
    )
    name = f"{row['model'].rsplit('/', 1)[-1]}_{w.gpu.name}_b{batch}x{accumulation}_t{tokens}_r{w.adapter.rank}"
    log = log_of(name, w, 1 / steps_per_s, _STEPS, tokens_per_s=per_s, trainer_version=w.trainer_version)
    return Run(name, w, log, 1 / steps_per_s)
