"""Bars without a description that are not training's: those of data sets, and of an evaluation before it."""

from __future__ import annotations

from collections.abc import Sequence

from runplan.priors.steady import Draw

_EVALUATED = (b"'eval_", b'"eval_')
_TRAINED = (b"'loss': ", b'"loss": ', b"train_runtime")


def candidates(data: bytes, bars: Sequence[list[Draw]]) -> list[list[Draw]]:
    """Bars that may be training's, where nothing says how many steps it has."""
    known = [some for some in bars if not at_once(some)]
    return [
        some
        for some in known
        if not evaluated_before(data, some, [draw for other in bars if other is not some for draw in other])
    ]


def at_once(draws: Sequence[Draw]) -> bool:
    """Whether a bar was full within a second, as those of data sets are."""
    return all(draw.elapsed_s == 0 for draw in draws) and any(draw.done == draw.total for draw in draws)


def evaluated_before(data: bytes, draws: Sequence[Draw], others: Sequence[Draw]) -> bool:
    """Whether a bar is an evaluation's, and not one within or after a training that told of itself.

    It is full, what comes next are the results of an evaluation, and until another bar goes on no loss is told and no
    training's time.

    Args:
        data: the text of one attempt.
        draws: those of the bar, in order.
        others: those of all other bars.
    """
    last = draws[-1]
    if last.done < last.total:
        return False
    until = min((draw.at for draw in others if draw.at > last.at), default=len(data))
    told = any(data.find(word, last.at, until) >= 0 for word in _EVALUATED)
    return told and all(data.find(word, 0, until) < 0 for word in _TRAINED)


def drawn_on(draws: Sequence[Draw]) -> list[Draw]:
    """Draws of a bar but those that only close it, which may come after what went on behind it."""
    pairs = zip([draws[0], *draws], draws, strict=False)
    return [draw for before, draw in pairs if draw.done < draw.total or before.done >= before.total]
