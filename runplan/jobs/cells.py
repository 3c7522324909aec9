"""What an evaluation cell evaluates and how Inspect is asked to do it. Pure."""

from __future__ import annotations

import hashlib
from typing import Any

from runplan.config import Prompts
from runplan.plan import Cell, PlannedRun
from runplan.trainers.chat import chat_format


def cell_token(run_token: str, cell_dir: str) -> str:
    """What identifies a cell's jobs, from the run's token and the cell's directory; plain characters only."""
    digest = hashlib.sha256(f"{run_token}\0{cell_dir}".encode(errors="surrogatepass")).hexdigest()
    return f"{run_token}-{digest[:8]}"


def cell_facts(run: PlannedRun, cell: Cell) -> dict[str, Any]:
    """The facts of a cell, as `eval.yaml` has them.

    `model_path` is relative to the run where a saved epoch is evaluated, `base_model_path` is where training started.
    `weights` says what is loaded: `base`, `merged` (a whole model) or `adapter` (on top of the base model).
    """
    config = run.config
    if cell.epoch is None:
        model_path, weights = run.model.path, "base"
    else:
        model_path = f"artifacts/epoch_{cell.epoch}"
        weights = "adapter" if config.trainer.save_adapter_weights_only else "merged"
    asks = None
    if config.evaluation.prompts is Prompts.training and run.model.architecture is not None:
        asks = chat_format(run.model.architecture.family, config.dataset.type)
    return {
        "task": cell.task,
        "task_script": cell.script,
        "function": cell.function,
        "epoch": cell.epoch,
        "model": run.config.model.full_name,
        "model_path": model_path,
        "weights": weights,
        "base_model_path": run.model.path,
        "args": dict(cell.args),
        "limit": config.evaluation.limit,
        "temperature": config.evaluation.temperature,
        "max_tokens": config.evaluation.max_tokens,
        "batch_size": config.evaluation.batch_size,
        "gpus": cell.request.gpus,
        "seed": config.seed,
        "system_prompt": config.system_prompt,
        "prompt": config.prompt,
        "chat_template": asks.template if asks else None,
        "stop_token": asks.stop if asks else None,
        "dataset": run.dataset.path if run.dataset is not None else None,
    }


def model_arguments(facts: dict[str, Any]) -> dict[str, Any]:
    """Arguments of Inspect's Hugging Face provider, but for `model_path`, which the job adds.

    Prompts are written as in training, not as the model's own template would. The template already begins with the
    begin-of-text token; the tokenizer must not add a second one. Greedy decoding is `do_sample: false`: a temperature
    of 0 is refused by transformers. On several GPUs `device` is what transformers calls `device_map`.
    """
    arguments: dict[str, Any] = {"tokenizer_call_args": {"add_special_tokens": False}}
    if facts["temperature"] == 0:
        arguments["do_sample"] = False
    if facts["gpus"] > 1:
        arguments["device"] = "auto"
    if facts["chat_template"] is not None:
        arguments["chat_template"] = facts["chat_template"]
    return arguments


def inspect_options(facts: dict[str, Any]) -> tuple[str, ...]:
    """Options of `inspect eval` that hold for this cell; paths and arguments are added by the job.

    The provider generates as many samples together as there are connections. A system prompt that the task takes as
    an argument is not given twice.
    """
    values = {
        "--limit": facts["limit"],
        "--max-tokens": facts["max_tokens"],
        "--max-connections": facts["batch_size"],
        "--temperature": facts["temperature"] or None,
        "--seed": facts["seed"],
        "--system-message": None if "system_prompt" in facts["args"] else facts["system_prompt"] or None,
    }
    return tuple(f"{key}={value}" for key, value in values.items() if value is not None)
