"""torchtune 0.6.1's side of a run: the complete finetune.yaml and the files it needs beside it.

Paths inside the run (artifacts, logs, the dataset cache) are relative to the run directory, where the job starts, so
that a group can be moved; models and data are absolute.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runplan.config import Config, DatasetType, MetricLogger
from runplan.facts import Architecture, Finding, ModelFacts, Status
from runplan.files.file_names import MISTRAL_TOKENIZER, PROMPT, RESUME, TRAINER_CONFIG
from runplan.plan import Plan, PlannedRun, Recipe, Rung
from runplan.trainers.builders import LLAMA, builder, builder_problems, checkpoint_type
from runplan.trainers.data_paths import data_files
from runplan.trainers.shipped import header_lines, shipped
from runplan.yaml_text import with_values

if TYPE_CHECKING:
    import jinja2

PLAIN_PROMPT = "{input}"
_CANONICAL_LLAMA3_VOCABULARY = 128256
_CANONICAL_QWEN_VOCABULARY = 151665
_INTERPOLATION = re.compile(r"(\\*)\$\{")


def training_files(plan: Plan, run: PlannedRun, templates: jinja2.Environment) -> dict[str, str]:
    """What training needs, by path in the run: finetune.yaml and its rungs, recipe and prompt where there are any.

    A rung is the same text but for batch, accumulation and activation checkpointing.
    """
    if run.recipe is None or run.model.architecture is None or run.dataset is None:
        raise ValueError(f"{run.name} is not planned: it has no recipe, architecture or dataset")
    parts = {"config": run.config, "recipe": run.recipe, "header": header_lines(plan, run)} | sections(plan, run)
    text = templates.get_template("torchtune/finetune.yaml.j2").render(parts)
    files = {TRAINER_CONFIG: text} | {rung.file: _rung(text, rung) for rung in run.rungs}
    if _has_prompt(run.config):
        prompt = ascii(run.config.prompt)  # a Python literal, whatever the text
        files[PROMPT] = templates.get_template("torchtune/run_prompt.py.j2").render(prompt=prompt)
    tokenizer = MISTRAL_TOKENIZER if run.model.architecture.family == "mistral" else None
    files |= {name: shipped(name) for name in (run.recipe.shipped, resuming_recipe(run), tokenizer) if name}
    if not run.recipe.custom:
        files[RESUME] = shipped(RESUME)
    return files


def _rung(text: str, rung: Rung) -> str:
    """finetune.yaml with other values in a few of its lines: no text of the user's begins a line."""
    values = {
        "batch_size": rung.batch_size,
        "batch_size_val": rung.batch_size,
        "gradient_accumulation_steps": rung.gradient_accumulation_steps,
        "enable_activation_checkpointing": rung.activation_checkpointing,
    }
    return with_values(text, values)


def resuming_recipe(run: PlannedRun) -> str | None:
    """The shipped recipe that continues a run from a saved epoch; None where the run's own does, or none would.

    0.6.1's single-device recipe starts the learning rate and the count of steps anew unless `max_steps_per_epoch` is
    set (`lora_finetune_single_device.py`, the last line of its `if`); ours does not, and without `dataset_val` it is
    otherwise the same recipe.
    """
    recipe = run.recipe
    if recipe is None or recipe.custom or recipe.shipped or recipe.distributed or run.config.epochs < 2:
        return None
    return f"{recipe.name}_val.py"


def launch_command(recipe: Recipe, gpus: int) -> tuple[str, ...]:
    """The words that start the trainer in the run's directory, up to `--config`.

    `tune run` takes its own recipes by name and a file only as a module below the current directory; a user's file
    elsewhere is started the way `tune run` starts its own: by python, or by torchrun on several GPUs.
    """
    workers = ("--nnodes", "1", "--nproc_per_node", str(gpus)) if recipe.distributed else ()
    if recipe.custom and recipe.name.endswith(".py"):
        start = ("torchrun", "--standalone", *workers) if recipe.distributed else ("python",)
        return (*start, recipe.name, "--config")
    return ("tune", "run", *workers, recipe.shipped or recipe.name, "--config")


def start(run: PlannedRun, gpus: int) -> dict[str, Any]:
    """How training is started, and how it is continued from a saved epoch: words up to the configuration's name."""
    recipe = run.recipe
    if recipe is None:
        raise ValueError(f"{run.name} has no recipe")
    resuming = replace(recipe, shipped=resuming_recipe(run) or recipe.shipped)
    return {
        "command": launch_command(recipe, gpus),
        "resuming": () if recipe.custom else launch_command(resuming, gpus),
    }


def sections(plan: Plan, run: PlannedRun) -> dict[str, Any]:
    """The nested parts of finetune.yaml as plain data, every text safe from OmegaConf's own syntax."""
    config, architecture = run.config, run.model.architecture
    if architecture is None:
        raise ValueError(f"{run.name} has no architecture")
    validation = run.recipe is not None and run.recipe.validation
    made = {
        "model": _model(config, architecture),
        "tokenizer": _tokenizer(config, run.model, architecture),
        "checkpointer": _checkpointer(run.model, architecture),
        "dataset": _dataset(run, "train"),
        "dataset_val": _dataset(run, "validation") if validation else None,
        "optimizer": {
            "_component_": "torch.optim.AdamW",
            "fused": config.trainer.device == "cuda",
            "weight_decay": config.optimizer.weight_decay,
            "lr": config.optimizer.lr,
        },
        "lr_scheduler": _lr_scheduler(run),
        "metric_logger": _metric_logger(plan, run),
    }
    return {key: _literal(value) for key, value in made.items()}


def _literal(value: Any) -> Any:
    r"""The same data with every `${` escaped.

    torchtune resolves a component's arguments twice (`OmegaConf.resolve`, then `to_object`), and each time takes
    one layer of escapes away, so that `${x}` has to be written `\\\${x}`.
    """
    if isinstance(value, dict):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    if isinstance(value, str) and "${" in value:
        for _ in range(2):
            value = _INTERPOLATION.sub(lambda found: found[1] * 2 + r"\${", value)
    return value


def _model(config: Config, architecture: Architecture) -> dict[str, Any]:
    chosen, lora = builder(architecture), config.lora
    return {
        "_component_": chosen.component,
        **dict(chosen.arguments),
        "lora_attn_modules": list(lora.attn_modules),
        "apply_lora_to_mlp": lora.apply_to_mlp,
        "apply_lora_to_output": lora.apply_to_output,
        "lora_rank": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "use_dora": lora.use_dora,
        **({"quantize_base": True} if lora.quantize_base else {}),
    }


def _has_prompt(config: Config) -> bool:
    return config.prompt != PLAIN_PROMPT and config.dataset.type is not DatasetType.text


def _tokenizer(config: Config, model: ModelFacts, architecture: Architecture) -> dict[str, Any]:
    folder = model.path
    special = model.tokenizer or "tokenizer.json"
    made: dict[str, Any]
    if architecture.family == "mistral":
        made = {
            "_component_": f"{MISTRAL_TOKENIZER.removesuffix('.py')}.MistralTokenizer",
            "path": f"{folder}/{special}",
        }
        canonical = True
    elif architecture.family not in LLAMA:
        made = {
            "_component_": "torchtune.models.qwen2_5.qwen2_5_tokenizer",
            "path": f"{folder}/vocab.json",
            "merges_file": f"{folder}/merges.txt",
        }
        canonical = architecture.vocab_size >= _CANONICAL_QWEN_VOCABULARY
    elif architecture.family == "llama2":
        made = {"_component_": "torchtune.models.llama2.llama2_tokenizer", "path": f"{folder}/tokenizer.model"}
        canonical = True
    else:
        ranks = model.tiktoken or "original/tokenizer.model"
        made = {"_component_": "torchtune.models.llama3.llama3_tokenizer", "path": f"{folder}/{ranks}"}
        canonical = not _names_special_tokens(architecture)
    if not canonical:
        # the built-in ids of special tokens lie above a smaller vocabulary: an index error in the first step
        made["special_tokens_path"] = f"{folder}/{special}"
    made["max_seq_len"] = config.max_seq_len
    if _has_prompt(config):
        chat = "Llama2Prompt" if architecture.family == "llama2" else "RunPrompt"
        made["prompt_template"] = f"{PROMPT.removesuffix('.py')}.{chat}"
    return made


def _names_special_tokens(architecture: Architecture) -> bool:
    """Whether Llama 3's tokenizer must be told the ids of special tokens: its own lie above a small vocabulary."""
    llama3 = architecture.family in LLAMA and architecture.family != "llama2"
    return llama3 and architecture.vocab_size < _CANONICAL_LLAMA3_VOCABULARY


def model_findings(model: ModelFacts) -> tuple[Finding, ...]:
    """What keeps torchtune from training a model; nothing of one whose architecture is not known."""
    return (*builder_problems(model.architecture), *tokenizer_problems(model)) if model.architecture else ()


def tokenizer_problems(model: ModelFacts) -> tuple[Finding, ...]:
    """What keeps torchtune from making the tokenizer of a model folder: a KeyError as soon as the job starts."""
    lacking = model.lacking_special_tokens
    if not (model.tokenizer and lacking and model.architecture and _names_special_tokens(model.architecture)):
        return ()
    what = (
        f"tokenizer.json names no {', '.join(lacking)}, which torchtune's Llama 3 tokenizer looks up where the "
        f"vocabulary ({model.architecture.vocab_size}) is smaller than Llama 3's ({_CANONICAL_LLAMA3_VOCABULARY})"
    )
    fix = "add them to added_tokens of tokenizer.json, with unused ids below the vocabulary size, or use another model"
    return (Finding(Status.invalid, what, fix),)


def _checkpointer(model: ModelFacts, architecture: Architecture) -> dict[str, Any]:
    return {
        "_component_": "torchtune.training.FullModelHFCheckpointer",
        "checkpoint_dir": model.path,
        "checkpoint_files": list(model.shards) or ["model.safetensors"],
        "recipe_checkpoint": None,
        "output_dir": "artifacts",
        "model_type": checkpoint_type(architecture),
    }


def _dataset(run: PlannedRun, role: str) -> dict[str, Any]:
    """A split of the one JSON file: a key of the file is a `field`; `split` is then always torchtune's own `train`."""
    config, facts = run.config.dataset, run.dataset
    if facts is None:
        raise ValueError(f"{run.name} has no dataset")
    own = {"train": config.train_split, "validation": config.validation_split}[role]
    rows = config.train_rows if role == "train" else None
    part = f"train[:{rows}]" if rows is not None and rows < facts.rows("train") else "train"
    system = run.config.system_prompt or None
    kinds: dict[DatasetType, dict[str, Any]] = {
        DatasetType.instruct: {
            "_component_": "torchtune.datasets.instruct_dataset",
            "column_map": {"input": config.input_column, "output": config.output_column},
            "new_system_prompt": system,
            "train_on_input": config.train_on_input,
        },
        DatasetType.chat: {
            "_component_": "torchtune.datasets.chat_dataset",
            "conversation_column": config.messages_column,
            "conversation_style": "openai",
            "new_system_prompt": system,
            "train_on_input": config.train_on_input,
        },
        # a row cut in two would train on half a text, and instruct rows are not cut either
        DatasetType.text: {
            "_component_": "torchtune.datasets.text_completion_dataset",
            "column": config.text_column,
            "split_across_pack": False,
        },
    }
    return {
        **kinds[config.type],
        "source": "json",
        "data_files": data_files(facts.path),
        # a file that is one list (or JSON lines) has rows, but no key to find them under
        "field": None if facts.splits and not facts.fields else facts.fields.get(role, own),
        "split": part,
        "packed": run.config.packed is True,
        # jobs that start together must not share one cache: they would write it at the same time
        "cache_dir": "artifacts/.datasets",
    }


def _lr_scheduler(run: PlannedRun) -> dict[str, Any]:
    """Cosine with warm-up; `none` is the same schedule with no cycle, which stays at the peak."""
    constant = run.config.optimizer.lr_scheduler == "none"
    warmup = run.config.optimizer.num_warmup_steps or 0
    if constant and "optimizer.num_warmup_steps" in run.composed.estimated:
        warmup = 0
    name = "torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup"
    cycles = {"num_cycles": 0.0} if constant else {}
    return {"_component_": name, "num_warmup_steps": warmup, **cycles}


def _metric_logger(plan: Plan, run: PlannedRun) -> dict[str, Any]:
    kind = run.config.trainer.metric_logger
    if kind is MetricLogger.none:
        return {"_component_": "torchtune.training.metric_logging.StdoutLogger"}
    if kind is MetricLogger.disk:
        return {"_component_": "torchtune.training.metric_logging.DiskLogger", "log_dir": "logs"}
    return {
        "_component_": "torchtune.training.metric_logging.WandBLogger",
        "project": run.config.site.wandb_project or "torchtune",
        "group": plan.group,
        "name": run.name,
        "log_dir": "logs",
        "mode": "offline",
    }
