"""What can make a dataset: splits of a file of rows, or generated words; and whether data are what it would make."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runplan import capitalization, random_splits
from runplan.config import Dataset
from runplan.paths import absolute
from runplan.read.dataset import settings

GENERATORS = ("capitalization",)
"""What `dataset.generator` can name."""
_SHOWN_DIGITS = 12


@dataclass(frozen=True)
class Maker:
    """How one dataset is made."""

    create: Callable[[Path], None]
    is_made: Callable[[Path], bool]
    """Whether a file is what `create` would write."""
    asked: Sequence[Any]
    """Settings that decide what is written."""
    files: Sequence[Path]
    """What it is made from."""
    made_of: str = ""
    """What is said of the file with its hash; empty where nothing is."""

    @property
    def can_tell(self) -> bool:
        """Whether what it is made from is still there."""
        return all(path.exists() for path in self.files)


def maker_of(dataset: Dataset, cwd: Path) -> Maker | None:
    """What makes the data of a configuration; None where nothing here can."""
    if dataset.source:
        source = absolute(dataset.source, cwd)
        return Maker(
            lambda path: random_splits.create(path, dataset, source),
            lambda path: random_splits.is_made(path, dataset, source),
            [dataset.train_fraction, dataset.seed, *settings(dataset)],
            [source],
            f"random parts of {source.name} (seed {dataset.seed or 0})",
        )
    if dataset.generator not in GENERATORS:
        return None
    word_list = absolute(dataset.word_list, cwd) if dataset.word_list else None
    return Maker(
        lambda path: capitalization.create(path, dataset, word_list),
        lambda path: capitalization.is_made(path, dataset, word_list),
        [dataset.word_length, dataset.n_words, dataset.train_fraction, dataset.seed, *settings(dataset)],
        [word_list] if word_list else [],
    )


def short_hash(path: Path) -> str:
    """The beginning of the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_SHOWN_DIGITS]
