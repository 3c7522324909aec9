"""What runplan writes for small runs, and a tiny Qwen, for tests with the real trainer."""

from __future__ import annotations

import json

from factories import make_plan, make_templates

from runplan.facts import Architecture, ModelFacts, Status
from runplan.trainers.known import trainer_of

HOSTILE = 'say "hi"\n${oc.env:HOME} \\${x} \' # é {a: b}\ttab ???'


def write(run, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in trainer_of(run.config).training_files(make_plan(run), run, make_templates()).items():
        (folder / name).write_text(text)


def make_tiny_qwen(folder):
    """Qwen2.5's shape and tokenizer files with 256 bytes and five special tokens."""
    import torch
    from safetensors.torch import save_file
    from torchtune.models.qwen2._tokenizer import bytes_to_unicode

    shape = Architecture(
        "qwen2_5", 64, 2, 4, 2, 16, 96, 512, 256, 1e6, None, 1e-6, tie_word_embeddings=True, attention_bias=True
    )
    sizes = {"q_proj": shape.query_size, "k_proj": shape.key_value_size, "v_proj": shape.key_value_size}
    weights = {"model.embed_tokens.weight": (512, 64), "model.norm.weight": (64,)}
    for layer in (f"model.layers.{i}" for i in range(2)):
        weights |= {f"{layer}.self_attn.{name}.weight": (rows, 64) for name, rows in sizes.items()}
        weights |= {f"{layer}.self_attn.{name}.bias": (rows,) for name, rows in sizes.items()}
        weights |= {f"{layer}.self_attn.o_proj.weight": (64, 64), f"{layer}.mlp.down_proj.weight": (64, 96)}
        weights |= {f"{layer}.mlp.{name}.weight": (96, 64) for name in ("gate_proj", "up_proj")}
        weights |= {f"{layer}.{name}.weight": (64,) for name in ("input_layernorm", "post_attention_layernorm")}
    folder.mkdir()
    torch.manual_seed(0)
    save_file({name: torch.randn(size) * 0.1 for name, size in weights.items()}, folder / "model.safetensors")
    config = {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64, "tie_word_embeddings": True}
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"]
    added = [{"content": name, "id": 256 + i} for i, name in enumerate(special)]
    vocabulary = {character: byte for byte, character in bytes_to_unicode().items()}
    texts = {"config.json": config, "tokenizer.json": {"added_tokens": added}, "vocab.json": vocabulary}
    for name, value in texts.items():
        (folder / name).write_text(json.dumps(value))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return ModelFacts(str(folder), Status.ok, shape, shards=("model.safetensors",), tokenizer="tokenizer.json")
