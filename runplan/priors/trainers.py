"""Lines of trainers other than torchtune: HF Trainer and TRL, Axolotl, Unsloth, llama-recipes."""

from __future__ import annotations

import re
from typing import Any

from runplan.priors.trainings import BANNERS, COMPLETED, told_end

_NUMBER = rb"['\"]?(-?[\d.]+(?:e[+-]?\d+)?)['\"]?"
_TRAINABLE = re.compile(rb"trainable params: ([1-9][\d,]*) \|\| all params: (\d[\d,]*)")
_HF_SIZES: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("batch_size", re.compile(rb"(?:Instantaneous batch size|Batch size) per device = (\d[\d,]*)")),
    ("gradient_accumulation_steps", re.compile(rb"Gradient [Aa]ccumulation steps = (\d[\d,]*)")),
    ("epochs", re.compile(rb"Num Epochs = (\d[\d,]*)")),
    ("steps_total", re.compile(rb"Total (?:optimization )?steps = (\d[\d,]*)")),
    ("num_gpus", re.compile(rb"dist_world_size=(\d+)")),
    ("num_gpus", re.compile(rb"\| Num GPUs(?: used)? = (\d+)")),
    ("batch_of_all", re.compile(rb"Total (?:train )?batch size(?: \([^)\r\n]{0,60}\))? = (\d[\d,]*)")),
)
_PARALLEL = re.compile(rb"Data Parallel GPUs = (\d{1,4})\b")
"""Unsloth's, beside those that the model is spread over."""
_PRODUCT = re.compile(rb"Total batch size \((\d{1,6}) x (\d{1,6}) x (\d{1,5})\) = ")
_PRODUCT_OF = ("batch_size", "gradient_accumulation_steps", "num_gpus")
"""Unsloth's, too."""
_FOUR_BITS = re.compile(rb"load_in_4bit['\"]?[ =:]{1,3}(true|false)", re.IGNORECASE)
"""As bitsandbytes' configuration, a command line or Axolotl's dump of its settings say it."""
_DICTS = (b"{'loss': ", b"{'train_runtime': ", b'{"loss":', b'{"train_runtime":')
"""What HF Trainer prints each so many steps and at the end; collectors write it as JSON."""
_PREPARED = (b"Tokenizing train dataset:", b"Truncating train dataset:", b"Packing train dataset:")
"""Descriptions of TRL's bars."""
_ASKED = (
    b"per_device_train_batch_size",
    b"/transformers/trainer.py",
    b"/trl/trainer/",
    b"Trainer.__init__`",
    *_PREPARED,
)
"""Beside a bar: what it was asked to do, or where it warned or failed before the first loss."""
_SURELY = (b"Training/evaluation parameters", b"SFTConfig(output_dir=", b"return inner_training_loop(")
"""Arguments as the examples and TRL's object print them, and a line of each traceback from within training."""
_TRL = (b"'mean_token_accuracy'", b"'rewards/", b"SFTTrainer", b"SFTConfig(", b"trl sft", b"/trl/", *_PREPARED)
_AFTERWARDS = (b"***** Running Prediction *****", b"***** Running Evaluation *****")
"""What HF Trainer also does; alone, it trains nothing."""
_PATCHING = re.compile(rb"Unsloth 20\d\d\.\d{1,2}\.[\w.]+: Fast ")
_SWIFT = b"[INFO:swift]"
_SWIFT_BAR = re.compile(rb"(?:^|[\r\n])[^\r\n]{0,60}Train: +\d{1,3}%\|")
"""Which ms-swift draws while it trains: its evaluation's is called otherwise."""
_FACTORY = (b"llamafactory.hparams.parser:", b"distributed training: ")
"""What LLaMA-Factory says of itself before it trains."""
_KIN = (
    ("swift", (_SWIFT, b"global_step/max_steps", b"train_speed(iter/s)")),
    ("paddlenlp", (b"progress_or_epoch", b"paddlenlp")),
    ("trl", _TRL),
)
_SEEN = re.compile(
    rb"'num_input_tokens_seen': \d{1,15}, 'train_runtime': [\d.]{1,20}, "
    rb"'train_tokens_per_second': (\d{1,9}(?:\.\d{1,6})?)\}"
)
"""HF Trainer's own, in lines of losses: tokens with their padding, of all processes."""
_THROUGHPUT = re.compile(
    rb"\.callbacks[^{\r\n]{0,20}\{'loss': [^{}\r\n]{0,300}'throughput': (\d{1,9}(?:\.\d{1,6})?)(?=\D)"
)
"""LLaMA-Factory's: what it fed to all GPUs since training began, padding included, a second."""
_METRICS = b"***** train metrics *****"
_EVALUATED = (*_AFTERWARDS, b"eval_runtime")
"""What stands behind the end of a training whose job went on to evaluate."""
_METRICS_TIME = re.compile(rb"train_runtime += +(?:(\d{1,4}) days?, +)?(\d{1,4}):(\d\d):(\d\d(?:\.\d+)?)(?=[^\d.])")
_METRICS_RATE = re.compile(rb"train_steps_per_second += +(\d+(?:\.\d+)?)(?=[^\d.])")
_METRICS_EPOCH = re.compile(rb"\bepoch += +(\d+(?:\.\d+)?)(?=[^\d.])")
BESIDES = frozenset({"batch_of_all", "last_epoch", "mean_it_per_s"})
"""What is said here and is no field of a record."""
_LEAST_RATE = 0.02
"""Steps a second that three decimals tell to 2.5 %."""
_UNSLOTH_SIZE = re.compile(rb"Trainable parameters = ([\d,]+)(?: of |/)(\d[\d,]*)")
_RECIPES_BAR = re.compile(rb"Training Epoch: \d+/(\d+), step \d+/\d+ completed")
_RECIPES_MODEL = re.compile(rb"--> ([\w./-]+) has (\d+(?:\.\d+)?) Million params")
_RECIPES_KEY = re.compile(rb"Key: (\w+), Value: ([\d.]+(?:e[+-]?\d+)?)")


def _last(key: bytes, data: bytes, start: int = 0) -> float | None:
    """The last value of a key in printed dicts."""
    at = max(data.rfind(b"'" + key + b"'", start), data.rfind(b'"' + key + b'"', start))
    if at < 0:
        return None
    match = re.compile(rb"\s*:\s*" + _NUMBER).match(data, at + len(key) + 2)
    try:
        return float(match[1]) if match else None
    except ValueError:
        return None


def hugging_face_name(data: bytes) -> str | None:
    """`axolotl`, `unsloth`, `swift`, `paddlenlp`, `trl` or `hf` where the text has their lines, else None."""
    if data.find(b"axolotl") >= 0:
        return "axolotl"
    if data.find(BANNERS[1]) >= 0:
        return "unsloth"
    if not _trains(data):
        return None
    if data.find(b"Unsloth: ") >= 0 or (data.find(b"Unsloth 20") >= 0 and _PATCHING.search(data)):
        return "unsloth"
    return next((name for name, words in _KIN if any(data.find(word) >= 0 for word in words)), "hf")


def _trains(data: bytes) -> bool:
    """Whether HF Trainer trained here, or was to."""
    signs = (*_DICTS, BANNERS[0], *_SURELY, _METRICS)
    if any(data.find(sign) >= 0 for sign in signs):
        return True
    if any(data.find(sign) >= 0 for sign in _ASKED) and data.find(b"%|") >= 0:
        return True
    if data.find(_SWIFT) >= 0 and _SWIFT_BAR.search(data):
        return True
    if data.find(_FACTORY[0]) >= 0 and data.find(_FACTORY[1]) >= 0 and all(data.find(x) < 0 for x in _AFTERWARDS):
        return True
    return data.find(b"|trainer.py:") >= 0 and all(data.find(sign) < 0 for sign in _AFTERWARDS)


def hugging_face_fields(data: bytes, start: int = 0, since: int = 0) -> dict[str, Any]:
    """Fields of a record that HF Trainer's banner, dict lines and the extras of Axolotl and Unsloth say.

    Args:
        data: the text of the log.
        start: where the last attempt in it begins.
        since: where that is prepared.
    """
    fields: dict[str, Any] = {}
    for name, pattern in _HF_SIZES:
        if match := pattern.search(data, start):
            fields[name] = int(match[1].replace(b",", b""))
    if fields.get("num_gpus") and (match := _PARALLEL.search(data, start)):
        fields["num_gpus"] = max(fields["num_gpus"], int(match[1]))
    if match := _PRODUCT.search(data, start):
        for name, number in zip(_PRODUCT_OF, match.groups(), strict=True):
            fields.setdefault(name, int(number))
    _count_devices(fields)
    sizes = _TRAINABLE.search(data, since) or _UNSLOTH_SIZE.search(data, start) or _TRAINABLE.search(data)
    if (match := sizes) is not None:
        trainable, total = (int(text.replace(b",", b"") or 0) for text in match.groups())
        fields["params_b"] = round((total - trainable or total) / 1e9, 6)
    if data.find(b"load_in_4bit") >= 0 and (match := _FOUR_BITS.search(data, since) or _FOUR_BITS.search(data)):
        fields["quantize_base"] = match[1].lower() == b"true"
    fields |= _ended(data, start)
    if tokens := _tokens_per_s(data, start):
        fields["tokens_per_s"] = tokens
    return fields


def _tokens_per_s(data: bytes, start: int) -> float | None:
    """Tokens a second, padding included, as callbacks and HF Trainer say it."""
    # Liger's callback divides num_input_tokens_seen, which counts padding, by the time.
    if (tokens := _last(b"avg_tokens_per_second", data, start)) and tokens > 0:
        return tokens
    if data.find(b"'throughput'", start) >= 0 and (rates := _THROUGHPUT.findall(data, start)):
        return float(rates[-1])
    at = data.rfind(b"'num_input_tokens_seen'", start)
    rate = _SEEN.match(data, at) if at >= 0 else None
    return float(rate[1]) if rate else None


def _ended(data: bytes, start: int) -> dict[str, Any]:
    """What the end says of the whole: how long it took, in which epoch it ended, and the mean speed."""
    fields: dict[str, Any] = {}
    runtime = told_end(data, start)
    if runtime is not None:
        at, fields["wall_s"] = runtime
        fields["completed"] = True
        fields["last_epoch"] = _last(b"epoch", data, at)
        fields["again"] = any(data.find(word, at) >= 0 for word in _EVALUATED) or None
    elif any(data.find(sign, start) >= 0 for sign in COMPLETED):
        fields["completed"] = True
    rate = _last(b"train_steps_per_second", data, start)
    if runtime is None and data.find(_METRICS, start) >= 0 and (match := _METRICS_TIME.search(data, start)):
        days, hours, minutes, seconds = (float(number or 0) for number in match.groups())
        fields |= {"wall_s": ((days * 24 + hours) * 60 + minutes) * 60 + seconds, "completed": True}
        epoch = _METRICS_EPOCH.search(data, data.find(_METRICS, start))
        fields["last_epoch"] = float(epoch[1]) if epoch else None
        rate = float(found[1]) if (found := _METRICS_RATE.search(data, start)) else None
    if rate and rate >= _LEAST_RATE:
        fields["mean_it_per_s"] = rate
    return fields


def _count_devices(fields: dict[str, Any]) -> None:
    """GPUs by the banner's sizes, where they are several; one process may as well run without any."""
    whole = fields.get("batch_of_all")
    each = (fields.get("batch_size") or 0) * (fields.get("gradient_accumulation_steps") or 0)
    if whole and each and whole % each == 0 and whole > each:
        fields.setdefault("num_gpus", whole // each)


def llama_recipes_fields(data: bytes) -> dict[str, Any]:
    """Fields that llama-recipes' bars and the key/value summary at the end of its runs say; empty without either."""
    bar = _RECIPES_BAR.search(data) if data.find(b"Training Epoch: ") >= 0 else None
    if bar is None and data.find(b"Key: avg_") < 0:
        return {}
    fields: dict[str, Any] = {"trainer": "llama-recipes"}
    if bar is not None:
        fields["epochs"] = int(bar[1])
    if match := _RECIPES_MODEL.search(data):
        fields["model"] = match[1].decode("utf-8", "replace").rstrip("/").rsplit("/", 1)[-1]
        fields["params_b"] = round(float(match[2]) / 1000, 6)
    values: dict[str, float] = {}
    for key, number in _RECIPES_KEY.findall(data):
        try:
            values[key.decode()] = float(number)
        except ValueError:
            continue
    if "avg_epoch_time" in values:
        fields["completed"] = True
    if values.get("avg_checkpoint_time"):
        fields["checkpoint_s"] = (values["avg_checkpoint_time"],)
    return fields
