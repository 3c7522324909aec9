"""Splits a file of rows at random into the one JSON file that trainers and tasks read: train, validation and test.

Rows that say the same go into one split together, so that no row is trained on and tested. The text depends on rows
and settings alone, and a row keeps all its columns.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from runplan.capitalization import shuffled, split_sizes, write_new
from runplan.config import Dataset, DatasetType
from runplan.errors import ConfigError, Problem
from runplan.facts import Finding
from runplan.read.dataset import columns_fix, row_texts
from runplan.read.regular import open_regular
from runplan.read.rows import TABLES, read_document

KEY = "dataset.source"
JSON_LINES = (".jsonl", ".ndjson")
SEPARATED = {".csv": ",;\t|", ".tsv": "\t,;|"}
"""Tables that are read: how their cells may be separated, likeliest first."""
_LONGEST_CELL = 2**31 - 1
_DIGEST_BYTES = 16


def create(path: Path, dataset: Dataset, source: Path) -> None:
    """Write the splits of `source`; the file appears whole or not at all, and never in place of another.

    Raises:
        ConfigError: the rows cannot be read, or are too few for three splits.
        StoreError: the file is there already, or its folder cannot be written.
    """
    if path == source:
        what = f"{source} would have to be its own random parts"
        raise _refuse(what, "leave out dataset.path, and the splits are written beside it, or name another file")
    parts = splits_text(read_flat(source, dataset), dataset, source.name)
    write_new(path, chain([next(parts)], parts))  # by then, all rows were read


def is_made(path: Path, dataset: Dataset, source: Path) -> bool:
    """Whether a file is what `create` would make with these settings."""
    try:
        with path.open("rb") as file:
            parts = splits_text(read_flat(source, dataset), dataset, source.name)
            return all(file.read(len(part)) == part for part in parts) and not file.read(1)
    except (OSError, ConfigError):
        return False


def splits_text(rows: Iterable[tuple[str, Any]], dataset: Dataset, name: str) -> Iterator[bytes]:
    """The data file, part by part: one row a line, in random order; nothing but the three splits.

    Args:
        rows: each with where it stands, as `read_flat` has them.
        dataset: type, names of splits and columns, `train_fraction` and `seed` count.
        name: of the file, for messages.

    Raises:
        ConfigError: a row cannot be used, or a split would have none; says the numbers.
    """
    fraction, seed = dataset.train_fraction, dataset.seed
    if fraction is None:
        raise ConfigError([Problem("dataset.create needs dataset.train_fraction", "dataset.train_fraction", "set it")])
    groups = list(_grouped(rows, dataset, name).values())
    sizes = split_sizes(len(groups), fraction)
    if min(sizes) < 1:
        counts = f"{sizes[0]} training, {sizes[1]} validation and {sizes[2]} test rows"
        what = f"{len(groups)} distinct rows of {name} with train_fraction {fraction} leave {counts}"
        fix = "each split needs one: use more rows or another dataset.train_fraction"
        raise _refuse(what, fix)
    groups = shuffled(groups, random.Random(seed or 0))  # noqa: S311 - data, not secrets
    start, end = 0, b"{\n"
    for key, size in zip((dataset.train_split, dataset.validation_split, dataset.test_split), sizes, strict=True):
        before = end + b"  " + _json(key) + b": [\n    "
        for row in chain.from_iterable(groups[start : start + size]):
            yield before + row
            before = b",\n    "
        start, end = start + size, b"\n  ],\n"
    yield b"\n  ]\n}\n"


def _grouped(rows: Iterable[tuple[str, Any]], dataset: Dataset, name: str) -> dict[bytes, list[bytes]]:
    """The rows as JSON, those that say the same together, in the order of the file."""
    groups: dict[bytes, list[bytes]] = {}
    faults: list[tuple[str, str, Any]] = []
    number = 0
    for where, row in rows:
        number += 1
        texts = row_texts(row, dataset)
        if isinstance(texts, str):
            faults.append((where, texts, row if not faults else None))
            continue
        digest = hashlib.blake2b(_json(texts), digest_size=_DIGEST_BYTES).digest()
        groups.setdefault(digest, []).append(_json(row))
    if faults:
        where, fault, row = faults[0]
        several = f", the first of {len(faults)} rows of {number} that cannot be used" if len(faults) > 1 else ""
        fix = columns_fix(row, dataset) if len(faults) == number else "mend such rows, or leave them out"
        raise _refuse(f"{where} of {name} {fault}{several}", fix)
    return groups


def read_flat(source: Path, dataset: Dataset) -> Iterator[tuple[str, Any]]:
    """Every row of a file without splits, and where it stands (`line 3`, `row 2`); lines are read one by one.

    Raises:
        ConfigError: it is not there, cannot be read, or holds something else.
    """
    kind = source.suffix.lower()
    if not source.exists():
        raise _refuse(f"{source}: no such file", "correct the path")
    try:
        if kind in SEPARATED:
            yield from _cells(source, dataset, SEPARATED[kind])
        elif kind in JSON_LINES:
            yield from _lines(source)
        elif kind in TABLES:
            raise _refuse(f"{source} is a {TABLES[kind]} file", "save it as CSV or JSON lines")
        else:
            yield from ((f"row {i} (from 0)", row) for i, row in enumerate(_listed(source)))
    except OSError as error:
        raise _refuse(f"{source} cannot be read: {error.strerror or error}", "check the path's permissions") from None
    except UnicodeDecodeError as error:
        what = f"{source} is not UTF-8 text: byte 0x{error.object[error.start]:02x}"
        raise _refuse(what, "save it as UTF-8") from None


def _listed(source: Path) -> list[Any]:
    """The rows of a JSON file: a list, lines, or the only list of an object."""
    document = read_document(source)
    if isinstance(document, Finding):
        raise _refuse(f"{source} {document.detail}", document.fix or "use JSON lines, a JSON list or CSV")
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        if len(lists) != 1:
            what = f"{source} holds {len(lists)} lists of rows: {', '.join(map(repr, [*document][:5])) or 'nothing'}"
            raise _refuse(what, "splits that are there already are used with dataset.path instead of dataset.source")
        return lists[0]
    if not isinstance(document, list):
        raise _refuse(f"{source} holds no list of rows", "use JSON lines, a JSON list or CSV")
    return document


def _lines(source: Path) -> Iterator[tuple[str, Any]]:
    with open_regular(source) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield f"line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise _refuse(f"{source} is not JSON lines: line {number}: {error}", "mend that line") from None


def _cells(source: Path, dataset: Dataset, separators: str) -> Iterator[tuple[str, Any]]:
    """The rows of a table, by the names in its first line."""
    csv.field_size_limit(_LONGEST_CELL)
    with open_regular(source) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        separator = _separator(text.readline(), dataset, separators)
        text.seek(0)
        reader = csv.reader(text, delimiter=separator, strict=True)
        try:
            header = next(reader, [])
            if len(set(header)) < len(header):
                raise _refuse(f"{source} names a column twice: {', '.join(header)}", "give each column its own name")
            for cells in reader:
                if len(cells) not in {0, len(header)}:
                    what = f"{source} line {reader.line_num} has {len(cells)} cells, the first line names {len(header)}"
                    raise _refuse(what, 'put cells that hold separators or line ends into "…"')
                if cells:
                    yield f"line {reader.line_num}", dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise _refuse(f"{source} line {reader.line_num}: {error}", "save it again as CSV, in UTF-8") from None


def _separator(first: str, dataset: Dataset, separators: str) -> str:
    """What stands between the names of the first line: what makes the wanted ones of it, else most names."""
    wanted = (
        {dataset.text_column} if dataset.type is DatasetType.text else {dataset.input_column, dataset.output_column}
    )
    names = {each: next(csv.reader([first], delimiter=each), []) for each in separators}
    fitting = [each for each in separators if wanted <= {*names[each]}]
    return fitting[0] if fitting else max(separators, key=lambda each: len(names[each]))


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can say and UTF-8 cannot
        return json.dumps(value).encode()


def _refuse(what: str, fix: str) -> ConfigError:
    return ConfigError([Problem(what, KEY, fix)])
