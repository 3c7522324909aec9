"""Answers that are kept between calls: what was learnt from files that have not changed since.

One JSON file an answer, named by the question and the files it is about; inside stand size and time of every file that
was read, so that the answer about a changed file takes the place of the old one. A kept answer that cannot be read is
asked for again; nothing here can make a plan fail. Safe with several processes: write, then rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FORMAT = 3
"""Raise it when what is kept changes its meaning."""


def file_identity(path: str | os.PathLike[str]) -> list[Any]:
    """What tells that a file is still the same: path, bytes, time of change; bytes -1 where there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return [os.fspath(path), -1, 0]
    return [os.fspath(path), found.st_size, found.st_mtime_ns]


@dataclass(frozen=True)
class Cache:
    """A folder of kept answers; without one nothing is kept, and `write=False` only looks."""

    folder: Path | None = None
    write: bool = True
    identity: Callable[[str | os.PathLike[str]], list[Any]] = file_identity
    """What tells that a file is still the same, as JSON values, its path first."""

    def remembered(
        self, kind: str, question: Sequence[Any], files: Sequence[str | os.PathLike[str]], answer: Callable[[], Any]
    ) -> Any:
        """The kept answer to `question` about `files`, or `answer()`, which is then kept. Answers are JSON values."""
        if self.folder is None:
            return answer()
        identities = [self.identity(path) for path in files]
        asked = json.dumps([_FORMAT, kind, list(question), identities])
        name = json.dumps([kind, list(question), [identity[0] for identity in identities]])
        kept = self.folder / f"{kind}-{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
        found = _read(kept, asked)
        if found is not None:
            return found[0]
        fresh = answer()
        if self.write:
            _keep(kept, asked, fresh)
        return fresh


def _read(kept: Path, asked: str) -> tuple[Any] | None:
    try:
        found = json.loads(kept.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("asked") != asked or "answer" not in found:
        return None
    return (found["answer"],)


def _keep(kept: Path, asked: str, fresh: Any) -> None:
    temporary = kept.with_name(f"{kept.name}.{os.getpid()}.tmp")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"asked": asked, "answer": fresh}), encoding="utf-8")
        temporary.replace(kept)
    except OSError:  # a full or read-only disk costs time at the next call, nothing else
        with contextlib.suppress(OSError):
            temporary.unlink()
