"""Times beside the steps that cannot be right, or stand apart: found in logs, and named instead of averaged in."""

from __future__ import annotations

import math
from collections.abc import Sequence

from runplan.estimate import intervals
from runplan.estimate.factors import scatter
from runplan.estimate.logs.figures import Odd
from runplan.estimate.wall_time.two_parts import Timed, TwoParts, learn_parts

APART = 4.0
"""Standard deviations from what is expected, or from what the other logs say, beyond which a time is left out."""
LEAST_FACTOR = 3.0
"""Nor is a time left out that differs by less than this: file systems have bad days."""
FASTEST_GB_PER_S = 40.0
"""No file system or page cache reads or writes a model faster into one process."""


def learn_times(what: str, times: Sequence[tuple[str, Timed]], usual_gb_per_s: float) -> tuple[TwoParts, list[Odd]]:
    """What times of logs teach, without those that cannot be or that stand apart from all others.

    Args:
        what: name of the time, for the reason.
        times: path of the log, and its time with what its parts usually take.
        usual_gb_per_s: speed behind the usual time of the part that grows with size.
    """
    odd = [
        Odd(path, what, f"{one.seconds:.3g} s, faster than {FASTEST_GB_PER_S:.0f} GB/s")
        for path, one in times
        if one.seconds < one.scaled * usual_gb_per_s / FASTEST_GB_PER_S
    ]
    gone = {one.path for one in odd}
    left = [(path, one) for path, one in times if path not in gone]
    apart = _apart(what, left)
    gone = {one.path for one in apart}
    return learn_parts([one for path, one in left if path not in gone]), [*odd, *apart]


def first_step_ratios(
    times: Sequence[tuple[str, float]], usual_s: float, spread: float
) -> tuple[list[float], list[Odd]]:
    """First steps over what is usual; and those far too long, where too few logs are there to tell it by a median.

    Args:
        times: path of the log, and seconds.
        usual_s: seconds that are usual.
        spread: standard deviation of the logarithm from one cluster to the next.
    """
    slow = [one for one in times if len(times) < 3 and one[1] > usual_s * math.exp(APART * spread)]
    odd = [
        Odd(path, "first step", f"{seconds:.3g} s, {seconds / usual_s:.2g} times what is usual")
        for path, seconds in slow
    ]
    return [one[1] / usual_s for one in times if one not in slow], odd


def _apart(what: str, times: Sequence[tuple[str, Timed]]) -> list[Odd]:
    """Those far from what most say; where fewer than three say anything, from all that is usual."""
    if len(times) < 3:
        expected, others = TwoParts(), "is usual"
        spread = [intervals.sigma(expected.of(one.constant, one.scaled)) for _, one in times]
    else:
        expected, others = learn_parts([one for _, one in times]), "the other logs imply"
        rest = [math.log(one.seconds / expected.of(one.constant, one.scaled).p50) for _, one in times]
        spread = [max(expected.noise, scatter(rest, 0.0))] * len(times)
    found = []
    for (path, one), sigma in zip(times, spread, strict=True):
        factor = one.seconds / expected.of(one.constant, one.scaled).p50
        # What is quick may be in a cache; of a small model nearly nothing is left to do.
        quick = len(times) < 3 and factor < 1
        if abs(math.log(factor)) > max(APART * sigma, math.log(LEAST_FACTOR)) and not quick:
            found.append(Odd(path, what, f"{one.seconds:.3g} s, {factor:.2g} times what {others}"))
    return found
