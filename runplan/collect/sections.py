"""The results of a group as people read them: the README's parts and the screen's. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runplan.collect.intervals import BOOTSTRAP, RESAMPLES, SEED, STUDENT, Estimate
from runplan.design import REPLICATION
from runplan.overview import NONE, Block, Fact, Figure, Item, Section, Table, label, level_shown
from runplan.units import short_hours, short_time

if TYPE_CHECKING:
    from runplan.collect.actual import JobActual
    from runplan.collect.effects import Combination, Level, Pooled
    from runplan.collect.found import FoundRun
    from runplan.collect.outcome import Missing
    from runplan.collect.results import Measure, Row

ROWS_SHOWN = 200
MISSING_SHOWN = 50
FOLDER = "results"
TABLE = "results.csv"
SAMPLES, REPLICATES = "95 % CI (samples)", "95 % CI (replicates)"
_METHODS = {
    BOOTSTRAP: f"Intervals over samples: 95 %, percentile bootstrap ({RESAMPLES:,} resamples, seed {SEED}) of "
    "differences paired by sample id. They say how a result may differ on other samples, not with another seed.",
    STUDENT: "Intervals over replicates: 95 %, Student's t over the runs with each seed. They say how a result may "
    "differ with another seed, on the same samples.",
}


@dataclass(frozen=True)
class Report:
    """All that was worked out about a group, ready to be shown."""

    document: Mapping[str, Any]
    runs: tuple[FoundRun, ...]
    rows: tuple[Row, ...]
    combinations: tuple[Combination, ...]
    levels: tuple[Level, ...]
    jobs: tuple[JobActual, ...]
    totals: Mapping[str, Any]
    missing: tuple[Missing, ...]
    warnings: tuple[str, ...]
    figures: tuple[str, ...] = ()
    """Names of the pictures that there are."""


def results_sections(report: Report) -> list[tuple[int, Section]]:
    """Sections with the level of their heading: Results and its parts, Estimated vs actual."""
    found: list[tuple[int, Section]] = [(2, Section("Results", _results(report)))]
    if report.levels:
        found.append((3, Section("By factor", _by_factor(report))))
    if any(one.planned > 1 for one in report.combinations) and _varying(report) != 1:
        found.append((3, Section("Replicates", _replicates(report))))
    if report.rows:
        found.append((3, Section("By run", _by_run(report))))
    if any(run.curve.train for run in report.runs):
        found.append((3, Section("Learning curves", _curves(report))))
    found.append((2, Section("Estimated vs actual", _estimated(report))))
    return found


def _varying(report: Report) -> int:
    """Factors besides the seed; with a single one, its levels are the combinations, and a table of them says it all."""
    return len(report.document["design"]["factors"].keys() - {REPLICATION})


def _figure(report: Report, name: str, title: str) -> list[Block]:
    return [Figure(title, f"{FOLDER}/{name}")] if name in report.figures else []


def _results(report: Report) -> tuple[Block, ...]:
    cells = [cell for run in report.runs for cell in run.cells]
    trainings = [run for run in report.runs if run.job is not None]
    gone = {kind: sum(one.kind == kind for one in report.missing) for kind in ("train", "cell")}
    blocks: list[Block] = []
    if trainings:
        blocks.append(Fact("Trainings done", f"{len(trainings) - gone['train']} of {len(trainings)}"))
    blocks.append(Fact("Evaluations collected", f"{len(cells) - gone['cell']} of {len(cells)}"))
    blocks.append(Fact("All numbers", TABLE))
    blocks += [Item(f"{one.name}: {one.state}: {one.reason}", "✗", one.fix) for one in report.missing[:MISSING_SHOWN]]
    if len(report.missing) > MISSING_SHOWN:
        blocks.append(
            Item(f"… and {len(report.missing) - MISSING_SHOWN} more: runplan collect --json lists them all", "✗")
        )
    blocks += [Item(text, "!") for text in report.warnings]
    return (
        *blocks,
        *_methods(report),
        *_figure(report, "effects.svg", "Effects against the control, with 95 % intervals"),
    )


def _metric(report: Report) -> tuple[tuple[str, ...], list[Measure]]:
    """Header of the column that says what is measured, which only several measures need."""
    found = [*dict.fromkeys(row.measure for row in report.rows)]
    return (("Measure",) if len(found) > 1 else ()), found


def _measured(report: Report) -> list[Block]:
    _, found = _metric(report)
    return [Fact("Measure", str(found[0]))] if len(found) == 1 else []


def _methods(report: Report) -> list[Block]:
    """How the intervals were found that are shown."""
    estimates = [row.interval for row in report.rows]
    means = [mean for one in report.combinations for mean in (one.value, one.effect)]
    means += [mean for one in report.levels for mean in (one.effect, one.contrast)]
    estimates += [one for mean in means if mean is not None for one in (mean.replicates, mean.samples)]
    used = {one.method for one in estimates if one is not None}
    return [Item(text) for method, text in _METHODS.items() if method in used]


def _intervals(means: Iterable[Pooled | None]) -> tuple[str, ...]:
    """Headers of the intervals that any of some means has."""
    known = [mean for mean in means if mean is not None]
    samples = (SAMPLES,) if any(mean.samples for mean in known) else ()
    return (*samples, *((REPLICATES,) if any(mean.replicates for mean in known) else ()))


def _by_factor(report: Report) -> tuple[Block, ...]:
    several, _ = _metric(report)
    firsts = {key: level_shown(key, levels[0]) for key, levels in report.document["design"]["factors"].items()}
    intervals = _intervals([mean for one in report.levels for mean in (one.effect, one.contrast)])
    headers = ("Factor", "Level", *several, "Runs", "Mean", "Effect", *intervals, "Against first level", *intervals)
    rows = []
    for one in report.levels:
        against, *bounds = changed(one.contrast, intervals)
        rows.append((
            label(one.factor),
            level_shown(one.factor, one.level),
            *((str(one.measure),) if several else ()),
            f"{len(one.runs)} of {one.planned}",
            shown(one.value),
            *changed(one.effect, intervals),
            f"{against} vs {firsts[one.factor]}" if one.contrast else NONE,
            *bounds,
        ))  # fmt: skip
    incomplete = [one for one in report.levels if len(one.runs) < one.planned]
    notes: list[Block] = []
    if incomplete:
        notes = [Item("Levels with fewer runs than planned are means of those that there are: compare them with care; "
                      "against the first level only runs count that differ in nothing else.", "!")]  # fmt: skip
    lead = Item("Means over all runs with a level, at the last epoch; effect is the difference to the control.")
    return (*_measured(report), lead, *notes, Table(headers, tuple(rows)))


def _replicates(report: Report) -> tuple[Block, ...]:
    several, _ = _metric(report)
    keys = [key for key in report.document["design"]["factors"] if key not in {"model", REPLICATION}]
    intervals = _intervals([one.effect for one in report.combinations])
    headers = ("Model", *map(label, keys), *several, "Runs", "Mean", "Effect", *intervals)
    rows = tuple(
        (
            one.model,
            *(_level(one.factors, key) for key in keys),
            *((str(one.measure),) if several else ()),
            f"{len(one.runs)} of {one.planned}",
            shown(one.value.mean if one.value else None),
            *changed(one.effect, intervals),
        )
        for one in report.combinations[:ROWS_SHOWN]
    )
    return (Table(headers, rows), *_more(len(report.combinations)))


def _by_run(report: Report) -> tuple[Block, ...]:
    several, _ = _metric(report)
    keys = [key for key in report.document["design"]["factors"] if key != "model"]
    headers = ("Run Name", *map(label, keys), "Epoch", *several, "Value", "± SE", "Samples", "Effect", "95 % CI")
    rows = tuple(
        (
            row.run,
            *(_level(row.factors, key) for key in keys),
            NONE if row.epoch is None else str(row.epoch),
            *((str(row.measure),) if several else ()),
            shown(row.value),
            shown(row.stderr),
            str(row.n),
            NONE if row.effect is None else f"{shown(row.effect, sign=True)}{'*' * bool(row.note)}",
            span(row.interval),
        )
        for row in report.rows[:ROWS_SHOWN]
    )
    starred = dict.fromkeys(f"*: {row.note}" for row in report.rows if row.note and row.effect is not None)
    without = dict.fromkeys(f"No effect: {row.note}" for row in report.rows if row.note and row.effect is None)
    asides = [Item(text) for text in (*starred, *without)]
    return (*_measured(report), Table(headers, rows), *_more(len(report.rows)), *asides)


def _more(number: int) -> list[Block]:
    return [Item(f"… and {number - ROWS_SHOWN} more rows in {TABLE}.")] if number > ROWS_SHOWN else []


def _curves(report: Report) -> tuple[Block, ...]:
    headers = ("Run Name", "Steps", "First loss", "Last loss", "Last validation", "Best validation")
    rows = []
    for run in report.runs:
        curve = run.curve
        if not curve.train:
            continue
        best = curve.best_validation
        rows.append((
            run.name, str(curve.train[-1][0]), shown(curve.train[0][1]), shown(curve.last_train),
            shown(curve.last_validation), f"{shown(best[1])} (step {best[0]})" if best else NONE,
        ))  # fmt: skip
    aside = Item("Last loss: the mean of the last twentieth of the steps, since single batches scatter.")
    figure = _figure(report, "learning_curves.svg", "Loss by optimizer step")
    return (Table(headers, tuple(rows[:ROWS_SHOWN])), aside, *figure)


def _estimated(report: Report) -> tuple[Block, ...]:
    trainings = [job for job in report.jobs if job.kind == "train"]
    blocks: list[Block] = []
    if trainings:
        headers = (
            *("Run Name", "State", "Est. Time", "Time", "Ratio", "Inside p95", "Est. s/step", "s/step"),
            *("Est. Memory", "Memory", "GPU-h asked", "GPU-h used"),
        )
        blocks.append(Table(headers, tuple(map(_training, trainings[:ROWS_SHOWN]))))
        blocks += _more(len(trainings))
    totals = report.totals
    for name, key in (("Training times", "training"), ("Evaluation times", "evaluation"), ("Memory", "memory")):
        if totals[key]["compared"]:
            blocks.append(Fact(name, _coverage(totals[key])))
    if totals["speed"]["compared"]:
        blocks.append(Fact("Seconds a step", f"actual to estimate {totals['speed']['median_ratio']:.2f} (median)"))
    blocks.append(Fact("GPU-hours", _hours(totals["gpu_hours"])))
    return (*blocks, *_figure(report, "estimated_vs_actual.svg", "Training time: estimated and actual"))


def _training(job: JobActual) -> tuple[str, ...]:
    time, memory, speed = job.time_s, job.memory_gib, job.s_per_step
    estimated = f"{short_time(time.p50)} (p95 {short_time(time.p95)})" if time.p50 is not None and time.p95 else NONE
    return (
        job.run, job.state, estimated,
        NONE if time.actual is None else short_time(time.actual),
        NONE if time.ratio is None else f"{time.ratio:.2f}",
        NONE if time.inside is None else "yes" if time.inside else "no",
        NONE if speed.p50 is None else f"{speed.p50:.3g}",
        NONE if speed.actual is None else f"{speed.actual:.3g}",
        NONE if memory.p50 is None or memory.p95 is None else f"{memory.p50:.1f} GiB (p95 {memory.p95:.1f})",
        NONE if memory.actual is None else f"{memory.actual:.1f} GiB",
        NONE if job.gpu_hours_requested is None else short_hours(job.gpu_hours_requested),
        NONE if job.gpu_hours_used is None else short_hours(job.gpu_hours_used),
    )  # fmt: skip


def _coverage(found: Mapping[str, Any]) -> str:
    inside = f"{found['inside_p95']} of {found['compared']} inside p95, " if found["inside_p95"] is not None else ""
    return f"{inside}actual to p50 {found['median_ratio']:.2f} (median)"


def _hours(hours: Mapping[str, Any]) -> str:
    p50, p95 = hours["p50"], hours["p95"]
    estimated = (
        f"estimated {short_hours(p50)} (p95 {short_hours(p95)}), " if p50 is not None and p95 is not None else ""
    )
    unknown = f" ({hours['unknown_jobs']} jobs whose end is not known are not in it)" if hours["unknown_jobs"] else ""
    return f"{estimated}asked for {short_hours(hours['requested'])}, used {short_hours(hours['used'])}{unknown}"


def _level(factors: Mapping[str, Any], key: str) -> str:
    return level_shown(key, factors[key]) if key in factors else NONE


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


def span(estimate: Estimate | None) -> str:
    """The bounds of an interval."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return NONE
    return f"{shown(estimate.low)} to {shown(estimate.high)}"
