"""Pictures of the results as SVG text, each a template filled with places worked out here. Pure.

Rows with intervals and lines over steps need no drawing library: that would take longer to load than all else takes
here, and its bytes change with its version, while the same results shall give the same text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runplan.collect.curves import Points, thinned
from runplan.collect.scale import Scale, scale
from runplan.collect.tables import combination_name, shown, span
from runplan.summary.design import REPLICATION
from runplan.summary.readme import visible
from runplan.units import short_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment

    from runplan.collect.actual import JobActual
    from runplan.collect.found import FoundRun
    from runplan.collect.intervals import ConfidenceInterval
    from runplan.collect.sections import Report

WIDTH = 760
ROW = 24
HEAD = 34
FOOT = 48
PANELS_SHOWN = 6
ROWS_SHOWN = 40
LINES_SHOWN = 24
LABEL_SHOWN = 38
LETTER = 6.6
"""Width of a letter of 12 pixels, about."""
COLORS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#9d755d", "#eeca3b", "#ff9da6", "#79706e")
"""Tableau 10, as Vega has it."""
ACTUAL, LATE = "#222222", "#e45756"


EFFECTS, CURVES, ESTIMATED = "effects.svg", "learning_curves.svg", "estimated_vs_actual.svg"


def figures(report: Report, templates: Environment) -> dict[str, str]:
    """SVG text by file name; only pictures that have something to show."""
    made = {
        EFFECTS: ("intervals", _effects(report)),
        CURVES: ("curves", _curves(report.runs)),
        ESTIMATED: ("intervals", _estimated(report.jobs)),
    }
    return {
        name: templates.get_template(f"group/{kind}.svg.j2").render(facts)
        for name, (kind, facts) in made.items()
        if facts
    }


def text_of(text: str, most: int = LABEL_SHOWN) -> str:
    """A text that XML can hold, on one line and not too long; names differ at their ends, so the middle goes."""
    plain = visible(text).encode("utf-8", "replace").decode()
    tail = most // 2
    return plain if len(plain) <= most else f"{plain[: most - 1 - tail]}…{plain[-tail:]}"


def _effects(report: Report) -> dict[str, Any]:
    """A row a combination with its effect, a panel a measure."""
    factors = {key: levels for key, levels in report.document["design"]["factors"].items() if key != REPLICATION}
    measured: dict[str, list[dict[str, Any]]] = {}
    for one in report.combinations:
        if one.effect is None:
            continue
        inner, outer = one.effect.samples, one.effect.replicates
        said = (
            f"{shown(one.effect.mean, sign=True)}, 95 % CI over samples {span(inner)}, over replicates {span(outer)}; "
            f"runs: {', '.join(map(visible, one.runs))}"
        )
        row = {
            "label": combination_name(one, factors),
            "interval": _ends(inner),
            "outer": _ends(outer),
            "dot": one.effect.mean,
            "points": one.effects if len(one.effects) > 1 else (),
            "said": said,
            "thick": 5,
        }
        measured.setdefault(str(one.measure), []).append(row)
    panels = dict(list(measured.items())[:PANELS_SHOWN])
    return _picture(
        "Effects against the control",
        panels,
        "difference to the control, 95 % CI (bar: over samples, line: over replicates)",
    )


def _ends(estimate: ConfidenceInterval | None) -> tuple[float, float] | None:
    if estimate is None or estimate.low is None or estimate.high is None:
        return None
    return estimate.low, estimate.high


def _estimated(jobs: Sequence[JobActual]) -> dict[str, Any]:
    """A row a training: from p50 to p95, and what it took."""
    rows = []
    longest = max((job.time_s.p95 or 0.0 for job in jobs if job.kind == "train"), default=0.0)
    unit, seconds = next((pair for pair in (("h", 3600.0), ("min", 60.0)) if longest >= 2 * pair[1]), ("s", 1.0))
    for job in jobs:
        p50, p95, actual = job.time_s.p50, job.time_s.p95, job.time_s.actual
        if job.kind != "train" or p50 is None or p95 is None:
            continue
        took = "not known" if actual is None else short_time(actual)
        rows.append({
            "label": job.run, "interval": (p50 / seconds, p95 / seconds), "tick": p50 / seconds,
            "dot": None if actual is None else actual / seconds,
            "color": LATE if job.time_s.inside is False else ACTUAL,
            "said": f"estimated {short_time(p50)} (p95 {short_time(p95)}), took {took}", "thick": 6,
        })  # fmt: skip
    title = "Training time: bar from p50 to p95, dot what it took"
    return _picture("Training time: estimated and actual", {title: rows} if rows else {}, f"wall time ({unit})")


def _picture(title: str, measured: dict[str, list[dict[str, Any]]], axis: str) -> dict[str, Any]:
    """Panels of rows below each other; empty without rows."""
    if not measured:
        return {}
    labels = [text_of(row["label"]) for rows in measured.values() for row in rows[:ROWS_SHOWN]]
    left = round(24 + LETTER * max(map(len, labels)))
    panels, top = [], 0
    for name, rows in measured.items():
        panels.append(_panel(name, rows[:ROWS_SHOWN], left, top + HEAD, axis))
        if len(rows) > ROWS_SHOWN:
            panels[-1]["axis"] = f"{axis}; {len(rows) - ROWS_SHOWN} more rows are in results.csv"
        top = panels[-1]["bottom"] + FOOT
    return {"title": title, "width": WIDTH, "height": top, "panels": panels}


def _panel(name: str, rows: Sequence[dict[str, Any]], left: int, top: int, axis: str) -> dict[str, Any]:
    values = [0.0, *(row["dot"] for row in rows if row["dot"] is not None)]
    values += [value for row in rows for part in ("interval", "outer", "points") for value in row.get(part) or ()]
    places = scale(min(values), max(values), left, WIDTH - 24)
    bottom = top + ROW * len(rows)
    return {
        "title": text_of(name, 2 * LABEL_SHOWN),
        "title_y": top - 14,
        "axis": axis,
        "axis_x": (left + WIDTH - 24) / 2,
        "left": left,
        "top": top,
        "bottom": bottom,
        "ticks": places.ticks(),
        "rows": [_row(row, places, top + ROW * i + ROW // 2) for i, row in enumerate(rows)],
    }


def _row(row: dict[str, Any], places: Scale, y: int) -> dict[str, Any]:
    low, high = row["interval"] or (None, None)
    outer = row.get("outer")
    return {
        "label": text_of(row["label"]),
        "said": visible(row["said"]).encode("utf-8", "replace").decode(),
        "y": y,
        "low": None if low is None else places.place(low),
        "high": None if high is None else places.place(high),
        "outer": [places.place(value) for value in outer] if outer else None,
        "tick": places.place(row["tick"]) if "tick" in row else None,
        "dot": None if row["dot"] is None else places.place(row["dot"]),
        "points": [places.place(value) for value in row.get("points", ())],
        "color": row.get("color", COLORS[0]),
        "thick": row["thick"],
    }


def _curves(runs: Sequence[FoundRun]) -> dict[str, Any]:
    """A line a run."""
    drawn = [run for run in runs if run.curve.train or run.curve.validation]
    if not drawn:
        return {}
    more = len(drawn) - LINES_SHOWN
    drawn = drawn[:LINES_SHOWN]
    curves = [(thinned(run.curve.train), thinned(run.curve.validation)) for run in drawn]
    points = [point for pair in curves for one in pair for point in one]
    longest = max(len(text_of(run.name)) for run in drawn)
    left, top, bottom = 56, 36, 36 + max(300, 18 * len(drawn) + 18)
    right = round(WIDTH - 44 - LETTER * longest)
    across = Scale(0, max(step for step, _ in points), left, right)
    losses = [loss for _, loss in points]
    upward = scale(min(losses), max(losses), bottom, top)
    lines = [
        {
            "label": text_of(run.name),
            "color": COLORS[i % len(COLORS)],
            "train": _polyline(train, across, upward),
            "validation": _polyline(validation, across, upward),
            "dots": [(across.place(step), upward.place(loss)) for step, loss in validation],
        }
        for i, (run, (train, validation)) in enumerate(zip(drawn, curves, strict=True))
    ]
    legend = [{"label": line["label"], "color": line["color"], "y": top + 12 + 18 * i} for i, line in enumerate(lines)]
    if more > 0:
        legend.append({"label": f"… and {more} more", "color": "#ffffff", "y": top + 12 + 18 * len(lines)})
    return {
        "title": "Loss by optimizer step", "width": WIDTH, "height": bottom + FOOT, "left": left, "right": right,
        "top": top, "bottom": bottom, "x_ticks": across.ticks(), "y_ticks": upward.ticks(), "lines": lines,
        "legend": legend,
    }  # fmt: skip


def _polyline(points: Points, across: Scale, upward: Scale) -> str:
    return " ".join(f"{across.place(step)},{upward.place(loss)}" for step, loss in points)
