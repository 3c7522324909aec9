"""Looks through folders for models, data files and logs: breadth first, so deep enough and for so long only."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from runplan.discover.found import DataFile, LogFolder, ModelFolder
from runplan.priors.files import is_log_name

DEPTH = 4
"""Folders below a root that was not named by the user; below one that was, `NAMED_DEPTH`."""
NAMED_DEPTH = 8
COUNTED_BYTES = 20 << 20
"""Data files up to this size are read to count their rows."""
_HEAD_BYTES = 64 << 10
_LARGEST_LISTING = 20_000
"""Entries of one folder that are looked at: a folder of a million files is data of another kind."""
_SKIPPED = frozenset(
    {"__pycache__", "node_modules", "site-packages", "wandb", "artifacts", "blobs", "refs", "proc", "sys", "dev"}
)
_TORCHTUNE = re.compile(rb"torchtune|Running LoRAFinetune\w*|Memory stats after model init")
_SPLIT = re.compile(rb'"(?:train|training)"\s*:\s*\[')
_SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test")
_NOT_DATA = re.compile(r"config.*|tokenizer.*|.*\.index|plan|package.*|vocab|special_tokens_map|added_tokens")


@dataclass
class Search:
    """What was found so far; filled by a thread that may never come back from a dead file system."""

    models: dict[str, ModelFolder] = field(default_factory=dict)
    data: dict[str, DataFile] = field(default_factory=dict)
    logs: Counter[str] = field(default_factory=Counter)
    scratch: list[tuple[str, str]] = field(default_factory=list)
    """(folder, how it was found) of roots for large files that can be written."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Root or folder → why it was not looked through."""
    folders: int = 0
    now: str = ""
    """The root at work."""
    done: bool = False

    def log_folders(self) -> tuple[LogFolder, ...]:
        """Folders with logs, the fullest first."""
        return tuple(LogFolder(path, number) for path, number in self.logs.most_common())


@dataclass(frozen=True)
class Root:
    """Where to look, and for what."""

    path: str
    kinds: frozenset[str] = frozenset({"models", "data", "logs"})
    depth: int = DEPTH
    named: bool = False
    """Whether the user named it."""
    scratch: str = ""
    """How it was found, where it is a place for large files."""


def search(
    roots: Sequence[Root], options: dict[str, str], limit_s: float, progress: Callable[[Search], None] | None = None
) -> Search:
    """What there is below some roots; what was not reached in time is in `unreadable`.

    Args:
        roots: folders that exist, each with what is looked for.
        options: name of a model's folder → option of `conf/model`.
        limit_s: seconds for all roots together.
        progress: called about ten times a second.
    """
    found = Search()
    deadline = time.monotonic() + limit_s
    worker = threading.Thread(target=_look, args=(found, roots, options, deadline), daemon=True)
    worker.start()
    waiting = True
    while waiting:
        worker.join(0.1)
        if progress is not None:
            progress(found)
        waiting = worker.is_alive() and time.monotonic() < deadline + 0.5
    if not found.done:
        found.unreadable.setdefault(
            found.now, f"not looked through in {limit_s:g} s; --models, --data, --logs name one"
        )
    return found


def _look(found: Search, roots: Sequence[Root], options: dict[str, str], deadline: float) -> None:
    seen: set[tuple[int, int]] = set()
    for root in roots:
        found.now = root.path
        if not _opens(found, root):
            continue
        queue = deque([(root.path, 0)])
        while queue:
            if time.monotonic() > deadline:
                return
            folder, depth = queue.popleft()
            entries = _listing(found, folder, seen)
            if entries is None:
                continue
            found.folders += 1
            names = {entry.name: entry for entry in entries}
            if "models" in root.kinds and "config.json" in names and _model(found, folder, options):
                continue
            _files(found, root, folder, entries)
            if depth < root.depth:
                queue.extend((path, depth + 1) for path in _subfolders(entries))
    found.done = True


def _opens(found: Search, root: Root) -> bool:
    """Whether a root is a folder; one that the user named and is none is told of."""
    if not os.path.isdir(root.path):  # noqa: PTH112 - text in, text out
        if root.named:
            found.unreadable[root.path] = "no such folder"
        return False
    if root.scratch and os.access(root.path, os.W_OK | os.X_OK):
        found.scratch.append((root.path, root.scratch))
    return True


def _listing(found: Search, folder: str, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]] | None:
    """The entries of a folder that was not seen before; None, with the reason kept, where it cannot be read."""
    try:
        stat = os.stat(folder)  # noqa: PTH116 - thousands of folders; a Path each would double the time
        if (stat.st_dev, stat.st_ino) in seen:
            return None
        seen.add((stat.st_dev, stat.st_ino))
        entries = []
        with os.scandir(folder) as listing:
            for entry in listing:
                entries.append(entry)
                if len(entries) == _LARGEST_LISTING:
                    break
    except OSError as error:
        found.unreadable[folder] = error.strerror or str(error)
        return None
    return sorted(entries, key=lambda entry: entry.name)


def _subfolders(entries: Sequence[os.DirEntry[str]]) -> list[str]:
    """Folders to go on with; a link is followed, since models are often links, and no folder is seen twice."""
    paths = []
    for entry in entries:
        hidden = entry.name.startswith(".")
        if hidden or entry.name in _SKIPPED or not _is_text(entry.name):
            continue
        try:
            if entry.is_dir():
                paths.append(entry.path)
        except OSError:
            continue
    return paths


def _is_text(name: str) -> bool:
    """Whether a name is UTF-8: a YAML file cannot hold another."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _read(path: str, most: int) -> bytes:
    """The beginning of a regular file; nothing of what cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            return file.read(most)
    except OSError:
        return b""


def _model(found: Search, folder: str, options: dict[str, str]) -> bool:
    """Keep a folder whose config.json is a language model's."""
    try:
        config: Any = json.loads(_read(f"{folder}/config.json", 1 << 20))
    except (ValueError, RecursionError):
        return False
    if not isinstance(config, dict) or not {"model_type", "vocab_size"} <= config.keys():
        return False
    parts = folder.split("/")
    hub = None
    if len(parts) > 2 and parts[-2] == "snapshots" and parts[-3].startswith("models--"):
        hub = parts[-3].removeprefix("models--").replace("--", "/", 1)
    name = hub.rpartition("/")[2] if hub else parts[-1]
    found.models[folder] = ModelFolder(folder, str(config["model_type"]), options.get(name), hub)
    return True


def _files(found: Search, root: Root, folder: str, entries: Sequence[os.DirEntry[str]]) -> None:
    for entry in entries:
        if not _is_text(entry.name):
            continue
        is_data = "data" in root.kinds and entry.name.endswith(".json") and not _NOT_DATA.fullmatch(entry.name[:-5])
        if not is_data and not ("logs" in root.kinds and is_log_name(entry.name)):
            continue
        try:
            if not entry.is_file():
                continue
            size = entry.stat().st_size
        except OSError:
            continue
        if is_data:
            _data(found, entry.path, size)
        elif _TORCHTUNE.search(_read(entry.path, _HEAD_BYTES)):
            found.logs[_log_folder(root, folder)] += 1


def _log_folder(root: Root, folder: str) -> str:
    """The folder to name for a log: the root where the user named it, else the root's folder that the log is below."""
    inside = os.path.relpath(folder, root.path)
    return root.path if root.named or inside == "." else f"{root.path.rstrip('/')}/{inside.split('/')[0]}"


def _data(found: Search, path: str, size: int) -> None:
    if not _SPLIT.search(_read(path, _HEAD_BYTES)):
        return
    rows: tuple[tuple[str, int], ...] = ()
    if size <= COUNTED_BYTES:
        try:
            document: Any = json.loads(_read(path, size))
        except (ValueError, RecursionError):
            return
        if not isinstance(document, dict):
            return
        rows = tuple((name, len(document[name])) for name in _SPLITS if isinstance(document.get(name), list))
        if len(rows) < 2:
            return
    found.data[path] = DataFile(path, size, rows)
