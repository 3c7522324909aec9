"""Bars of a plan: how long each run takes against its limits, and what it holds of its GPU. Pure.

Everything is a share of a common scale, in per cent: a page needs no script to draw it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runplan.units import DAY_S, HOUR_S, MINUTE_S, parse_slurm_time, short_time

TICKS = 6
LAST_TICK = 90.0
"""Per cent of the scale after which a tick's text would stick out of a narrow page."""
TIME_STEPS_S = (
    1, 5, 10, 30, MINUTE_S, 2 * MINUTE_S, 5 * MINUTE_S, 10 * MINUTE_S, 30 * MINUTE_S, HOUR_S, 2 * HOUR_S, 4 * HOUR_S,
    8 * HOUR_S, DAY_S, 2 * DAY_S, 7 * DAY_S,
)  # fmt: skip
MEMORY_STEPS_GIB = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
FAR = 1.6
"""A limit further away than this many times the longest bar is told in words: drawn, it would squeeze the bars."""


@dataclass(frozen=True)
class Part:
    """A stretch of a bar."""

    kind: str
    """What it stands for: `p50`, `p95`, `evals`, …; the page has a colour for each."""
    start: float
    width: float


@dataclass(frozen=True)
class Mark:
    """A line across a bar: a limit."""

    kind: str
    at: float
    title: str


@dataclass(frozen=True)
class Bar:
    """One row of a chart."""

    label: str
    parts: tuple[Part, ...]
    marks: tuple[Mark, ...]
    text: str
    """The same in words."""


@dataclass(frozen=True)
class Chart:
    """Bars on a common scale."""

    title: str
    note: str
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    """Where the axis has a line, and what it says."""
    legend: tuple[tuple[str, str], ...]
    """Kind of part or mark → what it means."""


def time_chart(document: Mapping[str, Any]) -> Chart | None:
    """Training and evaluation of every run against what is asked for and the partition's limit; None without runs."""
    runs = [run for run in document["runs"] if _ends_s(run) > 0]
    if not runs:
        return None
    longest = max(max(_ends_s(run), _asked_s(run)) for run in runs)
    limits = [limit for run in runs if (limit := _limit_s(run)) is not None]
    near = [limit for limit in limits if limit <= FAR * longest]
    scale = max([longest, *near]) * 1.02
    bars = tuple(_time_bar(run, scale) for run in runs)
    legend = [("p50", "training, median"), ("p95", "up to p95"), ("evals", "its evaluations"), ("asked", "--time")]
    legend += [("limit", "limit of the partition")] if near else []
    note = "Evaluations are jobs of their own, after the training; shown one after another, at their median."
    far = sorted({limit for limit in limits if limit > FAR * longest})
    if far:
        note += f" The limit is further right: {', '.join(short_time(limit) for limit in far)}."
    return Chart("Time of each run", note, bars, _ticks(scale, TIME_STEPS_S, short_time), tuple(legend))


def memory_chart(document: Mapping[str, Any]) -> Chart | None:
    """The peak of every trained run against its GPU; None where nothing is trained."""
    runs = [run for run in document["runs"] if run["estimate"]["peak_memory_gib"]["p50"] is not None]
    if not runs:
        return None
    ends = [run["estimate"]["peak_memory_gib"]["p95"] for run in runs]
    scale = max([*ends, *(gpu for run in runs if (gpu := _gpu_gib(run)) is not None)]) * 1.02
    bars = tuple(_memory_bar(run, scale) for run in runs)
    legend = (("p50", "peak of the process, median"), ("p95", "up to p95"), ("limit", "memory of the GPU"))
    note = "On the longest batch of the data, with what the allocator and CUDA hold beside it."
    return Chart("Memory of each run", note, bars, _ticks(scale, MEMORY_STEPS_GIB, "{:g} GiB".format), legend)


def _time_bar(run: Mapping[str, Any], scale: float) -> Bar:
    time, evals = run["estimate"]["time_s"], _evals_s(run)
    p50, p95 = time["p50"] or 0.0, time["p95"] or 0.0
    parts = [Part("p50", 0.0, _share(p50, scale)), Part("p95", _share(p50, scale), _share(p95 - p50, scale))]
    parts.append(Part("evals", _share(p95, scale), _share(evals, scale)))
    marks, words = [], []
    if time["p50"] is not None:
        words.append(f"{short_time(p50)}, p95 {short_time(p95)}")
    if asked := _asked_s(run):
        marks.append(Mark("asked", _share(asked, scale), f"asks for {short_time(asked)}"))
        words.append(f"asks for {run['resources']['time']}")
    limit = _limit_s(run)
    if limit is not None and limit <= scale:
        marks.append(Mark("limit", _share(limit, scale), f"limit {short_time(limit)}"))
    if evals:
        number = len(run["cells"])
        words.append(f"{number} evaluation{'s' * (number > 1)} {short_time(evals)}")
    return Bar(run["name"], tuple(part for part in parts if part.width > 0), tuple(marks), "; ".join(words))


def _memory_bar(run: Mapping[str, Any], scale: float) -> Bar:
    peak, gpu = run["estimate"]["peak_memory_gib"], _gpu_gib(run)
    p50, p95 = peak["p50"], peak["p95"]
    parts = (Part("p50", 0.0, _share(p50, scale)), Part("p95", _share(p50, scale), _share(p95 - p50, scale)))
    words = f"{p50:.1f} GiB, p95 {p95:.1f}"
    if gpu is None:
        return Bar(run["name"], parts, (), words)
    name = run["config"]["gpu"]
    marks = (Mark("limit", _share(gpu, scale), f"{name}: {gpu:g} GiB"),)
    return Bar(run["name"], parts, marks, f"{words} of {gpu:.0f} GiB ({name}), batch {run['config']['batch_size']}")


def _share(value: float, scale: float) -> float:
    return round(100 * value / scale, 2)


def _evals_s(run: Mapping[str, Any]) -> float:
    return float(sum(cell["time_s"]["p50"] or 0.0 for cell in run["cells"]))


def _ends_s(run: Mapping[str, Any]) -> float:
    return float(run["estimate"]["time_s"]["p95"] or 0.0) + _evals_s(run)


def _asked_s(run: Mapping[str, Any]) -> int:
    text = run["resources"]["time"]
    return (parse_slurm_time(text) or 0) if text else 0


def _limit_s(run: Mapping[str, Any]) -> int | None:
    text = run.get("limits", {}).get("time")
    return parse_slurm_time(text) if text else None


def _gpu_gib(run: Mapping[str, Any]) -> float | None:
    """Memory of one GPU; None where it is unknown or nothing runs on a GPU."""
    gib = run.get("limits", {}).get("gpu_memory_gib")
    return float(gib) if gib and run["resources"]["gpus"] else None


def _ticks(scale: float, steps: Sequence[float], text: Callable[[float], str]) -> tuple[tuple[float, str], ...]:
    step = next((step for step in steps if scale / step <= TICKS), steps[-1])
    places = [(_share(number * step, scale), text(number * step)) for number in range(int(scale / step) + 1)]
    return tuple(place for place in places if place[0] <= LAST_TICK)
