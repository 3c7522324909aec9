"""How torchtune 0.6.1 writes a conversation, as the chat templates that evaluation asks with.

A model's own template often says more than its training data: Llama 3.2's tells today's date, Qwen2.5's adds a system
prompt, base models have none at all. What was trained is what is asked, so the prompt of every run and control is
written as `Llama3Tokenizer` and `Qwen2_5Tokenizer` write it. A test holds the token ids equal to torchtune's.
"""

from __future__ import annotations

from typing import NamedTuple

from runplan.config import DatasetType
from runplan.trainers.builders import LLAMA


class ChatFormat(NamedTuple):
    """A chat template (Jinja, as transformers has it), and the token that ends an answer."""

    template: str
    stop: str


LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
QWEN2_5 = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_TEXT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def chat_format(family: str, kind: DatasetType) -> ChatFormat | None:
    """The format that a model of this family is trained in; None for Llama 2, whose own template is the same.

    Args:
        family: architecture, as in `conf/model`.
        kind: of the training data; plain text has no roles.
    """
    if family == "llama2":
        return None
    if family in LLAMA:
        text = ChatFormat("{{ bos_token }}" + _TEXT, "<|end_of_text|>")
        return text if kind is DatasetType.text else ChatFormat(LLAMA3, "<|eot_id|>")
    return ChatFormat(_TEXT if kind is DatasetType.text else QWEN2_5, "<|im_end|>")
