"""Seconds of a steady training step, from draws of a progress bar.

The rate a bar displays is a moving average that forgets slowly and swallows pauses, so speed comes from the elapsed
times in `[mm:ss<`: steps over seconds between draws, without the first steps and without every stretch in which
something else than training happened. Whole-second times are only refined by the displayed rates, never replaced.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

_GROUP_S = 8
_GROUP_STEPS = 8
_LONG_S, _LONG_STEPS = 300, 50
"""A run of which first steps no longer matter."""
WARM_STEPS = 5
"""Steps at the start of a run that are slower than the others: compilation, autotuning, a cold data loader."""
_SLOW_S = 120
"""Seconds by which compilation, autotuning and a cold data loader are over, once a step is done."""
_SHORT_S = 5
_HIDING_S, _CLOSED_BYTES = 6000, 1000
"""A run in which five minutes of saving are 5 %; text behind a bar."""
_FORGOTTEN_STEPS = 12
"""Steps after which tqdm's average (0.3 of the last step) has forgotten 99 % of a pause."""


class Draw(NamedTuple):
    """One drawing of a progress bar: where in the text, and what it said."""

    at: int
    epoch: int
    done: int
    total: int
    elapsed_s: int
    s_per_it: float | None


_Stretch = tuple[int, int]
"""Steps, and seconds they took."""


def _by_epoch(draws: Iterable[Draw]) -> dict[int, list[Draw]]:
    """The earliest draw of every step, by epoch: a bar is drawn again after its checkpoint was saved."""
    epochs: dict[int, dict[int, Draw]] = {}
    for draw in draws:
        _, epoch, done, _, elapsed_s, _ = draw
        steps = epochs.setdefault(epoch, {})
        if steps.setdefault(done, draw).elapsed_s > elapsed_s:
            steps[done] = draw
    return {epoch: [steps[done] for done in sorted(steps)] for epoch, steps in epochs.items()}


def _warm(draws: Sequence[Draw], *, first_epoch: bool) -> list[Draw]:
    skip = min(WARM_STEPS, max(1, draws[-1].total // 5)) if first_epoch else 1
    if draws[-1].done < skip + _GROUP_STEPS:  # of few slow steps the second is as slow as the others
        return [draw for draw in draws if draw.done >= skip or (draw.done and draw.elapsed_s >= _SLOW_S)]
    return [draw for draw in draws if draw.done >= skip]


def _stretches(epochs: dict[int, list[Draw]], marks: Sequence[int]) -> tuple[list[_Stretch], int]:
    """Stretches of training, at least some steps and seconds long where there are so many; breaks within epochs."""
    breaks = 0
    groups: list[_Stretch] = []
    steps = time_s = 0
    earliest = min(epochs)
    marks = [*marks, sys.maxsize]
    for epoch, draws in epochs.items():
        warm = _warm(draws, first_epoch=epoch == earliest)
        for (at, _, done, _, elapsed_s, _), (next_at, _, next_done, _, next_s, _) in pairwise(warm):
            if next_at < at or next_s < elapsed_s or marks[bisect_left(marks, at)] <= next_at:
                breaks += 1
                continue
            steps += next_done - done
            time_s += next_s - elapsed_s
            if time_s >= _GROUP_S and steps >= _GROUP_STEPS:
                groups.append((steps, time_s))
                steps = time_s = 0
    if steps:
        if groups and (time_s < _GROUP_S or steps < _GROUP_STEPS):
            more, more_s = groups.pop()
            steps, time_s = steps + more, time_s + more_s
        groups.append((steps, time_s))
    return groups, breaks


def _weighted_median(pairs: Sequence[tuple[float, float]]) -> float:
    half, seen = sum([weight for _, weight in pairs]) / 2, 0.0
    for value, weight in sorted(pairs):
        seen += weight
        if seen >= half:
            return value
    return 0.0


def _median(values: Sequence[float]) -> float:
    """The lower of two middle ones; 0 of none."""
    return sorted(values)[(len(values) - 1) // 2] if values else 0.0


def _ticks(draws: Sequence[Draw]) -> list[Draw]:
    """The draws at which a second had just begun: as exact as whole seconds get. None of them ends a pause."""
    return [b for a, b in pairwise(draws) if b.elapsed_s == a.elapsed_s + 1]


def steady_s_per_step(
    draws: Sequence[Draw], marks: Sequence[int], *, every_draw: bool = False
) -> tuple[float | None, bool]:
    """Seconds a step without first steps and pauses, and whether the stretches agree with each other.

    Args:
        draws: some or all draws of a run's bars, in the order of the text.
        marks: where the text speaks of pauses, sorted.
        every_draw: whether these are all draws.
    """
    if not draws:
        return None, False
    epochs = _by_epoch(draws)
    shown = _shown(epochs, marks)
    typical = _median(shown)
    ticks = {epoch: _ticks(some) for epoch, some in epochs.items()} if every_draw and shown and typical < 0.5 else {}
    ticking = bool(ticks) and all(len(some) > 2 for some in ticks.values())
    epochs = ticks if ticking else epochs
    groups, breaks = _stretches(epochs, marks)
    if not groups:
        return _single(draws), False
    usual = _weighted_median([(time_s / steps, steps) for steps, time_s in groups])
    # Pauses as regular as the stretches can be in most of them; displayed rates forget a pause between two.
    usual = typical if shown and usual > 1.2 * typical else usual
    kept = [(steps, time_s) for steps, time_s in groups if time_s <= 1.4 * steps * usual + 2]
    if len(kept) < len(groups) < 3 or not kept:
        return None, False
    even = not [time_s for steps, time_s in groups if time_s > 1.08 * steps * usual + 2]
    steps, time_s = map(sum, zip(*kept, strict=True))
    if even and shown:
        quick = sorted(shown)[len(shown) // 4]
        even = (time_s - 1) / steps <= min(1.06 * typical, 1.25 * quick)
    near = [one for one in shown if 0.8 * typical <= one <= 1.25 * typical]
    return _refined(steps, time_s, near, breaks + len(groups) - len(kept), typical if ticking else 0.5), even


def _refined(steps: int, time_s: int, shown: Sequence[float], breaks: int, late_s: float) -> float | None:
    """Seconds a step: the mean displayed one within what whole seconds allow.

    Every stretch between breaks is uncertain by up to a second, and regular pauses make the errors of all alike;
    `late_s` is what the ends of the whole are uncertain by.
    """
    if len(shown) >= 10:
        # The error of two whole seconds is half a second as a rule; of the few of a short run it can be all of one.
        doubt_s = max(late_s, 1.0 if time_s < _SHORT_S else 0.0) + 0.5 * breaks
        return min(max(sum(shown) / len(shown), (time_s - doubt_s) / steps), (time_s + doubt_s) / steps)
    if time_s >= 60:
        return time_s / steps
    if shown and not _agree(steps, time_s, _median(shown)):
        return None
    return time_s / steps if time_s >= 10 and steps >= 3 else None


def _agree(steps: int, time_s: int, shown: float) -> bool:
    """Whether seconds between draws and displayed rates can both be true of one steady speed."""
    return (time_s - 1) / steps <= 1.5 * shown and shown <= 1.5 * (time_s + 1) / steps


def _shown(epochs: dict[int, list[Draw]], marks: Sequence[int]) -> list[float]:
    """Displayed seconds a step, where the moving average has forgotten the first steps and the last pause."""
    shown: list[float] = []
    earliest = min(epochs)
    marks = [*marks, sys.maxsize]
    for epoch, draws in epochs.items():
        since = min(20, draws[-1].total // 2) if epoch == earliest else WARM_STEPS
        pause = marks[bisect_left(marks, draws[0].at)]
        for at, _, done, _, _, s_per_it in draws:
            if at > pause:
                since, pause = done + _FORGOTTEN_STEPS, marks[bisect_left(marks, at)]
            if s_per_it and done >= since:
                shown.append(s_per_it)
    return shown


def _single(draws: Sequence[Draw]) -> float | None:
    """The mean over one draw of a long run, where the displayed rate confirms it: first steps no longer matter."""
    first = min(draw.epoch for draw in draws)
    for draw in sorted((draw for draw in draws if draw.epoch == first), key=lambda one: (one.done, one.elapsed_s)):
        if draw.elapsed_s >= _LONG_S and draw.done >= _LONG_STEPS and draw.s_per_it:
            mean = draw.elapsed_s / draw.done
            return mean if abs(mean / draw.s_per_it - 1) <= 0.1 else None
    return None


def only_closed(draws: Sequence[Draw], data: bytes) -> bool:
    """Whether all that a text holds of torchtune's bars is how they were closed, after saving: that is in the seconds.

    Of a run of hours it does not matter. A bar that is full before it is saved is followed by words of that.
    """
    first = min(draws, key=lambda draw: draw.elapsed_s)
    if first.elapsed_s >= _HIDING_S or any(draw.done < draw.total for draw in draws):
        return False
    return data.find(b"heckpoint", first.at, first.at + _CLOSED_BYTES) < 0
