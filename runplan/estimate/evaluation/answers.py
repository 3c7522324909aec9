"""How long the answers to a task get, as logs of earlier evaluations of it say."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from runplan.facts import Architecture
from runplan.priors.evaluated import PriorCell
from runplan.task_data import PATH_PARAMETERS

SPREAD, NOISE = 1.0, 0.12
"""Standard deviation of the logarithm: before any log, and from one evaluation to the same again."""
OTHER_MODEL, OTHER_WEIGHTS, OTHER_ARGS = 0.35, 1.0, 0.3
"""What answers differ by from model to model, from a model as it is to a fine-tuned one, with other arguments. Logs
that differ in the same way err together."""
OTHER_BATCH = 0.2
"""The longest answer of a larger batch is longer."""
CUT = 0.9
"""Answers of this part of the longest allowed end there and not by themselves: they get longer with what is allowed."""


class Asker(NamedTuple):
    """Who answers what, as far as it decides on the length of answers."""

    architecture: Architecture
    tuned: bool | None
    batch_size: int
    max_tokens: int
    args: Mapping[str, Any]
    """Of the task function."""


class Answers(NamedTuple):
    """Mean length of a batch's longest answer: its median, standard deviation of its logarithm, and logs."""

    tokens: float
    sigma: float
    n: int


class _Alike(NamedTuple):
    """What logs share that are taken together."""

    differs: tuple[bool, bool, bool]
    """In the model, in whether it is fine-tuned, in arguments."""
    doubt: float
    """Variance of the logarithm, of what their length would be as planned."""
    model: Architecture | None


def learn_answers(
    cells: Iterable[tuple[PriorCell, Architecture | None]], planned: Asker, expected: float
) -> Answers | None:
    """The length of answers; None where no log tells any.

    Args:
        cells: evaluations of the same task that say their answers' length, with the model where it is known.
        planned: what is to be evaluated.
        expected: median of the length without logs.
    """
    lengths: dict[_Alike, list[float]] = {}
    for cell, model in cells:
        length, doubt = _as_planned(cell, planned)
        other_args = _other_args(cell.args, planned.args)
        differs = (not same_size(model, planned.architecture), cell.tuned != planned.tuned, other_args)
        lengths.setdefault(_Alike(differs, doubt, model), []).append(math.log(length))
    if not lengths:
        return None
    together = Counter(alike.differs for alike in lengths)
    weight = SPREAD**-2
    total = math.log(expected) * weight
    for alike, some in lengths.items():
        other = math.hypot(
            *(d * by for d, by in zip(alike.differs, (OTHER_MODEL, OTHER_WEIGHTS, OTHER_ARGS), strict=True))
        )
        more = 1 / (alike.doubt + together[alike.differs] * other**2 + NOISE**2 / len(some))
        total, weight = total + more * statistics.median(some), weight + more
    tokens = max(1.0, min(float(planned.max_tokens), math.exp(total / weight)))
    return Answers(tokens, math.sqrt(1 / weight + NOISE**2), sum(map(len, lengths.values())))


def same_size(model: Architecture | None, other: Architecture) -> bool:
    """Whether two models do the same work: names of one model may lead to its folder or to what is published of it."""
    return model is not None and (model.params, model.num_hidden_layers) == (other.params, other.num_hidden_layers)


def _as_planned(cell: PriorCell, planned: Asker) -> tuple[float, float]:
    """Tokens that a log's answers would have as planned, and the variance of their logarithm."""
    length, longest, batch = cell.output_tokens or 1.0, cell.max_tokens or 1, cell.batch_size or 1
    doubt = (OTHER_BATCH * math.log(planned.batch_size / batch)) ** 2
    if length < CUT * longest:
        return max(1.0, min(length, planned.max_tokens)), doubt
    change = max(0.0, math.log(planned.max_tokens / longest))
    return max(1.0, planned.max_tokens * length / longest), doubt + (change / 2) ** 2


def _other_args(said: Mapping[str, Any], planned: Mapping[str, Any]) -> bool:
    """Whether arguments differ that both have, but for where the data are."""
    return any(said[key] != value for key, value in planned.items() if key in said and key not in PATH_PARAMETERS)
