"""Names of models and GPUs as logs write them, and what runplan calls them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache

# Parameters in billions, tied embeddings once: numel of the published checkpoints, embeddings and norms included.
_PARAMS_B: Mapping[str, float] = {
    "llama2_7b": 6.738,
    "llama2_13b": 13.016,
    "llama2_70b": 68.977,
    "code_llama2_7b": 6.738,
    "code_llama2_13b": 13.016,
    "code_llama2_70b": 68.977,
    "llama3_8b": 8.030,
    "llama3_70b": 70.554,
    "llama3_1_8b": 8.030,
    "llama3_1_70b": 70.554,
    "llama3_1_405b": 405.853,
    "llama3_2_1b": 1.236,
    "llama3_2_3b": 3.213,
    "llama3_2_vision_11b": 10.670,
    "llama3_2_vision_90b": 88.593,
    "llama3_3_70b": 70.554,
    "llama_guard_3_8b": 8.030,
    "mistral_7b": 7.242,
    "gemma_2b": 2.506,
    "gemma_7b": 8.538,
    "gemma2_2b": 2.614,
    "gemma2_9b": 9.242,
    "gemma2_27b": 27.227,
    "phi3_mini": 3.821,
    "phi4_14b": 14.660,
    "qwen2_0_5b": 0.494,
    "qwen2_1_5b": 1.544,
    "qwen2_7b": 7.616,
    "qwen2_5_0_5b": 0.494,
    "qwen2_5_1_5b": 1.544,
    "qwen2_5_3b": 3.086,
    "qwen2_5_7b": 7.616,
    "qwen2_5_14b": 14.770,
    "qwen2_5_32b": 32.764,
    "qwen2_5_72b": 72.706,
    "qwen3_0_6b": 0.596,
    "qwen3_1_7b": 1.721,
    "qwen3_4b": 4.022,
    "qwen3_8b": 8.191,
    "qwen3_14b": 14.768,
    "qwen3_32b": 32.762,
    "tinyllama_1_1b": 1.100,
}

_FAMILIES = r"(?:code_)?llama2|llama3(?:_\d)?(?:_vision)?|mistral|gemma2?|phi\d|qwen\d(?:_5)?"
"""Folders of the configs that torchtune ships."""
_ORGANISATION = re.compile(r"^(?:meta|meta_llama|qwen|google|mistralai|microsoft|unsloth|nousresearch)_(?=\w)")
_SUFFIX = re.compile(
    r"_(?:instruct|base|chat|hf|it|bf16|4k|128k|v\d(?:_\d)?|reward|bnb_4bit|4bit|(?:fine_?)?tuned|sft|dpo"
    r"|intermediate_\w+)(?=_|$)"
)
_BUILDER = re.compile(r"^(?:q?lora|dora)_")
_CACHED = re.compile(r"(?:^|/)models--[\w.-]+?--([\w.-]+)(?:/|$)")
"""A folder of Hugging Face's cache; its snapshots are named after commits."""
_HASH = re.compile(r"[0-9a-f]{7,64}")
_HAS_SIZE = re.compile(r"\d\s*[bB](?![a-zA-Z0-9])")

# Markers in a device name (of `nvidia-smi`, torch, SLURM's gres) → key of conf/resources, most telling first.
_GPUS: tuple[tuple[str, str], ...] = (
    (r"gh200", "gh200-96"),
    (r"gb200", "gb200-186"),
    (r"h200", "h200-141"),
    (r"h100.{0,4}nvl", "h100-nvl-94"),
    (r"h100.*9[456] ?g", "h100-94"),
    (r"h100.{0,4}pcie", "h100-pcie-80"),
    (r"h100.*(?:80 ?g|hbm3|sxm)", "h100-80"),
    (r"\bh20\b(?!.*(?:3e|14\d ?g))", "h20-96"),
    (r"a100.*80 ?g|gpu80", "a100-80"),
    (r"a100.*40 ?g|gpu40", "a100-40"),
    (r"b200", "b200-180"),
    (r"(?<!g)b300", "b300-270"),
    (r"\ba30\b", "a30-24"),
    (r"\ba40\b", "a40-48"),
    (r"l40s", "l40s-48"),
    (r"\bl40(?![0-9s])", "l40-48"),
    (r"a10g", "a10g-24"),
    (r"\ba10(?![0-9g])", "a10-24"),
    (r"\bl4\b", "l4-24"),
    (r"v100.*32 ?g", "v100-32"),
    (r"v100.*16 ?g", "v100-16"),
    (r"\bt4\b|tesla t4", "t4-16"),
    (r"rtx.?pro.?6000(?!d)", "rtx6000pro-96"),
    (r"6000.?ada", "rtx6000ada-48"),
    (r"a6000", "rtxa6000-48"),
    (r"a5000(?!.?ada)", "rtxa5000-24"),
    (r"a4000(?!.?ada)", "rtxa4000-16"),
    (r"quadro.{0,4}rtx.?6000", "rtx6000-24"),
    (r"quadro.{0,4}rtx.?8000|\brtx.?8000", "rtx8000-48"),
    (r"titan.?rtx", "titanrtx-24"),
    (r"(?:rtx|geforce).*5090(?!.?d\b)", "rtx5090-32"),
    (r"(?:rtx|geforce).*4090|rtx4090", "rtx4090-24"),
    (r"(?:rtx|geforce).*3090|rtx3090", "rtx3090-24"),
    (r"(?:rtx|geforce).*3080(?!.?ti|.*12 ?g)", "rtx3080-10"),
    (r"(?:rtx|geforce).*2080.?ti(?!.*22 ?g)", "rtx2080ti-11"),
    (r"mi210", "mi210-64"),
    (r"mi250", "mi250x-64"),
    (r"mi300x", "mi300x-192"),
    (r"mi325x", "mi325x-256"),
    (r"mi355x", "mi355x-288"),
)
_MAKER = re.compile(r"^(?:nvidia|tesla)[ _-]+")
_SIZES_GB: Mapping[str, tuple[int, ...]] = {"a100": (40, 80), "v100": (16, 32)}
"""Memory that GPUs of one name are sold with, where nothing else about them differs much."""
_KEY = re.compile(r"[a-z][a-z0-9]*(?:-mig|-nvl|-pcie)?-\d+")
_MIG = re.compile(r"\d+g[._](?P<size>10|20|40)gb\b", re.IGNORECASE)
_MOBILE = re.compile(r"\b(?:laptop|mobile|max-q)\b", re.IGNORECASE)
"""Slower and with less memory than the card of that name."""
_MIG_CARD = re.compile(r"(?P<card>[ah]100)", re.IGNORECASE)
_SLICE = re.compile(r"\d+g[._]\d+gb\b", re.IGNORECASE)
"""Any slice: those of sizes that no option has, too."""
_EXPORTED = re.compile(r"(?<![a-z0-9])([ah])800(?![0-9])", re.IGNORECASE)
"""An A100 and an H100 with slower NVLink and, the H800, without most of fp64: all else is theirs."""


@cache
def _gpu_keys() -> tuple[tuple[re.Pattern[str], str], ...]:
    """The markers, compiled when the first name is looked up."""
    return tuple((re.compile(pattern, re.IGNORECASE), key) for pattern, key in _GPUS)


@lru_cache(maxsize=1024)
def gpu_key(text: str) -> str:
    """The key of `conf/resources` for a device name, or the text itself where that would be a guess.

    `A100` alone stays `A100`: its memory is 40 or 80 GB. A MIG slice is not the whole device. An A800 is an A100.

    >>> gpu_key("NVIDIA A100-SXM4-80GB"), gpu_key("A100"), gpu_key("RTX 5090 Laptop GPU")
    ('a100-80', 'A100', 'RTX 5090 Laptop GPU')
    """
    text = " ".join(text.split())
    if _KEY.fullmatch(text):
        return text
    known = same_chip(text.replace("_", " "))
    if slice_ := _MIG.search(text):
        card = _MIG_CARD.search(known)
        return f"{card['card'].lower()}-mig-{slice_['size']}" if card else text
    if _MOBILE.search(text) or _SLICE.search(text):
        return text
    return next((key for pattern, key in _gpu_keys() if pattern.search(known)), text)


def same_chip(text: str) -> str:
    """A device's name with that of the card which has the same chip and memory.

    >>> same_chip("NVIDIA A800-SXM4-80GB"), same_chip("h800"), same_chip("NVIDIA A40")
    ('NVIDIA A100-SXM4-80GB', 'h100', 'NVIDIA A40')
    """
    return _EXPORTED.sub(r"\g<1>100", text)


def _canonical(name: str) -> str:
    flat = re.sub(r"[^a-z0-9]+", "_", name.lower().rsplit("/", 1)[-1]).strip("_")
    flat = re.sub(r"(?<=[a-z])_(?=\d+_)", "", flat) if flat.startswith(("llama_", "qwen_", "gemma_", "phi_")) else flat
    flat = _ORGANISATION.sub("", flat)
    flat = (
        flat.replace("codellama_", "code_llama2_")
        .replace("11b_vision", "vision_11b")
        .replace("90b_vision", "vision_90b")
    )
    flat = _SUFFIX.sub("", _SUFFIX.sub("", _BUILDER.sub("", flat)))
    return re.sub(r"^phi3_mini.*", "phi3_mini", flat)


@lru_cache(maxsize=1024)
def params_b(name: str | None) -> float | None:
    """Billions of parameters of a known model, by Hugging Face name or torchtune builder; None for others.

    >>> params_b("Llama-3.2-1B-Instruct"), params_b("lora_qwen2_5_7b_instruct"), params_b("my-model-7B")
    (1.236, 7.616, None)
    """
    if not name:
        return None
    flat = _canonical(name)
    if flat in _PARAMS_B:
        return _PARAMS_B[flat]
    return _PARAMS_B.get(re.sub(r"^meta_?", "", flat).replace("llama_3", "llama3").replace("llama_2", "llama2"))


@lru_cache(maxsize=1024)
def model_from_builder(component: str | None) -> str | None:
    """`llama3_2_1b` of `torchtune.models.llama3_2.lora_llama3_2_1b`; None for builders without a size."""
    if not component:
        return None
    name = _BUILDER.sub("", component.rsplit(".", 1)[-1])
    return name if params_b(name) is not None or re.search(r"\d+b(?:_|$)", name) else None


@lru_cache(maxsize=1024)
def model_from_path(path: str | None) -> str | None:
    """The folder of a checkpoint where its name is that of a model: it says its size or is known."""
    if not path:
        return None
    cached = _CACHED.search(path)
    name = cached[1] if cached else path.rstrip("/").rsplit("/", 1)[-1]
    if _HASH.fullmatch(name):
        return None
    return name if _HAS_SIZE.search(name) or params_b(name) is not None else None


def model_from_config_name(name: str | None) -> str | None:
    """`llama3_2_3b` of torchtune's shipped config `llama3_2/3B_lora_single_device`; None for files of the user's own.

    >>> model_from_config_name("llama3_2/3B_lora_single_device"), model_from_config_name("mine.yaml")
    ('llama3_2_3b', None)
    """
    shipped = (name or "").rpartition("recipes/configs/")[2].removesuffix(".yaml")
    match = re.fullmatch(rf"({_FAMILIES})/([0-9][0-9._]*B|mini)_\w+", shipped)
    if not match:
        return None
    return f"{match[1]}_{match[2].lower().replace('.', '_')}"


def better_gpu(*names: str | None) -> str | None:
    """The first name; where it leaves the memory open (`a100`), a later one that agrees and says it.

    >>> better_gpu(None, "a100", "a100-80"), better_gpu("h100", "a100-80")
    ('a100-80', 'h100')
    """
    said = [name for name in names if name]
    family = _MAKER.sub("", said[0].lower()) if said else ""
    for name in said[1:]:
        if "-" not in family and name.lower().startswith(f"{family}-"):
            return name
    return said[0] if said else None


def sized_gpu(name: str, capacity_gib: float | None, held_gib: float | None) -> str:
    """A GPU's name with its memory, where it leaves that open and a log says enough.

    Args:
        name: as found.
        capacity_gib: memory that torch or `nvidia-smi` saw, slightly less than the GPU is sold with.
        held_gib: memory that was in use: a GPU with less it was not.

    >>> sized_gpu("a100", 79.15, None), sized_gpu("A100", None, 44.0), sized_gpu("a100", None, 30.0)
    ('a100-80', 'a100-80', 'a100')
    """
    family = same_chip(_MAKER.sub("", name.lower()))
    fitting = [
        size
        for size in _SIZES_GB.get(family, ())
        if not (capacity_gib and not 0.9 * size < capacity_gib < 1.01 * size) and not (held_gib and held_gib > size)
    ]
    return f"{family}-{fitting[0]}" if len(fitting) == 1 else name
