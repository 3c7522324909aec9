"""`setup_finetune.yaml`: one run as the flat keys that a lab's own set-up script reads."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from runplan import yaml_text

if TYPE_CHECKING:
    from runplan.config import Config
    from runplan.plan import Plan, PlannedRun

SCHEDULERS = {"cosine": "get_cosine_schedule_with_warmup", "none": "get_constant_schedule_with_warmup"}
DATASET_TYPES = {"instruct": "instruct_dataset", "chat": "chat_dataset", "text": "text_completion_dataset"}


def setup_finetune(plan: Plan, run: PlannedRun) -> str:
    """The short input config of a fine-tuned run, as YAML with flat keys.

    Folders end in `/`, because such scripts put a name behind them; `time` is quoted text, `lr` a float. The last
    three keys name what the flat keys alone leave open: model and prompt.
    """
    config = run.config
    values = _names(plan, run) | _training(run) | _job(run)
    values |= {
        "torchtune_model_name": config.model.full_name,
        "model_checkpoint": PurePath(run.model.path).name,
        "prompt": config.prompt,
    }
    return yaml_text.flat(values)


def _folder(path: PurePath | str) -> str:
    text = str(path)
    return text if text.endswith("/") else f"{text}/"


def _names(plan: Plan, run: PlannedRun) -> dict[str, object]:
    data = PurePath(run.dataset.path if run.dataset else run.config.dataset.path or "")
    return {
        "my_wandb_project": run.config.site.wandb_project,
        "my_wandb_run_name": run.name,
        "input_formatting": "",
        "dataset_label": data.stem,
        "dataset_ext": data.suffix,
        "input_dir_base": _folder(data.parent),
        "output_dir_base": _folder(plan.directory),
        "models_dir": _folder(PurePath(run.model.path).parent),
    }


def _training(run: PlannedRun) -> dict[str, object]:
    config = run.config
    return {
        "batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "epochs": config.epochs,
        "lora_rank": config.lora.rank,
        "lr": float(config.optimizer.lr),
        "num_warmup_steps": config.optimizer.num_warmup_steps,
        "lr_scheduler": SCHEDULERS.get(config.optimizer.lr_scheduler, config.optimizer.lr_scheduler),
        "dataset_type": DATASET_TYPES[config.dataset.type.value],
        "max_steps_per_epoch": config.trainer.max_steps_per_epoch,
        "log_every_n_steps": config.trainer.log_every_n_steps,
        "run_val_every_n_steps": _validation_steps(config),
        "system_prompt": config.system_prompt,
        "train_on_input": config.dataset.train_on_input,
    }


def _validation_steps(config: Config) -> int | None:
    """0 turns validation off, as such scripts have it."""
    return config.trainer.run_val_every_n_steps if config.validation else 0


def _job(run: PlannedRun) -> dict[str, object]:
    resources, recipe = run.config.resources, run.recipe
    own = recipe.name if recipe and (recipe.shipped or recipe.custom) else None
    return {
        "time": resources.time,
        "gpus": resources.gpus,
        "conda_env": run.config.site.conda_env or "",
        "account": resources.account,
        "partition": resources.partition,
        "constraint": resources.constraint,
        "custom_recipe": own,
    }
