"""A dataset file, checked: splits, rows, columns, repeated and shared rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from runplan.config import Dataset, DatasetType
from runplan.facts import DatasetFacts, Finding, Split, Status
from runplan.read.cache import Cache
from runplan.read.rows import Rows, kind_of, read_rows
from runplan.turns import BadTurns, bad_turns

_FEWEST_TO_COMPARE = 20
"""Splits with fewer rows differ in length by chance."""
_ROW_TYPES = (dict,)


def read_dataset(path: Path, dataset: Dataset, fix: str = "", cache: Cache | None = None) -> DatasetFacts:
    """What a dataset file holds; never raises for what is in it.

    Args:
        path: the file, absolute.
        dataset: type of the rows, names of splits and columns.
        fix: what to do when there is no file.
        cache: keeps what was learnt from files that did not change.
    """
    kind = dataset.type.value
    try:
        if not path.exists():
            missing = Finding(Status.missing, "no such file", fix)
            return DatasetFacts(str(path), Status.missing, type=kind, findings=(missing,))
        size = path.stat().st_size
    except OSError as error:
        detail = f"cannot be looked at: {error.strerror or error}"
        return DatasetFacts(
            str(path), Status.invalid, type=kind, findings=(Finding(Status.invalid, detail, "check its permissions"),)
        )
    kept = (cache or Cache()).remembered("dataset", settings(dataset), [path], lambda: _look(path, dataset))
    findings = tuple(Finding(Status(status), detail, mend) for status, detail, mend in kept["findings"])
    said = {finding.status for finding in findings}
    order = (Status.invalid, Status.unchecked)
    return DatasetFacts(
        path=str(path),
        status=next((status for status in order if status in said), Status.ok),
        size_bytes=size,
        type=kind,
        splits={role: Split(*values) for role, values in kept["splits"].items()},
        fields=kept["fields"],
        leaks={(first, second): rows for first, second, rows in kept["leaks"]},
        bad_turns=tuple(BadTurns(*each) for each in kept["bad_turns"]),
        findings=findings,
    )


def settings(dataset: Dataset) -> list[str]:
    """What of the configuration decides how a file is read."""
    columns = (dataset.input_column, dataset.output_column, dataset.messages_column, dataset.text_column)
    return [dataset.type.value, *columns, dataset.train_split, dataset.validation_split, dataset.test_split]


def row_texts(row: Any, dataset: Dataset) -> tuple[str, ...] | str:
    """The texts of a row, prompt first and answer last; for a row that cannot be used, why.

    Chat rows give role and content of every message in turn.
    """
    if not isinstance(row, _ROW_TYPES):
        return f"is {kind_of(row)} instead of an object"
    if dataset.type is DatasetType.chat:
        return _chat_texts(row, dataset.messages_column)
    columns = (
        (dataset.text_column,) if dataset.type is DatasetType.text else (dataset.input_column, dataset.output_column)
    )
    for column in columns:
        if column not in row:
            return f"has no {column!r}"
        if not isinstance(row[column], str):
            return f"has {kind_of(row[column])} instead of text in {column!r}"
    return tuple(row[column] for column in columns)


def _chat_texts(row: Mapping[str, Any], column: str) -> tuple[str, ...] | str:
    messages = row.get(column)
    if not isinstance(messages, list):
        return f"has no {column!r}" if messages is None else f"has {kind_of(messages)} instead of a list in {column!r}"
    texts: list[str] = []
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            return f"has a message without a role in {column!r}"
        content = _content(message.get("content"))
        if content is None:
            return f"has a message without text content in {column!r}"
        texts += [message["role"], content]
    return tuple(texts)


def _content(content: Any) -> str | None:
    """The text of a message: a string, or OpenAI's list of text parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content]
    return "".join(part for part in parts if part) if all(isinstance(part, str) for part in parts) else None


def _look(path: Path, dataset: Dataset) -> dict[str, Any]:
    """Everything `DatasetFacts` needs, as JSON values for the cache."""
    rows = read_rows(path, dataset)
    if isinstance(rows, Finding):
        return _kept([rows], {}, {}, [], [])
    findings, texts = list(rows.findings), _usable_texts(rows, dataset)
    findings += _bad_rows(rows, dataset)
    splits: dict[str, tuple[str, int, int, int]] = {
        role: (rows.fields.get(role, ""), len(rows.splits[role]), _empty(values), len(values) - len(set(values)))
        for role, values in texts.items()
    }
    nothing = {"train": Status.invalid}  # of the others it depends on what is asked for
    findings += [
        Finding(nothing.get(role, Status.ok), f"{role} has no rows") for role, some in rows.splits.items() if not some
    ]
    for role, (_, _, empty, repeated) in splits.items():
        findings += [Finding(Status.ok, f"{_rows(empty, role)} without prompt or answer")] if empty else []
        findings += (
            [Finding(Status.ok, f"{_rows(repeated, role, 'repeats', 'repeat')} an earlier one")] if repeated else []
        )
    leaks = _shared(texts, lambda row: row)
    findings += [
        Finding(Status.ok, f"{_rows(shared, second, f'is a {first} row', f'are {first} rows')}, too")
        for first, second, shared in leaks
        if shared
    ]
    if dataset.type is not DatasetType.text:
        same = {(first, second): shared for first, second, shared in leaks}
        findings += [
            Finding(Status.ok, f"{_rows(shared, second, 'has', 'have')} a {first} row's prompt")
            for first, second, shared in _shared(texts, lambda row: row[:-1])
            if shared > same[first, second]
        ]
    findings += _odd_lengths(texts)
    return _kept(findings, splits, dict(rows.fields), [leak for leak in leaks if leak[2]], _turns(rows, dataset))


def _turns(rows: Rows, dataset: Dataset) -> list[BadTurns]:
    if dataset.type is not DatasetType.chat:
        return []
    found: list[BadTurns] = []
    for role, split in rows.splits.items():
        numbered = ((i, row_texts(row, dataset)) for i, row in enumerate(split))
        found += bad_turns(role, ((i, texts[::2]) for i, texts in numbered if not isinstance(texts, str)))
    return found


def _rows(number: int, role: str, one: str = "", several: str = "") -> str:
    """`1 test row is`, `3 test rows are`."""
    return (f"{number} {role} row {one}" if number == 1 else f"{number} {role} rows {several}").rstrip()


def _kept(
    findings: Sequence[Finding],
    splits: Mapping[str, Any],
    fields: Mapping[str, str],
    leaks: Sequence[Any],
    turns: Sequence[BadTurns],
) -> dict[str, Any]:
    return {
        "findings": [[finding.status.value, finding.detail, finding.fix] for finding in findings],
        "splits": dict(splits),
        "fields": dict(fields),
        "leaks": [list(leak) for leak in leaks],
        "bad_turns": [list(each) for each in turns],
    }


def _usable_texts(rows: Rows, dataset: Dataset) -> dict[str, list[tuple[str, ...]]]:
    return {
        role: [texts for texts in (row_texts(row, dataset) for row in split) if not isinstance(texts, str)]
        for role, split in rows.splits.items()
    }


def _bad_rows(rows: Rows, dataset: Dataset) -> list[Finding]:
    """One finding a kind of fault: how many rows of each split, which is the first, what columns there are."""
    faults: dict[str, Counter[str]] = {}
    first: dict[str, tuple[str, int]] = {}
    for role, split in rows.splits.items():
        for i, row in enumerate(split):
            fault = row_texts(row, dataset)
            if isinstance(fault, str):
                faults.setdefault(fault, Counter())[role] += 1
                first.setdefault(fault, (role, i))
    findings = []
    for fault, numbers in faults.items():
        who = ", ".join(f"{number} of {len(rows.splits[role])} {role} rows" for role, number in numbers.items())
        role, i = first[fault]
        row = f"{role} row {i} (from 0)"
        detail = f"{row} {fault}" if numbers.total() == 1 else f"{who}, first {row}, each {fault}"
        all_rows = all(number == len(rows.splits[role]) for role, number in numbers.items())
        fix = columns_fix(rows.splits[role][i], dataset) if all_rows else "mend such rows, or leave them out"
        findings.append(Finding(Status.invalid, detail, fix))
    return findings


def columns_fix(row: Any, dataset: Dataset) -> str:
    """What to do about rows that lack a column, by what one of them has."""
    if not isinstance(row, dict):
        return "every row must be a JSON object"
    keys = {
        DatasetType.instruct: "dataset.input_column and dataset.output_column",
        DatasetType.chat: "dataset.messages_column",
        DatasetType.text: "dataset.text_column",
    }[dataset.type]
    columns = ", ".join(map(repr, list(row)[:6])) or "none"
    fitting = [kind for kind in DatasetType if not isinstance(row_texts(row, replace(dataset, type=kind)), str)]
    other = f"dataset.type={fitting[0].value} fits them" if fitting else "choose another dataset.type"
    return f"its columns are {columns}; name them with {keys}, or {other}"


def _empty(values: Sequence[tuple[str, ...]]) -> int:
    return sum(not row or not row[0].strip() or not row[-1].strip() for row in values)


def _shared(
    texts: Mapping[str, Sequence[tuple[str, ...]]], key: Callable[[tuple[str, ...]], tuple[str, ...]]
) -> list[tuple[str, str, int]]:
    """For each pair of splits: rows of the second whose `key` some row of the first has."""
    seen = {role: {key(row) for row in values} for role, values in texts.items()}
    return [
        (first, second, sum(key(row) in seen[first] for row in texts[second]))
        for first, second in combinations(texts, 2)
    ]


def _odd_lengths(texts: Mapping[str, Sequence[tuple[str, ...]]]) -> list[Finding]:
    """Random parts of one file have rows of much the same length; twice the median is no chance."""
    medians = {
        role: sorted(sum(map(len, row)) for row in values)[len(values) // 2]
        for role, values in texts.items()
        if len(values) >= _FEWEST_TO_COMPARE
    }
    return [
        Finding(
            Status.ok,
            f"{second} rows have a median of {medians[second]} characters, {first} rows {medians[first]}: "
            "the splits do not look like random parts of one file",
        )
        for first, second in combinations(medians, 2)
        if max(medians[first], medians[second]) > 2 * min(medians[first], medians[second])
    ]
