"""A tiny Llama 3.2 that is made here: a whole model folder for tests and demonstrations, without torch.

Random weights from a seed, two safetensors shards with an index, and a byte-level tokenizer in both forms (Hugging
Face's tokenizer.json and Llama's ranks file), which transformers and torchtune load and which agree token for token.
"""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import struct
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runplan.errors import StoreError
from runplan.facts import Architecture
from runplan.trainers.chat import LLAMA3

TINY = Architecture(
    family="llama3_2",
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    intermediate_size=256,
    vocab_size=512,
    max_position_embeddings=131072,
    rope_theta=500000.0,
    rope_scaling_factor=32.0,
    rms_norm_eps=1e-5,
    tie_word_embeddings=True,
)

# Llama 3's own special tokens in its own order (ids 128000 and up there, 256 and up here). `<|image|>` is id 128256
# there, one past the reserved ones; here it takes the one free place so that ids stay below the vocabulary size.
_NAMED = (
    "begin_of_text",
    "end_of_text",
    "reserved_special_token_0",
    "reserved_special_token_1",
    "finetune_right_pad_id",
    "step_id",
    "start_header_id",
    "end_header_id",
    "eom_id",
    "eot_id",
    "python_tag",
    "image",
    "video",
)
_BYTES = 256
# Llama 3's split into words (its tokenizer.json; torchtune has the same as CL100K_PATTERN).
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def special_tokens(vocab_size: int = TINY.vocab_size) -> dict[str, int]:
    """Special token → id: Llama 3's, from 256 up to the vocabulary size."""
    spare = vocab_size - _BYTES - len(_NAMED)
    names = (*_NAMED, *(f"reserved_special_token_{2 + i}" for i in range(spare)))
    return {f"<|{name}|>": _BYTES + i for i, name in enumerate(names)}


def tiny_files(architecture: Architecture = TINY, seed: int = 14) -> dict[str, bytes]:
    """Every file of the model folder by its path relative to it; the same bytes for the same arguments.

    Raises:
        StoreError: the vocabulary is too small for 256 bytes and the special tokens.
    """
    if architecture.vocab_size < _BYTES + len(_NAMED):
        raise StoreError(
            f"vocab_size {architecture.vocab_size} is too small for model=tiny: 256 bytes and {len(_NAMED)} special "
            f"tokens need {_BYTES + len(_NAMED)}; set model.vocab_size"
        )
    special = special_tokens(architecture.vocab_size)
    texts = {
        "config.json": _config(architecture, special),
        "generation_config.json": {
            "bos_token_id": special["<|begin_of_text|>"],
            "eos_token_id": _stop_ids(special),
            "pad_token_id": special["<|finetune_right_pad_id|>"],
            "do_sample": False,
        },
        "tokenizer.json": _tokenizer(special),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|eot_id|>",
            "pad_token": "<|finetune_right_pad_id|>",
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": architecture.max_position_embeddings,
            "chat_template": LLAMA3,
        },
        "special_tokens_map.json": {
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|eot_id|>",
            "pad_token": "<|finetune_right_pad_id|>",
        },
    }
    files = {name: (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode() for name, value in texts.items()}
    ranks = (base64.b64encode(bytes([byte])) + b" %d\n" % byte for byte in range(_BYTES))
    return files | {"original/tokenizer.model": b"".join(ranks)} | _weight_files(architecture, seed)


def create(folder: Path, architecture: Architecture = TINY, seed: int = 14) -> None:
    """Write the model folder; it appears whole or not at all, and never in place of another.

    Raises:
        StoreError: the folder is there already, or cannot be written.
    """
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        for name, content in tiny_files(architecture, seed).items():
            target = beside / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        if folder.exists():
            raise StoreError(f"{folder} is there already and is not written over; move it away")
        beside.rename(folder)
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"{folder} cannot be written: {reason}; set model.path or site.models_dir") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _config(arch: Architecture, special: Mapping[str, int]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": arch.hidden_size,
        "intermediate_size": arch.intermediate_size,
        "num_hidden_layers": arch.num_hidden_layers,
        "num_attention_heads": arch.num_attention_heads,
        "num_key_value_heads": arch.num_key_value_heads,
        "head_dim": arch.head_dim,
        "vocab_size": arch.vocab_size,
        "max_position_embeddings": arch.max_position_embeddings,
        "rms_norm_eps": arch.rms_norm_eps,
        "rope_theta": arch.rope_theta,
        "rope_scaling": _rope_scaling(arch),
        "tie_word_embeddings": arch.tie_word_embeddings,
        "attention_bias": False,
        "mlp_bias": False,
        "initializer_range": 0.02,
        "bos_token_id": special["<|begin_of_text|>"],
        "eos_token_id": _stop_ids(special),
        "pad_token_id": special["<|finetune_right_pad_id|>"],
        "torch_dtype": "bfloat16",
    }


def _rope_scaling(arch: Architecture) -> dict[str, Any] | None:
    if arch.rope_scaling_factor is None:
        return None
    return {
        "rope_type": "llama3",
        "factor": arch.rope_scaling_factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


def _stop_ids(special: Mapping[str, int]) -> list[int]:
    return [special[name] for name in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")]


def _byte_characters() -> dict[str, int]:
    """GPT-2's printable character for every byte, which Hugging Face's byte-level tokenizers write bytes with."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(_BYTES) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable} | {byte: chr(_BYTES + i) for i, byte in enumerate(hidden)}
    return {characters[byte]: byte for byte in range(_BYTES)}


def _tokenizer(special: Mapping[str, int]) -> dict[str, Any]:
    """tokenizer.json as Llama 3 has it, but with single bytes for a vocabulary, so that there is nothing to merge."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    bos, text = {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    pair = [bos, text, {**bos, "SpecialToken": {"id": "<|begin_of_text|>", "type_id": 1}}]
    template = {
        "type": "TemplateProcessing",
        "single": [bos, text],
        "pair": [*pair, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            "<|begin_of_text|>": {
                "id": "<|begin_of_text|>",
                "ids": [special["<|begin_of_text|>"]],
                "tokens": ["<|begin_of_text|>"],
            }
        },
    }
    split = {"type": "Split", "pattern": {"Regex": _PATTERN}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": name, **flags} for name, number in special.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": {"type": "Sequence", "processors": [byte_level, template]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": _byte_characters(),
            "merges": [],
        },
    }


def _tensors(arch: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    d, f = arch.hidden_size, arch.intermediate_size
    yield "model.embed_tokens.weight", (arch.vocab_size, d)
    for i in range(arch.num_hidden_layers):
        layer = f"model.layers.{i}"
        yield f"{layer}.input_layernorm.weight", (d,)
        yield f"{layer}.self_attn.q_proj.weight", (arch.query_size, d)
        yield f"{layer}.self_attn.k_proj.weight", (arch.key_value_size, d)
        yield f"{layer}.self_attn.v_proj.weight", (arch.key_value_size, d)
        yield f"{layer}.self_attn.o_proj.weight", (d, arch.query_size)
        yield f"{layer}.post_attention_layernorm.weight", (d,)
        yield f"{layer}.mlp.gate_proj.weight", (f, d)
        yield f"{layer}.mlp.up_proj.weight", (f, d)
        yield f"{layer}.mlp.down_proj.weight", (d, f)
    yield "model.norm.weight", (d,)
    if not arch.tie_word_embeddings:
        yield "lm_head.weight", (arch.vocab_size, d)


def _weight_files(arch: Architecture, seed: int) -> dict[str, bytes]:
    """Two shards and their index; the tensors of each add up to about half of the bytes."""
    rng = random.Random(seed)  # noqa: S311 - weights, not secrets
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    shards: dict[str, dict[str, tuple[tuple[int, ...], bytes]]] = {name: {} for name in names}
    weight_map, done = {}, 0
    for tensor, shape in _tensors(arch):
        name = names[0] if done < arch.params else names[1]  # bf16: half of the bytes is one a parameter
        content = _ones(shape) if len(shape) == 1 else _uniform(shape, rng)
        shards[name][tensor], weight_map[tensor] = (shape, content), name
        done += len(content)
    index = {"metadata": {"total_size": done}, "weight_map": weight_map}
    files = {name: _safetensors(tensors) for name, tensors in shards.items()}
    return files | {"model.safetensors.index.json": (json.dumps(index, indent=2) + "\n").encode()}


def _safetensors(tensors: Mapping[str, tuple[tuple[int, ...], bytes]]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (shape, content) in tensors.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + len(content)]}
        offset += len(content)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format asks for aligned tensors
    return struct.pack("<Q", len(text)) + text + b"".join(content for _, content in tensors.values())


def _ones(shape: tuple[int, ...]) -> bytes:
    return struct.pack("<H", 0x3F80) * shape[0]


def _uniform(shape: tuple[int, ...], rng: random.Random) -> bytes:
    """Uniform bf16 numbers with standard deviation 0.02, Llama's initializer_range.

    Uniform, not normal: `random()` is the same everywhere, logarithms and cosines differ in the last bit.
    """
    half_width = 0.02 * 3**0.5
    floats = array("f", ((2 * rng.random() - 1) * half_width for _ in range(shape[0] * shape[1])))
    bits = struct.unpack(f"={len(floats)}I", floats.tobytes())
    return struct.pack(f"<{len(bits)}H", *((word + 0x7FFF + (word >> 16 & 1)) >> 16 for word in bits))
