"""When a job will have ended, by its present speed and its plan, and whether that is too late. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from runplan.jobs.attempts import Attempt
from runplan.status.pace import Pace
from runplan.units import parse_slurm_time, short_time

if TYPE_CHECKING:
    from runplan.files.written import Job
    from runplan.slurm.queue import SlurmJob

MARGIN = 1.05
"""Speeds vary by some percent within a run: what ends closer to its limit than this may hit it."""
SILENT_S = 600.0
"""A running job that has not written for so long (and for many steps) is worth a word."""
SILENT_STEPS = 20


@dataclass(frozen=True)
class Estimate:
    """What the plan says of a job; None for what it does not."""

    epochs: int | None = None
    steps: int | None = None
    it_per_s: float | None = None
    p50_s: float | None = None
    p95_s: float | None = None
    startup_s: float = 0.0
    validation_s: float = 0.0
    checkpoints_s: float = 0.0
    memory_gib: float | None = None

    @staticmethod
    def of(job: Job) -> Estimate:
        """What `plan.json` says of a job, whatever an editor made of it."""
        entry = job.entry
        if job.kind == "cell":
            cells = entry.get("cells")
            cells = cells if isinstance(cells, list) else []
            mine = next((cell for cell in cells if isinstance(cell, dict) and cell.get("dir") == job.cell), {})
            samples = number(mine, "samples")
            return Estimate(
                None, int(samples) if samples else None,
                p50_s=number(mine, "time_s", "p50"), p95_s=number(mine, "time_s", "p95"),
            )  # fmt: skip
        epochs, steps = number(entry, "config", "epochs"), number(entry, "steps", "total")
        return Estimate(
            int(epochs) if epochs else None,
            int(steps) if steps else None,
            number(entry, "estimate", "it_per_s"),
            number(entry, "estimate", "time_s", "p50"),
            number(entry, "estimate", "time_s", "p95"),
            number(entry, "estimate", "parts_s", "startup") or 0.0,
            number(entry, "estimate", "parts_s", "validation") or 0.0,
            number(entry, "estimate", "parts_s", "checkpoints") or 0.0,
            number(entry, "estimate", "peak_memory_gib", "p50"),
        )


def number(tree: Mapping[str, Any], *path: str) -> float | None:
    """A finite number in a nested document; None where there is none."""
    value: Any = tree
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return value if good else None


def slurm_moment(text: str) -> datetime | None:
    """A time of SLURM's, which is local, as an aware one; None for what is none."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except (ValueError, OverflowError, OSError):
        return None


def remaining_s(estimate: Estimate, pace: Pace, total: int | None, elapsed_s: float | None) -> float | None:
    """Seconds of work that are left: the steps at the present speed, and what the plan has for everything else.

    Validation goes as fast as training; each epoch that is not over still saves its checkpoint. Without a speed the
    estimate counts, less what has passed, but never less than all that comes after the start-up: no step is done.
    """
    if pace.done is not None and total and pace.s_per_step:
        left = max(0, total - pace.done)
        slowness = pace.s_per_step * estimate.it_per_s if estimate.it_per_s else 1.0
        epochs = math.ceil(left / pace.per_epoch) if pace.per_epoch else left / total
        saving = estimate.checkpoints_s * epochs / max(1, estimate.epochs or 1)
        return left * pace.s_per_step + estimate.validation_s * slowness * left / total + saving
    if estimate.p50_s is None:
        return None
    if pace.done and total:  # an evaluation: samples take alike
        return estimate.p50_s * max(0, total - pace.done) / total
    least = 0.0 if pace.done or not estimate.startup_s else estimate.p50_s - estimate.startup_s
    return max(least, estimate.p50_s - (elapsed_s or 0.0), 0.0)


def later(start: datetime | None, seconds: float | None) -> datetime | None:
    """Some seconds after a moment; None where either is unknown or the sum is no moment."""
    try:
        return start + timedelta(seconds=seconds) if start is not None and seconds is not None else None
    except OverflowError:
        return None


def limit_s(job: Job, attempts: Sequence[Attempt], slurm: SlurmJob | None = None) -> float | None:
    """The time that the last attempt has: as SLURM says, else what was asked for, by its options or by the plan."""
    if slurm is not None and slurm.limit_s is not None:
        return slurm.limit_s
    asked = [word.removeprefix("--time=") for word in (attempts[-1].options if attempts else ())
             if word.startswith("--time=")]  # fmt: skip
    try:
        return parse_slurm_time(str(asked[-1] if asked else job.resources.get("time") or ""))
    except (ValueError, AttributeError):
        return None


def warning(
    estimate: Estimate, pace: Pace, at: datetime, started: datetime | None,
    remaining: float | None, limit: float | None, written_at: float | None,
) -> str:  # fmt: skip
    """What a running job's user should know: it runs into its limit, or it has fallen silent.

    Args:
        estimate: the plan's.
        pace: where it is.
        at: now.
        started: when it began.
        remaining: seconds of work that are left.
        limit: seconds that were asked for.
        written_at: when its log was last written, in seconds since the epoch.
    """
    silent = at.timestamp() - written_at if written_at is not None else 0.0
    if silent > max(SILENT_S, SILENT_STEPS * (pace.s_per_step or 0.0)):
        return f"its log was last written {short_time(silent)} ago"
    if started is None or remaining is None or limit is None:
        return ""
    elapsed = max(0.0, (at - started).total_seconds())
    spread = MARGIN
    if not pace.s_per_step and estimate.p50_s and estimate.p95_s:
        spread = max(MARGIN, estimate.p95_s / estimate.p50_s)
    needed, most = elapsed + remaining, elapsed + remaining * spread
    if most <= limit:
        return ""
    ends = later(started, limit)
    when = f" at {clock(ends, at)}" if ends else ""
    says = f"at {speed_text(1 / pace.s_per_step)} it needs" if pace.s_per_step else "with its start it may need"
    sure = needed > limit and pace.s_per_step is not None
    word, time_s = ("will", needed) if sure else ("may", most)
    return f"{word} hit its time limit of {short_time(limit)}{when}: {says} {short_time(time_s)}"


def speed_text(it_per_s: float) -> str:
    """A speed as progress bars show it: `2.20 it/s`, `6.87 s/it`."""
    return f"{it_per_s:.2f} it/s" if it_per_s >= 1 else f"{1 / it_per_s:.2f} s/it"


def clock(when: datetime, at: datetime) -> str:
    """A moment on the local clock, its date where that is another than today's: `14:05`, `Feb 1 14:05`."""
    local, today = when.astimezone(), at.astimezone()
    return f"{local:%H:%M}" if local.date() == today.date() else f"{local:%b} {local.day} {local:%H:%M}"
