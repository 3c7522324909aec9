"""From what was found to a report, its files and its JSON. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runplan.collect import actual
from runplan.collect.curves import Points, thinned
from runplan.collect.effects import Combination, Level, Pooled, combinations, levels
from runplan.collect.figures import figures
from runplan.collect.intervals import ConfidenceInterval
from runplan.collect.outcome import missing, warnings
from runplan.collect.results import bounds, csv_text, record_of, rounded, rows
from runplan.collect.sections import FOLDER, Report, results_sections
from runplan.files.file_names import RESULTS
from runplan.summary.readme import markdown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Environment

    from runplan.collect.found import FoundGroup
    from runplan.collect.outcome import Missing

SCHEMA = 1


def make_report(group: FoundGroup) -> Report:
    """Everything worked out: results, effects, what is missing, what was estimated and came true."""
    found = rows(group)
    jobs = actual.actuals(group)
    return Report(
        document=group.document,
        runs=group.runs,
        rows=tuple(found),
        combinations=tuple(combinations(found, group.document)),
        levels=tuple(levels(found, group.document)),
        jobs=tuple(jobs),
        totals=actual.totals(jobs, group.document),
        missing=tuple(missing(group)),
        warnings=tuple(warnings(group)),
    )


def report_files(report: Report, templates: Environment) -> tuple[Report, dict[str, str]]:
    """The report with the names of its pictures, and `results.csv` and the pictures by path relative to the group."""
    pictures = figures(report, templates)
    files = {f"{FOLDER}/{name}": text for name, text in pictures.items()}
    files[RESULTS] = csv_text(report.rows, report.document["design"]["factors"])
    return replace(report, figures=tuple(pictures)), files


def results_markdown(report: Report) -> str:
    """What stands between the markers of the group's README."""
    parts = [f"\n{'#' * level} {one.heading}\n\n{markdown(one)}\n" for level, one in results_sections(report)]
    return "".join(parts) + "\n"


def report_json(report: Report) -> dict[str, Any]:
    """The report as plain data: what `runplan collect --json` prints. Unknown is None."""
    return {
        "schema": SCHEMA,
        "group": report.document["group"],
        "results": [record_of(row) for row in report.rows],
        "effects": {
            "by_combination": [_combination(one) for one in report.combinations],
            "by_factor": [_level(one) for one in report.levels],
        },
        "estimated_vs_actual": {"jobs": [actual.record_of(job) for job in report.jobs], "totals": dict(report.totals)},
        "learning_curves": [
            {
                "run": run.name,
                "train": _points(run.curve.train),
                "validation": _points(run.curve.validation),
                "last_train": rounded(run.curve.last_train),
                "last_validation": rounded(run.curve.last_validation),
            }
            for run in report.runs
            if run.curve.train or run.curve.validation
        ],
        "missing": [_missing(one) for one in report.missing],
        "warnings": list(report.warnings),
    }


def _points(points: Points) -> list[list[float | None]]:
    return [[step, rounded(loss)] for step, loss in thinned(points)]


def _missing(one: Missing) -> dict[str, Any]:
    return dict(vars(one))


def _pooled(one: Pooled | None) -> dict[str, Any] | None:
    if one is None:
        return None
    intervals = {"over_replicates": _interval(one.replicates), "over_samples": _interval(one.samples)}
    return {"mean": rounded(one.mean), "runs": one.n, **intervals}


def _interval(one: ConfidenceInterval | None) -> dict[str, Any] | None:
    low, high, method = bounds(one)
    return {"ci_low": low, "ci_high": high, "ci_method": method, "n": one.n} if one else None


def _combination(one: Combination) -> dict[str, Any]:
    return {
        **_measure(one),
        "model": one.model,
        "factors": dict(one.factors),
        "runs": list(one.runs),
        "planned_runs": one.planned,
        "control": one.control,
        "value": _pooled(one.value),
        "effect": _pooled(one.effect),
    }


def _level(one: Level) -> dict[str, Any]:
    return {
        **_measure(one),
        "factor": one.factor,
        "level": one.level,
        "runs": list(one.runs),
        "planned_runs": one.planned,
        "mean": rounded(one.value),
        "effect": _pooled(one.effect),
        "against_first_level": _pooled(one.contrast),
        "pairs": one.pairs,
    }


def _measure(one: Combination | Level) -> Mapping[str, Any]:
    return {"task": one.measure.task, "scorer": one.measure.scorer, "metric": one.measure.metric}
