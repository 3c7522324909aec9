"""A model folder, checked: config.json, every weight file, the tokenizer; and the command for what is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from runplan.config import Model
from runplan.facts import Architecture, Finding, ModelFacts, Status
from runplan.pasting import pasted_word
from runplan.read.cache import Cache
from runplan.read.checkpoint import check_checkpoint, read_checkpoint
from runplan.read.folder import Folder
from runplan.read.hf_config import architecture_from_json, configured_architecture, disagreements, named_family
from runplan.read.regular import open_regular
from runplan.read.tokenizer import read_tokenizer

_CONFIG_BYTES = 10_000_000  # more is no config.json


def read_model(path: Path, configured: Model, cache: Cache | None = None, trainer: str = "torchtune") -> ModelFacts:
    """Everything planning and verification need to know about a model folder; never raises for what is in it.

    Args:
        path: the folder, absolute.
        configured: what `conf/model` says; stands in for config.json where there is none.
        cache: keeps what tokenizer files said.
        trainer: decides which files of the tokenizer are asked for.
    """
    folder = Folder(path, configured)
    fallback = configured_architecture(configured)
    if not _open(folder):
        return ModelFacts(str(path), folder.status, fallback, findings=tuple(folder.findings))
    _check_kind(folder)
    data = _read_config(folder)
    architecture = None if data is None else _architecture(folder, data)
    checkpoint = read_checkpoint(folder)
    check_checkpoint(folder, checkpoint, architecture)
    shape = architecture or fallback
    vocab_size = None if architecture is None else architecture.vocab_size
    family = None if shape is None else shape.family
    tokens = read_tokenizer(folder, family, vocab_size, cache or Cache(), trainer)
    return ModelFacts(
        path=str(path),
        status=folder.status,
        architecture=shape,
        shards=tuple(checkpoint.names),
        size_bytes=checkpoint.size_bytes,
        dtype=checkpoint.dtype_name,
        tokenizer=tokens.tokenizer,
        tiktoken=tokens.tiktoken,
        vocab_json=tokens.vocab_json,
        chat_template=tokens.chat_template,
        params=checkpoint.params(tied=architecture is not None and architecture.tie_word_embeddings),
        special_tokens=tokens.special_tokens,
        lacking_special_tokens=tokens.lacking,
        findings=tuple(folder.findings),
    )


def _open(folder: Folder) -> bool:
    """List the folder's files; False, and a finding, where there is none to list."""
    path = folder.path
    try:
        if path.is_dir():
            folder.names = frozenset(entry.name for entry in path.iterdir())
            return True
        if path.exists():
            folder.say(Status.invalid, "is a file, not a model folder", "set model.path to the folder")
        else:
            known = configured_architecture(folder.configured) is not None
            enough = "" if known else "; its config.json is enough to plan"
            files = [] if known else ["config.json"]
            folder.say(Status.missing, f"no such folder{_near(path)}{_gated(folder)}{enough}", folder.download(files))
    except OSError as error:  # no permission, or links in a circle
        folder.say(Status.invalid, f"cannot be looked at: {error.strerror or error}", "check the path's permissions")
    return False


def _gated(folder: Folder) -> str:
    """Meta's models are downloaded only by those who accepted their licence."""
    repo = folder.configured.repo_id or ""
    return f"; accept https://huggingface.co/{repo} once, then hf auth login" if repo.startswith("meta-llama/") else ""


def _check_kind(folder: Folder) -> None:
    """Folders that look like a model's but are something else."""
    if "config.json" not in folder.names and "snapshots" in folder.names:
        found = sorted(path for path in (folder.path / "snapshots").glob("*") if path.is_dir())
        detail = "is Hugging Face's cache of a model; its snapshots are the model folders"
        folder.say(Status.invalid, detail, f"set model.path={found[-1]}" if found else folder.download())
    if "adapter_config.json" in folder.names and "config.json" in folder.names:
        folder.say(
            Status.invalid,
            "has adapter_config.json beside whole weights: evaluation would put the adapter on top of itself",
            f"cd {pasted_word(str(folder.path))} && mkdir adapter && mv adapter_* adapter/",
        )


def _near(path: Path) -> str:
    """Folders beside a missing one that have nearly its name."""
    try:
        beside = [entry.name for entry in path.parent.iterdir() if entry.is_dir()]
    except OSError:
        return ""
    near = get_close_matches(path.name, beside, n=3, cutoff=0.7)
    return f"; there is {', '.join(near)}" if near else ""


def _read_config(folder: Folder) -> Mapping[str, Any] | None:
    if "config.json" not in folder.names:
        folder.say(Status.missing, "config.json is not there", folder.download(["config.json"]))
        return None
    file, again = folder.path / "config.json", folder.download_again("config.json")
    try:
        with open_regular(file) as opened:
            text = opened.read(_CONFIG_BYTES)
        data = json.loads(text, object_pairs_hook=lambda pairs: _object(folder, pairs))
    except OSError as error:
        folder.say(Status.invalid, f"config.json cannot be read: {error.strerror or error}", again)
        return None
    except (ValueError, RecursionError) as error:
        folder.say(Status.invalid, f"config.json is not JSON: {error}", again)
        return None
    if not isinstance(data, dict):
        folder.say(Status.invalid, f"config.json holds a {type(data).__name__}, not an object", again)
        return None
    return data


def _object(folder: Folder, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; keys that it has twice, with other values, are said: whoever reads it takes the last."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            first, last = (json.dumps(each, ensure_ascii=False) for each in (found[key], value))
            folder.say(Status.unchecked, f"config.json says {key} {first:.40} and then {last:.40}, which counts")
        found[key] = value
    return found


def _architecture(folder: Folder, data: Mapping[str, Any]) -> Architecture | None:
    found = architecture_from_json(data)
    if isinstance(found, Finding):
        folder.findings.append(found)
        return None
    if data.get("quantization_config"):
        folder.say(
            Status.invalid,
            "config.json has a quantization_config; LoRA here needs bf16, fp16 or fp32 weights",
            "use the model that is not quantized",
        )
    folder.findings += disagreements(found, folder.configured)
    return replace(found, family=named_family(found, folder.configured))
