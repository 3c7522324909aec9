"""Generates the capitalization data: words, and the same words with a capital, split at random into three parts.

The text depends on the settings alone: only `random.random()`, whose stream Python promises to keep, decides.
"""

from __future__ import annotations

import json
import math
import os
import random
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import TypeVar

from runplan.config import Dataset
from runplan.errors import ConfigError, Problem, StoreError

T = TypeVar("T")

_VOWELS = "aeiou"
_CONSONANTS = "bcdfghjklmnpqrstvwxz"


def word_capacity(length: int) -> int:
    """How many distinct words of `length` letters can be generated: consonants and vowels in turn."""
    long, short = (length + 1) // 2, length // 2
    c, v = len(_CONSONANTS), len(_VOWELS)
    return int(c**long * v**short + v**long * c**short)


def generated_words(length: int, number: int, seed: int) -> list[str]:
    """`number` distinct pronounceable words of `length` lower-case letters, in random order.

    Raises:
        ConfigError: there are fewer such words.
    """
    if number > word_capacity(length):
        raise _refuse(
            f"{number} words of {length} letters were asked for, but only {word_capacity(length)} can be generated",
            "dataset.n_words",
            "use a larger dataset.word_length, a smaller dataset.n_words or a dataset.word_list",
        )
    rng = random.Random(seed)  # noqa: S311 - data, not secrets
    alphabets = [[(_CONSONANTS, _VOWELS)[(i + start) % 2] for i in range(length)] for start in (0, 1)]
    if 2 * number > word_capacity(length):
        every = ["".join(letters) for alphabet in alphabets for letters in product(*alphabet)]
        return shuffled(every, rng)[:number]
    consonant_first = math.prod(map(len, alphabets[0])) / word_capacity(length)
    words: dict[str, None] = {}
    while len(words) < number:
        alphabet = alphabets[0] if rng.random() < consonant_first else alphabets[1]
        words["".join(letters[int(rng.random() * len(letters))] for letters in alphabet)] = None
    return list(words)


def listed_words(lines: Iterable[str], length: int, number: int, seed: int) -> list[str]:
    """`number` distinct words of `length` letters drawn from a word list, lower case, in random order.

    Raises:
        ConfigError: the list has fewer.
    """
    found = {line.strip().lower() for line in lines}
    words = sorted(word for word in found if len(word) == length and word.isalpha() and len(word[0].upper()) == 1)
    if len(words) < number:
        raise _refuse(
            f"the word list has {len(words)} words of {length} letters, {number} were asked for",
            "dataset.word_list",
            "use a longer list, another dataset.word_length or a smaller dataset.n_words",
        )
    return shuffled(words, random.Random(seed))[:number]  # noqa: S311 - data, not secrets


def split_sizes(number: int, train_fraction: float) -> tuple[int, int, int]:
    """Rows of train, validation and test: `train_fraction`, then halves of the rest."""
    train = round(number * train_fraction)
    validation = (number - train + 1) // 2
    return train, validation, number - train - validation


def json_text(dataset: Dataset, word_list: Sequence[str] | None = None) -> str:
    """The whole data file, one row a line; nothing but the three splits, since trainers read top-level keys.

    Args:
        dataset: `word_length`, `n_words`, `train_fraction`, `seed` and the names of splits and columns count.
        word_list: lines of `dataset.word_list`; None = words are generated.

    Raises:
        ConfigError: a setting is missing or impossible; says both numbers.
    """
    length, number, fraction, seed = _settings(dataset)
    sizes = split_sizes(number, fraction)
    if min(sizes) < 1:
        raise _refuse(
            f"{number} words with train_fraction {fraction} leave {sizes[0]} training, {sizes[1]} validation and "
            f"{sizes[2]} test rows; each needs at least 1",
            "dataset.train_fraction",
            "use more words or another fraction",
        )
    if word_list is None:
        words = generated_words(length, number, seed)
    else:
        words = listed_words(word_list, length, number, seed)
    names = (dataset.train_split, dataset.validation_split, dataset.test_split)
    parts, start = [], 0
    for name, size in zip(names, sizes, strict=True):
        rows = [
            _json({dataset.input_column: word, dataset.output_column: word[0].upper() + word[1:]})
            for word in words[start : start + size]
        ]
        parts.append(f"  {_json(name)}: [\n    " + ",\n    ".join(rows) + "\n  ]")
        start += size
    return "{\n" + ",\n".join(parts) + "\n}\n"


def create(path: Path, dataset: Dataset, word_list: Path | None = None) -> None:
    """Write the data file; it appears whole or not at all, and never in place of another.

    Raises:
        ConfigError: the settings are impossible, or the word list cannot be read.
        StoreError: the file is there already, or its folder cannot be written.
    """
    write_new(path, [_content(dataset, word_list)])


def is_made(path: Path, dataset: Dataset, word_list: Path | None = None) -> bool:
    """Whether a file is what `create` would make with these settings."""
    try:
        return path.read_bytes() == _content(dataset, word_list)
    except (OSError, ConfigError):
        return False


def _content(dataset: Dataset, word_list: Path | None) -> bytes:
    return json_text(dataset, None if word_list is None else _read_lines(word_list)).encode()


def write_new(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file that is not there yet: it appears whole or not at all.

    Raises:
        StoreError: it is there already, or its folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.writelines(parts)
        if path.exists():
            raise StoreError(f"{path} is there already and is not written over; move it away to make it again")
        os.link(temporary, path)  # unlike a rename, a link refuses to replace what is made at this moment
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}; set dataset.path") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _refuse(
            f"{path} cannot be read: {error}", "dataset.word_list", "give a text file, a word a line"
        ) from None


def _settings(dataset: Dataset) -> tuple[int, int, float, int]:
    length, number, fraction = dataset.word_length, dataset.n_words, dataset.train_fraction
    if length is None or number is None or fraction is None:
        unset = [key for key in ("word_length", "n_words", "train_fraction") if getattr(dataset, key) is None]
        raise _refuse(f"dataset.create needs dataset.{unset[0]}", f"dataset.{unset[0]}", "set it")
    if length < 1:
        raise _refuse(f"word_length is {length}, a word has at least 1 letter", "dataset.word_length", "use 1 or more")
    if not 0 < fraction < 1:
        raise _refuse(
            f"train_fraction is {fraction}, it must lie between 0 and 1", "dataset.train_fraction", "0.8 is usual"
        )
    return length, number, fraction, dataset.seed or 0


def shuffled(things: list[T], rng: random.Random) -> list[T]:
    """The list itself, put in random order.

    Fisher-Yates on `random()`: the stream of `random.shuffle` may change between Python versions.
    """
    for i in range(len(things) - 1, 0, -1):
        j = int(rng.random() * (i + 1))
        things[i], things[j] = things[j], things[i]
    return things


def _refuse(what: str, where: str, fix: str) -> ConfigError:
    return ConfigError([Problem(what, where, fix)])


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
