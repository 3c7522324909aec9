"""Bars of a plan: how long each run takes against its limits, and what it holds of its GPU. Pure.

Everything is a share of a common scale, in per cent: a page needs no script to draw it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runplan.summary.overview import SOURCES
from runplan.units import DAY_S, HOUR_S, MINUTE_S, parse_slurm_time, short_time

TICKS = 6
LAST_TICK = 90.0
"""Per cent of the scale after which a tick's text would stick out of a narrow page."""
TIME_STEPS_S = (
    1, 5, 10, 30, MINUTE_S, 2 * MINUTE_S, 5 * MINUTE_S, 10 * MINUTE_S, 30 * MINUTE_S, HOUR_S, 2 * HOUR_S, 4 * HOUR_S,
    8 * HOUR_S, DAY_S, 2 * DAY_S, 7 * DAY_S, 30 * DAY_S,
)  # fmt: skip
MEMORY_STEPS_GIB = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
FAR = 1.6
"""A limit further away than this many times the longest bar is told in words: drawn, it would squeeze the bars."""
ROWS_SHOWN = 60
"""More rows than these are put away by model."""
EVIDENCE_SHOWN = 5
"""Of one run; all of it is in plan.json."""
SHORTEST_S = 0.5
"""A part of a time below this is left out."""
TOOK, PEAK = "took", "peak"
"""Names of the two quantities that are known after a run."""


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


@dataclass(frozen=True)
class Bar:
    """One row of a chart."""

    label: str
    key: str
    """The same for a run in every chart of every page, and nothing but letters and digits."""
    parts: tuple[Part, ...]
    marks: tuple[Mark, ...]
    text: str
    """The same in words."""
    details: tuple[str, ...] = ()
    """What the estimate is made of and rests on."""


@dataclass(frozen=True)
class Rows:
    """Bars that are put away together."""

    summary: Bar
    bars: tuple[Bar, ...]


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
    scale: float
    """What 100 % are, in seconds or GiB."""
    actual: str
    """Name of what is marked on the bars once it is known: `took`, `peak`."""
    meaning: str
    """What that mark means."""
    groups: tuple[Rows, ...] = ()
    """All bars by model, where they are too many to look at at once."""


def key_of(name: str) -> str:
    """A run's name as a word that CSS and HTML take as it is, the same from call to call."""
    return "r" + hashlib.blake2s(name.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()


def time_chart(document: Mapping[str, Any]) -> Chart | None:
    """Training and evaluation of every run against what is asked for and the partition's limit; None without runs."""
    spans = [_span(run) for run in document["runs"]]
    longest = max((max(one.end, one.asked) for one in spans), default=0.0)
    if not any(one.end > 0 for one in spans):
        return None
    limits = {one.limit for one in spans if one.limit is not None}
    near = [limit for limit in limits if limit <= FAR * longest]
    scale = max([longest, *near]) * 1.02
    runs = [(run, one) for run, one in zip(document["runs"], spans, strict=True) if one.end > 0]
    bars = tuple(_time_bar(run, one, scale) for run, one in runs)
    legend = [("p50", "training, median"), ("p95", "up to p95"), ("evals", "its evaluations")]
    legend += [("asked", "time asked for (--time)")] if any(one.asked for _, one in runs) else []
    legend += [("limit", "limit of the partition")] if near else []
    note = "Evaluations are jobs of their own, after the training; shown one after another, at their median."
    far = sorted(limits - set(near))
    if far:
        note += f" The limit is further right: {', '.join(short_time(limit) for limit in far)}."
    if len(runs) < len(spans):
        note += f" Without an estimate, and not shown: {len(spans) - len(runs)} of {len(spans)} runs."
    chart = Chart("Time of each run", note, bars, _ticks(scale, TIME_STEPS_S, tick_time), tuple(legend), scale,
                  TOOK, "what the training took")  # fmt: skip
    return _grouped(chart, [run for run, _ in runs], lambda low, high: f"{short_time(low)} to {short_time(high)}")


def memory_chart(document: Mapping[str, Any]) -> Chart | None:
    """The peak of every trained run against its GPU; None where nothing is trained."""
    runs = [run for run in document["runs"] if run["estimate"]["peak_memory_gib"]["p50"] is not None]
    if not runs:
        return None
    gpus = [_gpu_gib(run) for run in runs]
    ends = [run["estimate"]["peak_memory_gib"]["p95"] for run in runs]
    scale = max([*ends, *(gpu for gpu in gpus if gpu is not None)]) * 1.02
    bars = tuple(_memory_bar(run, gpu, scale) for run, gpu in zip(runs, gpus, strict=True))
    legend = [("p50", "peak of the process, median"), ("p95", "up to p95")]
    legend += [("limit", "memory of the GPU")] if any(gpu is not None for gpu in gpus) else []
    note = "On the longest batch of the data, with what the allocator and CUDA hold beside it."
    chart = Chart("Memory of each run", note, bars, _ticks(scale, MEMORY_STEPS_GIB, "{:g} GiB".format),
                  tuple(legend), scale, PEAK, "what it came to")  # fmt: skip
    return _grouped(chart, runs, "{:.1f} to {:.1f} GiB".format)


def tick_time(time_s: float) -> str:
    """A round duration as short as an axis wants it: `0`, `30s`, `5min`, `1h`, `1h30`, `2d`, `2d12h`."""
    minutes, seconds = divmod(round(time_s), MINUTE_S)
    hours, minutes = divmod(minutes, 60)
    days, rest = divmod(hours, 24)
    if not minutes and not seconds and days >= 2:
        return f"{days}d{rest}h" if rest else f"{days}d"
    if hours:
        return f"{hours}h{minutes:02d}" if minutes else f"{hours}h"
    if minutes:
        return f"{minutes}min{seconds:02d}" if seconds else f"{minutes}min"
    return f"{seconds}s" if seconds else "0"


def _grouped(chart: Chart, runs: Sequence[Mapping[str, Any]], words: Callable[[float, float], str]) -> Chart:
    """A chart with its bars by model where they are many; the first bar of each group says what the group spans."""
    if len(chart.bars) <= ROWS_SHOWN:
        return chart
    models: dict[str, list[Bar]] = {}
    for run, bar in zip(runs, chart.bars, strict=True):
        models.setdefault(run["model"], []).append(bar)
    return replace(chart, groups=tuple(_rows(model, bars, chart.scale, words) for model, bars in models.items()))


def _rows(model: str, bars: Sequence[Bar], scale: float, words: Callable[[float, float], str]) -> Rows:
    ends = [_end(bar, {"p50"}) or _end(bar, {"evals"}) for bar in bars]
    low, high = min(ends), max(_end(bar, {"p50", "p95", "evals"}) for bar in bars)
    part = Part("p95", low, max(round(high - low, 2), 0.2))
    said = f"{len(bars)} run{'s' * (len(bars) != 1)}, {words(low * scale / 100, high * scale / 100)}"
    return Rows(Bar(model, "", (part,), (), said), tuple(bars))


def _end(bar: Bar, kinds: set[str]) -> float:
    return max((part.start + part.width for part in bar.parts if part.kind in kinds), default=0.0)


@dataclass(frozen=True)
class _Span:
    """Times of a run, in seconds."""

    p50: float
    p95: float
    evals: float
    asked: int
    limit: int | None

    @property
    def end(self) -> float:
        return self.p95 + self.evals


def _span(run: Mapping[str, Any]) -> _Span:
    time, asked = run["estimate"]["time_s"], run["resources"]["time"]
    limit = run.get("limits", {}).get("time")
    return _Span(
        time["p50"] or 0.0,
        time["p95"] or 0.0,
        sum(cell["time_s"]["p50"] or 0.0 for cell in run["cells"]),
        (parse_slurm_time(asked) or 0) if asked else 0,
        parse_slurm_time(limit) if limit else None,
    )


def _time_bar(run: Mapping[str, Any], span: _Span, scale: float) -> Bar:
    p50, p95 = _share(span.p50, scale), _share(span.p95, scale)
    parts = (Part("p50", 0.0, p50), Part("p95", p50, round(p95 - p50, 2)),
             Part("evals", p95, _share(span.evals, scale)))  # fmt: skip
    marks, words = [], []
    if span.p95:
        words.append(f"{short_time(span.p50)}, p95 {short_time(span.p95)}")
    if span.asked:
        marks.append(Mark("asked", _share(span.asked, scale)))
        words.append(f"asks for {short_time(span.asked)}")
    if span.limit is not None and span.limit <= scale:
        marks.append(Mark("limit", _share(span.limit, scale)))
    if run["cells"]:
        words.append(_evaluations(run["cells"], span.evals))
    return Bar(run["name"], key_of(run["name"]), tuple(part for part in parts if part.width > 0), tuple(marks),
               "; ".join(words), _details(run))  # fmt: skip


def _evaluations(cells: Sequence[Mapping[str, Any]], time_s: float) -> str:
    unknown = sum(cell["time_s"]["p50"] is None for cell in cells)
    said = f"{len(cells)} evaluation{'s' * (len(cells) != 1)}"
    if unknown == len(cells):
        return f"{said} of unknown time"
    return f"{said} {short_time(time_s)}" + (f" and {unknown} of unknown time" if unknown else "")


def _details(run: Mapping[str, Any]) -> tuple[str, ...]:
    """What a training's estimate is made of and rests on; nothing of a run that is not trained."""
    estimate = run["estimate"]
    if estimate["time_s"]["p50"] is None:
        return ()
    # to the nearest second, not up: their sum is shown beside them
    parts = [
        f"{name.replace('_', ' ')} {short_time(round(time_s))}"
        for name, time_s in estimate.get("parts_s", {}).items()
        if time_s is not None and time_s >= SHORTEST_S
    ]
    lines = [f"Median: {', '.join(parts)}."] if parts else []
    source, logs = estimate["source"], estimate["n_priors"] or 0
    said = f"{source}: {SOURCES[source]}" if source in SOURCES else str(source)
    said += f"; {logs} log{'s' * (logs != 1)}" if logs else "; no log of yours"
    lines.append(f"{said}, extrapolated." if estimate["extrapolated"] else f"{said}.")
    evidence = estimate["evidence"]
    lines += evidence[:EVIDENCE_SHOWN]
    if len(evidence) > EVIDENCE_SHOWN:
        lines.append(f"… and {len(evidence) - EVIDENCE_SHOWN} more in plan.json.")
    return tuple(lines)


def _memory_bar(run: Mapping[str, Any], gpu: float | None, scale: float) -> Bar:
    peak = run["estimate"]["peak_memory_gib"]
    p50, p95 = _share(peak["p50"], scale), _share(peak["p95"], scale)
    drawn = (Part("p50", 0.0, p50), Part("p95", p50, round(p95 - p50, 2)))
    parts = tuple(part for part in drawn if part.width > 0)
    words = f"{peak['p50']:.1f} GiB, p95 {peak['p95']:.1f}"
    marks: tuple[Mark, ...] = ()
    if gpu is not None:
        marks = (Mark("limit", _share(gpu, scale)),)
        words += f" of {gpu:.0f} GiB ({run['config']['gpu']}), batch {run['config']['batch_size']}"
    return Bar(run["name"], key_of(run["name"]), parts, marks, words)


def _share(value: float, scale: float) -> float:
    return round(100 * value / scale, 2)


def _gpu_gib(run: Mapping[str, Any]) -> float | None:
    """Memory of one GPU; None where it is unknown or nothing runs on a GPU."""
    gib = run.get("limits", {}).get("gpu_memory_gib")
    return float(gib) if gib and run["resources"]["gpus"] else None


def _ticks(scale: float, steps: Iterable[float], text: Callable[[float], str]) -> tuple[tuple[float, str], ...]:
    step = 0.0
    for one in steps:
        step = one
        if scale / step <= TICKS:
            break
    while scale / step > TICKS:
        step *= 2
    places = [(_share(number * step, scale), text(number * step)) for number in range(int(scale / step) + 1)]
    return tuple(place for place in places if place[0] <= LAST_TICK)
