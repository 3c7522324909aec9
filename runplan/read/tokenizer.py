"""The tokenizer's files in a model folder: which are there, whether they are whole, whether ids fit the embedding."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runplan.facts import Status
from runplan.read.cache import Cache
from runplan.read.folder import Folder
from runplan.read.weights import is_lfs_pointer

_POINTER = "is a Git LFS pointer, not the tokenizer"
_FILES = ("tokenizer.json", "vocab.json", "merges.txt")
_RANKS = ("original/tokenizer.model", "tokenizer.model")
_TEMPLATES = ("chat_template.jinja", "tokenizer_config.json")
# What torchtune 0.6.1 looks up by name when it is given tokenizer.json as special_tokens_path
# (torchtune/models/llama3/_tokenizer.py, Llama3Tokenizer.__init__); one that is not there is a KeyError.
_LLAMA3_SPECIAL = tuple(
    f"<|{name}|>"
    for name in (
        *("begin_of_text", "end_of_text", "finetune_right_pad_id", "step_id", "start_header_id"),
        *("end_header_id", "eot_id", "eom_id", "python_tag", "image"),
    )
)
# The same of torchtune/models/qwen2_5/_tokenizer.py, Qwen2_5Tokenizer.__init__, and of its defaults.
_MISTRAL_SPECIAL = ("<s>", "</s>")  # with which recipes/mistral_tokenizer.py begins texts and ends answers
_QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")


_SENTENCEPIECE = {"llama2", "mistral"}
"""Families whose tokenizer.model is sentencepiece's, which is not read here."""


@dataclass(frozen=True)
class TokenizerFacts:
    """The tokenizer of a model folder."""

    tokenizer: str | None = None
    tiktoken: str | None = None
    vocab_json: bool = False
    chat_template: bool = False
    special_tokens: bool = False
    lacking: tuple[str, ...] = ()
    """Special tokens of Llama 3 that tokenizer.json does not name."""


def read_tokenizer(
    folder: Folder, family: str | None, vocab_size: int | None, cache: Cache, trainer: str = "torchtune"
) -> TokenizerFacts:
    """What the tokenizer files of a folder say; what is wrong is said to `folder`.

    Args:
        folder: of the model.
        family: decides which files torchtune reads; None = unknown, then none is asked for.
        vocab_size: rows of the embedding; None = ids are not checked.
        cache: keeps what was learnt from files that did not change.
        trainer: TRL reads tokenizer.json alone.
    """
    there = {name for name in (*_FILES, *_RANKS, *_TEMPLATES) if (folder.path / name).is_file()}
    ranks = next((name for name in _RANKS if name in there), None)
    lacking_tokens: tuple[str, ...] = _LLAMA3_SPECIAL
    if "tokenizer.json" in there:
        path = folder.path / "tokenizer.json"
        said = cache.remembered("special tokens", [vocab_size], [path], lambda: _look_at_tokenizer(path, vocab_size))
        lacking_tokens = tuple(said["lacking"])
        unnamed = said["unnamed"] if trainer == "torchtune" and (family or "").startswith("qwen") else []
        looked_up = [f"does not name {', '.join(unnamed)}, which torchtune looks up"] if unnamed else []
        if family == "mistral" and (unended := said["unended"]):
            looked_up = [f"does not name {', '.join(unended)}, with which texts begin and answers end"]
        _say(folder, "tokenizer.json", [*said["problems"], *looked_up])
    if ranks is not None and family not in _SENTENCEPIECE:
        path_of_ranks = folder.path / ranks
        problems = cache.remembered(
            "ranks", [vocab_size], [path_of_ranks], lambda: _look_at_ranks(path_of_ranks, vocab_size)
        )
        _say(folder, ranks, problems)
    lacking = {name: why for name, why in _wanted(family, ranks, trainer).items() if name not in there}
    for name, why in lacking.items():
        fix = folder.download(list(lacking))
        if "tokenizer.json" in there and not folder.configured.repo_id:
            fix += "; trainer=trl reads tokenizer.json alone"
        folder.say(Status.missing, f"{name}, which {why}, is not there", fix)
    return TokenizerFacts(
        tokenizer="tokenizer.json" if "tokenizer.json" in there else None,
        tiktoken=ranks,
        vocab_json={"vocab.json", "merges.txt"} <= there,
        chat_template=_has_chat_template(folder.path, there),
        special_tokens=not lacking_tokens,
        lacking=lacking_tokens,
    )


def _say(folder: Folder, name: str, problems: Sequence[str]) -> None:
    for problem in problems:
        pointer = problem.startswith(_POINTER)
        folder.say(Status.invalid, f"{name} {problem}", folder.pull() if pointer else folder.download_again(name))


def _wanted(family: str | None, ranks: str | None, trainer: str) -> dict[str, str]:
    """File → who reads it."""
    if trainer != "torchtune":
        return {"tokenizer.json": f"{trainer} reads"}
    wanted = {"tokenizer.json": "evaluation reads"}
    if family is not None and family.startswith("qwen"):
        wanted |= dict.fromkeys(("vocab.json", "merges.txt"), "torchtune reads")
    if family is not None and family.startswith("llama") and ranks is None:
        wanted["tokenizer.model" if family == "llama2" else "original/tokenizer.model"] = "torchtune reads"
    return wanted


def _look_at_tokenizer(path: Path, vocab_size: int | None) -> dict[str, Any]:
    """As JSON, for the cache: problems as text, and which special tokens of each family are not named."""
    nothing: dict[str, Any] = {"lacking": list(_LLAMA3_SPECIAL), "unnamed": [], "unended": []}
    try:
        if is_lfs_pointer(path):
            return {**nothing, "problems": [_POINTER]}
        data = json.loads(path.read_bytes())
        added = {token["content"]: token["id"] for token in data.get("added_tokens", [])}
        vocab = data["model"]["vocab"]
        ids = [*(vocab.values() if isinstance(vocab, Mapping) else range(len(vocab))), *added.values()]
        largest = max(ids)
    except OSError as error:
        return {**nothing, "problems": [f"cannot be read: {error.strerror or error}"]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"is no tokenizer: {type(error).__name__} {error}"[:200]
        return {**nothing, "problems": [problem]}
    problems = []
    if vocab_size is not None and largest >= vocab_size:
        problems.append(f"has token id {largest}, the embedding has {vocab_size} rows (ids 0 to {vocab_size - 1})")
    asked = {"lacking": _LLAMA3_SPECIAL, "unnamed": _QWEN_SPECIAL, "unended": _MISTRAL_SPECIAL}
    lacking = {kind: [name for name in names if name not in added] for kind, names in asked.items()}
    return {**lacking, "problems": problems}


def _look_at_ranks(path: Path, vocab_size: int | None) -> list[str]:
    """Problems of a tiktoken file: lines of base64 bytes and a rank."""
    try:
        if is_lfs_pointer(path):
            return [_POINTER]
        pairs = [line.split(b" ") for line in path.read_bytes().splitlines() if line]
        ranks = [int(rank) for _, rank in pairs]
        for token, _ in pairs:
            base64.b64decode(token, validate=True)
    except OSError as error:
        return [f"cannot be read: {error.strerror or error}"]
    except (ValueError, binascii.Error):
        return ["has lines that are not a base64 token and its rank"]
    if not ranks:
        return ["is empty"]
    if vocab_size is not None and max(ranks) >= vocab_size:
        return [f"has rank {max(ranks)}, the embedding has {vocab_size} rows"]
    return []


def _has_chat_template(folder: Path, there: set[str]) -> bool:
    if "chat_template.jinja" in there:
        return True
    if "tokenizer_config.json" not in there:
        return False
    try:
        data = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and bool(data.get("chat_template"))
