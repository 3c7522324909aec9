"""What trainers save beside their logs of how they trained: PEFT's `adapter_config.json`, ms-swift's `args.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from runplan.priors.names import model_from_path, params_b
from runplan.priors.remarks import held_in_four_bits
from runplan.priors.trl import adapted, trl_fields

_MODULES = re.compile(r"\((?:\?:)?(\w+(?:\|\w+)*)\)+(?:\.\*\??)?\)*\$?\Z")
"""The alternatives that an expression for adapted modules ends in."""
_MODULE = re.compile(r"\w+_proj|\w*qkv\w*|fc[12]|lm_head")
_SEPARATE = re.compile(r"(?:meta_)?llama|qwen|mistral|gemma|tinyllama|code_?llama", re.IGNORECASE)
"""Architectures whose layers have seven products, each with weights of its own."""
_ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_TUNED = ("train_type", "tuner_type", "sft_type")
"""How versions of ms-swift call the kind of training."""
_BATCH = ("per_device_train_batch_size", "batch_size")
"""And the rows of a batch, before 3.0."""
_SETTINGS = ("lora_rank", "lora_alpha", "params_b")
_ROUNDED = 0.02
"""Of a model's size: a name tells two digits, and a count also what was added."""
_ENOUGH = 0.94
"""Of the epochs, as some versions leave out each one's incomplete step."""
_MEAN_STEPS = 100
"""After which the first step is little of the whole."""
_OF_MODEL = ("model", "params_b", "quantize_base")


def adapter_fields(text: bytes) -> dict[str, Any]:
    """Fields of a record from the configuration that PEFT or torchtune saves with LoRA adapters.

    A rank or alpha that differs from module to module is none; an expression for modules counts where it names them.

    >>> adapter_fields(b'{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["v_proj", "q_proj"]}')
    {'lora_rank': 8, 'lora_alpha': 16.0, 'lora_targets': ('q_proj', 'v_proj')}
    """
    saved = _object(text)
    if saved.get("peft_type") != "LORA":
        return {}
    rank = None if saved.get("rank_pattern") else saved.get("r")
    alpha = None if saved.get("alpha_pattern") else saved.get("lora_alpha")
    base = model_from_path(path) if isinstance(path := saved.get("base_model_name_or_path"), str) else None
    fields = trl_fields({"lora_r": rank, "lora_alpha": alpha, "model_name_or_path": base})
    if held_in_four_bits(base):
        fields["quantize_base"] = True
    if targets := _targets(saved.get("target_modules"), fields.get("model")):
        fields["lora_targets"] = targets
    return fields


def swift_fields(text: bytes) -> dict[str, Any]:
    """Fields of a record from the arguments that ms-swift saves beside `logging.jsonl`; of other programs' nothing.

    Versions before 3.0 call some of them otherwise.

    Processes are told where there are several; a single one may hold a model on several GPUs.
    """
    saved = _object(text)
    if not any(name in saved for name in _TUNED) or not any(name in saved for name in _BATCH):
        return {}
    kind = next(saved[name] for name in _TUNED if name in saved)
    epochs, steps = saved.get("num_train_epochs"), saved.get("max_steps")
    said = {
        **saved,
        "model_name_or_path": saved.get("model") or saved.get("model_id_or_path"),
        "per_device_train_batch_size": next((saved[name] for name in _BATCH if saved.get(name)), None),
        "lora_r": saved.get("lora_rank") if kind == "lora" else None,
        "lora_alpha": saved.get("lora_alpha") if kind == "lora" else None,
        "dtype": str(saved.get("torch_dtype")).removeprefix("torch."),
        "dataset_name": _only(saved.get("dataset")),
        "num_train_epochs": int(epochs) if isinstance(epochs, float) and epochs.is_integer() else epochs,
        "lora_target_modules": None,
    }
    if isinstance(steps, int) and steps > 0:
        said["num_train_epochs"] = None
    fields = trl_fields(said)
    modules = saved.get("target_modules") or saved.get("lora_target_modules")
    modules = "all-linear" if modules in ("ALL", ["ALL"]) else modules
    if kind == "lora" and (targets := _targets(modules, fields.get("model"))):
        fields["lora_targets"] = targets
    processes = saved.get("global_world_size") or saved.get("world_size")
    if isinstance(processes, int) and processes > 1:
        fields["num_gpus"] = processes
    if 4 in (saved.get("quant_bits"), saved.get("quantization_bit")):
        fields["quantize_base"] = True
    return fields


def unlike(key: str, said: Mapping[str, Any], saved: Mapping[str, Any]) -> bool:
    """Whether two sources tell one thing differently; sizes are rounded in one and counted in the other.

    >>> unlike("params_b", {"params_b": 1.2358144}, {"params_b": 1.236}), unlike("lora_rank", {"lora_rank": 8}, {})
    (False, False)
    """
    if key not in said or key not in saved:
        return False
    one, other = said[key], saved[key]
    return bool(abs(one / other - 1) > _ROUNDED if key == "params_b" and other else one != other)


def results_fields(text: bytes) -> dict[str, Any]:
    """What HF Trainer's `train_results.json` or `all_results.json` says of the whole training, as `results`.

    >>> results_fields(b'{"epoch": 3.0, "train_loss": 0.9, "train_runtime": 5980.7}')
    {'results': (5980.7, 3.0)}
    """
    saved = _object(text)
    seconds, epoch = saved.get("train_runtime"), saved.get("epoch")
    if not isinstance(seconds, int | float) or not isinstance(epoch, int | float) or seconds <= 0:
        return {}
    return {"results": (float(seconds), float(epoch))}


def with_results(said: Mapping[str, Any], results: tuple[float, float]) -> dict[str, Any]:
    """A record of a run that ended with what its results say of time and, where it was not stopped early, of speed."""
    if said.get("state") != "completed" or said.get("wall_s"):
        return dict(said)
    seconds, epoch = results
    more: dict[str, Any] = {"wall_s": seconds}
    steps, epochs = said.get("steps_total"), said.get("epochs")
    if steps and epochs and epoch >= _ENOUGH * epochs:
        more["steps_done"] = steps
        if steps >= _MEAN_STEPS and not said.get("s_per_step"):
            more |= {"s_per_step": seconds / steps, "it_per_s": steps / seconds}
    return {**said, **more}


def with_adapter(said: Mapping[str, Any], adapter: Mapping[str, Any]) -> dict[str, Any]:
    """A record with what only the adapters saved beside it say; without, where they are those of another run.

    They are, where the record says another size, rank or alpha, or trains whole models.
    """
    foreign = any(unlike(key, said, adapter) for key in _SETTINGS)
    if not adapter or foreign or "trainer" not in said or str(said.get("recipe") or "").startswith("full"):
        return dict(said)
    named = _OF_MODEL if "model" in said else ()
    return {**{key: value for key, value in adapter.items() if key not in named}, **said}


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _only(names: Any) -> str | None:
    """The only dataset of a list, without the number of rows taken from it."""
    return names[0].partition("#")[0] if isinstance(names, list) and len(names) == 1 and _is_text(names[0]) else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _targets(modules: Any, model: str | None) -> tuple[str, ...]:
    """Adapted modules by torchtune's names, in the order of a layer: PEFT saves a set."""
    if modules in ("all-linear", ["all-linear"]):
        named = [*_ALL_LINEAR] if _SEPARATE.match(model or "") and params_b(model) is not None else []
    elif isinstance(modules, str):
        ends = _MODULES.search(modules)
        named = ends[1].split("|") if ends else []
    elif isinstance(modules, list):
        named = [str(name).rsplit(".", 1)[-1] for name in modules]
    else:
        named = []
    if not all(_MODULE.fullmatch(name) for name in named):
        return ()
    order = {name: at for at, name in enumerate(_ALL_LINEAR)}
    return adapted(sorted(set(named), key=lambda name: (order.get(name, len(order)), name)))
