"""Progress bars of a log: which draws are looked at, and what they say together.

A bar is drawn thousands of times, so of long logs only some draws are looked at. What they mean for speed is
`steady.py`'s part.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from runplan.priors.courses import last_course
from runplan.priors.letters import LINE_PREFIX
from runplan.priors.other_bars import candidates, drawn_on
from runplan.priors.spoken import Word, last_place
from runplan.priors.steady import Draw, only_closed, steady_s_per_step

# Possessive where the next byte cannot be part of what is repeated: the same matches in half the time.
_TIMES = rb"(\d++)/(\d++) \[((?:\d++:)?\d++:\d\d)<[^,\]\r\n]{0,16}+, *+(\d++\.?+\d*+(?:it/s|s/it))?"
# Both begin with fixed bytes, which `re` looks for ten times faster than for digits.
_TUNE = re.compile(rb"\|Loss:[^|\r\n]{0,64}+\|[^|\r\n]{0,400}+\| *+" + _TIMES)
_PLAIN = re.compile(rb"%\|[^|\r\n]{0,1200}+\| *+" + _TIMES)
_BARLESS = re.compile(rb"% " + _TIMES)
"""As where a notebook's cell runs a command: no width is known."""
_PREFIX = re.compile(LINE_PREFIX)

VALIDATION = Word(b"alidation", 1)
TUNE_PAUSES = (Word(b"heckpoint", 0), VALIDATION)
HF_PAUSES = (
    Word(b"Running Evaluation", 8),
    Word(b"'eval_", 3),
    Word(b"Saving model checkpoint", 18),
    Word(b"heckpoint saved in", 0),
)
_PROBES = 9
_PROBE_BYTES = 1000
_SLOW_BYTES = 1200
"""Of the draws of the first `WARM_STEPS` steps, each drawn twice."""
_DRAW_BYTES = 150
"""Of a usual draw, with what stands before its loss."""
_WHOLE_BYTES = 2 << 20
_MANY_PROBES = 1500
_MAX_MARKS = 400
_SHORT_S = 60
"""Of shorter runs every draw is looked at: a second more or less is several per cent."""
_DIGITS = b"0123456789"


class Progress(NamedTuple):
    """What the bars of a run say together."""

    s_per_step: float | None
    first_step_s: float | None
    wall_s: float | None
    """Seconds during which the bars ran, saving included; None when an epoch's bar was not seen to its end."""
    epochs_seen: int
    steps_done: int
    steps_per_epoch: int
    last_at: int
    """Where the last draw stands in the text."""


def _draws(data: bytes, start: int, end: int) -> list[Draw]:
    """All draws in a part of the text."""
    return [_tune_draw(data, match) for match in _TUNE.finditer(data, start, end)]


def next_draw(data: bytes, start: int, end: int) -> Draw | None:
    """The first of torchtune's bars in a part of a text; None without one."""
    match = _TUNE.search(data, start, end)
    return _tune_draw(data, match) if match else None


def _tune_draw(data: bytes, match: re.Match[bytes]) -> Draw:
    """A draw of torchtune, whose epoch stands two bars before: `1` of `1|52|Loss:`; 1 when it is cut off."""
    at = match.start()
    start = at - 18 if at > 18 else 0
    bar = data.rfind(b"|", start, at)
    if bar > 1 and data[bar - 2] not in _DIGITS and (digit := data[bar - 1]) in _DIGITS:
        epoch = digit - _DIGITS[0]
    else:
        before = data[start : max(0, bar)]
        digits = before[len(before.rstrip(_DIGITS)) :]
        epoch = int(digits) if digits else 1
    done, total, elapsed, rate = match.groups()
    # What `Draw(…)` does, without its call of Python's: some dozens a log.
    return tuple.__new__(Draw, (at, epoch, int(done), int(total), bar_seconds(elapsed), _s_per_it(rate)))


def _plain_draw(match: re.Match[bytes]) -> Draw:
    done, total, elapsed, rate = match.groups()
    return Draw(match.start(), 1, int(done), int(total), bar_seconds(elapsed), _s_per_it(rate))


@lru_cache(maxsize=1 << 14)
def bar_seconds(text: bytes) -> int:
    """Of `05:31` or `1:05:31`."""
    hours, minutes, seconds = (b"0:" + text if text.count(b":") == 1 else text).split(b":")
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds)


@lru_cache(maxsize=1 << 14)
def _s_per_it(rate: bytes | None) -> float | None:
    """Seconds a step of `1.17s/it` or `2.30it/s`."""
    value = float(rate[: -len("s/it")]) if rate else 0.0
    return (value if rate and rate.endswith(b"s/it") else 1 / value) if value else None


def pauses(data: bytes, words: Iterable[Word], start: int = 0) -> list[int]:
    """Where, from a place on, the text speaks of something that interrupts training, at most some hundred places."""
    marks: list[int] = []
    for word in words:
        at = last_place(data, word, start)
        while at >= 0 and len(marks) < _MAX_MARKS * 4:
            marks.append(at)
            at = last_place(data, word, start, at)
    return sorted(marks)


def last_draw(data: bytes, start: int = 0, end: int = sys.maxsize) -> Draw | None:
    """The last of torchtune's bars in a part of a text; None without one."""
    at = data.rfind(b"|Loss:", start, end)
    while at >= 0:
        if match := _TUNE.match(data, at, end):
            return _tune_draw(data, match)
        at = data.rfind(b"|Loss:", start, at)
    return None


def _probed(data: bytes, start: int, end: int, probes: int) -> list[Draw]:
    """The first draw, one after the first slow steps, one at each of evenly spaced places, and the last; in order."""
    step = max(1, (end - start) // (probes + 1))
    places = [start, start + _SLOW_BYTES, *range(start + step, end - _PROBE_BYTES, step)]
    found = [next_draw(data, at, at + _PROBE_BYTES) for at in places]
    found.append(last_draw(data, max(start, end - _PROBE_BYTES), end))
    return _ordered(draw for draw in found if draw)


def _around(data: bytes, marks: Sequence[int]) -> list[Draw]:
    """The last draw before each mark and the first after it; a bar redrawn full is no progress, so one more.

    Between two marks that stand close together all draws are looked at.
    """
    draws: list[Draw | None] = []
    previous = -_PROBE_BYTES
    for mark, following in pairwise([*marks, sys.maxsize]):
        if mark - previous > 2 * _DRAW_BYTES:
            draws.append(last_draw(data, max(0, mark - _PROBE_BYTES), mark))
        else:
            draws += _draws(data, previous, mark)
        if following - mark > 2 * _DRAW_BYTES:
            draw = next_draw(data, mark, mark + _PROBE_BYTES)
            draws.append(draw)
            if draw and draw.done >= draw.total:
                draws.append(next_draw(data, draw.at + 1, mark + _PROBE_BYTES))
        previous = mark
    return [draw for draw in draws if draw]


def _ordered(draws: Iterable[Draw]) -> list[Draw]:
    return sorted({draw.at: draw for draw in draws}.values())


def tune_progress(data: bytes, *, regular: bool = False) -> tuple[Progress | None, list[int]]:
    """What torchtune's bars (`1|52|Loss: 2.3:  0%|…| 52/25880 [00:24<…`) say, and where pauses are.

    Other bars (`Packing dataset: …`) carry no loss and are never seen here. Of long logs a few draws are looked at,
    more around pauses, and all when those few do not tell one speed: a short run's whole seconds need every draw.

    Args:
        data: the text of one attempt.
        regular: the config asks for pauses within an epoch: validation, saving every so many steps.
    """
    first = data.find(b"|Loss:")
    if first < 0:
        return None, pauses(data, TUNE_PAUSES)
    start, end = first, data.rfind(b"|Loss:") + 300
    marks = pauses(data, TUNE_PAUSES, start)
    s_per_step: float | None = None
    even = False
    if end - start > 8 * _PROBE_BYTES:
        draws = _probed(data, start, end, _PROBES)
        # Regular pauses of which no line speaks could lie wherever is looked, or wherever is not.
        silent = regular and last_place(data, VALIDATION, start) < 0
        if len(marks) <= _MAX_MARKS and not silent:
            draws = _ordered([*draws, *_around(data, marks)])
            s_per_step, even = steady_s_per_step(draws, marks)
            even = even and s_per_step is not None and draws[-1].elapsed_s >= _SHORT_S
    if not even:
        draws = _dense(data, start, end)
        s_per_step, _ = steady_s_per_step(draws, marks, every_draw=end - start <= _WHOLE_BYTES)
    return (summary(draws, None if only_closed(draws, data) else s_per_step) if draws else None), marks


def _dense(data: bytes, start: int, end: int) -> list[Draw]:
    if end - start <= _WHOLE_BYTES:
        return _draws(data, start, end)
    return _probed(data, start, end, _MANY_PROBES)


def plain_progress(
    data: bytes, marks: Sequence[int], total: float = 0, doubt: float = 0.0, wall_s: float = 0.0, name: bytes = b""
) -> Progress | None:
    """What bars without a description say (HF Trainer's training bar); None without one.

    Of several such bars (evaluation has its own) the one with the steps in all that are known is training, or the one
    that went on from a checkpoint with so many steps left; where they are not known, the one that ran longest, unless
    it is known for another's (`other_bars`). While another one runs, training does not.

    Args:
        data: the text of one attempt.
        marks: where it speaks of pauses, sorted.
        total: steps in all, 0 where they are not known.
        doubt: by how many steps that may be wrong.
        wall_s: seconds that the training is said to have taken, 0 where it is not said.
        name: the description that the trainer gives its bar, where it gives one, with its colon.
    """
    pattern, sign = (_PLAIN, b"%|") if data.find(b"%|") >= 0 else (_BARLESS, b"% ")
    end, start = len(data), max(0, data.find(sign) - 8)
    pieces = [(start, end)] if end - start <= _WHOLE_BYTES else [(start, start + (1 << 20)), (end - (1 << 20), end)]
    by_total: dict[int, list[Draw]] = {}
    for piece in pieces:
        for match in pattern.finditer(data, *piece):
            rows = match[4] is None and b"examples/s" in data[match.end() : match.end() + 24]  # of a data set
            if rows or _described(data, match.start(), name):
                continue
            draw = _plain_draw(match)
            by_total.setdefault(draw.total, []).append(draw)
    if not by_total:
        return None
    if total:
        known = [some for steps, some in by_total.items() if abs(steps - total) <= doubt + 0.5]
        known = known or [some for some in by_total.values() if _went_on(some, total, doubt)]
    else:
        known = candidates(data, list(by_total.values()))
    if not known:
        return None
    draws = last_course(max(known, key=lambda some: max(draw.elapsed_s for draw in some)), wall_s)
    own = {draw.at for draw in draws}
    others = [draw.at for some in by_total.values() for draw in drawn_on(some) if draw.at not in own]
    return summary(draws, steady_s_per_step(draws, sorted([*marks, *others]))[0])


def _went_on(draws: Sequence[Draw], left: float, doubt: float) -> bool:
    """Whether a bar began behind a checkpoint and had so many steps left; its first step is drawn where that ended.

    Of a bar of which only the end was kept nothing says where it began.
    """
    first = min((draw.done for draw in draws if draw.done), default=0)
    return first < draws[0].total and -doubt < draws[0].total - left - 0.5 < first


def _described(data: bytes, at: int, name: bytes) -> bool:
    """Whether a bar has a description that is not the trainer's own. It ends in a colon; a rank is none."""
    before = data[max(0, at - 80) : at].rstrip(b"0123456789").rstrip(b" ")
    if not before.endswith(b":") or (name and before.endswith(name)):
        return False
    return _PREFIX.fullmatch(re.split(rb"[\r\n]", before)[-1].lstrip(b" ")) is None


def summary(draws: Sequence[Draw], s_per_step: float | None) -> Progress:
    """What draws of a run's training bars say together; there is at least one."""
    walls: dict[int, int] = {}
    full = {epoch for _, epoch, done, total, _, _ in draws if done >= total}
    last = draws[0]
    for draw in draws:
        _, epoch, done, _, elapsed_s, _ = draw
        if elapsed_s > walls.get(epoch, -1):
            walls[epoch] = elapsed_s
        if epoch > last.epoch or (epoch == last.epoch and done > last.done):
            last = draw
    unbroken = min(walls) == 1 and len(full | {last.epoch}) == max(walls)
    return Progress(
        s_per_step=s_per_step,
        first_step_s=_first_step_s(draws),
        wall_s=float(sum(walls.values())) if unbroken else None,
        epochs_seen=last.epoch,
        steps_done=(last.epoch - 1) * last.total + last.done,
        steps_per_epoch=last.total,
        last_at=draws[-1].at,
    )


def _first_step_s(draws: Sequence[Draw]) -> float | None:
    """Seconds of step 1: at one step the displayed rate is no average yet."""
    first = next((draw for draw in draws if draw.epoch == 1 and draw.done == 1), None)
    return first.s_per_it if first and first.s_per_it and first.s_per_it >= first.elapsed_s * 0.9 else None
