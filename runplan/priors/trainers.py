"""Lines of trainers other than torchtune: HF Trainer and TRL, Axolotl, llama-recipes; and W&B's summary."""

from __future__ import annotations

import re
from typing import Any

_NUMBER = rb"['\"]?(-?[\d.]+(?:e[+-]?\d+)?)['\"]?"
_TRAINABLE = re.compile(rb"trainable params: ([\d,]+) \|\| all params: ([\d,]+)")
_HF_SIZES: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("batch_size", re.compile(rb"Instantaneous batch size per device = (\d+)")),
    ("gradient_accumulation_steps", re.compile(rb"Gradient Accumulation steps = (\d+)")),
    ("epochs", re.compile(rb"Num Epochs = (\d+)")),
    ("steps_total", re.compile(rb"Total optimization steps = ([\d,]+)")),
)
_FOUR_BITS = re.compile(rb"load_in_4bit['\"]?[ =:]{1,3}(true|false)", re.IGNORECASE)
"""As bitsandbytes' configuration, a command line or Axolotl's dump of its settings say it."""
_RECIPES_KEY = re.compile(rb"Key: (\w+), Value: ([\d.]+(?:e[+-]?\d+)?)")


def _last(key: bytes, data: bytes) -> float | None:
    """The last value of a key in printed dicts or `wandb:` summary lines."""
    at = data.rfind(b"'" + key + b"'")
    if at < 0:
        return None
    match = re.compile(rb"\s*:\s*" + _NUMBER).match(data, at + len(key) + 2)
    try:
        return float(match[1]) if match else None
    except ValueError:
        return None


def hugging_face_name(data: bytes) -> str | None:
    """`axolotl`, `trl` or `hf` where the text has their lines, else None."""
    if data.find(b"axolotl") >= 0:
        return "axolotl"
    loss = data.find(b"{'loss': ") >= 0 or data.find(b"{'train_runtime': ") >= 0
    banner = data.find(b"***** Running training *****") >= 0
    if not loss and not banner and data.find(b"|trainer.py:") < 0:
        return None
    trl = any(data.find(word) >= 0 for word in (b"'mean_token_accuracy'", b"SFTTrainer", b"trl sft", b"/trl/"))
    return "trl" if trl else "hf"


def hugging_face_fields(data: bytes) -> dict[str, Any]:
    """Fields of a record that HF Trainer's banner, dict lines and Axolotl's extras say."""
    fields: dict[str, Any] = {}
    for name, pattern in _HF_SIZES:
        if match := pattern.search(data):
            fields[name] = int(match[1].replace(b",", b""))
    if (match := _TRAINABLE.search(data)) is not None:
        trainable, total = (int(text.replace(b",", b"")) for text in match.groups())
        fields["params_b"] = round((total - trainable) / 1e9, 6)
    if data.find(b"load_in_4bit") >= 0 and (match := _FOUR_BITS.search(data)):
        fields["quantize_base"] = match[1].lower() == b"true"
    runtime = _last(b"train_runtime", data)
    if runtime is not None:
        fields["wall_s"] = runtime
        fields["completed"] = True
    if (rate := _last(b"train_steps_per_second", data)) and rate > 0:
        fields["mean_it_per_s"] = rate
    # Liger's callback divides num_input_tokens_seen, which counts padding, by the time.
    if (tokens := _last(b"avg_tokens_per_second", data)) and tokens > 0:
        fields["tokens_per_s"] = tokens
    return fields


def llama_recipes_fields(data: bytes) -> dict[str, Any]:
    """Fields that the key/value summary at the end of a llama-recipes run says; empty without one."""
    if data.find(b"Key: avg_") < 0:
        return {}
    values: dict[str, float] = {}
    for key, number in _RECIPES_KEY.findall(data):
        try:
            values[key.decode()] = float(number)
        except ValueError:
            continue
    fields: dict[str, Any] = {"trainer": "llama-recipes"}
    if "avg_epoch_time" in values:
        fields["completed"] = True
    if values.get("avg_checkpoint_time"):
        fields["checkpoint_s"] = (values["avg_checkpoint_time"],)
    return fields
