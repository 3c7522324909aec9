"""What an earlier log of a published run would tell."""

from __future__ import annotations

from typing import Any

from runplan.estimate.workload import Workload
from runplan.priors.record import PriorRun


def log_of(name: str, w: Workload, s_per_step: float, steps: int, **told: Any) -> PriorRun:
    """The record that a log of a run makes.

    Args:
        name: of the run.
        w: what it did.
        s_per_step: what came out.
        steps: optimizer steps that it did.
        told: fields of the record that the source states beside that, or states otherwise.
    """
    whole = {
        "trainer": w.trainer,
        "model": w.model_name,
        "params_b": w.architecture.params / 1e9,
        "lora_rank": w.adapter.rank,
        "lora_targets": (*w.adapter.attn_modules, *(("mlp",) if w.adapter.apply_to_mlp else ())),
        "batch_size": w.batch_size,
        "gradient_accumulation_steps": w.gradient_accumulation_steps,
        "max_seq_len": w.max_seq_len,
        "packed": w.packed,
        "dtype": w.dtype,
        "activation_checkpointing": w.activation_checkpointing,
        "compile": w.compile,
        "gpu": w.gpu.name,
        "num_gpus": w.gpus,
        "steps_done": steps,
        "s_per_step": s_per_step,
    }
    return PriorRun(name, **whole | told)
