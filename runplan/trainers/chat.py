"""How a conversation is written in training, as the chat templates that evaluation asks with: torchtune 0.6.1's way.

A model's own template often says more than its training data: Llama 3.2's tells today's date, Qwen2.5's adds a system
prompt, base models have none at all. What was trained is what is asked, so the prompt of every run and control is
written as `Llama3Tokenizer` and `Qwen2_5Tokenizer` write it. A test holds the token ids equal to torchtune's. TRL is
given the same format to train in (`training_template`), so that its runs compare with torchtune's and their controls.

Mistral's is that of its first instruct models, with the system prompt before the first question. torchtune's own
tokenizer cannot be asked in: it encodes `[INST]` piece by piece with sentencepiece (v0.3 has a token for it) and takes
no system prompts, so its runs are given one that reads this format (`recipes/mistral_tokenizer.py`).

Qwen3 thinks before it answers unless its prompt ends with an empty block of thoughts, as its own template writes it
with `enable_thinking=false`. Rows have answers and no thoughts: every answer is behind an empty block, in training and
where it is asked, and the block is not learnt. A single question is asked as by Qwen3's own template; of several, that
one leaves the blocks of earlier answers out, which then could not be learnt as they are asked.
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
NO_THOUGHTS = "<think>\n\n</think>\n\n"
_SAID = "{% if message['role'] == 'assistant' %}{{ '" + NO_THOUGHTS + "' }}{% endif %}"
QWEN3 = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    + _SAID
    + "{{ message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n" + NO_THOUGHTS + "' }}{% endif %}"
)


def _mistral(answer: str) -> str:
    return (
        "<s>{% for message in messages %}"
        "{% if message['role'] == 'system' %}{{ '[INST] ' + message['content'] + '\n\n' }}"
        "{% elif message['role'] == 'user' %}"
        "{% if loop.first or loop.previtem['role'] != 'system' %}{{ '[INST] ' }}{% endif %}"
        f"{{{{ message['content'] + ' [/INST]' }}}}{{% else %}}{answer}{{% endif %}}{{% endfor %}}"
    )


_MISTRAL_ANSWER = "{{ ' ' + message['content'] + '</s>' }}"
MISTRAL = _mistral(_MISTRAL_ANSWER)
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
    if family == "mistral":
        return ChatFormat("<s>" + _TEXT if kind is DatasetType.text else MISTRAL, "</s>")
    asked = QWEN3 if family == "qwen3" else QWEN2_5
    return ChatFormat(_TEXT if kind is DatasetType.text else asked, "<|im_end|>")


def training_template(family: str, kind: DatasetType) -> str:
    """The template that TRL trains with: as evaluation asks, then the answer, its end, and marks around both.

    `{% generation %}` marks what the loss counts where only answers are learnt. A last message ends with its own end
    alone, as torchtune's do.

    Args:
        family: architecture, as in `conf/model`; not `llama2`.
        kind: of the training data; plain text is one message that ends with the stop token.
    """
    llama, mistral = family in LLAMA, family == "mistral"
    if kind is DatasetType.text:
        end = "<|end_of_text|>" if llama else "</s>" if mistral else "<|im_end|>"
        begin = "{{ bos_token }}" if llama else "<s>" if mistral else ""
        return f"{begin}{_TEXT}{{% if not add_generation_prompt %}}{end}{{% endif %}}"
    learnt = {"mistral": _MISTRAL_LEARNT, "qwen3": _QWEN3_LEARNT}
    return _LLAMA3_LEARNT if llama else learnt.get(family, _QWEN2_5_LEARNT)


def _learnt(said: str) -> str:
    """A message's text, marked where it is the assistant's."""
    marked = f"{{% generation %}}{said}{{% endgeneration %}}"
    return f"{{% if message['role'] == 'assistant' %}}{marked}{{% else %}}{said}{{% endif %}}"


_LLAMA3_LEARNT = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    + _learnt("{{ message['content'] | trim + '<|eot_id|>' }}")
    + "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_MISTRAL_LEARNT = _mistral(f"{{% generation %}}{_MISTRAL_ANSWER}{{% endgeneration %}}")


def _qwen_learnt(thoughts: str, before: str) -> str:
    """Qwen's messages: `before` each text, and `thoughts` where an answer is asked for."""
    return (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
        + before
        + _learnt("{{ message['content'] + '<|im_end|>' }}")
        + "{% if not loop.last or add_generation_prompt %}{{ '\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n" + thoughts + "' }}{% endif %}"
    )


_QWEN2_5_LEARNT = _qwen_learnt("", "")
_QWEN3_LEARNT = _qwen_learnt(NO_THOUGHTS, _SAID)
