"""The results of a group as people read them: the README's parts and the screen's. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runplan.collect.intervals import ALIKE, BOOTSTRAP, RESAMPLES, SEED, STUDENT
from runplan.collect.tables import ROWS_SHOWN, by_factor, by_run, more, replicates, shown
from runplan.files.file_names import RESULTS
from runplan.summary.blocks import Block, Fact, Figure, Item, Section, Table
from runplan.summary.design import REPLICATION
from runplan.summary.overview import NONE
from runplan.units import short_hours, short_time, some_of

if TYPE_CHECKING:
    from runplan.collect.actual import JobActual
    from runplan.collect.effects import Combination, Level
    from runplan.collect.found import FoundRun
    from runplan.collect.outcome import Missing
    from runplan.collect.results import Row

MISSING_SHOWN = 50
RUNS_SHOWN = 4
FOLDER = "results"
_METHODS = {
    BOOTSTRAP: f"Intervals over samples: 95 %, percentile bootstrap ({RESAMPLES:,} resamples, seed {SEED}) of "
    "differences paired by sample id. They say how a result may differ on other samples, not with another seed.",
    ALIKE: "Intervals where all samples are alike: 95 %, of how many others may differ (Clopper and Pearson).",
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
        found.append((3, Section("By factor", by_factor(report))))
    if any(one.planned > 1 for one in report.combinations) and _varying(report) != 1:
        found.append((3, Section("Replicates", replicates(report))))
    if report.rows:
        found.append((3, Section("By run", by_run(report))))
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
    blocks.append(Fact("All numbers", RESULTS))
    blocks += lacking_items(report.missing)
    blocks += [Item(text, "!") for text in report.warnings]
    return (
        *blocks,
        *_methods(report),
        *_figure(report, "effects.svg", "Effects against the control, with 95 % intervals"),
    )


def lacking_items(missing: Sequence[Missing]) -> list[Block]:
    """What has no result; what lacks it for the same reason is one item."""
    alike: dict[tuple[str, str, str], list[Missing]] = {}
    for one in missing:
        alike.setdefault((one.kind, one.state, one.reason), []).append(one)
    items: list[Block] = []
    for (_, state, reason), ones in list(alike.items())[:MISSING_SHOWN]:
        names = some_of([one.name for one in ones], RUNS_SHOWN)
        items.append(Item(": ".join(filter(None, (names, state, reason))), "✗", ones[0].fix))
    if len(alike) > MISSING_SHOWN:
        hidden = sum(map(len, list(alike.values())[MISSING_SHOWN:]))
        items.append(Item(f"… and {hidden} more: runplan collect --json lists them all", "✗"))
    return items


def _methods(report: Report) -> list[Block]:
    """How the intervals were found that are shown."""
    estimates = [row.interval for row in report.rows]
    means = [one.effect for one in report.combinations]
    means += [mean for one in report.levels for mean in (one.effect, one.contrast)]
    estimates += [one for mean in means if mean is not None for one in (mean.replicates, mean.samples)]
    used = {one.method for one in estimates if one is not None}
    return [Item(text) for method, text in _METHODS.items() if method in used]


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
        blocks += more(len(trainings))
        blocks += [_rung(report, job) for job in trainings if job.config][:ROWS_SHOWN]
    totals = report.totals
    for name, key in (("Training times", "training"), ("Evaluation times", "evaluation"), ("Memory", "memory")):
        if totals[key]["compared"]:
            blocks.append(Fact(name, _coverage(totals[key])))
    if totals["speed"]["compared"]:
        blocks.append(Fact("Seconds a step", f"actual to estimate {totals['speed']['median_ratio']:.2f} (median)"))
    if any(job.gpus for job in report.jobs):
        blocks.append(Fact("GPU-hours", _hours(totals["gpu_hours"])))
    return (*blocks, *_figure(report, "estimated_vs_actual.svg", "Training time: estimated and actual"))


def _rung(report: Report, job: JobActual) -> Item:
    """That a run is not what was planned and estimated."""
    entry = next(run.entry for run in report.runs if run.name == job.run)
    rung = next((one for one in entry.get("rungs", ()) if one["file"] == job.config), None)
    sizes = f" (batch {rung['batch_size']} × {rung['gradient_accumulation_steps']})" if rung else ""
    return Item(f"{job.run} ran with {job.config}{sizes}: its GPU ran out of memory with what was planned", "!")


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
        NONE if job.gpu_hours_requested is None or not job.gpus else short_hours(job.gpu_hours_requested),
        NONE if job.gpu_hours_used is None or not job.gpus else short_hours(job.gpu_hours_used),
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
