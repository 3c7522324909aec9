"""The rows of a dataset file: JSON or JSON lines, and which of its keys are the train, validation and test splits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runplan.config import Dataset
from runplan.facts import Finding, Status
from runplan.locate import ROLES
from runplan.pasting import pasted_word
from runplan.read.regular import open_regular
from runplan.read.weights import is_lfs_pointer
from runplan.suggest import splits_at_random

LARGEST_BYTES = 2 * 2**30
"""Larger files are not read: as Python objects they take about ten times their size."""
_OTHER_NAMES = {
    "train": ("training",),
    "validation": ("valid", "val", "dev", "eval", "evaluation"),
    "test": ("testing",),
}
TABLES = {".csv": "CSV", ".tsv": "TSV", ".parquet": "Parquet", ".arrow": "Arrow", ".xlsx": "Excel", ".xls": "Excel"}
SEPARATED = ("CSV", "TSV")
"""Tables that can be read, once their rows are to be split."""
_KINDS = {"NoneType": "null", "bool": "a truth value", "int": "a number", "float": "a number", "str": "a text",
          "list": "a list", "dict": "an object"}  # fmt: skip
_WANTED = "it must be one JSON object with a list of rows under each of train, validation and test"


@dataclass(frozen=True)
class Rows:
    """The splits of a dataset file."""

    splits: Mapping[str, list[Any]]
    """Role → its rows, as they are in the file."""
    fields: Mapping[str, str]
    """Role → key in the file; empty when the file is one list."""
    findings: tuple[Finding, ...] = ()


def read_rows(path: Path, dataset: Dataset) -> Rows | Finding:
    """The splits of a file, or why there are none; never raises for what is in it."""
    document = read_document(path)
    if isinstance(document, Finding):
        return document
    if isinstance(document, list):
        return Rows(
            {"train": document},
            {},
            (Finding(Status.ok, f"one list without splits: all {len(document)} rows are training rows"),),
        )
    if not isinstance(document, dict):
        return Finding(Status.invalid, f"holds {kind_of(document)}; {_WANTED}")
    found = _splits(document, dataset)
    if isinstance(found, Finding) and sum(isinstance(value, list) for value in document.values()) == 1:
        return replace(found, fix=f"{found.fix}, or {splits_at_random(str(path))}")
    return found


def kind_of(value: Any) -> str:
    """What JSON calls a value: `a number`, `an object`, `null`."""
    return _KINDS[type(value).__name__]


def read_document(path: Path) -> Any:
    """What a JSON file holds, of JSON lines the list of them; a finding where there is nothing to read."""
    try:
        if path.is_dir():
            return Finding(Status.invalid, "is a folder, not a file", "set dataset.path to the JSON file in it")
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            return Finding(Status.unchecked, f"{size / 2**30:.1f} GiB are more than 2 GiB: not read, rows not counted")
        if is_lfs_pointer(path):
            pull = f"git -C {pasted_word(str(path.parent))} lfs pull"
            return Finding(Status.invalid, "is a Git LFS pointer, not the data", pull)
        with open_regular(path) as file:
            data = file.read()
    except OSError as error:
        return Finding(Status.invalid, f"cannot be read: {error.strerror or error}", "check the path's permissions")
    return _decoded(data, path)


def _decoded(data: bytes, path: Path) -> Any:
    """What JSON says, or a finding: of a file that is called a table, that it is one."""
    try:
        parsed = _parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        what = f"is not UTF-8 text: byte 0x{error.object[error.start]:02x} at {error.start}"
        parsed = Finding(Status.invalid, what, "save it as UTF-8")
    table = TABLES.get(path.suffix.lower())
    if table and isinstance(parsed, Finding):
        fix = splits_at_random(str(path)) if table in SEPARATED else "save it as CSV, JSON or JSON lines"
        return Finding(Status.invalid, f"is a {table} file; {_WANTED}", fix)
    return parsed


def _parse(text: str) -> Any:
    if not text.strip():
        return Finding(Status.invalid, f"is empty; {_WANTED}")
    try:
        return json.loads(text)
    except RecursionError:
        return Finding(Status.invalid, "is nested too deeply to be a dataset")
    except ValueError as error:
        said = error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    rows: list[Any] = []
    for number, line in lines:
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            if rows:  # the first lines are JSON each: JSON lines with a bad one
                return Finding(Status.invalid, f"is not JSON lines: line {number}: {_reason(error)}")
            break
    if rows and len(rows) == len(lines):
        return rows
    place = (
        f"line {said.lineno} column {said.colno}: {said.msg}" if isinstance(said, json.JSONDecodeError) else str(said)
    )
    return Finding(Status.invalid, f"is not JSON: {place}")


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"column {error.colno}: {error.msg}"
    return str(error)


def _splits(document: Mapping[str, Any], dataset: Dataset) -> Rows | Finding:
    splits: dict[str, list[Any]] = {}
    fields: dict[str, str] = {}
    findings: list[Finding] = []
    for role in ROLES:
        configured = getattr(dataset, f"{role}_split")
        key = _key(document, configured, role)
        if key is None:
            continue
        if key != configured:
            findings.append(Finding(Status.ok, f"{role} rows are under {key!r}"))
        if not isinstance(document[key], list):
            detail = f"{key!r} holds {kind_of(document[key])} instead of a list of rows"
            findings.append(Finding(Status.invalid, detail, f"{_WANTED}"))
            continue
        splits[role], fields[role] = document[key], key
    if not splits and not findings:
        return Finding(
            Status.invalid,
            f"has no splits: its keys are {_listed(list(document))}; {_WANTED}",
            "name them with dataset.train_split, dataset.validation_split and dataset.test_split",
        )
    return Rows(splits, fields, tuple(findings))


def _key(document: Mapping[str, Any], configured: str, role: str) -> str | None:
    """The key of a role: the configured one; other usual names only where the usual one was not changed."""
    if configured in document:
        return configured
    others = _OTHER_NAMES[role] if configured == role else ()
    return next((name for name in others if name in document), None)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name)[:40] for name in names[:5]) or "none"
    return shown + (", …" if len(names) > 5 else "")
