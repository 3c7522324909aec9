"""A tiny Qwen3: a whole model folder as transformers saves it, with Qwen's own kind of tokenizer and template."""

from __future__ import annotations

import json
from pathlib import Path

from runplan.config import Model
from runplan.facts import ModelFacts
from runplan.read.model import read_model

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ASKS = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
OWN_TEMPLATE = ASKS + (
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""What Qwen3's own template asks a single question with: thoughts are wanted unless it is told otherwise."""


def make_tiny_qwen3(folder: Path) -> ModelFacts:
    """Heads that are together wider than the model, as the small ones' are; the vocabulary is 256 bytes."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=512, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=1024, tie_word_embeddings=True,
        bos_token_id=256, eos_token_id=258,
    )  # fmt: skip
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    _write_tokenizer(folder)
    return read_model(folder, Model(name="hf", family="auto"), trainer="trl")


def _write_tokenizer(folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    from runplan.tiny import _byte_characters

    tokenizer = Tokenizer(models.BPE(vocab=_byte_characters(), merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in ("<think>", "</think>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    said = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(said | {"chat_template": OWN_TEMPLATE}))
