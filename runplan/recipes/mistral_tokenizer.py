"""Mistral's conversations as tokens for torchtune: one text, encoded whole by tokenizer.json, as evaluation does it.

torchtune 0.6.1's own `MistralTokenizer` encodes a conversation piece by piece with sentencepiece, refuses system
prompts, and never finds `[INST]`, which has a token of its own in Mistral 7B v0.3: a model would be asked something
else than it was trained on. Here text and tokens are those of the chat template that evaluation asks with.
"""

from tokenizers import Tokenizer
from torchtune.data import truncate
from torchtune.data._prompt_templates import _get_prompt_template
from torchtune.modules.transforms import Transform
from torchtune.modules.transforms.tokenizers import ModelTokenizer

BEGIN, END = "<s>", "</s>"


class MistralTokenizer(ModelTokenizer, Transform):
    """The model's own tokenizer.json.

    Args:
        path: of tokenizer.json.
        max_seq_len: rows are cut to so many tokens; None = never.
        prompt_template: what changes the messages first, by its dotted path.
    """

    def __init__(self, path, max_seq_len=None, prompt_template=None):
        self._tokenizer = Tokenizer.from_file(path)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.bos_id, self.eos_id = (self._tokenizer.token_to_id(token) for token in (BEGIN, END))
        if self.bos_id is None or self.eos_id is None:
            raise ValueError(f"{path} has no token {BEGIN} or {END}")
        self.pad_id = 0  # which the collator masks; torchtune's own has it, too
        self.stop_tokens = [self.eos_id]
        self.max_seq_len = max_seq_len
        self.prompt_template = None if prompt_template is None else _get_prompt_template(prompt_template)

    @property
    def vocab_size(self):
        """Tokens in all."""
        return self._tokenizer.get_vocab_size()

    def encode(self, text, add_bos=True, add_eos=True):
        """Token ids of a text."""
        whole = f"{BEGIN if add_bos else ''}{text}{END if add_eos else ''}"
        return self._tokenizer.encode(whole, add_special_tokens=False).ids

    def decode(self, token_ids, skip_special_tokens=True):
        """The text of token ids."""
        return self._tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)

    def tokenize_messages(self, messages, *, add_eos=True):
        """Token ids of a conversation, and of each whether the loss leaves it out."""
        if self.prompt_template is not None:
            messages = self.prompt_template(messages)
        text, masked = "", []  # of every character
        for piece, message in zip(_pieces(messages, add_eos), messages, strict=True):
            text += piece
            masked += [message.masked] * len(piece)
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        mask = [masked[max(start, end - 1)] for start, end in encoded.offsets]
        if self.max_seq_len is None:
            return encoded.ids, mask
        last = messages[-1].masked if add_eos and messages else None
        ids = truncate(encoded.ids, self.max_seq_len, self.eos_id if add_eos else None)
        return ids, truncate(mask, self.max_seq_len, last)

    def __call__(self, sample, inference=False):  # noqa: ARG002 - torchtune's name of it
        """The sample with tokens and mask in place of its messages."""
        sample["tokens"], sample["mask"] = self.tokenize_messages(sample.pop("messages"))
        return sample


def _pieces(messages, add_eos):
    """The text of each message: `<s>[INST] system, user [/INST] answer</s>`."""
    before = None
    for message in messages:
        said = BEGIN if before is None else ""
        if message.role == "assistant":
            said += f" {message.text_content}{END if add_eos else ''}"
        else:
            opened = "" if before == "system" else "[INST] "
            said += opened + message.text_content + ("\n\n" if message.role == "system" else " [/INST]")
        before = message.role
        yield said
