"""What a group's directory already holds: files that planning wrote, and signs that a run was submitted or ran."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from runplan.errors import StoreError
from runplan.files.file_names import (
    CELL_FACTS,
    CELL_SCRIPT,
    COMPOSED_CONFIG,
    DOCUMENT,
    LEDGER,
    MISTRAL_TOKENIZER,
    PROMPT,
    RECORDS,
    RESUME,
    SETUP,
)
from runplan.jobs.ledger import read_ledger
from runplan.suggest import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OWN_FILES = (
    SETUP, "finetune*.yaml", "finetune*.slurm", "lora_finetune_*.py", "full_finetune_*.py",
    PROMPT, MISTRAL_TOKENIZER, RESUME, f"eval/*/{CELL_FACTS}", f"eval/*/{CELL_SCRIPT}", COMPOSED_CONFIG,
    ".hydra/hydra.yaml", ".hydra/overrides.yaml",
)  # fmt: skip
"""What planning writes into a run; everything else there is its user's or a job's."""

_JOB_LOG = re.compile(r"slurm-.*\.out")


@dataclass(frozen=True)
class ExistingRun:
    """A run directory as it is."""

    there: bool
    is_link: bool = False
    texts: Mapping[str, str] = field(default_factory=dict)
    """Texts of the planned files that are there, by path."""
    own: tuple[str, ...] = ()
    """All files there that planning wrote."""


def is_own(path: str) -> bool:
    """Whether a path relative to a run is one that planning writes."""
    depth = path.count("/")
    return any(pattern.count("/") == depth and fnmatchcase(path, pattern) for pattern in OWN_FILES)


def read_run(group: Path, name: str, planned: Iterable[str]) -> ExistingRun:
    """A run of a group, as far as planning wrote it.

    Raises:
        StoreError: a file stands where the run's directory should be.
    """
    root = f"{group}/{name}"
    if not os.path.lexists(root):
        return ExistingRun(there=False)
    if not os.path.isdir(root):
        raise StoreError(f"{root}: is a file, but a run is planned there; move it away or choose another group.name")
    texts = {}
    for path in planned:
        try:
            data = Path(f"{root}/{path}").read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            continue
        texts[path] = data.decode("utf-8", "surrogateescape")
    own = [*_files(root, ""), *_files(root, ".hydra/")]
    for cell in _names(f"{root}/eval"):
        own += _files(root, f"eval/{cell}/")
    return ExistingRun(there=True, is_link=os.path.islink(root), texts=texts, own=tuple(filter(is_own, own)))


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files(root: str, prefix: str) -> list[str]:
    return [f"{prefix}{name}" for name in _names(f"{root}/{prefix}")]


def started_runs(group: Path, names: Iterable[str]) -> set[str]:
    """The runs that were submitted or left traces of having run: jobs, logs, artifacts, or a line in the ledger.

    Not one whose directory somebody deleted: it has nothing to keep, and is to be written anew.
    """
    submitted = submitted_paths(group)
    return {
        name
        for name in names
        if (name in submitted and os.path.lexists(f"{group}/{name}")) or _has_traces(f"{group}/{name}")
    }


def submitted_paths(group: Path) -> set[str]:
    """First parts of the paths in the group's ledger that were submitted, or were about to be; not what was refused."""
    tried = read_ledger(group).attempts.values()
    return {attempt.path.split("/")[0] for attempts in tried for attempt in attempts if attempt.path}


def _has_traces(root: str) -> bool:
    names = _names(root)
    if _traces(root, names):
        return True
    return "eval" in names and any(
        _traces(f"{root}/eval/{cell}", _names(f"{root}/eval/{cell}")) for cell in _names(f"{root}/eval")
    )


def _traces(folder: str, names: Iterable[str]) -> bool:
    return any(
        name in {"artifacts", RECORDS}
        or _JOB_LOG.fullmatch(name)
        or (name == "logs" and bool(_names(f"{folder}/logs")))
        for name in names
    )


def _is_begun(directory: Path) -> bool:
    """Whether a directory is a group, or about to be one."""
    return any((directory / name).exists() for name in (LEDGER, DOCUMENT))


def refuse_strangers(directory: Path, paths: Iterable[str]) -> None:
    """Refuse to write over files that are nobody's plan: in a directory that is no group, not even one begun.

    Args:
        directory: of the group.
        paths: what would be written, relative to it.

    Raises:
        StoreError: such files are there.
    """
    if not directory.is_dir() or _is_begun(directory):
        return
    there = [path for path in paths if os.path.lexists(directory / path)]
    # Another plan of this group may have begun meanwhile: its ledger is there before its files are.
    if there and not _is_begun(directory):
        raise StoreError(
            f"{directory} is no group, but has {listed(there[:3])}{', …' if len(there) > 3 else ''}, which would be "
            "written over; choose another group.name, move them away, or insist with overwrite=true"
        )


def remove_if_empty(directory: Path) -> None:
    """Take back a directory that was made in vain."""
    ledger = directory / LEDGER
    with suppress(OSError):
        if ledger.exists() and ledger.stat().st_size == 0 and not (directory / DOCUMENT).exists():
            ledger.unlink()
        directory.rmdir()
