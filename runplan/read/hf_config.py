"""Hugging Face's config.json: from its keys to an `Architecture`, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from runplan.config import Model
from runplan.facts import Architecture, Finding, Status

_FAMILY_OF = {"mistral": "mistral", "qwen2": "qwen2_5", "qwen3": "qwen3"}
"""Of Llamas more than the type decides."""
_MODEL_TYPES = {"llama", *_FAMILY_OF}
_NUMBERS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
)
_LLAMA2_THETA = 10000.0  # transformers' default, and Llama 2's
_MISTRAL_HEADS, _MISTRAL_WINDOW = 8, 4096  # transformers' defaults where a Mistral's config.json says nothing
_QWEN3_HEAD = 128  # transformers' default, whatever the width
_LLAMA31_FACTOR, _LLAMA32_FACTOR = 8.0, 32.0  # rope_scaling.factor of 3.1 and 3.3, and of 3.2
_ALIKE = ({"llama3_1", "llama3_3"}, {"qwen2", "qwen2_5"})
"""Families that config.json cannot tell apart."""


def architecture_from_json(data: Mapping[str, Any]) -> Architecture | Finding:
    """The shape that a config.json describes, or why it describes none that runplan plans."""
    kind = data.get("model_type")
    if kind not in _MODEL_TYPES:
        names = ", ".join(str(name) for name in data.get("architectures") or ()) or "no architectures"
        return Finding(
            Status.invalid,
            f"config.json describes model_type {kind!r} ({names}); runplan plans llama, mistral, qwen2 and qwen3",
            "choose a Llama, Mistral, Qwen2.5 or Qwen3 model",
        )
    numbers: dict[str, int] = {}
    for key in _NUMBERS:
        value = data.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            said = "has no" if key not in data else f"says {value!r} for"
            return Finding(Status.invalid, f"config.json {said} {key}; a whole number above 0 is needed")
        numbers[key] = value
    try:
        return _architecture(data, numbers)
    except (TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        return Finding(Status.invalid, f"config.json has a value that is not a number: {error}")


def _architecture(data: Mapping[str, Any], numbers: Mapping[str, int]) -> Architecture:
    rope = data.get("rope_parameters") or {}  # transformers 5; before that rope_theta and rope_scaling
    scaling = data.get("rope_scaling") or rope
    theta = float(data.get("rope_theta") or rope.get("rope_theta") or _LLAMA2_THETA)
    is_llama3_scaling = (scaling.get("rope_type") or scaling.get("type")) == "llama3"
    factor = float(scaling["factor"]) if is_llama3_scaling and "factor" in scaling else None
    qwen, mistral, qwen3 = (data["model_type"] == kind for kind in ("qwen2", "mistral", "qwen3"))
    heads = numbers["num_attention_heads"]
    return Architecture(
        family=_FAMILY_OF.get(data["model_type"]) or _llama_family(factor, theta),
        **numbers,
        num_key_value_heads=int(data.get("num_key_value_heads", _MISTRAL_HEADS if mistral else heads) or heads),
        head_dim=int(data.get("head_dim") or (_QWEN3_HEAD if qwen3 else numbers["hidden_size"] // heads)),
        rope_theta=theta,
        rope_scaling_factor=factor,
        rms_norm_eps=float(data.get("rms_norm_eps", 1e-6)),
        tie_word_embeddings=bool(data.get("tie_word_embeddings", False)),
        attention_bias=qwen or (not mistral and bool(data.get("attention_bias", False))),
        sliding_window=int(data.get("sliding_window", _MISTRAL_WINDOW) or 0) or None if mistral else None,
    )


def _llama_family(factor: float | None, theta: float) -> str:
    if factor is None:
        return "llama2" if theta <= _LLAMA2_THETA else "llama3"
    return "llama3_2" if factor == _LLAMA32_FACTOR else "llama3_1"


def configured_architecture(model: Model) -> Architecture | None:
    """The shape that `conf/model` gives, or None where it leaves something open."""
    values = {item.name: getattr(model, item.name) for item in fields(Architecture)}
    if values["head_dim"] is None and model.hidden_size and model.num_attention_heads:
        values["head_dim"] = model.hidden_size // model.num_attention_heads
    optional = {"rope_scaling_factor", "sliding_window"}
    if model.family == "auto" or any(value is None and key not in optional for key, value in values.items()):
        return None
    return Architecture(**values)


def disagreements(architecture: Architecture, model: Model) -> list[Finding]:
    """Where config.json and the keys of `conf/model` that are set say different things.

    Copies of one model differ in `max_position_embeddings`, which changes nothing below it; the folder's is used.
    """
    findings = []
    for item in fields(Architecture):
        said, read = getattr(model, item.name), getattr(architecture, item.name)
        harmless = item.name == "max_position_embeddings" or (item.name == "family" and _same_family(said, read))
        if said is None or said == read or harmless:
            continue
        findings.append(
            Finding(
                Status.invalid,
                f"config.json has {item.name} {read}, but model.{item.name} is {said}",
                "use model=hf with model.path for a model that no group of conf/model describes",
            )
        )
    return findings


def named_family(architecture: Architecture, model: Model) -> str:
    """The family by the user's name for it where config.json cannot tell the two apart."""
    alike = _same_family(model.family, architecture.family) and model.family != "auto"
    return model.family if alike else architecture.family


def _same_family(said: str, read: str) -> bool:
    return said in {"auto", read} or any({said, read} <= alike for alike in _ALIKE)
