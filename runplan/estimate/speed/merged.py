"""Measurements of one and the same step: one observation for all that repeat it, and those that stand apart."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence

from runplan.estimate.factors import scatter
from runplan.estimate.speed.observation import Observation
from runplan.estimate.speed.step import Step

APART = 4.0
"""Standard deviations by which one of several alike runs must differ from their median to be left out, and named."""

TWO = 1.5
"""By how much more than one run's noise two of them differ from each other: some square root of 2."""


def merged(observations: Iterable[Observation]) -> tuple[list[Observation], list[tuple[Observation, str]]]:
    """One observation a distinct step, the median of those that repeat it; and what stands apart from its likes.

    All of a group count: what differs by chance from run to run shrinks with their number.
    """
    groups: dict[tuple[Step, bool, bool], list[Observation]] = {}
    for seen in observations:
        groups.setdefault((seen.step, seen.gpu_known, seen.tokens_known), []).append(seen)
    kept: list[Observation] = []
    apart: list[tuple[Observation, str]] = []
    for members in groups.values():
        if len(members) == 1:
            kept += members
            continue
        near, far = _split(members)
        apart += far
        kept += [_median(near)] if _agree(near) else near
    return kept, apart


def _split(members: Sequence[Observation]) -> tuple[list[Observation], list[tuple[Observation, str]]]:
    """Those near their median, and those far from it; of two, none says which is the odd one."""
    if len(members) < 3:
        return list(members), []
    logs = [math.log(seen.seconds) for seen in members]
    middle = statistics.median(logs)
    most = APART * max(scatter(logs, middle), members[0].run_noise)
    near, far = [], []
    for seen, one in zip(members, logs, strict=True):
        if abs(one - middle) > most:
            factor = math.exp(one - middle)
            far.append((seen, f"{factor:.2g} times the step time of {len(members) - 1} logs of the same setting"))
        else:
            near.append(seen)
    return near, far


def _agree(members: Sequence[Observation]) -> bool:
    """Whether they may be runs of one speed; two that may not are two observations, which the fit weighs."""
    if len(members) != 2:
        return True
    one, other = (math.log(seen.seconds) for seen in members)
    return abs(other - one) <= APART * TWO * members[0].run_noise


def _median(members: Sequence[Observation]) -> Observation:
    """The newest of two or more, with the median of all their times and less of the noise that is each run's own."""
    logs = [math.log(seen.seconds) for seen in members]
    first, n = members[0], len(members)
    usual = first.run_noise**2
    shown = sum((one - statistics.fmean(logs)) ** 2 for one in logs) / (n - 1)
    # The median of n values of Gaussian noise scatters as the mean of n / 1.57 (pi / 2); that of two is their mean.
    left = max(usual, shown) * min(1.0, (1.57 if n > 2 else 1.0) / n)
    noise = math.sqrt(first.noise**2 - usual + left)
    return dataclasses.replace(first, seconds=math.exp(statistics.median(logs)), noise=noise, repeats=n)
