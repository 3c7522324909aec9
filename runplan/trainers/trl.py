"""TRL 1.16.0's side of a run: finetune.yaml as `trl sft --config` takes it, and the files it needs beside it.

`rows.py` turns the data file into the conversations that finetune.yaml's `dataset_name` means, `chat_template.jinja`
writes them as evaluation asks them, and `sft.py` trains as `trl sft` does, with every epoch's adapters in its place.
Paths inside the run are relative to the run directory, where the job starts; models and data are absolute.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runplan.config import Config, DatasetType, Dtype, MetricLogger
from runplan.files.file_names import RESUME, TRAINER_CONFIG
from runplan.plan import Plan, PlannedRun, Rung
from runplan.trainers.chat import training_template
from runplan.trainers.shipped import header_lines, shipped
from runplan.yaml_text import with_values

if TYPE_CHECKING:
    import jinja2

PROGRAM = "sft.py"
ROWS_PROGRAM, ROWS_FILE, ROWS_FOLDER = "rows.py", "rows.json", "rows"
TEMPLATE_FILE = "chat_template.jinja"
MODULES = {"q_proj": "q_proj", "k_proj": "k_proj", "v_proj": "v_proj", "output_proj": "o_proj"}
"""Attention projections as `lora.attn_modules` names them, and as Hugging Face's models do."""
MLP_MODULES = ("gate_proj", "up_proj", "down_proj")
_FORMATS = {Dtype.bf16: "bfloat16", Dtype.fp32: "float32"}


def training_files(plan: Plan, run: PlannedRun, templates: jinja2.Environment) -> dict[str, str]:
    """What training needs, by path in the run: finetune.yaml and its rungs, chat template, rows and programs.

    A rung is the same text but for batch, accumulation and gradient checkpointing.
    """
    if run.recipe is None or run.model.architecture is None or run.dataset is None:
        raise ValueError(f"{run.name} is not planned: it has no recipe, architecture or dataset")
    text = templates.get_template("trl/finetune.yaml.j2").render(
        header=header_lines(plan, run), sections=sections(plan, run)
    )
    files = {TRAINER_CONFIG: text} | {rung.file: _rung(text, rung) for rung in run.rungs}
    files[TEMPLATE_FILE] = training_template(run.model.architecture.family, run.config.dataset.type)
    files[ROWS_FILE] = json.dumps(rows_asked(run), indent=1) + "\n"
    return files | {name: shipped(name) for name in (PROGRAM, ROWS_PROGRAM, RESUME)}


def start(run: PlannedRun, gpus: int) -> dict[str, Any]:
    """How training is started: the words up to the configuration's name; one process a GPU.

    Continuing a saved epoch is the same program with another argument, which the job's script adds.
    """
    several = run.recipe is not None and run.recipe.distributed
    first = ("torchrun", "--standalone", "--nproc_per_node", str(gpus)) if several else ("python",)
    command = (*first, PROGRAM, "--config")
    return {
        "command": command,
        "resuming": command,
        "on_gpu": run.config.trainer.device == "cuda",
        "distributed": several,
        "metrics": run.config.trainer.metric_logger is not MetricLogger.none,
        "version": run.config.trainer.version,
    }


def _rung(text: str, rung: Rung) -> str:
    """finetune.yaml with other values in a few of its lines: no text of the user's begins a line."""
    values = {
        "per_device_train_batch_size": rung.batch_size,
        "per_device_eval_batch_size": rung.batch_size,
        "gradient_accumulation_steps": rung.gradient_accumulation_steps,
        "gradient_checkpointing": rung.activation_checkpointing,
    }
    return with_values(text, values)


def target_modules(config: Config) -> list[str]:
    """The adapted layers by Hugging Face's names."""
    attention = [MODULES[name] for name in config.lora.attn_modules]
    return attention + (list(MLP_MODULES) if config.lora.apply_to_mlp else [])


def sections(plan: Plan, run: PlannedRun) -> tuple[dict[str, Any], ...]:
    """The arguments of `trl sft`, in the groups that finetune.yaml shows them in."""
    config = run.config
    return (_model(run), _data(run), _loop(config), _optimizer(run), _validation(run), _log(plan, run))


def _model(run: PlannedRun) -> dict[str, Any]:
    config = run.config
    return {
        "model_name_or_path": run.model.path,
        "dtype": _FORMATS[config.dtype or Dtype.bf16],
        "attn_implementation": "sdpa",
        "use_peft": True,
        "lora_r": config.lora.rank,
        "lora_alpha": int(config.lora.alpha if config.lora.alpha is not None else 2 * config.lora.rank),
        "lora_dropout": config.lora.dropout,
        "lora_target_modules": target_modules(config),
    }


def _data(run: PlannedRun) -> dict[str, Any]:
    config = run.config
    masked = config.dataset.type is not DatasetType.text and not config.dataset.train_on_input
    return {
        "dataset_name": ROWS_FOLDER,
        "dataset_train_split": "train",
        "dataset_test_split": "validation",
        "chat_template_path": TEMPLATE_FILE,
        "max_length": config.max_seq_len,
        "packing": config.packed is True,
        "eval_packing": False,
        "assistant_only_loss": masked,
    }


def _loop(config: Config) -> dict[str, Any]:
    return {
        "output_dir": "artifacts",
        "seed": config.seed,
        "train_sampling_strategy": "random" if config.trainer.shuffle else "sequential",
        "num_train_epochs": config.epochs,
        "max_steps": -1 if config.trainer.max_steps_per_epoch is None else config.trainer.max_steps_per_epoch,
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "gradient_checkpointing": bool(config.activation_checkpointing),
        "bf16": config.dtype is not Dtype.fp32,
        "use_cpu": config.trainer.device == "cpu",
        "save_strategy": "epoch",
    }


def _optimizer(run: PlannedRun) -> dict[str, Any]:
    """AdamW with its schedule; no clipping is a norm of 0 in TRL's own words."""
    config = run.config
    constant = config.optimizer.lr_scheduler == "none"
    warmup = config.optimizer.num_warmup_steps or 0
    if constant and "optimizer.num_warmup_steps" in run.composed.estimated:
        warmup = 0
    return {
        "optim": "adamw_torch_fused" if config.trainer.device == "cuda" else "adamw_torch",
        "learning_rate": float(config.optimizer.lr),
        "weight_decay": float(config.optimizer.weight_decay),
        "lr_scheduler_type": "constant_with_warmup" if constant else "cosine",
        "warmup_steps": warmup,
        "max_grad_norm": float(config.optimizer.clip_grad_norm or 0.0),
    }


def _validation(run: PlannedRun) -> dict[str, Any]:
    if run.recipe is None or not run.recipe.validation:
        return {"eval_strategy": "no"}
    return {"eval_strategy": "steps", "eval_steps": run.config.trainer.run_val_every_n_steps}


def _log(plan: Plan, run: PlannedRun) -> dict[str, Any]:
    wandb = run.config.trainer.metric_logger is MetricLogger.wandb
    return {
        "logging_strategy": "steps",
        "logging_steps": run.config.trainer.log_every_n_steps,
        "report_to": "wandb" if wandb else "none",
        "run_name": f"{plan.group}/{run.name}",
    }


def rows_asked(run: PlannedRun) -> dict[str, Any]:
    """What `rows.py` reads and what it puts around the texts."""
    config, facts = run.config.dataset, run.dataset
    if facts is None:
        raise ValueError(f"{run.name} has no dataset")
    roles = ["train", *(["validation"] if run.recipe is not None and run.recipe.validation else [])]
    own = {"train": config.train_split, "validation": config.validation_split}
    one_list = bool(facts.splits) and not facts.fields
    return {
        "source": facts.path,
        "type": config.type.value,
        "columns": {
            "input": config.input_column,
            "output": config.output_column,
            "messages": config.messages_column,
            "text": config.text_column,
        },
        "system_prompt": run.config.system_prompt,
        "prompt": run.config.prompt,
        "splits": {
            role: {
                "field": None if one_list else facts.fields.get(role, own[role]),
                "rows": config.train_rows if role == "train" else None,
            }
            for role in roles
        },
    }
