"""Tokens of every row, as the trainer will see them: the model's own tokenizer and torchtune's own additions.

What torchtune 0.6.1 puts around texts is taken from its `Llama3Tokenizer.tokenize_messages`,
`Qwen2_5Tokenizer.tokenize_messages` and `TextCompletionDataset`; a test holds the counts equal to torchtune's. A row of
Mistral's is one text to both trainers (`recipes/mistral_tokenizer.py`). Only Llama 2, whose pieces torchtune encodes
one by one with sentencepiece, may be off by a token or two a row.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runplan.facts import Architecture, LengthKey, Lengths, ModelFacts
from runplan.trainers.chat import NO_THOUGHTS

_CHARACTERS_PER_TOKEN = 4  # English prose with a vocabulary of 100,000 or more; unusual words need more tokens
_GUESSED_PER_MESSAGE = 5  # header, role, two newlines, end of turn
_NO_THOUGHTS_TOKENS = 4  # two marks and two pairs of newlines, each one token of Qwen3's
_BATCH = 20_000  # texts encoded at once; bounds memory

Message = tuple[str, str]
"""Role and text."""


def messages_of(texts: Sequence[str], key: LengthKey) -> list[Message]:
    """The conversation that a row becomes.

    Args:
        texts: as `dataset.row_texts` gives them: prompt and answer, or role and content in turn.
        key: type of the data, system prompt and template of the user's turn.
    """
    if key.type == "chat":
        turns = list(zip(texts[::2], texts[1::2], strict=True))
    else:
        turns = [("user", texts[0]), ("assistant", texts[1])]
    if key.system_prompt:
        turns = [("system", key.system_prompt), *(turn for turn in turns if turn[0] != "system")]
    before, _, after = key.prompt.partition("{input}")
    return [(role, f"{before}{text}{after}" if role == "user" else text) for role, text in turns]


def measure(
    rows: Sequence[Sequence[str]], key: LengthKey, family: str, count: Callable[[Sequence[str]], Sequence[int]]
) -> Lengths:
    """The exact histogram of row lengths.

    Args:
        rows: texts of each usable row.
        key: what is put around them.
        family: of the model; decides the format.
        count: tokens of each of some texts, without any special token added.
    """
    plans = [_pieces(row, key, family) for row in rows]
    texts = list({text for pieces, _ in plans for text in pieces})
    tokens: dict[str, int] = {}
    for start in range(0, len(texts), _BATCH):
        some = texts[start : start + _BATCH]
        tokens |= zip(some, count(some), strict=True)
    totals = Counter(sum(tokens[text] for text in pieces) + extra for pieces, extra in plans)
    return Lengths(tuple(sorted(totals.items())))


def guess(rows: Sequence[Sequence[str]], key: LengthKey, family: str = "") -> Lengths:
    """Lengths from characters, for a model whose tokenizer is not here; marked as not measured."""
    totals: Counter[int] = Counter()
    for row in rows:
        if key.type == "text":
            totals[2 + math.ceil(len(row[0]) / _CHARACTERS_PER_TOKEN)] += 1
            continue
        messages = messages_of(row, key)
        characters = sum(len(text) for _, text in messages)
        blocks = sum(role == "assistant" for role, _ in messages) * (family == "qwen3")
        between = _GUESSED_PER_MESSAGE * len(messages) + _NO_THOUGHTS_TOKENS * blocks
        totals[2 + between + math.ceil(characters / _CHARACTERS_PER_TOKEN)] += 1
    return Lengths(tuple(sorted(totals.items())), measured=False)


def counter(model: ModelFacts, trainer: str = "torchtune") -> Callable[[Sequence[str]], Sequence[int]] | None:
    """What counts tokens with the model's own tokenizer; None when its files are not there or cannot be used.

    Special tokens inside a text are text to torchtune's Llama 3 tokenizer; its Qwen tokenizer finds them, and so do
    TRL and Mistral's tokenizer, which write whole conversations as text first.
    """
    from tokenizers import Tokenizer  # noqa: PLC0415 - 30 ms, and only wanted when nothing is remembered

    folder = Path(model.path)
    try:
        if model.tokenizer is not None:
            tokenizer = Tokenizer.from_file(str(folder / model.tokenizer))
        elif model.vocab_json:
            tokenizer = _from_vocab(folder)
        else:
            return None
    except Exception:  # noqa: BLE001 - the library raises bare Exception for any bad file
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    finds = model.architecture is not None and model.architecture.family.startswith(("qwen", "mistral"))
    tokenizer.encode_special_tokens = trainer == "torchtune" and not finds

    def count(texts: Sequence[str]) -> list[int]:
        return [len(encoding) for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    return count


def family_of(architecture: Architecture | None) -> str:
    """The family whose format is counted; Llama 3's where the model is not known."""
    return "llama3" if architecture is None else architecture.family


def as_json(lengths: Lengths) -> dict[str, Any]:
    """Lengths as the cache keeps them."""
    return {"counts": [list(pair) for pair in lengths.counts], "measured": lengths.measured}


def from_json(kept: Mapping[str, Any]) -> Lengths:
    """Lengths from the cache."""
    return Lengths(tuple((tokens, rows) for tokens, rows in kept["counts"]), kept["measured"])


def _pieces(texts: Sequence[str], key: LengthKey, family: str) -> tuple[list[str], int]:
    """Texts that are encoded one by one, and how many special tokens stand between them."""
    if key.trainer == "trl" or family == "mistral":
        return [whole_text(texts, key, family)], 0
    if key.type == "text":
        return _text_pieces(texts[0], family)
    messages = messages_of(texts, key)
    if family.startswith("qwen"):
        return _qwen_pieces(messages)
    if family == "llama2":
        return _llama2_pieces(messages)
    pieces = [text for role, content in messages for text in (role.strip(), "\n\n", content.strip())]
    # begin of text, end of text; per message: start and end of the header, end of turn
    return pieces, 2 + 3 * len(messages)


def whole_text(texts: Sequence[str], key: LengthKey, family: str) -> str:
    """A row as TRL encodes it, at once: what `chat.training_template` makes of it."""
    qwen = family.startswith("qwen")
    if family == "mistral":
        return f"<s>{texts[0]}</s>" if key.type == "text" else f"<s>{_mistral_text(messages_of(texts, key))}"
    if key.type == "text":
        return f"{texts[0]}<|im_end|>" if qwen else f"<|begin_of_text|>{texts[0]}<|end_of_text|>"
    messages = messages_of(texts, key)
    if qwen:
        before = {"assistant": NO_THOUGHTS} if family == "qwen3" else {}
        return "\n".join(f"<|im_start|>{role}\n{before.get(role, '')}{content}<|im_end|>" for role, content in messages)
    said = (f"<|start_header_id|>{role}<|end_header_id|>\n\n{text.strip()}<|eot_id|>" for role, text in messages)
    return "<|begin_of_text|>" + "".join(said)


def _mistral_text(messages: Sequence[Message]) -> str:
    """`[INST] system, user [/INST] answer</s>`; the system prompt begins the turn of the user behind it."""
    said, before = "", ""
    for role, content in messages:
        opened = role != "assistant" and before != "system"
        said += "[INST] " if opened else ""
        said += {"system": f"{content}\n\n", "user": f"{content} [/INST]"}.get(role, f" {content}</s>")
        before = role
    return said


def _text_pieces(text: str, family: str) -> tuple[list[str], int]:
    """Begin (Qwen has none) and end of the text; torchtune's Llama 3 tokenizer adds neither to an empty one."""
    if family.startswith("qwen"):
        return [text], 1
    return [text], 2 if text else 0


def _qwen_pieces(messages: Sequence[Message]) -> tuple[list[str], int]:
    r"""`<|im_start|>role\n … <|im_end|>\n`; the last answer ends with the one end-of-sequence token instead."""
    pieces, extra = [], 1
    for i, (role, content) in enumerate(messages):
        pieces += [f"{role}\n", content]
        extra += 1
        if role != "assistant" or i != len(messages) - 1:
            pieces.append("\n")
            extra += 1
    return pieces, extra


def _llama2_pieces(messages: Sequence[Message]) -> tuple[list[str], int]:
    """`[INST] <<SYS>> system <</SYS>> user [/INST] answer`, with begin and end of the text around each answer."""
    text, answers = "", 0
    for role, content in messages:
        if role == "system":
            text += f"[INST] <<SYS>>\n{content}\n<</SYS>>\n\n"
        elif role == "user":
            text += f"{content} [/INST] " if text.endswith("<</SYS>>\n\n") else f"[INST] {content} [/INST] "
        else:
            text += f"{content} "
            answers += 1
    return [text], 2 * max(1, answers)


def _from_vocab(folder: Path) -> Any:
    """Qwen's tokenizer from vocab.json and merges.txt, as its tokenizer.json has it."""
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers  # noqa: PLC0415 - as above
    from tokenizers.models import BPE  # noqa: PLC0415 - as above

    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer = Tokenizer(BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer
