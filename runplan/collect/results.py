"""One row a run, task, epoch and metric: its value, and its effect against the control. Pure."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runplan.collect.intervals import ConfidenceInterval, over_samples
from runplan.collect.outcome import usable_log

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runplan.collect.found import FoundCell, FoundGroup, FoundRun
    from runplan.collect.inspect_log import SampleKey, Score

DIGITS = 6
CONTROL = "control"
_SHARED = ("model_path", "dataset", "system_prompt", "prompt")
"""Keys of a run's config that its control shares."""


@dataclass(frozen=True)
class Measure:
    """What is measured: a task's metric by a scorer."""

    task: str
    scorer: str
    metric: str

    def __str__(self) -> str:
        """As people call it."""
        return f"{self.task}: {self.metric} ({self.scorer})"


@dataclass(frozen=True)
class Row:
    """One result."""

    run: str
    type: str
    model: str
    factors: Mapping[str, Any]
    measure: Measure
    epoch: int | None
    last: bool
    """Whether it is of the last epoch that was planned to be evaluated, or of a model as it is."""
    value: float | None
    stderr: float | None
    n: int
    log: str
    """Relative to the group."""
    samples: Mapping[SampleKey, float] = field(default_factory=dict)
    """What each sample scored; empty where the metric is not their mean."""
    control: str | None = None
    effect: float | None = None
    interval: ConfidenceInterval | None = None
    """Of the effect, over samples paired with the control's; None where they cannot be paired."""
    differences: Mapping[SampleKey, float] = field(default_factory=dict)
    """Run less control, of every sample that both have."""
    note: str = ""
    """Why there is no effect or no interval, or what it leaves out."""


def rows(group: FoundGroup) -> list[Row]:
    """All results in the order of the plan; those of fine-tuned runs with their effect against the control."""
    plain = {run.name: list(_rows(run)) for run in group.runs}
    controls = [run for run in group.runs if run.entry["type"] == CONTROL]
    made: list[Row] = []
    for run in group.runs:
        cells = {cell.entry["task"]: cell for cell in run.cells}
        for row in plain[run.name]:
            if run.entry["type"] == CONTROL:
                made.append(row)
                continue
            control = control_of(run, cells[row.measure.task].entry, controls)
            theirs = [one for one in plain[control.name] if one.measure == row.measure] if control else []
            made.append(_compared(row, control.name if control else None, theirs[0] if theirs else None))
    return made


def _rows(run: FoundRun) -> Iterator[Row]:
    last = {cell.entry["task"]: cell.entry["epoch"] for cell in run.cells}  # epochs count up
    for cell in run.cells:
        file = usable_log(cell)
        for score in file.log.scores if file and file.log else ():
            for metric in score.metrics:
                yield _row(run, cell, score, metric, last=cell.entry["epoch"] == last[cell.entry["task"]])


def _row(run: FoundRun, cell: FoundCell, score: Score, metric: str, *, last: bool) -> Row:
    file, mean = usable_log(cell), score.is_mean(metric)
    return Row(
        run=run.name,
        type=run.entry["type"],
        model=run.entry["model"],
        factors=run.entry["factors"],
        measure=Measure(cell.entry["task"], score.name, metric),
        epoch=cell.entry["epoch"],
        last=last,
        value=score.metrics[metric],
        stderr=score.stderr if mean else None,
        n=score.n,
        log=file.path if file else "",
        samples=score.samples if mean else {},
    )


def control_of(run: FoundRun, cell: Mapping[str, Any], controls: Iterable[FoundRun]) -> FoundRun | None:
    """The control of one evaluation of a run: its base model on the same task, data and prompts; None without one.

    A task that brings its own data measures the same beside any dataset. Of several, which differ in how they evaluate,
    the one whose factors agree with the run's counts.
    """
    keys = _SHARED if cell.get("takes_data", True) else tuple(key for key in _SHARED if key != "dataset")
    shared = [run.entry["config"].get(key) for key in keys]
    factors = run.entry["factors"]
    agreeing: list[tuple[int, int, FoundRun]] = []
    for other in controls:
        if [other.entry["config"].get(key) for key in keys] != shared:
            continue
        if any((one["task"], one.get("script")) == (cell["task"], cell.get("script")) for one in other.entry["cells"]):
            theirs = other.entry["factors"]
            agreeing.append((sum(factors.get(key) != level for key, level in theirs.items()), len(agreeing), other))
    return min(agreeing)[2] if agreeing else None


def _compared(row: Row, name: str | None, control: Row | None) -> Row:
    """A result with its effect against its control's."""
    facts = dict(vars(row)) | {"control": name}
    if control is None:
        facts["note"] = f"its control {name} has no result" if name else "it has no control"
        return Row(**facts)
    if row.value is None or control.value is None:
        facts["note"] = "no number"
        return Row(**facts)
    facts["effect"] = row.value - control.value
    differences = {key: row.samples[key] - control.samples[key] for key in row.samples if key in control.samples}
    if not differences:
        known = bool(row.samples) and bool(control.samples)
        facts["note"] = (
            "no sample in common with its control" if known else "not the mean of samples that can be paired"
        )
        return Row(**facts)
    most = max(len(row.samples), len(control.samples))
    if len(differences) < most:
        facts["note"] = f"on the {len(differences)} samples of {most} that it and its control have in common"
    interval = over_samples(differences.values())
    return Row(**facts | {"interval": interval, "differences": differences, "effect": interval.mean})


def csv_text(made: Sequence[Row], factors: Iterable[str]) -> str:
    """`results.csv`: one row a result, with a header and plain line feeds; what is unknown is empty."""
    keys = [key for key in factors if key != "model"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ("task", "epoch", "scorer", "metric", "value", "stderr", "n_samples")
    effect = ("control", "effect", "ci_low", "ci_high", "ci_method", "note", "log")
    writer.writerow(["run", "type", "model", *keys, *names, *effect])
    for row in made:
        record = record_of(row)
        cells = [row.run, row.type, row.model, *(row.factors.get(key) for key in keys)]
        writer.writerow([*cells, *(record[name] for name in (*names, *effect))])
    return out.getvalue()


def record_of(row: Row) -> dict[str, Any]:
    """A result as plain data, numbers with six significant digits."""
    low, high, method = bounds(row.interval)
    return {
        "run": row.run,
        "type": row.type,
        "model": row.model,
        "factors": dict(row.factors),
        "task": row.measure.task,
        "epoch": row.epoch,
        "scorer": row.measure.scorer,
        "metric": row.measure.metric,
        "value": rounded(row.value),
        "stderr": rounded(row.stderr),
        "n_samples": row.n,
        "control": row.control,
        "effect": rounded(row.effect),
        "ci_low": low,
        "ci_high": high,
        "ci_method": method,
        "note": row.note or None,
        "log": row.log,
    }


def bounds(interval: ConfidenceInterval | None) -> tuple[float | None, float | None, str | None]:
    """Low, high and method of an interval, as records have them."""
    if interval is None:
        return None, None, None
    return rounded(interval.low), rounded(interval.high), interval.method or None


def rounded(value: float | None) -> float | None:
    """A number with six significant digits: enough for any result, and the same text from call to call."""
    if value is None or not math.isfinite(value):
        return None
    made = float(f"{value:.{DIGITS}g}")
    return 0.0 if abs(made) < 1e-12 else made
