"""What a run was asked to do: from the config a trainer prints, a sibling YAML file, or the command line in the log."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runplan.priors.flat import Flat, flat_yaml, plain, yaml_value
from runplan.priors.letters import LINE_PREFIX
from runplan.priors.names import model_from_builder, model_from_config_name, model_from_path, params_b
from runplan.priors.spoken import Span, Word, last_place, spoken_spans
from runplan.priors.trl import is_trl, trl_fields

_BLOCK_END = re.compile(rb"\n\r?\n|\r[^\n]|\n(?:[A-Z]+:torch|Setting manual|Writing logs)")
_OTHER_ENDS = (b"\r", b":torch", b"\nSetting manual", b"\nWriting logs")
"""One of them is part of every other such end than an empty line."""
_LONGEST_CONFIG = 1 << 16
_CONFIG = b"with resolved config"
_ECHOED_BYTES = 1 << 13
_SPOKEN_CONFIG = Word(_CONFIG, 0)
_RECIPE = re.compile(rb"Running (\w+) with resolved config:?[ \t]*(?:\r?\n[ \t]*(?=\r?\n))*(?:\r?\n)?")
_SHOWN = (b"_component_: torchtune.", b"'_component_': 'torchtune.")
_STARTED = re.compile(rb"^[^\r\n]{0,40}(?:[A-Z]*:torchtune\.|Setting manual seed|Writing logs)", re.MULTILINE)
_CONTINUED = re.compile(rb"\\[ \t]*\r?\n" + LINE_PREFIX)
_COMMAND = re.compile(rb"^[^\r\n#]{0,300}?\btune (?:run (?=[\w./-])|(?=--nn))", re.MULTILINE)
_OVERRIDE = re.compile(rb"(?:^|\s)([a-z_][\w.]*)=(\"[^\"]*\"|'[^']*'|\S+)")
_LIST = re.compile(rb"[\"'](\[.*\])[\"']\Z")
"""Quoted for the shell."""

DISK_LOG = re.compile(rb"Writing logs to ([^\r\n]+?(log_\d+\.txt))")
AFTERWARDS = frozenset(
    {
        *("InferenceRecipe", "EleutherEvalRecipe", "QuantizationRecipe"),
        *("generate", "generate_v2", "eleuther_eval", "quantize"),
    }
)
"""Recipes of torchtune that train nothing: as they print themselves, and as the command names them."""
_A_RECIPE = re.compile(r"[\w./-]*[A-Za-z]_[A-Za-z][\w./-]*(?<!_)|[\w./-]+\.py|generate|quantize")
"""A name of several words, or a file: no time or host before a line, nor the half of one that a terminal broke."""
_LONGEST_NAME = 80
_RECIPES = {
    "SFTTrainer": "sft",
    "LoRAFinetuneRecipeSingleDevice": "lora_finetune_single_device",
    "LoRAFinetuneRecipeDistributed": "lora_finetune_distributed",
    "FullFinetuneRecipeSingleDevice": "full_finetune_single_device",
    "FullFinetuneRecipeDistributed": "full_finetune_distributed",
    "LoRADPORecipeSingleDevice": "lora_dpo_single_device",
    "LoRADPORecipeDistributed": "lora_dpo_distributed",
    "FullDPORecipeDistributed": "full_dpo_distributed",
    "KDRecipeSingleDevice": "knowledge_distillation_single_device",
    "KDRecipeDistributed": "knowledge_distillation_distributed",
    "QATRecipeDistributed": "qat_distributed",
    "QATRecipeSingleDevice": "qat_single_device",
    "PPOFullFinetuneRecipeSingleDevice": "ppo_full_finetune_single_device",
    "QATLoRAFinetuneRecipeDistributed": "qat_lora_finetune_distributed",
}

# Folders that say which stage of training a checkpoint is, not which model.
_STAGE = re.compile(r"(?:epoch|step|checkpoint|ckpt)[-_]?\d*|original|model|output|artifacts|\.*|", re.IGNORECASE)


def last_attempt(data: bytes) -> tuple[bytes, list[Span], int]:
    """The text of the last training, where it speaks, and where it begins: a retried job appends to the same log.

    What a job does with the trained model (evaluate, generate, quantise) prints a config of its own and is cut off.
    """
    spans = spoken_spans(data)
    last, end = -1, len(data)
    for at in _configs(data, spans):
        if (
            data[max(0, at - _LONGEST_NAME) : at].rstrip().rpartition(b" ")[2].decode("utf-8", "replace")
            not in AFTERWARDS
        ):
            last = at
            break
        end = _line_start(data, at)
    if (last < 0 or data.find(_CONFIG) == last) and end == len(data):
        return data, spans, 0
    start = 0 if last < 0 or data.find(_CONFIG) == last else _command_start(data, _line_start(data, last))
    rest = data[start:end]
    return rest, spoken_spans(rest), start


def _configs(data: bytes, spans: Sequence[Span]) -> Iterator[int]:
    """Where printed configs begin, the last first."""
    for start, end in reversed(spans):
        at = last_place(data, _SPOKEN_CONFIG, start, end)
        while at >= 0:
            yield at
            at = last_place(data, _SPOKEN_CONFIG, start, at)


def _command_start(data: bytes, start: int) -> int:
    """Where the command of an attempt begins, which a job's script echoes before the config that begins at `start`."""
    at = data.rfind(b"tune run ", max(0, start - _ECHOED_BYTES), start)
    if at < 0 or any(data.find(sign, at, start) >= 0 for sign in (_CONFIG, b"|Loss:", b"Traceback")):
        return start
    return _line_start(data, at)


def _line_start(data: bytes, at: int) -> int:
    return max(data.rfind(b"\n", 0, at), data.rfind(b"\r", 0, at)) + 1


def printed_config(data: bytes) -> tuple[str | None, Flat]:
    """Recipe and flat config of the block that torchtune prints first; `(None, {})` where no config is shown."""
    match = _RECIPE.search(data[: 1 << 18]) if data.find(_CONFIG) >= 0 else None
    if not match:
        # A config that the job itself printed, or a log without its first lines.
        shown = min((at for sign in _SHOWN if (at := data.find(sign)) >= 0), default=-1)
        started = _STARTED.search(data, shown) if shown >= 0 else None
        end = started.start() if started else shown + (1 << 14)
        return None, _without_open_list(flat_yaml(data[:end]), open_=end >= len(data)) if shown >= 0 else {}
    name = match[1].decode()
    body = match.end()
    end = _block_end(data, body)
    flat = _without_open_list(flat_yaml(data[body:end]), open_=end >= len(data))
    return _RECIPES.get(name, name), flat


def _without_open_list(flat: Flat, *, open_: bool) -> Flat:
    """A config without a list that it ends with where its text breaks off: other items may be still to come."""
    if open_ and flat and isinstance(flat[last := next(reversed(flat))], list):
        del flat[last]
    return flat


def _block_end(data: bytes, start: int) -> int:
    """Where a printed config ends: at an empty line, a redrawn one, or a line that a logger or torchtune begins."""
    end = data.find(b"\n\n", start, start + _LONGEST_CONFIG)
    if end >= 0 and all(data.find(sign, start, end + 1) < 0 for sign in _OTHER_ENDS):
        return end
    match = _BLOCK_END.search(data, start, start + _LONGEST_CONFIG)
    return match.start() if match else start + (1 << 14)


def command_line(data: bytes) -> tuple[Flat, dict[str, Any]]:
    """Overrides of a `tune run` line in the log, and the fields of the record that the line says."""
    match = _COMMAND.search(data) if data.find(b"tune ") >= 0 else None
    if not match:
        return {}, {}
    text = _CONTINUED.sub(b" ", data[match.end() : match.end() + 4096])
    line = re.split(rb"[\r\n]", text, maxsplit=1)[0]
    overrides = {key.decode(): plain(yaml_value(_LIST.sub(rb"\1", value))) for key, value in _OVERRIDE.findall(line)}
    options, recipe = _options(line.decode("utf-8", "replace").split())
    fields: dict[str, Any] = {
        "recipe": recipe,
        "model": model_from_config_name(options.get("config")),
        "num_gpus": _processes(options),
        "quantize_base": True if "_qlora" in options.get("config", "").rsplit("/", 1)[-1] else None,
    }
    return overrides, {key: value for key, value in fields.items() if value is not None}


def _options(words: list[str]) -> tuple[dict[str, str], str | None]:
    """Options of a launch command, dashes as underscores, and its first plain word: the recipe."""
    options: dict[str, str] = {}
    recipe = None
    rest = iter(words)
    for word in rest:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            options[name.replace("-", "_")] = value if equals else next(rest, "")
        elif recipe is None and _A_RECIPE.fullmatch(word):
            recipe = word.rsplit("/", 1)[-1].removesuffix(".py")
    return options, recipe


def _processes(options: Mapping[str, str]) -> int | None:
    each, nodes = options.get("nproc_per_node", ""), options.get("nnodes", "1")
    return int(each) * int(nodes) if each.isdigit() and nodes.isdigit() else None


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _truth(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def torchtune_fields(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a record from torchtune's config; what it does not say is left out."""
    component = _text(flat.get("model._component_"))
    builder = model_from_builder(component)
    by_path = model_from_path(_text(flat.get("checkpointer.checkpoint_dir")))
    compiled = flat.get("compile")
    seq_len = flat.get("tokenizer.max_seq_len", flat.get("dataset.max_seq_len"))
    logger = _text(flat.get("metric_logger._component_"))
    fields = {
        "metric_logger": logger.rsplit(".", 1)[-1] if logger else None,
        "pauses": "run_val_every_n_steps" in flat or "save_every_n_steps" in flat or None,
        "model": by_path or builder or _folder(flat) or (component.rsplit(".", 1)[-1] if component else None),
        "params_b": params_b(builder) or params_b(by_path),
        "lora_rank": _integer(flat.get("model.lora_rank")),
        "lora_alpha": _float(flat.get("model.lora_alpha")),
        "lora_targets": _targets(flat),
        "batch_size": _integer(flat.get("batch_size")),
        "gradient_accumulation_steps": _integer(flat.get("gradient_accumulation_steps")),
        "max_seq_len": _integer(seq_len),
        "packed": _truth(flat.get("dataset.packed")),
        "dtype": _text(flat.get("dtype")),
        "activation_checkpointing": _truth(flat.get("enable_activation_checkpointing")),
        "compile": compiled if isinstance(compiled, bool) else None,
        "dataset": _dataset(flat),
        "epochs": _integer(flat.get("epochs")),
        "save_adapter_weights_only": _truth(flat.get("save_adapter_weights_only")),
        "quantize_base": _quantised(flat, component),
    }
    return {key: value for key, value in fields.items() if value is not None}


def _quantised(flat: Mapping[str, Any], component: str | None) -> bool | None:
    """Whether a LoRA builder quantises: by its argument, else by its name, whose default for `lora_…` is no."""
    said = _truth(flat.get("model.quantize_base"))
    builder = (_text(flat.get("model")) or component or "").rsplit(".", 1)[-1]  # `model=…` replaces the config's own
    if builder.startswith("qlora_"):
        return said is not False
    return bool(said) if builder.startswith("lora_") else said


def _folder(flat: Mapping[str, Any]) -> str | None:
    """The checkpoint's folder, for a model whose builder takes its sizes from the config."""
    name = (_text(flat.get("checkpointer.checkpoint_dir")) or "").rstrip("/").rsplit("/", 1)[-1]
    return None if _STAGE.fullmatch(name) else name


def _targets(flat: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Adapted modules; `mlp` and `output` as torchtune's switches name them."""
    modules = flat.get("model.lora_attn_modules")
    if not isinstance(modules, list):
        return None
    names = [str(name) for name in modules if name is not None]
    names += ["mlp"] if flat.get("model.apply_lora_to_mlp") is True else []
    names += ["output"] if flat.get("model.apply_lora_to_output") is True else []
    return tuple(dict.fromkeys(names))  # where two ranks printed the list


def _dataset(flat: Mapping[str, Any]) -> str | None:
    """The data file where there is one, else the dataset's label, source or builder."""
    files = flat.get("dataset.data_files")
    source = _text(files) or (_text(files[0]) if isinstance(files, list) and files else None)
    if source:
        return source
    component = _text(flat.get("dataset._component_"))
    said = _text(flat.get("dataset_label")) or _text(flat.get("dataset.source"))
    return said or (component.rsplit(".", 1)[-1] if component else None)


def trainer_fields(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a record from a trainer's config, whichever trainer's it is."""
    return trl_fields(flat) if is_trl(flat) else torchtune_fields(flat)


def setup_fields(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a record from a lab's flat `setup_finetune.yaml`."""
    fields = {
        "batch_size": _integer(flat.get("batch_size")),
        "gradient_accumulation_steps": _integer(flat.get("gradient_accumulation_steps")),
        "epochs": _integer(flat.get("epochs")),
        "lora_rank": _integer(flat.get("lora_rank")),
        "num_gpus": _integer(flat.get("gpus")),
        "dataset": _text(flat.get("dataset_label")),
    }
    return {key: value for key, value in fields.items() if value is not None}


def plan_fields(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a record from a run's `.hydra/config.yaml`, as far as it says them without being resolved."""
    fields = {
        "model": _text(flat.get("model.full_name")),
        "params_b": _float(flat.get("model.params_b")),
        "lora_rank": _integer(flat.get("lora.rank")),
        "quantize_base": _truth(flat.get("lora.quantize_base")),
        "batch_size": _integer(flat.get("batch_size")),
        "gradient_accumulation_steps": _integer(flat.get("gradient_accumulation_steps")),
        "epochs": _integer(flat.get("epochs")),
        "max_seq_len": _integer(flat.get("max_seq_len")),
        "gpu": _text(flat.get("resources.gpu")),
        "num_gpus": _integer(flat.get("resources.gpus")),
        "dtype": _text(flat.get("dtype")),
        "trainer": _text(flat.get("trainer.name")),
        "trainer_version": _text(flat.get("trainer.version")),
    }
    return {key: value for key, value in fields.items() if value is not None and "${" not in str(value)}
