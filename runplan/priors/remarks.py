"""What trainers of Hugging Face's kin remark in words before training: a file's name, a dtype, a switch that is on."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from runplan.priors.letters import LINE_PREFIX
from runplan.priors.names import model_from_path, params_b
from runplan.priors.trl import adapted

_CHECKPOINTING = (
    b"incompatible with gradient checkpointing",
    b"Gradient checkpointing enabled",
    b"torch.utils.checkpoint: the use_reentrant parameter",
    b"Unsloth: Will smartly offload gradients",
)
"""transformers', LLaMA-Factory's and Unsloth's words, and torch's warning to a model that checkpoints."""
_PACKING = b"Packing train dataset"
_FORMATS = {b"bfloat16": "bf16", b"float16": "fp16", b"fp16": "fp16", b"float32": "fp32"}
_FOUR_BITS = "bnb-4bit"
_QUANTISED = b"Quantizing model to 4 bit"
"""LLaMA-Factory's."""
_UNPADDED = b" does not have a padding token"
_LISTED = (
    b"cutoff_len:",
    re.compile(rb"^" + LINE_PREFIX + rb"[ \t]*dataset: *([\w./-]{1,200})[ \t]*(?:#|\r?$)", re.MULTILINE),
)
"""LLaMA-Factory's configuration, known by another of its keys, where it names one data set."""
_NAME = re.compile(rb"[\w.-]+\Z")
_TOKENIZER = re.compile(rb"loading tokenizer\.\.\. (?:[\w.-]+/)*([\w.-]+)")
_LEGACY = re.compile(rb"Unsloth: Will load (?:[\w.-]+/)*([\w.-]+) as a legacy tokenizer")
_NOT_FOUND = re.compile(rb"Could not find a config file in (?:[\w.-]+/)*([\w.-]+) - will assume")
"""Axolotl and peft."""
_CONFIGURED = re.compile(
    rb"loading (?:configuration|weights) file ([\w./@+-]{1,300})/(?:config\.json|(?:pytorch_)?model[.-])"
)
_REQUESTED = re.compile(rb"https://huggingface\.co/[\w.-]{1,80}/([\w.-]{1,100})/resolve/[\w.-]{1,80}/config\.json\b")
"""As logging of level INFO shows what is asked of Hugging Face's hub."""
_FIGURE = re.compile(rb"Figure saved at: (?:[\w./-]{1,200}/)?saves/([\w.-]{1,100})/")
"""Where LLaMA-Factory's examples and its board put results: `saves/MODEL/METHOD/NAME`."""
_LOADED = re.compile(
    rb"oading (?:(?:base )?model:? |Model from \S{1,80} to directory: )?(?:[\w.-]*/)+([\w.-]+?)(?: ?\.\.\.)?[ \t]*\r?$",
    re.MULTILINE,
)
"""As scripts say it, and ModelScope; taken only where the name says its size."""
_ANNOUNCED = (b"ase model", b"ase Model", b"oading model", b"oading Model", "模型".encode())
_TITLED = re.compile(rb"^" + LINE_PREFIX + rb"[ \t]*Model: (?:[\w.@+-]*/)+([\w.-]+)(?=[ \t]*(?:\||\r?$))", re.MULTILINE)
_MODEL = re.compile(rb"(?: name)?[ \t]*[:=][ \t]*(?:[\w.@+-]*/)+([\w.-]+)")
"""As scripts of all kinds announce it; taken only where the name is that of a known model."""


_CACHED = re.compile(rb"/datasets--[\w.-]+?--([\w.-]+)/")
_ALPHA = "(?:[Aa]lpha|\N{GREEK SMALL LETTER ALPHA})".encode()
_PRODUCT = b"ffective "
_TOGETHER = tuple(
    re.compile(rb"(?i)^" + LINE_PREFIX + rb"[ \t]*" + words + rb": *(\d{1,6})[ \t]*\r?$", re.MULTILINE)
    for words in (rb"batch size", rb"grad(?:ient)? accumulation(?: steps)?", rb"effective batch(?: size)?")
)
"""Sizes in a script's words: which batch is meant is known where the product of two is told, too."""


def _modules(names: bytes) -> tuple[str, ...]:
    return adapted(names.decode().strip(",").split(","))


def _data(path: bytes) -> str:
    """A data set by its own name where it lies in Hugging Face's cache."""
    cached = _CACHED.search(path)
    return (cached[1] if cached else path).decode()


# LLaMA-Factory's words, TRL's, accelerate's, and those of DeepSpeed: when it has split the weights of the first model,
# and when its engine prints its configuration.
_SAID: tuple[tuple[str, re.Pattern[bytes], Callable[[bytes], Any]], ...] = (
    ("dtype", re.compile(rb"(?:under default|Using) dtype:? torch\.(bfloat16|float16)\b"), _FORMATS.get),
    ("dtype", re.compile(rb"compute dtype: torch\.(bfloat16|float16|float32)\b"), _FORMATS.get),
    ("dataset", re.compile(rb"Loading dataset ([\w./-]{1,200}?)\.\.\."), _data),
    (
        "dataset",
        re.compile(
            rb"[Ll]oading (?:(?!val|eval|test)[\w-]{1,20} ){0,2}data(?:set)?(?: file)?(?: from|:)[: ]+['\"]?"
            rb"(?:[^\s'\"/]{0,200}/){0,40}([\w.-]{1,200}\.(?:jsonl?|parquet|csv|tsv|arrow))\b"
        ),
        bytes.decode,
    ),
    (
        "dataset",
        re.compile(
            rb"[Ll]oad(?:ing|ed) (?:(?!val|eval|test)[\w,-]{1,20}:? ){0,4}['\"]?(?:[^\s'\"/]{0,200}/){0,40}"
            rb"((?!val|eval|test|dev)[\w.-]{1,200}\.(?:jsonl|parquet|csv|tsv|arrow))\b"
        ),
        bytes.decode,
    ),
    ("epochs", re.compile(rb"^" + LINE_PREFIX + rb"[ \t]*(?:Num )?[Ee]pochs: (\d{1,5})[ \t]*\r?$", re.MULTILINE), int),
    ("dtype", re.compile(rb"Model dtype: torch\.(bfloat16|float16)\b"), _FORMATS.get),
    (
        "dataset",
        re.compile(rb"oading dataset: [\w.-]{1,100}/([\w.-]{1,100})[ \t]*\r?$", re.MULTILINE),
        bytes.decode,
    ),
    ("lora_rank", re.compile(rb"LoRA [Rr]ank *: *(\d{1,5})\b"), int),
    ("lora_rank", re.compile(rb"LoRA:? (?:config: )?\(?r(?:ank)?=(\d{1,5})\b"), int),
    ("lora_rank", re.compile(rb"LoRA r(?:ank)? ?/ ?" + _ALPHA + rb" *: *(\d{1,5}) ?/"), int),
    ("lora_alpha", re.compile(rb"LoRA r(?:ank)? ?/ ?" + _ALPHA + rb" *: *\d{1,5} ?/ ?(\d{1,5})\b"), float),
    ("lora_alpha", re.compile(rb"LoRA [Aa]lpha *: *(\d{1,5})\b"), float),
    ("lora_alpha", re.compile(rb"LoRA:? (?:config: )?\(?r(?:ank)?=\d{1,5}, (?:lora_)?alpha=(\d{1,5})\b"), float),
    ("max_seq_len", re.compile(rb"ax(?:imum)? seq(?:uence)?[ _]len(?:gth)?: *(\d{1,7})\b"), int),
    ("gradient_accumulation_steps", re.compile(rb"Grad(?:ient)? accumulation(?: steps)?: *(\d{1,6})\b"), int),
    ("quantize_base", re.compile(rb"QLoRA 4-?bit *: (True|False)\b"), b"True".__eq__),
    ("quantize_base", re.compile(rb"Load in 4-?bit *: (True|False)\b"), b"True".__eq__),
    ("quantize_base", re.compile(rb"4-bit QLoRA *: (True|False)\b"), b"True".__eq__),
    ("quantize_base", re.compile(rb"4-bit quantization: (Enabled|Disabled)\b"), b"Enabled".__eq__),
    ("dtype", re.compile(rb"torch_dtype_str='(bfloat16|float16|float32)'"), _FORMATS.get),
    ("dtype", re.compile(rb"--(?:torch_)?dtype[= ](bfloat16|float16|float32)\b"), _FORMATS.get),
    ("lora_targets", re.compile(rb"Found linear modules: ([\w,]{1,400})"), _modules),
    ("max_seq_len", re.compile(rb"to the SFTTrainer, this will default to (\d{1,7})"), int),
    (
        "gradient_accumulation_steps",
        re.compile(rb"Gradient accumulation steps mismatch: [^\r\n]{1,80}DeepSpeed config has (\d{1,6})"),
        int,
    ),
    ("params_b", re.compile(rb"finished initializing model - num_params = \d+, num_elems = (\d+\.\d+)B"), float),
    ("batch_size", re.compile(rb"print\] +train_micro_batch_size_per_gpu[ .]+(\d{1,6})"), int),
    ("dtype", re.compile(rb"print\] +(bfloat16|fp16)_enabled[ .]+True"), _FORMATS.get),
)


def remarked_fields(head: bytes) -> dict[str, Any]:
    """Fields of a record that the start of a log says in words; what is not said is left out.

    >>> remarked_fields(b"`use_cache=True` is incompatible with gradient checkpointing.")
    {'activation_checkpointing': True}
    """
    fields: dict[str, Any] = {}
    if any(head.find(sign) >= 0 for sign in _CHECKPOINTING):
        fields["activation_checkpointing"] = True
    if head.find(_PACKING) >= 0:
        fields["packed"] = True
    if head.find(_QUANTISED) >= 0:
        fields["quantize_base"] = True
    for name, pattern, read in _SAID:
        if match := pattern.search(head):
            fields[name] = read(match[1])
    if head.find(_PRODUCT) >= 0:
        sizes = [int(match[1]) for pattern in _TOGETHER if (match := pattern.search(head))]
        if len(sizes) == len(_TOGETHER) and sizes[0] * sizes[1] == sizes[2]:
            fields["batch_size"], fields["gradient_accumulation_steps"] = sizes[:2]
    if head.find(_LISTED[0]) >= 0 and (match := _LISTED[1].search(head)):
        fields["dataset"] = match[1].decode()
    if (model := _model(head)) is not None:
        fields["model"] = model
    return fields


def _model(head: bytes) -> str | None:
    """The model that a script or Unsloth names."""
    if match := _TOKENIZER.search(head) or _LEGACY.search(head) or _NOT_FOUND.search(head):
        return match[1].decode()
    at = head.find(_UNPADDED)
    if at >= 0 and (match := _NAME.search(head, max(0, at - 100), at)):
        return match[0].decode()
    for words in _ANNOUNCED:
        at = head.find(words)
        match = _MODEL.match(head, at + len(words)) if at >= 0 else None
        if match and params_b(name := match[1].decode()) is not None:
            return name
    titled = (_TITLED,) if head.find(b"Model: ") >= 0 else ()
    for pattern in (*titled, _LOADED, _CONFIGURED, _FIGURE, _REQUESTED):
        for match in pattern.finditer(head):
            if (name := model_from_path(match[1].decode())) is not None:
                return name
    return None


def held_in_four_bits(model: str | None) -> bool | None:
    """True for a checkpoint whose name says that its weights are 4-bit; None says nothing."""
    return True if model and model.lower().endswith(_FOUR_BITS) else None
