"""What each factor did: replicates pooled, levels compared with the control and with the first level. Pure.

All of it is about the last evaluated epoch. Runs without a result are counted, never filled in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runplan.collect.intervals import ConfidenceInterval, over_replicates, over_samples
from runplan.collect.results import CONTROL, Measure, Row
from runplan.summary.design import REPLICATION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runplan.collect.inspect_log import SampleKey


@dataclass(frozen=True)
class Pooled:
    """A mean over runs (or pairs of runs) with the intervals that its parts allow."""

    mean: float
    n: int
    """Runs or pairs."""
    replicates: ConfidenceInterval | None
    """Student's t over the means of each seed; None with one seed, and where seeds lack runs that others have."""
    samples: ConfidenceInterval | None
    """Bootstrap over samples, each averaged over the parts first; None where not all parts have the same samples."""


@dataclass(frozen=True)
class Combination:
    """Runs that differ in nothing but the seed."""

    measure: Measure
    model: str
    factors: Mapping[str, Any]
    """Without the seed."""
    runs: tuple[str, ...]
    """With a result."""
    planned: int
    value: Pooled | None
    effect: Pooled | None
    """Against the control."""
    effects: tuple[float, ...]
    """Of each run that has one."""
    control: str | None


@dataclass(frozen=True)
class Level:
    """All runs that share one level of one factor: a marginal mean."""

    measure: Measure
    factor: str
    level: Any
    runs: tuple[str, ...]
    planned: int
    value: float | None
    """Mean over the runs that have a result."""
    effect: Pooled | None
    """Against the control, mean over the same runs."""
    contrast: Pooled | None
    """Against the factor's first level, over pairs of runs that differ in this factor alone; None for the first."""
    pairs: int
    """Such pairs."""


def measures(rows: Iterable[Row]) -> list[Measure]:
    """Every measure that a run of the group has a result in, in the order in which they appear."""
    return [*dict.fromkeys(row.measure for row in rows)]


def combinations(rows: Sequence[Row], document: Mapping[str, Any]) -> list[Combination]:
    """Replicates together, in the order of the plan: means over their runs."""
    runs = [run for run in document["runs"] if run["type"] != CONTROL]
    found: list[Combination] = []
    for measure in measures(rows):
        present = _present(rows, measure)
        planned: dict[str, list[Mapping[str, Any]]] = {}
        for run in runs:
            if _measures(run, measure):
                planned.setdefault(_but(run, REPLICATION), []).append(run)
        for group in planned.values():
            there = [present[run["name"]] for run in group if run["name"] in present]
            found.append(_combination(measure, group, there))
    return found


def _combination(measure: Measure, group: Sequence[Mapping[str, Any]], there: Sequence[Row]) -> Combination:
    compared = [row for row in there if row.effect is not None]
    return Combination(
        measure,
        group[0]["model"],
        {key: level for key, level in group[0]["factors"].items() if key != REPLICATION},
        tuple(row.run for row in there),
        len(group),
        pooled([(_seed(row), row.value or 0.0, row.samples) for row in there]),
        pooled([_of_run(row) for row in compared]),
        tuple(row.effect for row in compared if row.effect is not None),
        there[0].control if there else None,
    )


def levels(rows: Sequence[Row], document: Mapping[str, Any]) -> list[Level]:
    """Every level of every factor but the seed, for each measure."""
    runs = [run for run in document["runs"] if run["type"] != CONTROL]
    factors = [key for key in document["design"]["factors"] if key != REPLICATION]
    found: list[Level] = []
    for measure in measures(rows):
        present = _present(rows, measure)
        measured = [run for run in runs if _measures(run, measure)]
        for key in factors:
            choices = document["design"]["factors"][key]
            found += [_level(present, measure, measured, key, level, choices[0]) for level in choices]
    return found


def _level(
    present: Mapping[str, Row],
    measure: Measure,
    runs: Sequence[Mapping[str, Any]],
    key: str,
    level: Any,
    first: Any,
) -> Level:
    at = [run for run in runs if key in run["factors"] and run["factors"][key] == level]
    there = [present[run["name"]] for run in at if run["name"] in present]
    values = [row.value for row in there if row.value is not None]
    compared = [row for row in there if row.effect is not None]
    pairs: list[tuple[Row, Row]] = []
    if level != first:
        reference = [run for run in runs if key in run["factors"] and run["factors"][key] == first]
        theirs = {_but(run, key): present.get(run["name"]) for run in reference}
        mine = [(present.get(run["name"]), theirs.get(_but(run, key))) for run in at]
        pairs = [(row, other) for row, other in mine if row is not None and other is not None]
    return Level(
        measure, key, level, tuple(row.run for row in there), len(at),
        math.fsum(values) / len(values) if values else None,
        pooled([_of_run(row) for row in compared]),
        pooled([_of_pair(row, other) for row, other in pairs]),
        len(pairs),
    )  # fmt: skip


Part = tuple[str, float, Mapping["SampleKey", float]]
"""What one run, or one pair of runs, adds to a mean: its seed, its value, and that of each sample."""


def _of_run(row: Row) -> Part:
    return _seed(row), row.effect or 0.0, row.differences


def _of_pair(row: Row, other: Row) -> Part:
    gaps = {key: row.samples[key] - other.samples[key] for key in row.samples if key in other.samples}
    return _seed(row), (row.value or 0.0) - (other.value or 0.0), gaps


def _seed(row: Row) -> str:
    return json.dumps(row.factors.get(REPLICATION))


def pooled(parts: Sequence[Part]) -> Pooled | None:
    """Mean over runs or pairs of runs, with its intervals; None of nothing."""
    if not parts:
        return None
    seeds: dict[str, list[float]] = {}
    for seed, value, _ in parts:
        seeds.setdefault(seed, []).append(value)
    mean = math.fsum(value for _, value, _ in parts) / len(parts)
    balanced = len({len(values) for values in seeds.values()}) == 1
    means = [math.fsum(values) / len(values) for values in seeds.values()]
    common = set(parts[0][2]).intersection(*(samples for _, _, samples in parts))
    whole = bool(common) and all(len(samples) == len(common) for _, _, samples in parts)
    averaged = [math.fsum(samples[key] for _, _, samples in parts) / len(parts) for key in common] if whole else []
    return Pooled(
        mean,
        len(parts),
        over_replicates(means) if balanced and len(means) > 1 else None,
        over_samples(averaged) if len(averaged) > 1 else None,
    )


def _present(rows: Sequence[Row], measure: Measure) -> dict[str, Row]:
    """Run → its result at the last epoch."""
    return {row.run: row for row in rows if row.last and row.measure == measure and row.value is not None}


def _measures(run: Mapping[str, Any], measure: Measure) -> bool:
    return any(cell["task"] == measure.task for cell in run["cells"])


def _but(run: Mapping[str, Any], key: str) -> str:
    """A run's factors without one, and its model: what runs that are compared share."""
    factors = {name: level for name, level in run["factors"].items() if name != key}
    model = None if key == "model" or key.startswith("model.") else run["model"]
    return json.dumps([model, factors], sort_keys=True, default=str)
