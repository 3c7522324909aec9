"""What an Inspect log says: metrics, and what every sample scored. Pure: parsed JSON in, plain values out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SampleKey = tuple[str, str]
"""A sample's id and target, as JSON: the same id with another target is another sample."""
STDERR = ("stderr", "bootstrap_stderr")
_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Score:
    """What one scorer found."""

    name: str
    metrics: Mapping[str, float | None]
    """Name → value, standard errors left out; None for what is no number."""
    stderr: float | None
    """Of the mean over samples."""
    samples: Mapping[SampleKey, float] = field(default_factory=dict)
    """What each sample scored, repetitions (`epochs` of Inspect) reduced; empty where that is not known."""
    n: int = 0
    """Samples scored."""

    def is_mean(self, metric: str) -> bool:
        """Whether a metric is the mean over the samples, so that samples can stand for it."""
        value = self.metrics[metric]
        if value is None or not self.samples:
            return False
        mean = math.fsum(self.samples.values()) / len(self.samples)
        return abs(mean - value) <= _TOLERANCE * max(1.0, abs(value))


@dataclass(frozen=True)
class EvalLog:
    """One log of one evaluation."""

    task: str
    status: str
    """success, error, cancelled or started."""
    created: str
    """When the evaluation began, as ISO 8601 text."""
    scores: tuple[Score, ...] = ()
    total: int | None = None
    """Samples that were to be evaluated, repetitions included."""
    completed: int | None = None
    error: str = ""
    notes: tuple[str, ...] = ()
    """What a reader of its numbers should know."""


def parse_log(document: Any) -> EvalLog:
    """What a log says.

    Args:
        document: the log as `json.loads` made it.

    Raises:
        ValueError: it is JSON, but no Inspect log; the message says what is missing.
    """
    evaluation = _mapping(document).get("eval")
    status = _mapping(document).get("status")
    if not isinstance(evaluation, Mapping) or not isinstance(status, str):
        raise ValueError("is no Inspect log: `eval` and `status` are not there")  # noqa: TRY004 - content, not use
    results = _mapping(document.get("results"))
    reduced, repeated = _sample_values(document)
    notes = ["samples repeat an id, so none can be paired"] if repeated else []
    total, completed = _count(results.get("total_samples")), _count(results.get("completed_samples"))
    if total is not None and completed is not None and completed < total:
        notes.append(f"{completed} of {total} samples completed")
    if document.get("invalidated") is True:
        status, notes = "error", ["it was invalidated by hand"]
    return EvalLog(
        task=str(evaluation.get("task", "")).rpartition("/")[2],
        status=status,
        created=str(evaluation.get("created", "")),
        scores=tuple(_scores(results, {} if repeated else reduced)),
        total=total,
        completed=completed,
        error=_error(document),
        notes=tuple(notes),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _items(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _error(document: Mapping[str, Any]) -> str:
    message = _mapping(document.get("error")).get("message")
    if isinstance(message, str) and message.strip():
        return message.strip().splitlines()[-1]
    return ""


def number(value: Any) -> float | None:
    """A score as a number, as Inspect's `value_to_float` has it: C, P, I, N, yes and no count; None for all else."""
    if isinstance(value, str):
        text = value.strip()
        if text in _LETTERS:
            return _LETTERS[text]
        if text.lower() in _WORDS:
            return _WORDS[text.lower()]
        try:
            value = float(text)
        except ValueError:
            return None
    if isinstance(value, (bool, int, float)):
        try:
            made = float(value)
        except OverflowError:
            return None
        return made if math.isfinite(made) else None
    return None


Reduced = dict[tuple[str, str], dict[SampleKey, Any]]
"""Scorer and reducer (empty: none) → what each sample scored."""


def _sample_values(document: Mapping[str, Any]) -> tuple[Reduced, bool]:
    """What samples scored by scorer, and whether a sample occurs twice in one repetition."""
    targets: dict[str, str] = {}
    seen: set[tuple[str, Any]] = set()
    repeated = False
    raw: dict[str, dict[str, list[Any]]] = {}
    for sample in _items(document.get("samples")):
        name = _text(sample.get("id"))
        turn = (name, sample.get("epoch") if isinstance(sample.get("epoch"), int) else None)
        repeated |= turn in seen
        seen.add(turn)
        targets[name] = _text(sample.get("target"))
        for scorer, score in _mapping(sample.get("scores")).items():
            raw.setdefault(scorer, {}).setdefault(name, []).append(_mapping(score).get("value"))
    found: Reduced = {}
    for item in _items(document.get("reductions")):
        values: dict[SampleKey, Any] = {}
        for sample in _items(item.get("samples")):
            name = _text(sample.get("sample_id"))
            repeated |= (name, targets.get(name, "")) in values
            values[name, targets.get(name, "")] = sample.get("value")
        found[str(item.get("scorer", "")), str(item.get("reducer") or "")] = values
    if not found:
        found = {
            (scorer, ""): {(name, targets[name]): _mean(values) for name, values in samples.items()}
            for scorer, samples in raw.items()
        }
    return found, repeated


def _mean(values: list[Any]) -> Any:
    """What one sample scored over its repetitions: the mean, of every key where scores have keys."""
    if all(isinstance(value, Mapping) for value in values):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: _mean([value.get(key) for value in values]) for key in keys}
    numbers = [number(value) for value in values]
    known = [one for one in numbers if one is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(numbers) else None


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _scores(results: Mapping[str, Any], reduced: Reduced) -> list[Score]:
    made = []
    taken: dict[str, int] = {}
    for item in _items(results.get("scores")):
        name = str(item.get("name", ""))
        reducer = str(item.get("reducer") or "")
        metrics = {
            str(key): number(one.get("value"))
            for key, one in _mapping(item.get("metrics")).items()
            if isinstance(one, Mapping)
        }
        samples = _of_scorer(item, name, reducer, reduced)
        count = _count(item.get("scored_samples"))
        taken[name] = taken.get(name, 0) + 1
        label = f"{name} ({reducer})" if reducer and taken[name] > 1 else name
        made.append(
            Score(
                name=label,
                metrics={key: value for key, value in metrics.items() if key not in STDERR},
                stderr=next((metrics[key] for key in STDERR if metrics.get(key) is not None), None),
                samples=samples,
                n=len(samples) if count is None else count,
            )
        )
    return made


def _of_scorer(item: Mapping[str, Any], name: str, reducer: str, reduced: Reduced) -> dict[SampleKey, float]:
    """What samples scored under one of the results' scorers; a scorer of several values has an entry for each."""
    for label in (name, str(item.get("scorer", ""))):
        for wanted in (reducer, ""):
            values = reduced.get((label, wanted))
            if values is None:
                continue
            plain = {key: number(_mapping(v).get(name) if isinstance(v, Mapping) else v) for key, v in values.items()}
            return {key: value for key, value in plain.items() if value is not None}
    return {}
