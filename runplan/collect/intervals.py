"""95 % confidence intervals of a mean: over samples by the bootstrap, over replicates by Student's t. Pure."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy import float64
    from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 10_000
SEED = 14
BOOTSTRAP = "bootstrap over samples"
STUDENT = "t over replicates"
ALIKE = "all samples alike"
_MOST_DRAWS = 20_000_000
"""Numbers drawn for one interval: 0.2 s. Above 2,000 samples there are fewer resamples, never below 1,000."""
_FEW_VALUES = 64
"""Up to so many different values, counts of each are drawn: right and wrong differ in three ways."""


@dataclass(frozen=True)
class ConfidenceInterval:
    """A mean with its 95 % confidence interval; bounds are None where there is too little to tell."""

    mean: float
    low: float | None
    high: float | None
    method: str
    """How the bounds were found; empty without bounds."""
    n: int
    """Samples or replicates that were counted."""


def over_samples(values: Iterable[float]) -> ConfidenceInterval:
    """Mean of values that samples have, with the percentile bootstrap's interval (Efron & Tibshirani 1993, chapter 13).

    The order of the values does not matter, and the same values give the same interval. Fewer than two say nothing
    about their scatter, and of equal ones a resample would say that there is none (`_alike`).

    Raises:
        ValueError: there are no values.
    """
    ordered = sorted(values)
    n = len(ordered)
    if not n:
        raise ValueError("a mean of nothing")
    mean = math.fsum(ordered) / n
    if n < 2:
        return ConfidenceInterval(mean, None, None, "", n)
    if ordered[0] == ordered[-1]:
        return _alike(ordered[0], n)
    counts = Counter(ordered)
    if len(counts) <= _FEW_VALUES:
        low, high = _of_counts(tuple(counts.items()))
    else:
        low, high = _of_values(ordered)
    return ConfidenceInterval(mean, low, high, BOOTSTRAP, n)


def _alike(value: float, n: int) -> ConfidenceInterval:
    """Equal differences of right and wrong answers (-1, 0 or 1): how many others may differ; of other values, nothing.

    Source: Clopper & Pearson 1934, "The use of confidence or fiducial limits": where none of n differs, at most
    1 - 0.025 ** (1/n) of all do, to -1 or to 1.
    """
    if value not in {-1.0, 0.0, 1.0}:
        return ConfidenceInterval(value, None, None, "", n)
    others = 1 - ((1 - LEVEL) / 2) ** (1 / n)
    return ConfidenceInterval(value, value - others * (value + 1), value + others * (1 - value), ALIKE, n)


@cache
def _of_counts(counts: tuple[tuple[float, int], ...]) -> tuple[float, float]:
    """Bounds of the mean of values that occur so many times; runs of one group often share these counts."""
    import numpy as np  # noqa: PLC0415 - heavy

    values, times = (np.array(part) for part in zip(*counts, strict=True))
    n = int(times.sum())
    return _bounds(np.random.default_rng(SEED).multinomial(n, times / n, size=RESAMPLES) @ values / n)


def _of_values(ordered: Sequence[float]) -> tuple[float, float]:
    """Bounds of the mean of many different values."""
    import numpy as np  # noqa: PLC0415 - heavy

    every, generator, n = np.array(ordered), np.random.default_rng(SEED), len(ordered)
    resamples = max(1000, min(RESAMPLES, _MOST_DRAWS // n))
    rows = max(1, 1_000_000 // n)
    parts = [
        every[generator.integers(0, n, size=(min(rows, resamples - done), n))].mean(axis=1)
        for done in range(0, resamples, rows)
    ]
    return _bounds(np.concatenate(parts))


def _bounds(means: NDArray[float64]) -> tuple[float, float]:
    import numpy as np  # noqa: PLC0415 - heavy

    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def over_replicates(values: Iterable[float]) -> ConfidenceInterval:
    """Mean of what replicates found, with Student's interval for it: mean +- t * s / sqrt(k), k - 1 degrees of freedom.

    Raises:
        ValueError: there are no values.
    """
    ordered = sorted(values)
    k = len(ordered)
    if not k:
        raise ValueError("a mean of nothing")
    mean = math.fsum(ordered) / k
    if k < 2 or ordered[0] == ordered[-1]:  # equal ones do not say how much others would scatter
        return ConfidenceInterval(mean, None, None, "", k)
    half = t_quantile(k - 1) * statistics.stdev(ordered) / math.sqrt(k)
    return ConfidenceInterval(mean, mean - half, mean + half, STUDENT, k)


# fmt: off
_T975 = (
    12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139,
    2.200985, 2.178813, 2.160369, 2.144787, 2.131450, 2.119905, 2.109816, 2.100922, 2.093024, 2.085963,
)
# fmt: on
"""Student's t at 0.975 for 1 to 20 degrees of freedom; NIST/SEMATECH e-Handbook, section 1.3.6.7.2, more digits."""


def t_quantile(freedom: int) -> float:
    """Student's t at 0.975, within 1e-5; above 20 degrees of freedom by Cornish and Fisher's series.

    Source: Abramowitz & Stegun 1964, formula 26.7.5.

    Raises:
        ValueError: less than one degree of freedom.
    """
    if freedom < 1:
        raise ValueError(f"{freedom} degrees of freedom; at least 1 is needed")
    if freedom <= len(_T975):
        return _T975[freedom - 1]
    z = statistics.NormalDist().inv_cdf((1 + LEVEL) / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom ** (power + 1) for power, term in enumerate(terms))
