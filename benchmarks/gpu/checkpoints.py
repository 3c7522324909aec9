"""Model folders of the real shapes with random weights: what the recipes load, without a download.

The shapes are those of conf/model. Weights are a block of normal numbers, repeated (a GPU draws less power on constant
ones and would clock higher); the tokenizers know single bytes, so that a row of text has as many tokens as bytes,
while the vocabulary, and with it the logits, has its real size.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from runplan.facts import Architecture
from runplan.tiny import TINY, tiny_files

SHARD_BYTES = 5_000_000_000
_BLOCK = 1 << 24
_NOT_OURS = ("config.json", "model.safetensors.index.json")
_ROPE = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def make_model(folder: Path, shape: Architecture) -> None:
    """Write the model folder unless it is there; it appears whole or not at all."""
    if folder.is_dir():
        return
    beside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    vocabulary = shape.vocab_size if shape.vocab_size < 128256 else TINY.vocab_size
    small = tiny_files(Architecture(**vars(TINY) | {"vocab_size": vocabulary}))
    for name, content in small.items():
        if not name.endswith(".safetensors") and name not in _NOT_OURS:
            (beside / name).parent.mkdir(exist_ok=True)
            (beside / name).write_bytes(content)
    if shape.family.startswith("qwen"):
        known = json.loads(small["tokenizer.json"])["model"]["vocab"]
        (beside / "vocab.json").write_text(json.dumps(known, ensure_ascii=False), encoding="utf-8")
        (beside / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (beside / "config.json").write_text(json.dumps(_config(shape, json.loads(small["config.json"])), indent=2) + "\n")
    _write_weights(beside, shape)
    beside.rename(folder)


def _config(shape: Architecture, start: Mapping[str, object]) -> dict[str, object]:
    made = dict(start) | {name: value for name, value in vars(shape).items() if name in start}
    factor = shape.rope_scaling_factor
    scaling = _ROPE | {"factor": factor, "original_max_position_embeddings": 8192} if factor else None
    made |= {"rope_scaling": scaling, "tie_word_embeddings": shape.tie_word_embeddings}
    if shape.family.startswith("qwen"):
        made |= {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
        made.pop("attention_bias")
    return made


def tensors(shape: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of the checkpoint by Hugging Face's name, with its shape."""
    d, q, kv, f = shape.hidden_size, shape.query_size, shape.key_value_size, shape.intermediate_size
    yield "model.embed_tokens.weight", (shape.vocab_size, d)
    for i in range(shape.num_hidden_layers):
        layer = f"model.layers.{i}"
        yield f"{layer}.input_layernorm.weight", (d,)
        for name, width in (("q", q), ("k", kv), ("v", kv)):
            yield f"{layer}.self_attn.{name}_proj.weight", (width, d)
            if shape.attention_bias:
                yield f"{layer}.self_attn.{name}_proj.bias", (width,)
        yield f"{layer}.self_attn.o_proj.weight", (d, q)
        yield f"{layer}.post_attention_layernorm.weight", (d,)
        yield f"{layer}.mlp.gate_proj.weight", (f, d)
        yield f"{layer}.mlp.up_proj.weight", (f, d)
        yield f"{layer}.mlp.down_proj.weight", (d, f)
    yield "model.norm.weight", (d,)
    if not shape.tie_word_embeddings:
        yield "lm_head.weight", (shape.vocab_size, d)


def _shards(shape: Architecture) -> list[dict[str, tuple[int, ...]]]:
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    held = 0
    for name, dims in tensors(shape):
        size = 2 * _numbers(dims)
        if held and held + size > SHARD_BYTES:
            shards.append({})
            held = 0
        shards[-1][name] = dims
        held += size
    return shards


def _numbers(dims: tuple[int, ...]) -> int:
    return dims[0] * (dims[1] if len(dims) > 1 else 1)


def _write_weights(folder: Path, shape: Architecture) -> None:
    import torch  # noqa: PLC0415 - the grid can be listed without it

    block = torch.empty(min(_BLOCK, shape.embedding_params), dtype=torch.bfloat16)
    block.normal_(0.0, 0.02, generator=torch.Generator().manual_seed(14))
    random = block.view(torch.uint8).numpy().tobytes()
    shards = _shards(shape)
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        _write_shard(folder / name, shard, random)
    weight_map = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
    index = {"metadata": {"total_size": 2 * shape.params}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _write_shard(path: Path, shard: Mapping[str, tuple[int, ...]], random: bytes) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, dims in shard.items():
        size = 2 * _numbers(dims)
        header[name] = {"dtype": "BF16", "shape": dims, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, dims in shard.items():
            left = 2 * _numbers(dims)
            if "norm" in name:
                file.write(struct.pack("<H", 0x3F80) * (left // 2))  # ones
                continue
            while left:
                left -= file.write(memoryview(random)[: min(left, len(random))])
