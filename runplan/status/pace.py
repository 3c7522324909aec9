"""How far a job is and how fast, from the end of its log. Pure: bytes in, plain values out, whatever the bytes are."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from runplan.jobs.seen import JobSeen, of_last_attempt
from runplan.priors.peaks import counts_gigabytes, peak_memory
from runplan.priors.progress import HF_PAUSES, Progress, last_draw, pauses, plain_progress, tune_progress
from runplan.units import MIB_PER_GIB

RECENT_BYTES = 1 << 14
"""Some hundred draws of a bar: what `now` means."""
_GPU_HEADER = b"timestamp,"
_GPU_USED = re.compile(rb", (\d{1,9}) MiB, \d{1,9} MiB,")
"""Memory used and its total, as job scripts let `nvidia-smi` write them, one after the other."""
_SAMPLES = re.compile(rb"Samples: {0,9}(\d{1,9})/ {0,9}(\d{1,9})")
"""As Inspect's plain display prints it (inspect_ai/_display/plain/display.py, 0.3)."""
_MOST_STEPS = 10**12
"""More is no number of steps."""


@dataclass(frozen=True)
class Pace:
    """Where a job is. Unknown is None."""

    done: int | None = None
    """Optimizer steps, or samples of an evaluation."""
    total: int | None = None
    """Of the whole job where its log says so, else None."""
    per_epoch: int | None = None
    s_per_step: float | None = None
    """Seconds a step in the recent past, pauses left out."""


@dataclass(frozen=True)
class Memory:
    """Highest memory use that was seen, in GiB."""

    gib: float
    source: str
    """`nvidia-smi` (the fullest GPU), or the trainer's `reserved`, `active` or `allocated`."""


def training_pace(tail: bytes) -> Pace:
    """How far a training is by its progress bars: torchtune's, or those of HF Trainer's kind.

    An attempt that began anew in the same log counts from its own start; one that was resumed counts as its bars do.
    """
    text = of_last_attempt(tail)
    try:
        return _tune(text) or _plain(text) or Pace()
    except ValueError:  # numbers of thousands of digits, which Python refuses
        return Pace()


def _tune(text: bytes) -> Pace | None:
    last = last_draw(text)
    if last is None:
        return None
    recent = tune_progress(text[-RECENT_BYTES:])[0]
    known = recent if recent and recent.s_per_step else tune_progress(text)[0]
    shown = last.s_per_it if last.done > 1 else None
    seconds = _sensible(known.s_per_step if known else None) or _sensible(shown)
    done = (last.epoch - 1) * last.total + last.done
    return Pace(done, None, last.total, seconds) if 0 <= done < _MOST_STEPS and 0 < last.total < _MOST_STEPS else None


def _plain(text: bytes) -> Pace | None:
    progress: Progress | None = plain_progress(text, pauses(text, HF_PAUSES))
    if progress is None or not 0 < progress.steps_per_epoch < _MOST_STEPS:
        return None
    done = min(progress.steps_done, progress.steps_per_epoch)  # the one bar spans all epochs
    return Pace(done, progress.steps_per_epoch, None, _sensible(progress.s_per_step))


def _sensible(seconds: float | None) -> float | None:
    return seconds if seconds is not None and math.isfinite(seconds) and seconds > 0 else None


def evaluation_pace(tail: bytes) -> Pace:
    """How many samples an evaluation has answered, by Inspect's plain display."""
    found = _SAMPLES.findall(tail)
    return Pace(int(found[-1][0]), int(found[-1][1])) if found else Pace()


def gpu_memory(seen: JobSeen) -> Memory | None:
    """The highest GPU memory use in what was read of a job; the ends of long files only.

    Samples of the whole device count most, then what the trainer logged as reserved, active, allocated.
    """
    header = seen.gpu_metrics.rfind(_GPU_HEADER)  # every attempt begins with one
    samples = _GPU_USED.findall(seen.gpu_metrics, max(header, 0))
    if samples:
        return Memory(max(map(int, samples)) / MIB_PER_GIB, "nvidia-smi")
    text = of_last_attempt(seen.tail)
    logged = None
    for part in (seen.disk_log, text):
        try:
            logged = logged or peak_memory(part, gigabytes=counts_gigabytes(text))
        except (ValueError, OverflowError):  # garbage that looks like a number
            continue
    if logged is None:
        return None
    kinds = (("reserved", logged.reserved), ("active", logged.active), ("allocated", logged.allocated))
    return next((Memory(gib, kind) for kind, gib in kinds if gib is not None and math.isfinite(gib)), None)
