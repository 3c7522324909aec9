"""torchtune's model builders as data: which one makes a given architecture, and what none of them can make.

Dimensions are those of torchtune 0.6.1, `torchtune/models/*/_model_builders.py`; the component builders beside them
take any dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runplan.facts import Architecture, Finding, Status

LLAMA = frozenset({"llama2", "llama3", "llama3_1", "llama3_2", "llama3_3"})
FAMILIES = LLAMA | {"mistral", "qwen2_5"}
OF_TRL = frozenset({"qwen3"})
"""Families that torchtune 0.6.1 has no builder of, and transformers has."""


@dataclass(frozen=True)
class Builder:
    """A call of one of torchtune's LoRA builders, adapters left out."""

    component: str
    arguments: tuple[tuple[str, Any], ...] = ()


def _llama(
    dims: tuple[int, int, int, int, int], *, factor: float | None, tie: bool, vocab: int = 128256
) -> dict[str, Any]:
    layers, hidden, heads, kv, width = dims
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": hidden // heads,
        "intermediate_size": width,
        "vocab_size": vocab,
        "rope_scaling_factor": factor,
        "rope_theta": 500000.0,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": tie,
        "attention_bias": False,
        "max_position_embeddings": 131072,
    }


def _qwen(dims: tuple[int, int, int, int, int], *, tie: bool, vocab: int, positions: int) -> dict[str, Any]:
    shape = _llama(dims, factor=None, tie=tie, vocab=vocab)
    return shape | {
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-6,
        "attention_bias": True,
        "max_position_embeddings": positions,
    }


_8B = (32, 4096, 32, 8, 14336)
_70B = (80, 8192, 64, 8, 28672)
_OLD = {"max_position_embeddings": 8192}
_LLAMA2 = {"rope_theta": 10000.0, "max_position_embeddings": 4096}

# (families, builder, shape): the shape must agree in every number; the family decides between equal ones.
FIXED: tuple[tuple[frozenset[str], str, dict[str, Any]], ...] = tuple(
    (frozenset(families.split()), f"torchtune.models.{component}", shape)
    for families, component, shape in (
        ("llama3_2", "llama3_2.lora_llama3_2_1b", _llama((16, 2048, 32, 8, 8192), factor=32.0, tie=True)),
        ("llama3_2", "llama3_2.lora_llama3_2_3b", _llama((28, 3072, 24, 8, 8192), factor=32.0, tie=True)),
        ("llama3_1", "llama3_1.lora_llama3_1_8b", _llama(_8B, factor=8.0, tie=False)),
        ("llama3_3", "llama3_3.lora_llama3_3_70b", _llama(_70B, factor=8.0, tie=False)),
        ("llama3_1", "llama3_1.lora_llama3_1_70b", _llama(_70B, factor=8.0, tie=False)),
        ("llama3", "llama3.lora_llama3_8b", _llama(_8B, factor=None, tie=False) | _OLD),
        ("llama3", "llama3.lora_llama3_70b", _llama(_70B, factor=None, tie=False) | _OLD),
        (
            "llama2",
            "llama2.lora_llama2_7b",
            _llama((32, 4096, 32, 32, 11008), factor=None, tie=False, vocab=32000) | _LLAMA2,
        ),
        (
            "llama2",
            "llama2.lora_llama2_13b",
            _llama((40, 5120, 40, 40, 13824), factor=None, tie=False, vocab=32000) | _LLAMA2,
        ),
        (
            "llama2",
            "llama2.lora_llama2_70b",
            _llama((80, 8192, 64, 8, 28672), factor=None, tie=False, vocab=32000) | _LLAMA2,
        ),
        (
            "mistral",
            "mistral.lora_mistral_7b",
            _llama(_8B, factor=None, tie=False, vocab=32000) | _LLAMA2 | {"max_position_embeddings": 32768},
        ),
        (
            "qwen2_5",
            "qwen2_5.lora_qwen2_5_0_5b",
            _qwen((24, 896, 14, 2, 4864), tie=True, vocab=151936, positions=32768),
        ),
        (
            "qwen2_5",
            "qwen2_5.lora_qwen2_5_1_5b_base",
            _qwen((28, 1536, 12, 2, 8960), tie=True, vocab=151936, positions=131072),
        ),
        (
            "qwen2_5",
            "qwen2_5.lora_qwen2_5_1_5b_instruct",
            _qwen((28, 1536, 12, 2, 8960), tie=True, vocab=151936, positions=32768),
        ),
        (
            "qwen2_5",
            "qwen2_5.lora_qwen2_5_3b",
            _qwen((36, 2048, 16, 2, 11008), tie=True, vocab=151936, positions=32768),
        ),
        (
            "qwen2_5",
            "qwen2_5.lora_qwen2_5_7b_base",
            _qwen((28, 3584, 28, 4, 18944), tie=False, vocab=152064, positions=131072),
        ),
        (
            "qwen2_5",
            "qwen2_5.lora_qwen2_5_7b_instruct",
            _qwen((28, 3584, 28, 4, 18944), tie=False, vocab=152064, positions=32768),
        ),
    )
)


def builder(architecture: Architecture) -> Builder:
    """The builder that makes exactly this architecture: a named one when it agrees in every number, else by dimensions.

    Llama's component builders differ only in RoPE and in the output head, so the shape decides, not the name.
    """
    for families, component, shape in FIXED:
        if architecture.family in families and all(getattr(architecture, key) == value for key, value in shape.items()):
            return Builder(component)
    arguments: dict[str, Any] = {
        "vocab_size": architecture.vocab_size,
        "num_layers": architecture.num_hidden_layers,
        "num_heads": architecture.num_attention_heads,
        "num_kv_heads": architecture.num_key_value_heads,
        "embed_dim": architecture.hidden_size,
        "intermediate_dim": architecture.intermediate_size,
        "max_seq_len": architecture.max_position_embeddings,
        "norm_eps": architecture.rms_norm_eps,
        "rope_base": _whole(architecture.rope_theta),
    }
    if architecture.family == "mistral":
        component = "mistral.lora_mistral"
    elif architecture.family not in LLAMA:
        component = "qwen2.lora_qwen2"
        arguments["tie_word_embeddings"] = architecture.tie_word_embeddings
    elif architecture.tie_word_embeddings:
        component = "llama3_2.lora_llama3_2"
        # a factor of 1 scales nothing: the builder has no other way to say "unscaled"
        arguments |= {"scale_factor": _whole(architecture.rope_scaling_factor or 1.0), "tie_word_embeddings": True}
    elif architecture.rope_scaling_factor is not None:
        component = "llama3_1.lora_llama3_1"
        arguments["scale_factor"] = _whole(architecture.rope_scaling_factor)
    else:
        component = "llama3.lora_llama3"
    return Builder(f"torchtune.models.{component}", tuple(arguments.items()))


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value


def checkpoint_type(architecture: Architecture) -> str:
    """The checkpointer's `model_type`, which decides how Hugging Face's weights are renamed."""
    if architecture.family == "mistral":
        return "MISTRAL"
    if architecture.family not in LLAMA:
        return "QWEN2"
    if architecture.family == "llama2":
        return "LLAMA2"
    return "LLAMA3_2" if architecture.tie_word_embeddings else "LLAMA3"


def builder_problems(architecture: Architecture) -> tuple[Finding, ...]:
    """What keeps torchtune from building a model."""
    family = architecture.family
    if family not in FAMILIES:
        known = ("trainer=trl, which can, or " if family in OF_TRL else "") + "one of " + ", ".join(sorted(FAMILIES))
        return (_invalid(f"torchtune has no LoRA builder for {family} models that runplan knows", f"use {known}"),)
    found = []
    other = "use another model" if family == "llama2" else "use trainer=trl, which can, or another model"
    if architecture.query_size != architecture.hidden_size:
        found.append(
            _invalid(
                f"{architecture.num_attention_heads} heads of {architecture.head_dim} make {architecture.query_size}, "
                f"the hidden size is {architecture.hidden_size}; torchtune's builders need them equal",
                other,
            )
        )
    if architecture.num_attention_heads % architecture.num_key_value_heads:
        found.append(
            _invalid(
                f"{architecture.num_attention_heads} query heads cannot share {architecture.num_key_value_heads} "
                "key and value heads evenly",
                "correct num_key_value_heads in config.json",
            )
        )
    if family == "mistral" and architecture.tie_word_embeddings:
        what = "this mistral model shares its output head with its embeddings, torchtune's builder has one of its own"
        found.append(_invalid(what, other))
    if architecture.attention_bias != (family not in LLAMA | {"mistral"}):
        has = "has" if architecture.attention_bias else "has no"
        found.append(
            _invalid(f"this {family} model {has} biases in attention, torchtune's builder differs", "use another model")
        )
    return tuple(found)


def _invalid(detail: str, fix: str) -> Finding:
    return Finding(Status.invalid, detail, fix)
