"""How far and how fast HF Trainer came where its bar is not in the log: notebooks' progress, and losses with times."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from runplan.priors.courses import courses
from runplan.priors.progress import Progress, summary
from runplan.priors.steady import Draw, steady_s_per_step
from runplan.priors.trainings import BANNERS

_NOTEBOOK = re.compile(
    rb"\[ *(\d{1,9})/(\d{1,9}) ((?:\d+:)?\d+:\d\d)( < [^\],\r\n]{1,20}(?:, [^\],\r\n]{1,20} it/s)?)?, Epoch "
)
_NOTEBOOK_SIGN = b", Epoch "
_LOSSES = re.compile(rb"\{['\"]loss['\"]: [^{}\r\n]{1,4000}?['\"]epoch['\"]: ?['\"]?(\d{1,6}\.\d{1,16})")
_STAMP = re.compile(rb"(?:(\d{4}-\d\d-\d\d)|(\d\d)/(\d\d)/(\d{4}))[T ](\d\d:\d\d:\d\d)")
_EXAMPLES = re.compile(rb"Num examples = (\d[\d,]*)")
_COUNTED = re.compile(
    rb"global_step/max_steps['\"]: ['\"](\d{1,9})/(\d{1,9})['\"][^{}\r\n]{0,300}?['\"]elapsed_time['\"]: ['\"]"
    rb"((?:\d{1,6}[dhms] ?){1,4})['\"]"
)
_SPED = re.compile(rb"'train_speed\(iter/s\)': (\d{1,4}\.\d{1,9})[^{}\r\n]{0,300}?'global_step': (\d{1,9})\}")
"""Before 2025: the mean speed since the first step."""
_SPED_END = re.compile(rb"\{'train_runtime': (\d{1,9}\.\d{1,6})[^{}\r\n]{0,300}?'global_step': (\d{1,9})\}")
"""And at the end, how many steps there were."""
_UNITS = {b"d": 86400, b"h": 3600, b"m": 60, b"s": 1}
_MOST_LINES = 600
_MEAN_STEPS = 100
"""After which the mean since the start has forgotten the first one."""
_EXACT = 0.4
"""Steps of doubt with which no other step is as near."""
_LEAST_EPOCHS = 1.0
_ROUNDED = 0.005
"""Epochs by which one that is printed with two digits is wrong at most."""
_NEARLY = 0.02
"""Of the steps: how far it came may be said as exactly as that."""
_RESUMED = (
    b"Continuing training from ",
    b"trainer_state.json` within the checkpoint directory",
    b"Resuming from checkpoint",
    b"Resuming training from",
    b"esume training from checkpoint",
)
_RESUMED_AT = re.compile(
    rb"(?:Continuing training from|Resuming training from checkpoint with epoch \d{1,6} and) global step (\d{1,9})"
)


class Start(NamedTuple):
    """Where a run went on."""

    resumed: bool
    step: int | None
    """Steps that were done before; None where the log does not tell."""


def start_of(data: bytes) -> Start:
    """Whether one attempt's text is that of a run that went on from a checkpoint.

    >>> start_of(b"  Continuing training from global step 120")
    Start(resumed=True, step=120)
    """
    if any(data.find(sign) >= 0 for sign in _RESUMED):
        match = _RESUMED_AT.search(data)
        return Start(resumed=True, step=int(match[1]) if match else None)
    epochs: list[float] = []
    for match in _LOSSES.finditer(data):
        epochs.append(float(match[1]))
        if len(epochs) > 1:
            break
    late = len(epochs) > 1 and epochs[0] > max(0.1, 2.5 * (epochs[1] - epochs[0]) + 2 * _ROUNDED)
    return Start(resumed=late and epochs[1] > epochs[0], step=None)


def notebook_fields(data: bytes) -> dict[str, Any]:
    """Steps, seconds and completion of the progress that a notebook shows instead of a bar; empty without one.

    >>> notebook_fields(b" [90/90 01:55, Epoch 30/30]")
    {'steps_done': 90, 'steps_total': 90, 'wall_s': 115.0, 'completed': True}
    """
    if data.rfind(_NOTEBOOK_SIGN) < 0:
        return {}
    shown = _NOTEBOOK.findall(data)
    if not shown:
        return {}
    done, total, elapsed, left = shown[-1]
    hours, minutes, seconds = (b"0:" + elapsed if elapsed.count(b":") == 1 else elapsed).split(b":")
    return {
        "steps_done": int(done),
        "steps_total": int(total),
        "wall_s": float(int(hours) * 3600 + int(minutes) * 60 + int(seconds)),
        # The time that is left is shown until all is done.
        "completed": done == total and not left,
    }


def counted_progress(data: bytes, marks: Sequence[int]) -> Progress | None:
    """What losses say that tell the step and the time since the first one, as ms-swift's do; None without them.

    >>> line = b"{'loss': 1.3, 'global_step/max_steps': '30/94', 'percentage': '31%', 'elapsed_time': '1m 9s'}"
    >>> counted_progress(line, ())[2:6]
    (69.0, 1, 30, 94)
    """
    draws = [
        Draw(match.start(), 1, int(match[1]), int(match[2]), _seconds_of(match[3]), None)
        for match in _COUNTED.finditer(data)
    ]
    return _told_progress(data, draws, marks) if draws else None


def sped_progress(data: bytes, marks: Sequence[int]) -> Progress | None:
    """What losses say that tell the step and the mean speed so far, as ms-swift's did up to 2024; None without them.

    >>> line = b"{'loss': 1.75, 'train_speed(iter/s)': 0.210486, 'epoch': 0.05, 'global_step': 5}"
    >>> sped_progress(line, ())[2:5]
    (24.0, 1, 5)
    """
    draws = [
        Draw(match.start(), 1, int(match[2]), 0, round(int(match[2]) / float(match[1])), None)
        for match in _SPED.finditer(data)
        if float(match[1])
    ]
    if draws and (match := _SPED_END.search(data, draws[-1].at)):
        draws.append(Draw(match.end(), 1, int(match[2]), 0, round(float(match[1])), None))
    return _told_progress(data, draws, marks) if draws else None


def _told_progress(data: bytes, draws: Sequence[Draw], marks: Sequence[int]) -> Progress:
    draws = courses(draws)[-1]
    ended = data.rfind(b"train_runtime")  # after the last checkpoint was saved
    steady, last = steady_s_per_step(draws, sorted([*marks, ended]))[0], draws[-1]
    if steady is None and last.done >= _MEAN_STEPS and last.elapsed_s and not start_of(data).resumed:
        steady = last.elapsed_s / last.done
    return summary(draws, steady)


def _seconds_of(text: bytes) -> int:
    """Of `1h 2m 3s`."""
    return sum(int(part[:-1]) * _UNITS[part[-1:]] for part in text.split())


def logged_progress(data: bytes, counted: Mapping[str, Any], marks: Sequence[int]) -> Progress | None:
    """What lines of losses say of steps and, where they have times, of speed; None where it would be a guess.

    Trainer tells each loss's epoch, hundredths of one; with the banner's sizes that is a step.

    Args:
        data: the text of one attempt.
        counted: what its banner says: `epochs`, `steps_total`, and `batch_of_all`, the samples of a step.
        marks: where it speaks of pauses, sorted.
    """
    places = list(_LOSSES.finditer(data))
    steps_of = _Steps.of(data, counted) if places else None
    if steps_of is None:
        return None
    kept = [*places[: -1 : max(1, len(places) // _MOST_LINES)], places[-1]]
    seconds: float | None = None
    done = [steps_of.step(float(match[1])) for match in kept]
    doubt = steps_of.each * _half_unit(kept[-1][1])
    known = doubt < _EXACT or float(kept[-1][1]) - float(kept[0][1]) >= _LEAST_EPOCHS
    began, elapsed = _clock(data, [match.start() for match in kept]) if known else (False, [])
    if elapsed and elapsed[-1] > elapsed[0]:
        draws = [
            Draw(match.start(), 1, round(step), steps_of.total, at, None)
            for match, step, at in zip(kept, done, elapsed, strict=True)
        ]
        seconds = steady_s_per_step(draws, marks)[0]
    wall_s = float(elapsed[-1]) if elapsed and began and elapsed[-1] > 0 else None
    steps = round(done[-1]) if doubt < max(_EXACT, _NEARLY * done[-1]) else None
    if steps is None and seconds is None:
        return None
    return Progress(seconds, None, wall_s, 1, steps or 0, steps_of.total, kept[-1].start())


def _banner(data: bytes) -> int:
    return max(data.find(sign) for sign in BANNERS)


def _half_unit(number: bytes) -> float:
    """Half of the last printed digit; of one without a fraction or with fewer digits, what two digits mean."""
    return min(_ROUNDED, 0.5 / 10.0 ** len(number.partition(b".")[2]))


def planned_epochs(data: bytes, counted: Mapping[str, Any]) -> float | None:
    """Epochs that the steps in all are, by the banner's sizes; None where it does not tell them all."""
    each = _steps_of_epoch(data, counted)
    return counted["steps_total"] / each if each and counted.get("steps_total") else None


def _steps_of_epoch(data: bytes, counted: Mapping[str, Any]) -> float | None:
    banner, batch = _banner(data), counted.get("batch_of_all")
    examples = _EXAMPLES.search(data, banner) if banner >= 0 and batch else None
    return int(examples[1].replace(b",", b"")) / batch if examples and batch else None


class _Steps(NamedTuple):
    """Which step an epoch's fraction is."""

    each: float
    """Steps of an epoch, not rounded."""
    whole: int | None
    """Those that are counted of each; None where an incomplete one goes on in the next epoch, as it did up to 2024."""
    total: int

    @classmethod
    def of(cls, data: bytes, counted: Mapping[str, Any]) -> _Steps | None:
        total, epochs = counted.get("steps_total"), counted.get("epochs")
        each = _steps_of_epoch(data, counted)
        if not (total and epochs and each) or total % epochs or not each - 1 < total / epochs < each + 1:
            return None
        return cls(each, total // epochs if total / epochs >= each else None, total)

    def step(self, epoch: float) -> float:
        if self.whole is None:
            return epoch * self.each
        return int(epoch) * self.whole + min((epoch - int(epoch)) * self.each, self.whole)


def _clock(data: bytes, places: Sequence[int]) -> tuple[bool, list[int]]:
    """Seconds at each place by its line's clock, empty where one has none; whether they are since training began."""
    times = [_time(data, at) for at in places]
    known = [time for _, time in times if time is not None]
    if len(known) < len(times):
        return False, []
    banner = _banner(data)
    stamps, began = _time(data, banner) if banner >= 0 else (0, None)
    if stamps != times[0][0]:  # a collector's clock and the trainer's own
        began = None
    return began is not None, [int((time - (began or known[0])).total_seconds()) for time in known]


def _time(data: bytes, at: int) -> tuple[int, datetime | None]:
    """How many times stand in a line before a place in it, and the last of them."""
    begin = max(data.rfind(b"\n", 0, at), data.rfind(b"\r", 0, at), at - 200) + 1
    stamps = _STAMP.findall(data, begin, at)
    if not stamps:
        return 0, None
    day, month, of_month, year, clock = (part.decode() for part in stamps[-1])
    try:
        return len(stamps), datetime.fromisoformat(f"{day or f'{year}-{month}-{of_month}'}T{clock}")
    except ValueError:
        return 0, None
