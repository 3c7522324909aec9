"""What runplan writes for small runs, a tiny Qwen and a tiny Mistral, for tests with the real trainer."""

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


def make_tiny_mistral(folder, *, window=None, instructions=True):
    """Mistral 7B's shape, and tokenizer files as v0.3 has them, or (without tokens for instructions) as v0.1.

    The vocabulary is 256 bytes, printable ASCII, and letters behind a space.
    """
    import torch
    from safetensors.torch import save_file

    shape = Architecture("mistral", 64, 2, 4, 2, 16, 96, 512, 256, 1e6, sliding_window=window)
    sizes = {"q_proj": (64, 64), "k_proj": (32, 64), "v_proj": (32, 64), "o_proj": (64, 64)}
    wide = {"gate_proj": (96, 64), "up_proj": (96, 64), "down_proj": (64, 96)}
    weights = {"model.embed_tokens.weight": (512, 64), "lm_head.weight": (512, 64), "model.norm.weight": (64,)}
    for layer in (f"model.layers.{i}" for i in range(2)):
        weights |= {f"{layer}.self_attn.{name}.weight": size for name, size in sizes.items()}
        weights |= {f"{layer}.mlp.{name}.weight": size for name, size in wide.items()}
        weights |= {f"{layer}.{name}.weight": (64,) for name in ("input_layernorm", "post_attention_layernorm")}
    folder.mkdir()
    torch.manual_seed(0)
    tensors = {name: (torch.randn(size) * 0.1).to(torch.bfloat16) for name, size in weights.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    names = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64}
    names |= {"intermediate_size": 96, "vocab_size": 512, "max_position_embeddings": 256, "rms_norm_eps": 1e-5}
    config = names | {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "rope_theta": 1e6}
    config |= {"head_dim": None, "sliding_window": window, "bos_token_id": 1, "eos_token_id": 2}
    config |= {"tie_word_embeddings": False, "hidden_act": "silu", "torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
    _write_mistral_tokenizer(folder, instructions=instructions)
    return ModelFacts(str(folder), Status.ok, shape, shards=("model.safetensors",), tokenizer="tokenizer.json")


def _write_mistral_tokenizer(folder, *, instructions):
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    from runplan.trainers.chat import MISTRAL

    special = ["<unk>", "<s>", "</s>", *(["[INST]", "[/INST]"] if instructions else [])]
    letters = [chr(code) for code in (*range(65, 91), *range(97, 123))]
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127))]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, *(f"▁{letter}" for letter in letters)])}
    merges = [("▁", letter) for letter in letters]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if instructions:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    own = MISTRAL.replace("<s>", "<s>[INST] Be good. [/INST]</s>", 1)
    said = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(said | {"legacy": not instructions, "chat_template": own}))
