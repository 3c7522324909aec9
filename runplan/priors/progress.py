"""Progress bars of a log: which draws are looked at, and what they say together.

A bar is drawn thousands of times, so of long logs only some draws are looked at. What they mean for speed is
`steady.py`'s part.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from runplan.priors.letters import LINE_PREFIX
from runplan.priors.spoken import Span
from runplan.priors.steady import WARM_STEPS, Draw, steady_s_per_step

_TIMES = rb"(\d+)/(\d+) \[(?:(\d+):)?(\d+):(\d\d)<[^,\]\r\n]{0,16}, *(?:(\d+\.?\d*)(it/s|s/it))?"
# Both begin with fixed bytes, which `re` looks for ten times faster than for digits.
_TUNE = re.compile(rb"\|Loss:[^|\r\n]{0,64}\|[^|\r\n]{0,400}\| *" + _TIMES)
_PLAIN = re.compile(rb"%\|[^|\r\n]{0,1200}\| *" + _TIMES)
_PREFIX = re.compile(LINE_PREFIX)

TUNE_PAUSES = (b"heckpoint", b"alidation")
_PROBES = 9
_PROBE_BYTES = 1000
_DRAW_BYTES = 150
"""Of a usual draw, with what stands before its loss."""
_WHOLE_BYTES = 2 << 20
_MANY_PROBES = 1500
_MAX_MARKS = 400
_SHORT_S = 60
"""Of shorter runs every draw is looked at: a second more or less is several per cent."""


class Progress(NamedTuple):
    """What the bars of a run say together."""

    s_per_step: float | None
    first_step_s: float | None
    wall_s: float | None
    """Seconds during which the bars ran, saving included; None when an epoch's bar was not seen."""
    epochs_seen: int
    steps_done: int
    steps_per_epoch: int
    last_at: int
    """Where the last draw stands in the text."""


def _draws(data: bytes, start: int, end: int) -> Iterator[Draw]:
    return (_draw(match, _epoch(data, match.start())) for match in _TUNE.finditer(data, start, end))


def _epoch(data: bytes, at: int) -> int:
    """The number two bars before: `1` of `1|52|Loss:`; 1 when it is cut off."""
    before = data[max(0, at - 18) : at].rpartition(b"|")[0]
    digits = before[len(before.rstrip(b"0123456789")) :]
    return int(digits) if digits else 1


def _draw(match: re.Match[bytes], epoch: int = 1) -> Draw:
    done, total, hours, minutes, seconds, rate, unit = match.groups()
    value = float(rate) if rate else 0.0
    s_per_it = (value if unit == b"s/it" else 1 / value) if value else None
    elapsed = int(minutes) * 60 + int(seconds)
    if hours:
        elapsed += int(hours) * 3600
    return Draw(match.start(), epoch, int(done), int(total), elapsed, s_per_it)


def pauses(data: bytes, words: Iterable[bytes], spans: Iterable[tuple[int, int]] = ((0, sys.maxsize),)) -> list[int]:
    """Where, within spans, the text speaks of something that interrupts training, at most some hundred places."""
    marks: list[int] = []
    for start, end in spans:
        for word in words:
            at = data.rfind(word, start, end)  # from the end: twice as fast as find where there is nothing
            while at >= 0 and len(marks) < _MAX_MARKS * 4:
                marks.append(at)
                at = data.rfind(word, start, at)
    return sorted(marks)


def _first_draw(data: bytes, start: int, end: int) -> Draw | None:
    match = _TUNE.search(data, start, end)
    return _draw(match, _epoch(data, match.start())) if match else None


def last_draw(data: bytes) -> Draw | None:
    """The last of torchtune's bars in a text; None without one."""
    at = data.rfind(b"|Loss:")
    while at >= 0:
        if match := _TUNE.match(data, at):
            return _draw(match, _epoch(data, at))
        at = data.rfind(b"|Loss:", 0, at)
    return None


def _probed(data: bytes, start: int, end: int, probes: int) -> list[Draw]:
    """Some draws at both ends and one at each of evenly spaced places in between, in the order of the text."""
    draws = list(islice(_draws(data, start, min(end, start + 6 * _PROBE_BYTES)), WARM_STEPS))
    step = max(1, (end - start) // (probes + 1))
    places = range(start + step, end - _PROBE_BYTES, step)
    draws.extend(draw for at in places if (draw := _first_draw(data, at, at + _PROBE_BYTES)))
    draws.extend(_draws(data, max(start, end - _PROBE_BYTES // 2), end))
    return _ordered(draws)


def _ends(draws: Sequence[Draw], start: int, end: int) -> list[tuple[int, int]]:
    """Where epochs end: from the last draw of an unfinished epoch to the first of the next, or to the end.

    A bar is drawn again, full, after the checkpoint was saved; hence a full bar does not open a span.
    """
    spans: list[tuple[int, int]] = []
    inner, epoch = start, draws[0].epoch if draws else 1
    for draw in draws:
        if draw.epoch > epoch:
            spans.append((inner, draw.at))
            epoch = draw.epoch
        if draw.done < draw.total:
            inner = draw.at
    return [*spans, (inner, end)]


def _around(data: bytes, marks: Sequence[int]) -> list[Draw]:
    """The draws just before and after each mark."""
    draws: list[Draw] = []
    previous = -_PROBE_BYTES
    for i, mark in enumerate(marks):
        if mark - previous > 2 * _DRAW_BYTES:
            draws.extend(_draws(data, max(0, mark - 2 * _DRAW_BYTES), mark))
        if i + 1 == len(marks) or marks[i + 1] - mark > 2 * _DRAW_BYTES:
            draws.extend(islice(_draws(data, mark, mark + _PROBE_BYTES), 2))
        previous = mark
    return draws


def _ordered(draws: Iterable[Draw]) -> list[Draw]:
    return sorted({draw.at: draw for draw in draws}.values())


def tune_progress(
    data: bytes, spans: Sequence[Span], *, everywhere: bool, regular: bool = False
) -> tuple[Progress | None, list[int]]:
    """What torchtune's bars (`1|52|Loss: 2.3:  0%|…| 52/25880 [00:24<…`) say, and where pauses are.

    Other bars (`Packing dataset: …`) carry no loss and are never seen here. Of long logs a few draws are looked at,
    more where an epoch ends, and all when those few do not tell one speed: a short run's whole seconds need every draw.

    Args:
        data: the text of one attempt.
        spans: where it speaks.
        everywhere: pauses may come within an epoch (validation, saving every so many steps), not only at its end.
        regular: the config asks for such pauses.
    """
    first = data.find(b"|Loss:")
    if first < 0:
        return None, pauses(data, TUNE_PAUSES, spans)
    start, end = first, data.rfind(b"|Loss:") + 300
    s_per_step: float | None = None
    even = False
    if end - start > 8 * _PROBE_BYTES:
        draws = _probed(data, start, end, _PROBES)
        said = [(max(start, a), b) for a, b in spans if b > start]
        marks = pauses(data, TUNE_PAUSES, said if everywhere else _ends(draws, start, len(data)))
        # Regular pauses of which no line speaks could lie wherever is looked, or wherever is not.
        silent = regular and all(data.rfind(TUNE_PAUSES[1], a, b) < 0 for a, b in said)
        if len(marks) <= _MAX_MARKS and not silent:
            draws = _ordered([*draws, *_around(data, marks)])
            s_per_step, even = steady_s_per_step(draws, marks)
            even = even and s_per_step is not None and draws[-1].elapsed_s >= _SHORT_S
    if not even:
        marks = pauses(data, TUNE_PAUSES, [(start, len(data))])
        draws = _dense(data, start, end)
        s_per_step, _ = steady_s_per_step(draws, marks, every_draw=end - start <= _WHOLE_BYTES)
    return (summary(draws, s_per_step) if draws else None), marks


def _dense(data: bytes, start: int, end: int) -> list[Draw]:
    if end - start <= _WHOLE_BYTES:
        return list(_draws(data, start, end))
    return _probed(data, start, end, _MANY_PROBES)


def plain_progress(data: bytes, marks: Sequence[int], total: int = 0) -> Progress | None:
    """What bars without a description say (HF Trainer's training bar); None without one.

    Of several such bars (evaluation has its own) the one with the steps in all that are known is training, to half a
    per cent (a rounded rate tells no more); where they are not, the one that ran longest.
    """
    if data.find(b"%|") < 0:
        return None
    end = len(data)
    start = max(0, data.find(b"%|") - 8)
    pieces = [(start, end)] if end - start <= _WHOLE_BYTES else [(start, start + (1 << 20)), (end - (1 << 20), end)]
    by_total: dict[int, list[Draw]] = {}
    for piece in pieces:
        for draw in map(_draw, _PLAIN.finditer(data, *piece)):
            if _described(data, draw.at):
                continue
            by_total.setdefault(draw.total, []).append(draw)
    if not by_total:
        return None
    known = [some for steps, some in by_total.items() if total and abs(steps - total) <= total / 200]
    draws = max(known or by_total.values(), key=lambda some: max(draw.elapsed_s for draw in some))
    return summary(draws, steady_s_per_step(draws, marks)[0])


def _described(data: bytes, at: int) -> bool:
    """Whether a bar has a description: it ends in a colon, then come blanks and the percentage. A rank is none."""
    before = data[max(0, at - 80) : at].rstrip(b"0123456789").rstrip(b" ")
    if not before.endswith(b":"):
        return False
    return _PREFIX.fullmatch(re.split(rb"[\r\n]", before)[-1].lstrip(b" ")) is None


def summary(draws: Sequence[Draw], s_per_step: float | None) -> Progress:
    """What draws of a run's training bars say together; there is at least one."""
    walls: dict[int, int] = {}
    last = draws[0]
    for draw in draws:
        epoch = draw.epoch
        if draw.elapsed_s > walls.get(epoch, -1):
            walls[epoch] = draw.elapsed_s
        if epoch > last.epoch or (epoch == last.epoch and draw.done > last.done):
            last = draw
    unbroken = min(walls) == 1 and len(walls) == max(walls)
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
