"""Axes of a picture: round ticks, and where values stand. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

_LEAST, _RELATIVE = 1e-100, 1e-9
"""Extents below these, as such and of the values, are rounding errors: there is nothing to see in them."""


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    x: float
    text: str
    zero: bool = False


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` between two places of a picture."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Where a value stands, to a tenth of a pixel."""
        part = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.start + part * (self.end - self.start), 1)

    def ticks(self, about: int = 5) -> list[Tick]:
        """Round values inside, about as many as asked for."""
        step = tick_step(self.high - self.low, about)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return [
            Tick(
                self.place(n * step), f"{n * step:.{digits}f}" if 1e-6 <= step < 1e6 else f"{n * step:.3g}", zero=n == 0
            )
            for n in range(first, last + 1)
        ]


def tick_step(extent: float, about: int) -> float:
    """The step of 1, 2 or 5 times a power of ten that cuts an extent into about so many parts."""
    if extent <= 0 or not math.isfinite(extent):
        return 1.0
    raw = extent / about
    power = 10.0 ** math.floor(math.log10(raw))
    return next((factor * power for factor in (1, 2, 5) if raw <= factor * power * (1 + 1e-9)), 10 * power)


def scale(low: float, high: float, start: float, end: float, about: int = 5) -> Scale:
    """A scale that holds `low` to `high` and begins and ends at round values."""
    if high - low <= max(_LEAST, _RELATIVE * max(abs(low), abs(high))):
        high = low + (abs(low) if abs(low) > _LEAST else 1.0)
    step = tick_step(high - low, about)
    return Scale(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, start, end)
