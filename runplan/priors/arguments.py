"""What a run of HF Trainer and its kin was asked to do: arguments that its log shows, however they were printed.

Command lines (`--lora_r 8`), configs (`lora_r: 8`), dicts (`"lora_r": 8`) and objects (`lora_r=8`) are read alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from runplan.priors.letters import LINE_PREFIX
from runplan.priors.names import model_from_path, params_b
from runplan.priors.ranks import process_count
from runplan.priors.remarks import held_in_four_bits, remarked_fields
from runplan.priors.trl import adapted

_AFTER = re.compile(rb"['\"]?[ \t]?[:=](?:[ \t]?['\"]?|\r?\n%b *['\"])([\w./@+-]+)" % LINE_PREFIX)
_AFTER_OPTION = re.compile(rb"(?:[ =]+|['\"], ['\"]|\s*\\\r?\n\s*)['\"]?([\w./@+-]+|\\)")
_OPTION = b"--"
_HYPHENS = re.compile(rb"--[a-z]+(?:-[a-z0-9]+)+(?=[\s='\",])")
"""Options may be written so; HF's parser reads both."""
_ADVICE = (b"setting `", b"set `", b"use `", b"pass `")
"""Before what a warning only proposes."""
_CACHED = re.compile(rb"/models--[\w.-]+?--([\w.-]+)/")
_STEP = re.compile(r"global_?step\d+")
"""A checkpoint of DeepSpeed's; what stands above is not always the model."""
_STAGE = re.compile(r"(?:checkpoint|epoch|step)[-_]?\d*|model|output|final|latest|merged", re.IGNORECASE)
_MPI = re.compile(rb"\bmpi(?:exec|run) [^\r\n]{0,120}?--?np?[= ](\d{1,4})\b")
_PROCESSES = re.compile(rb"--(?:nproc[-_]per[-_]node|(num_processes|num_gpus))[= ](\d{1,4})\b")
_SWIFT = re.compile(rb"(?<![\w$-])NPROC_PER_NODE=(\d{1,4})(?=\s)")
"""ms-swift's environment."""
_NODES = re.compile(rb"--nnodes[= ](\d{1,4})\b")
_OWN_LINE = re.compile(
    rb"^" + LINE_PREFIX + rb"[ \t]*(?:model_max_length|(?<!_)max_length)=(\d{1,7}),?[ \t]*\r?$", re.MULTILINE
)
"""As TRL's and FastChat's arguments are printed as objects; of a tokenizer, `model_max_length` stands within a line."""
_TARGETS = re.compile(
    rb"\b(?:lora_)?[Tt]arget[_ ]modules['\"]?[ \t]?[:=][ \t]?(?:[\[{(]"
    rb"((?:\s{0,99}['\"]\w{1,40}['\"],?){1,20})\s{0,99}[\]})]"
    rb"|\r?\n((?:" + LINE_PREFIX + rb"[ \t]*- ['\"]?\w{1,40}['\"]?[ \t]*\r?\n){1,20}))"
)
_NAMES = re.compile(rb"\w+")
_ITEMS = re.compile(rb"- ['\"]?(\w+)['\"]?[ \t]*\r?\n")
_RANK = re.compile(rb"LoraConfig\([^()\r\n]{0,1000}?\br=(\d{1,5})\b")
_PATHS = re.compile(
    rb"^" + LINE_PREFIX + rb"[ \t]*['\"]?datasets['\"]?:\s{0,99}(?:\[\s{0,99}\{)?(?:\r?\n" + LINE_PREFIX + rb")?"
    rb"\s{0,99}(?:- )?\s{0,99}['\"]?path['\"]?: ?['\"]?([\w./-]{1,200})",
    re.MULTILINE,
)
"""The first of Axolotl's data sets."""
_VERSIONS = {
    "hf": re.compile(rb"(?:\btransformers(?:==|: +)|\"transformers_version\": \")(\d+\.\d+\.\d+)"),
    "trl": re.compile(rb"\btrl(?:==|:? +)(\d+\.\d+\.\d+)"),
    "axolotl": re.compile(rb"\baxolotl(?:==|: +)(\d+\.\d+\.\d+)"),
    "unsloth": re.compile(rb"\bUnsloth(?:: Fast \w{1,20} patching release)? (\d{4}\.\d+(?:\.\d+)?)"),
}


def _integer(text: str) -> int | None:
    number = _number(text)
    return int(number) if number is not None and number == int(number) and number > 0 else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < 1e12 else None


def _truth(text: str) -> bool | None:
    if text.startswith((_OPTION.decode(), "\\")):  # a switch without a value: the next one follows
        return True
    return {"true": True, "false": False, "1": True, "0": False}.get(text.lower())


def _name(text: str) -> str | None:
    if _STEP.fullmatch(text.rstrip("/").rsplit("/", 1)[-1]):
        return None
    folders = [part for part in text.rstrip("/").split("/") if not _STAGE.fullmatch(part)]
    return folders[-1] if folders and text.lower() not in {"none", "null"} and not text.startswith(".") else None


_LENGTHS = (
    *(b"max_seq_length", b"cutoff_len", b"sequence_len", b"--model_max_length", b"--max_seq_len", b"--max_length"),
    *(b"--max_seq", b"--block_size"),
)


def _sized(text: str) -> str | None:
    return model_from_path(text)


_ARGUMENTS: tuple[tuple[str, Callable[[str], Any], tuple[bytes, ...]], ...] = (
    ("batch_size", _integer, (b"per_device_train_batch_size", b"micro_batch_size")),
    ("gradient_accumulation_steps", _integer, (b"gradient_accumulation_steps",)),
    ("max_seq_len", _integer, _LENGTHS),
    ("packed", _truth, (b"sample_packing", b"packing")),
    ("epochs", _integer, (b"num_train_epochs",)),
    ("steps_total", _integer, (b"max_steps",)),
    ("lora_rank", _integer, (b"lora_rank", b"lora_r")),
    ("lora_alpha", _number, (b"lora_alpha",)),
    (
        "activation_checkpointing",
        _truth,
        (b"enable_gradient_checkpointing", b"gradient_checkpointing", b"Gradient checkpointing"),
    ),
    ("compile", _truth, (b"torch_compile",)),
    ("dataset", _name, (b"dataset_name", b"data_path", b"--dataset", b"--train_file", b"--dataset_path")),
    ("model", _name, (b"model_name_or_path", b"base_model", b"_name_or_path", b"model_name")),
    ("model", _sized, (b"--model_id", b"--model_id_or_path", b"--model")),
)


def argument_fields(head: bytes, trainer: str) -> dict[str, Any]:
    """Fields of a record that the arguments shown before training say; what is not shown is left out.

    >>> argument_fields(b"--model_name_or_path meta-llama/Llama-3.2-1B --lora_r 8 --bf16 True", "hf")
    {'lora_rank': 8, 'model': 'Llama-3.2-1B', 'dtype': 'bf16', 'params_b': 1.236}
    """
    fields = remarked_fields(head)
    if head.find(_OPTION) >= 0:
        head = _HYPHENS.sub(lambda match: _OPTION + match[0][2:].replace(b"-", b"_"), head)
    for field, read, keys in _ARGUMENTS:
        value = next((value for key in keys if (value := _said(head, key, read)) is not None), None)
        if value is not None and not (read is _sized and field in fields):
            fields[field] = value
    if trainer == "axolotl" and (epochs := _said(head, b"num_epochs", _integer)):
        fields["epochs"] = epochs
    _add_lines(head, fields)
    _add_switches(head, fields)
    if "model" not in fields and (match := _CACHED.search(head)):
        fields["model"] = match[1].decode("utf-8", "replace")
    if (size := params_b(fields.get("model"))) is not None:
        fields["params_b"] = size
    if held_in_four_bits(fields.get("model")):
        fields["quantize_base"] = True
    if (processes := _launched(head) or process_count(head)) is not None:
        fields["num_gpus"] = processes
    version = _VERSIONS.get(trainer)
    if version is not None and (match := version.search(head)):
        fields["trainer_version"] = match[1].decode()
    return fields


def _launched(head: bytes) -> int | None:
    """Processes that a launcher's command asks for."""
    if match := _PROCESSES.search(head):
        nodes = _NODES.search(head)
        return int(match[2]) * (int(nodes[1]) if nodes and not match[1] else 1)
    if head.find(b"NPROC_PER_NODE=") >= 0 and (match := _SWIFT.search(head)) and head.find(b"NNODES=") < 0:
        return int(match[1])
    match = _MPI.search(head) if head.find(b"mpi") >= 0 else None
    return int(match[1]) if match else None


def _add_lines(head: bytes, fields: dict[str, Any]) -> None:
    """What takes more than one word after its key: lists, objects, lines of their own."""
    if "max_seq_len" not in fields and (match := _OWN_LINE.search(head)):
        fields["max_seq_len"] = int(match[1])
    if head.find(b"arget") >= 0 and (match := _TARGETS.search(head)):
        named = _NAMES.findall(match[1]) if match[1] else _ITEMS.findall(match[2])
        fields["lora_targets"] = adapted([name.decode() for name in named])
    if "lora_rank" not in fields and (match := _RANK.search(head)):
        fields["lora_rank"] = int(match[1])
    if "dataset" not in fields and head.find(b"datasets") >= 0 and (match := _PATHS.search(head)):
        fields["dataset"] = _name(match[1].decode())


def _add_switches(head: bytes, fields: dict[str, Any]) -> None:
    """What arguments say together: steps count instead of epochs, and a rank counts where there are adapters."""
    if "steps_total" in fields:
        fields.pop("epochs", None)
    if _said(head, b"use_peft", _truth) is False:
        for name in [name for name in fields if name.startswith("lora_")]:
            del fields[name]
    for dtype in ("bf16", "fp16"):
        if _said(head, dtype.encode(), _truth):
            fields["dtype"] = dtype


def _said(head: bytes, key: bytes, read: Callable[[str], Any]) -> Any:
    """The first value of a key that can be understood: configs hold `auto` and `none`, too."""
    option, at = key.startswith(_OPTION), head.find(key)
    while at >= 0:
        end = at + len(key)
        before = head[max(0, at - 2) : at]
        named = option or before == _OPTION
        if named or not (
            before[-1:].isalnum() or before[-1:] in {b"_", b".", b"-"} or head[max(0, at - 9) : at].endswith(_ADVICE)
        ):
            match = (_AFTER_OPTION.match(head, end) if named else None) or _AFTER.match(head, end)
            value = read(match[1].decode("utf-8", "replace")) if match else None
            if value is not None:
                return value
        at = head.find(key, end)
    return None
