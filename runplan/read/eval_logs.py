"""What logs of earlier evaluations by Inspect say of the data that a task brings; read without Inspect."""

from __future__ import annotations

import glob
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from runplan.read.regular import open_regular
from runplan.task_data import SeenTask

HEAD_BYTES = 1 << 20
"""Of a JSON log; what is said of the data stands before the samples."""
MOST_LOGS = 50
"""Newest logs of a task that are read."""
_SKIPPED = frozenset({"node_modules", "artifacts", "attempts", "wandb"})
_UNREADABLE = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError),  # cut short, packed in another way
    *(ValueError, RecursionError, KeyError, TypeError, AttributeError),  # of another form
)
_NO_ANSWER: Mapping[str, Any] = {}


def read_seen_tasks(paths: Sequence[Path], script: Path, functions: Sequence[str]) -> tuple[SeenTask, ...]:
    """What each log of these task functions says, newest first; logs of other scripts and unreadable ones are left out.

    Args:
        paths: folders (searched for `*.eval`, and `*.json` in folders called `logs`), files or globs.
        script: the Inspect file; its name and that of its folder tell it from others, wherever it was.
        functions: names of its tasks.
    """
    files = sorted(_files(paths, functions), key=_modified, reverse=True)[:MOST_LOGS]
    found = (seen for file in files if (seen := _seen(file, script)) is not None and seen.function in functions)
    return tuple(found)


def _files(paths: Iterable[Path], functions: Sequence[str]) -> Iterator[Path]:
    parts = [name.replace("_", "-") for name in functions]  # as Inspect names its logs
    for path in paths:
        named = [str(path)] if path.exists() else glob.glob(str(path), recursive=True)  # noqa: PTH207 - absolute patterns
        for one in named:
            for folder, folders, names in os.walk(one):
                folders[:] = [name for name in folders if not name.startswith(".") and name not in _SKIPPED]
                suffixes = (".eval", ".json") if PurePath(folder).name == "logs" else (".eval",)
                for name in names:
                    if name.endswith(suffixes) and any(part in name.replace("_", "-") for part in parts):
                        yield Path(folder, name)


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _seen(file: Path, script: Path) -> SeenTask | None:
    try:
        document = _archive_head(file) if file.suffix == ".eval" else _json_head(file)
        return _of(document, file, script)
    except _UNREADABLE:
        return None


def _archive_head(file: Path) -> Mapping[str, Any]:
    with zipfile.ZipFile(file) as archive, archive.open("header.json") as head:
        document = json.loads(head.read(16 * HEAD_BYTES))
    return document if isinstance(document, dict) else _NO_ANSWER


def _json_head(file: Path) -> Mapping[str, Any]:
    """`eval` and `stats` of a log whose samples may be any number of megabytes."""
    with open_regular(file) as opened:
        text = opened.read(HEAD_BYTES).decode("utf-8", "replace")
    decoder, found = json.JSONDecoder(), {}
    for key in ("eval", "stats"):
        at = text.find(f'"{key}":')
        if at >= 0:
            begin = at + len(key) + 3
            while text[begin : begin + 1].isspace():
                begin += 1
            found[key] = decoder.raw_decode(text, begin)[0]
    return found


def _of(document: Mapping[str, Any], file: Path, script: Path) -> SeenTask | None:
    """What a log's head says; None where it is another script's, or does not tell the number of samples."""
    said = document["eval"]
    samples, place = said["dataset"]["samples"], said["task_file"]
    if not isinstance(samples, int) or isinstance(samples, bool) or samples < 1 or not isinstance(place, str):
        return None
    if PurePath(place).parts[-2:] != script.parts[-2:]:
        return None
    args = said.get("task_args")
    prompt = _prompt_tokens(document, samples)
    return SeenTask(str(said["task"]).rpartition("/")[2], samples, str(file), prompt, args or {})


def _prompt_tokens(document: Mapping[str, Any], samples: int) -> float | None:
    """Mean tokens of what the model was given, where every sample was evaluated once."""
    config = document["eval"].get("config") or _NO_ANSWER
    if config.get("limit") is not None or (config.get("epochs") or 1) != 1:
        return None
    usage = (document.get("stats") or _NO_ANSWER).get("model_usage") or _NO_ANSWER
    counts = [each.get("input_tokens") for each in usage.values()]
    if len(counts) != 1 or not isinstance(counts[0], int) or counts[0] < samples:
        return None
    return counts[0] / samples
