"""A trainer's arguments in a YAML file beside its log, whatever the file is called: LLaMA-Factory, TRL, Axolotl."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from runplan.priors.arguments import argument_fields
from runplan.priors.letters import tidy

_SIGNS = tuple(
    re.compile(rb"^%b: *\d" % name, re.MULTILINE) for name in (b"per_device_train_batch_size", b"micro_batch_size")
)
_COMMENT = re.compile(rb"(?:^|(?<=[ \t]))#[^\r\n]*", re.MULTILINE)
_AXOLOTL = re.compile(rb"^base_model:", re.MULTILINE)
_ADAPTER = re.compile(rb"^adapter: *['\"]?q?lora\b", re.MULTILINE)
_WHOLE = re.compile(rb"^finetuning_type: *['\"]?(?!lora)\w|^use_peft: *false", re.MULTILINE)
_FOUR_BITS = re.compile(rb"^(?:load_in_4bit: *true|quantization_bit: *4)\b", re.MULTILINE)
_SAID_OF_A_RUN = ("trainer_version", "num_gpus")
"""What a file of arguments does not know."""


def arguments_of(texts: Iterable[bytes]) -> dict[str, Any]:
    r"""Fields of a record from the only file of arguments among texts; of several, nobody knows which was used.

    >>> arguments_of([b"per_device_train_batch_size: 2 # small\nlora_rank: 8\n", b"greeting: hello\n"])
    {'batch_size': 2, 'lora_rank': 8}
    """
    configs = [text for text in texts if any(sign.search(text) for sign in _SIGNS)]
    if len(configs) != 1:
        return {}
    text = tidy(_COMMENT.sub(b"", configs[0]))
    axolotl = _AXOLOTL.search(text) is not None
    fields = argument_fields(text, "axolotl" if axolotl else "hf")
    if _WHOLE.search(text) or (axolotl and not _ADAPTER.search(text)):
        fields = {name: value for name, value in fields.items() if not name.startswith("lora_")}
    if _FOUR_BITS.search(text):
        fields["quantize_base"] = True
    return {name: value for name, value in fields.items() if name not in _SAID_OF_A_RUN}
