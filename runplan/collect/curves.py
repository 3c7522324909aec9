"""Learning curves from what a trainer logged: lines of its DiskLogger, else its progress bars. Pure."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

POINTS = 120
"""Points of a curve that is shown; more are averaged in stretches of the same length."""
_END = 0.05
"""Part of the steps whose mean is called the last loss: single batches scatter."""
_NUMBER = r"([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf))"
_DISK = re.compile(r"^Step (\d+) \|(.*)$", re.MULTILINE)
_TRAIN = re.compile(rf"(?<![\w])loss:{_NUMBER}(?=\s|$)")
_VALIDATION = re.compile(rf"(?<![\w])val_loss:{_NUMBER}(?=\s|$)")
_BAR = re.compile(rf"(\d+)\|(\d+)\|Loss: {_NUMBER}(?=:|\s)")
_SPOKEN = re.compile(rf"Validation loss: {_NUMBER} \| step (\d+) ")

Points = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Curve:
    """Loss by optimizer step, counted from 1."""

    train: Points = ()
    validation: Points = ()

    @property
    def last_train(self) -> float | None:
        """Mean loss of the last twentieth of the steps."""
        return mean_of_end(self.train)

    @property
    def last_validation(self) -> float | None:
        """Loss of the last validation."""
        return self.validation[-1][1] if self.validation else None

    @property
    def best_validation(self) -> tuple[int, float] | None:
        """Step and loss of the lowest validation."""
        return min(self.validation, key=lambda point: point[1]) if self.validation else None


def mean_of_end(points: Points) -> float | None:
    """Mean of the last twentieth of the points, at least one; None of none."""
    if not points:
        return None
    end = points[-max(1, int(len(points) * _END)) :]
    return math.fsum(loss for _, loss in end) / len(end)


def disk_curve(texts: Iterable[str]) -> Curve:
    """The curve that DiskLogger files hold; of a step in several (a run was resumed) the last file's."""
    train: dict[int, float] = {}
    validation: dict[int, float] = {}
    for text in texts:
        for match in _DISK.finditer(text):
            step = int(match[1])
            if (said := _TRAIN.search(match[2])) is not None:
                train[step] = float(said[1])
            if (said := _VALIDATION.search(match[2])) is not None:
                validation[step] = float(said[1])
    return _curve(train, validation)


def bar_curve(texts: Iterable[str]) -> Curve:
    """The curve that a job's log shows in its progress bars."""
    train: dict[int, float] = {}
    validation: dict[int, float] = {}
    for text in texts:
        train.update({int(step): float(loss) for _, step, loss in _BAR.findall(text)})
        validation.update({int(step): float(loss) for loss, step in _SPOKEN.findall(text)})
    return _curve(train, validation)


def _curve(train: Mapping[int, float], validation: Mapping[int, float]) -> Curve:
    return Curve(_finite(train), _finite(validation))


def _finite(points: Mapping[int, float]) -> Points:
    return tuple((step, points[step]) for step in sorted(points) if math.isfinite(points[step]))


def thinned(points: Points, most: int = POINTS) -> Points:
    """At most so many points, each the mean step and loss of a stretch."""
    if len(points) <= most:
        return points
    edges = [round(i * len(points) / most) for i in range(most + 1)]
    return tuple(_middle(points[a:b]) for a, b in itertools.pairwise(edges))


def _middle(points: Sequence[tuple[int, float]]) -> tuple[int, float]:
    steps, losses = [step for step, _ in points], [loss for _, loss in points]
    return round(math.fsum(steps) / len(steps)), math.fsum(losses) / len(losses)
