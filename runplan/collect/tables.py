"""Tables of results and effects, one of each kind for every measure. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runplan.files.file_names import RESULTS
from runplan.summary.blocks import Block, Fact, Item, Table
from runplan.summary.design import REPLICATION
from runplan.summary.levels import level_shown
from runplan.summary.overview import NONE, label

if TYPE_CHECKING:
    from runplan.collect.effects import Combination, Level, Pooled
    from runplan.collect.intervals import ConfidenceInterval
    from runplan.collect.results import Measure, Row
    from runplan.collect.sections import Report

ROWS_SHOWN = 200
SAMPLES, REPLICATES = "95 % CI (samples)", "95 % CI (replicates)"


def _measures(report: Report) -> list[Measure]:
    return [*dict.fromkeys(row.measure for row in report.rows)]


def by_factor(report: Report) -> tuple[Block, ...]:
    """Levels against the control, and against the first level of their factor."""
    blocks: list[Block] = [
        Item("Means over all runs with a level, at the last epoch; effect is the difference to the control.")
    ]
    if any(len(one.runs) < one.planned for one in report.levels):
        text = "Some levels lack runs: their means are of those that there are, so compare them with care"
        blocks.append(Item(text, "!"))
    for measure in _measures(report):
        levels = [one for one in report.levels if one.measure == measure]
        intervals = _intervals(one.effect for one in levels)
        headers = ("Level", "Runs", "Mean", "Effect", *intervals)
        rows = tuple(
            (
                _level_name(report, one),
                f"{len(one.runs)} of {one.planned}",
                shown(one.value),
                *changed(one.effect, intervals),
            )
            for one in levels
        )
        blocks += [Fact("Measure", str(measure)), Table(headers, rows), *_against_first(report, levels)]
    return tuple(blocks)


def _against_first(report: Report, levels: Sequence[Level]) -> list[Block]:
    compared = [one for one in levels if one.contrast is not None]
    if not compared:
        return []
    firsts = {key: level_shown(key, found[0], found) for key, found in report.document["design"]["factors"].items()}
    intervals = _intervals(one.contrast for one in compared)
    rows = tuple(
        (f"{_level_name(report, one)} less {firsts[one.factor]}", str(one.pairs), *changed(one.contrast, intervals))
        for one in compared
    )
    lead = Item("Against the first level, over pairs of runs that differ in nothing else:")
    return [lead, Table(("Levels", "Pairs", "Difference", *intervals), rows)]


def _level_name(report: Report, one: Level) -> str:
    levels = report.document["design"]["factors"].get(one.factor, ())
    return f"{label(one.factor)} {level_shown(one.factor, one.level, levels)}"


def replicates(report: Report) -> tuple[Block, ...]:
    """Runs that differ in nothing but the seed, together."""
    blocks: list[Block] = []
    factors = report.document["design"]["factors"]
    keys = [key for key in factors if key != REPLICATION]
    for measure in _measures(report):
        found = [one for one in report.combinations if one.measure == measure]
        intervals = _intervals(one.effect for one in found)
        rows = tuple(
            (
                combination_name(one, {key: factors[key] for key in keys}),
                f"{len(one.runs)} of {one.planned}",
                shown(one.value.mean if one.value else None),
                *changed(one.effect, intervals),
            )
            for one in found[:ROWS_SHOWN]
        )
        table = Table(("Combination", "Runs", "Mean", "Effect", *intervals), rows)
        blocks += [Fact("Measure", str(measure)), table, *more(len(found))]
    return tuple(blocks)


def combination_name(one: Combination, factors: Mapping[str, Sequence[Any]]) -> str:
    """The levels of a combination in words, the model where nothing varies.

    Args:
        one: the combination.
        factors: those to name, with all their levels.
    """
    named = [(key, levels) for key, levels in factors.items() if key in one.factors]
    levels = [f"{label(key)} {level_shown(key, one.factors[key], levels)}" for key, levels in named]
    return ", ".join(levels) or one.model


def by_run(report: Report) -> tuple[Block, ...]:
    """Every result of every run."""
    blocks: list[Block] = []
    factors = {key: levels for key, levels in report.document["design"]["factors"].items() if key != "model"}
    headers = ("Run Name", *map(label, factors), "Epoch", "Value", "± SE", "Samples", "Effect", "95 % CI")
    for measure in _measures(report):
        rows = [_run_row(row, factors) for row in report.rows if row.measure == measure]
        table = Table(headers, tuple(rows[:ROWS_SHOWN]))
        blocks += [Fact("Measure", str(measure)), table, *more(len(rows))]
    starred = dict.fromkeys(f"*: {row.note}" for row in report.rows if row.note and row.effect is not None)
    without = dict.fromkeys(f"No effect: {row.note}" for row in report.rows if row.note and row.effect is None)
    return (*blocks, *(Item(text) for text in (*starred, *without)))


def _run_row(row: Row, factors: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    return (
        row.run,
        *(_level(row.factors, key, levels) for key, levels in factors.items()),
        NONE if row.epoch is None else str(row.epoch),
        shown(row.value),
        shown(row.stderr),
        str(row.n),
        NONE if row.effect is None else f"{shown(row.effect, sign=True)}{'*' * bool(row.note)}",
        span(row.interval),
    )


def more(number: int) -> list[Block]:
    """Where the rows are that a table leaves out."""
    return [Item(f"… and {number - ROWS_SHOWN} more rows in {RESULTS}.")] if number > ROWS_SHOWN else []


def _intervals(means: Iterable[Pooled | None]) -> tuple[str, ...]:
    """Headers of the intervals that any of some means has."""
    known = [mean for mean in means if mean is not None]
    samples = (SAMPLES,) if any(mean.samples for mean in known) else ()
    return (*samples, *((REPLICATES,) if any(mean.replicates for mean in known) else ()))


def _level(own: Mapping[str, Any], key: str, levels: Sequence[Any]) -> str:
    return level_shown(key, own[key], levels) if key in own else NONE


def shown(value: float | None, *, sign: bool = False) -> str:
    """A result with three decimals, tiny and large ones with three digits; `-` for none."""
    if value is None:
        return NONE
    plain = value == 0 or 1e-3 <= abs(value) < 1e4
    return f"{value:{'+' if sign else ''}{'.3f' if plain else '.3g'}}"


def changed(mean: Pooled | None, intervals: Sequence[str]) -> tuple[str, ...]:
    """A difference with its sign, and its bounds under the headers of some intervals."""
    if mean is None:
        return (NONE,) * (1 + len(intervals))
    named = {SAMPLES: mean.samples, REPLICATES: mean.replicates}
    return (shown(mean.mean, sign=True), *(span(named[header]) for header in intervals))


def span(estimate: ConfidenceInterval | None) -> str:
    """The bounds of an interval."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return NONE
    return f"{shown(estimate.low)} to {shown(estimate.high)}"
