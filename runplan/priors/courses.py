"""Draws of bars with equal totals, put together to the runs that drew them: folds, attempts, evaluations between."""

from __future__ import annotations

from collections.abc import Sequence

from runplan.priors.steady import Draw

_LATE_S = 5
"""Seconds by which a rank may be behind another one that draws the same bar."""
_LATE_STEPS = 2
_LATE_PART = 50
_MOST = 64
"""Courses that are looked at, the newest ones; of folds and evaluations there are fewer."""
_NEAR = 0.1
"""Of the time that is told: a bar that ran so long is meant."""


def courses(draws: Sequence[Draw]) -> list[list[Draw]]:
    """Draws, in the order of the text, by the run of a bar that each of them goes on with.

    >>> first, second = [Draw(i, 1, i, 9, 10 * i, None) for i in (1, 5, 9)], [Draw(30, 1, 2, 9, 4, None)]
    >>> courses([*first, *second]) == [first, second]
    True
    """
    found: list[list[Draw]] = []
    for draw in draws:
        late = max(_LATE_STEPS, draw.total // _LATE_PART)
        best: tuple[bool, bool, int, int, int] | None = None
        for number, course in enumerate(found[-_MOST:], max(0, len(found) - _MOST)):
            before = course[-1]
            passed_s = draw.elapsed_s - before.elapsed_s
            if draw.done >= before.done - late and passed_s >= -_LATE_S:
                one = (before.done < draw.done, passed_s >= 0, before.done - draw.done, -abs(passed_s), number)
                best = one if best is None or one > best else best
        if best is None:
            found.append([draw])
        else:
            found[best[-1]].append(draw)
    return found


def last_course(draws: Sequence[Draw], wall_s: float = 0.0) -> list[Draw]:
    """Draws of the last training among runs of bars with equal totals.

    That is the one which took as long as is told, else the last whose steps take about as long as those of the slowest:
    an evaluation's take less.

    Args:
        draws: in the order of the text, at least one.
        wall_s: seconds that the training took, 0 where it is not told.
    """
    found = courses(draws)
    if len(found) == 1:
        return found[0]
    if wall_s:
        near = [one for one in found if abs(one[-1].elapsed_s - wall_s) <= max(_LATE_S, _NEAR * wall_s)]
        if near:
            return near[-1]
    slowest = max(map(_s_per_step, found))
    return [one for one in found if 2 * _s_per_step(one) >= slowest][-1]


def _s_per_step(course: Sequence[Draw]) -> float:
    first, last = course[0], course[-1]
    return (last.elapsed_s - first.elapsed_s) / max(1, last.done - first.done)
