"""What a run of TRL, or of HF Trainer, was asked to do: its arguments, as printed or from a file beside the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runplan.priors.names import model_from_path, params_b

SIGN = b"Running SFTTrainer with resolved config"
"""What our job of TRL prints first (`recipes/sft.py`)."""
OUR_ROWS = "rows"
"""What `dataset_name` is in our own configurations: the data file is named beside them."""
_MLP = {"gate_proj", "up_proj", "down_proj"}
_FORMATS = {"bfloat16": "bf16", "float32": "fp32", "float16": "fp16"}
_NAMES = {"o_proj": "output_proj", "lm_head": "output"}


def is_trl(flat: Mapping[str, Any]) -> bool:
    """Whether a config holds arguments of HF Trainer's kind."""
    return "per_device_train_batch_size" in flat or "model_name_or_path" in flat


def trl_fields(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a record from the arguments of `trl sft`; what they do not say is left out."""
    path = str(flat.get("model_name_or_path") or "").rstrip("/")
    model = model_from_path(path) or path.rsplit("/", 1)[-1] or None
    dataset = flat.get("dataset_name")
    values = {
        "model": model,
        "params_b": params_b(model),
        "lora_rank": _whole(flat.get("lora_r")),
        "lora_alpha": float(alpha) if isinstance(alpha := flat.get("lora_alpha"), int | float) else None,
        "lora_targets": _targets(flat.get("lora_target_modules")),
        "batch_size": _whole(flat.get("per_device_train_batch_size")),
        "gradient_accumulation_steps": _whole(flat.get("gradient_accumulation_steps")),
        "max_seq_len": _whole(flat.get("max_length")),
        "packed": _truth(flat.get("packing")),
        "dtype": _FORMATS.get(str(flat.get("dtype"))),
        "activation_checkpointing": _truth(flat.get("gradient_checkpointing")),
        "compile": _truth(flat.get("torch_compile")),
        "dataset": dataset if isinstance(dataset, str) and dataset != OUR_ROWS else None,
        "epochs": _whole(flat.get("num_train_epochs")),
        "save_adapter_weights_only": True if flat.get("use_peft") is True else None,
    }
    if flat.get("use_cpu") is True:
        values |= {"gpu": "cpu", "device": "cpu", "num_gpus": 0}
    return {key: value for key, value in values.items() if value is not None}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _truth(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _targets(modules: Any) -> tuple[str, ...] | None:
    """Adapted modules by torchtune's names, as all records have them."""
    if not isinstance(modules, list):
        return None
    return adapted([str(name) for name in modules])


def adapted(modules: Sequence[str]) -> tuple[str, ...]:
    """Names of adapted modules as torchtune has them; `mlp` for its three.

    >>> adapted(["q_proj", "o_proj", "up_proj", "down_proj"])
    ('q_proj', 'output_proj', 'mlp')
    """
    names = [_NAMES.get(name, name) for name in modules]
    return (*(name for name in names if name not in _MLP), *(["mlp"] if _MLP & set(names) else []))
