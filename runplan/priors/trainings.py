"""Where the last training in a text of HF Trainer's kin begins.

A job that starts again appends to its log, and a script may train several times: folds, seeds, stages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

BANNERS = (b"***** Running training *****", b"Unsloth - 2x faster")
COMPLETED = (
    *(b"Training completed. Do not forget to share", b"raining Completed!!!", b"Training completed! Saving"),
    b"[INFO:swift] End time of running main",
)
"""HF Trainer's words, Axolotl's, old and new, and ms-swift's."""
_LOSSES = (b"'loss': ", b'"loss":')
_LOSS = re.compile(rb"(?:^|[^\s\[,])[ \t]*\{['\"]loss['\"]: ", re.MULTILINE)
"""One that is told while it trains: not in a list of all."""
_WORKED = (*_LOSSES, b"rror: ", b"it/s", b"s/it")
"""What stands between the banners of two attempts; the ranks of one print theirs one after the other."""
_TRAINED = (*_LOSSES, BANNERS[0], b"| 0/")
_ENDED = (b"train_steps_per_second", *COMPLETED)
_WITHIN = b"inner_training_loop("
"""In each traceback from within training."""
_RUNTIME = b"train_runtime"
_SECONDS = re.compile(rb"train_runtime['\"]: ?['\"]?(\d[\d.]*(?:e\+?\d+)?)")
_LOSS_DICTS = (b"{'loss'", b'{"loss"')
_LONGEST_DICT = 4000
_MOST_ENDS = 40
_SAME = 0.01
"""Of the time that two lines tell of one training, each of another rank, or once more as its result."""


class Training(NamedTuple):
    """Two places in a text."""

    since: int
    """Where it is prepared: behind the last line of the one before; 0 for the only one."""
    start: int
    """Where it begins: its banner, where it has one."""


def last_training(data: bytes) -> Training:
    r"""Where the last training of a text is prepared, and where it begins; zeros for the only one.

    >>> last_training(b"{'train_runtime': 9.0}\n{'loss': 2.0}")
    Training(since=23, start=23)
    """
    banner, ended = _last_banner(data), _last_end(data)
    if ended >= banner:
        return Training(ended, ended)
    worked = [_line_end(data, at) for sign in _WORKED[:3] if (at := data.rfind(sign, 0, banner)) >= 0]
    return Training(min(max([ended, *worked]), banner), banner)


def _last_banner(data: bytes) -> int:
    """Where the last attempt's banner stands; 0 for the only one."""
    for banner in BANNERS:
        last = at = data.rfind(banner)
        while at >= 0:
            before = data.rfind(banner, 0, at)
            if before >= 0 and any(data.find(sign, before, at) >= 0 for sign in _WORKED):
                return at
            last, at = at, before
        if last >= 0:
            return 0
    return 0


def _last_words(data: bytes, at: int, until: int) -> int:
    """Behind the last line in which a training that ended at a place says so; the next one begins at another."""
    limit = min([place for sign in _TRAINED if (place := data.find(sign, at, until)) >= 0], default=until)
    return max(
        _line_end(data, place) for place in (at, *(data.rfind(sign, at, limit) for sign in _ENDED)) if place >= 0
    )


def _last_end(data: bytes) -> int:
    """Behind the lines with which the training before the last one ended; 0 for the only one."""
    later: tuple[int, float] | None = None
    for at, seconds in _ends(data):
        if later is None:
            if _LOSS.search(data, _line_end(data, at)):
                return _last_words(data, at, len(data))
            if (failed := _failed_after(data, at)) >= 0:
                return failed
        elif _another(data, at, later[0], abs(seconds / later[1] - 1)):
            return _last_words(data, at, later[0])
        later = at, seconds
    return 0


def _failed_after(data: bytes, at: int) -> int:
    """Where the bar stands of a training that began behind the end of another, and failed before a loss; else -1."""
    bar = data.rfind(b"| 0/", at, max(data.rfind(_WITHIN), at))
    return max(data.rfind(b"\n", 0, bar), data.rfind(b"\r", 0, bar)) + 1 if bar >= 0 else -1


def _another(data: bytes, at: int, later: int, apart: float) -> bool:
    """Whether two lines tell of two trainings, whose times are apart by a fraction, and not both of one."""
    return apart > _SAME or (apart > 0 and any(data.find(sign, at, later) >= 0 for sign in _TRAINED))


def told_end(data: bytes, start: int = 0) -> tuple[int, float] | None:
    r"""Where a text says last, from a place on, how long a training took, and the seconds; None where it does not.

    Losses tell the time, too, where tokens are counted.

    >>> told_end(b"{'train_runtime': 9.5}\n{'loss': 2.0, 'train_runtime': 4.0}")
    (2, 9.5)
    """
    found = next(_ends(data), None)
    return found if found and found[0] >= start else None


def _ends(data: bytes) -> Iterator[tuple[int, float]]:
    """The places that tell how long a training took, with the seconds, from the last on."""
    at, found = data.rfind(_RUNTIME), 0
    while at >= 0 and found < _MOST_ENDS:
        if not data.startswith(_LOSS_DICTS, data.rfind(b"{", max(0, at - _LONGEST_DICT), at)):
            found += 1
            match = _SECONDS.match(data, at)
            with suppress(ValueError):
                if match and (seconds := float(match[1])) > 0:
                    yield at, seconds
        at = data.rfind(_RUNTIME, 0, at)


def _line_end(data: bytes, at: int) -> int:
    end = data.find(b"\n", at)
    return len(data) if end < 0 else end + 1
