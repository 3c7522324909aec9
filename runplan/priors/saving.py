"""Saving as a log speaks of it: how long it took, and whether it was the last."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from runplan.priors.progress import Progress, last_draw, next_draw
from runplan.priors.steady import Draw

_TOOK = re.compile(rb"(?<!loading c)heckpoint (?:saved in|took) (\d+\.?\d*) sec")
_WRITTEN = b"heckpoint of size"
_NEAR_BYTES = 1000
_SIGNS = (b"heckpoint saved in", b"Saving checkpoint took", b"heckpoint of size", b"checkpoint saved to")


def seconds_at(data: bytes, marks: Iterable[int]) -> tuple[float, ...]:
    """Seconds of each saving that a text tells at one of some places; once where every rank tells them."""
    told = [one for one in (_TOOK.match(data, mark) for mark in marks) if one]
    again = [
        one[1] == before[1] and data.find(b"|Loss:", before.end(), one.start()) < 0 for before, one in pairwise(told)
    ]
    return tuple(float(one[1]) for one, copied in zip(told, [False, *again], strict=False) if not copied)


def drawn_seconds(data: bytes, marks: Iterable[int]) -> tuple[float, ...]:
    """Seconds of each saving at an epoch's end by its bar, which is drawn full before it and when all is written.

    Versions before 0.5 do not tell them otherwise.

    Args:
        data: the text of one attempt.
        marks: where it speaks of checkpoints and of validation, sorted.
    """
    found: list[float] = []
    opened: Draw | None = None
    written, told = False, -1
    for mark in marks:
        before = last_draw(data, max(0, mark - _NEAR_BYTES), mark)
        if before and before.at > told:
            opened, written = (before if before.done >= before.total else None), False
        written = written or data.startswith(_WRITTEN, mark)
        if opened and written and (after := next_draw(data, mark, mark + _NEAR_BYTES)):
            alone = after[1:4] == opened[1:4] and data.find(b"alidation", opened.at, after.at) < 0
            if alone and after.elapsed_s > opened.elapsed_s:
                found.append(float(after.elapsed_s - opened.elapsed_s))
            told = opened.at
            opened = None
    return tuple(found)


def seconds(data: bytes) -> tuple[float, ...]:
    """Seconds of each saving that a text tells anywhere."""
    return tuple(float(one) for one in _TOOK.findall(data))


def finished(data: bytes, progress: Progress, fields: dict[str, Any]) -> bool:
    """Whether the last step of the last epoch was done and saved.

    Args:
        data: the text of one attempt.
        progress: what its bars say.
        fields: those of its record; epochs and steps in all are added where only this end tells them.
    """
    if progress.steps_done < progress.epochs_seen * progress.steps_per_epoch:
        return False
    tail = data[max(0, progress.last_at - 8192) :]
    full = tail.find(b"100%|")
    rest = tail[full:] if full >= 0 else b""
    saved = any(sign in rest for sign in _SIGNS) or _saved_before(tail, full)
    final = tail.rfind(b"final epoch checkpoint") if full >= 0 and not saved else -1
    saved = saved or (final >= 0 and tail.find(b"saved successfully", final) >= 0)
    begun = tail.rfind(b"Starting checkpoint save")
    if begun > tail.rfind(b"heckpoint saved in") and begun > tail.rfind(b"Saving checkpoint took"):
        return False
    epochs = fields.get("epochs")
    if epochs is None and saved:
        fields["epochs"] = progress.epochs_seen if tail.find(b"final epoch") >= 0 else None
        fields["steps_total"] = progress.steps_done if fields["epochs"] else None
    return saved and (epochs is None or progress.epochs_seen >= epochs)


def _saved_before(text: bytes, full: int) -> bool:
    """Whether an epoch was saved just before its full bar, which is drawn once more when all is done."""
    at = max(text.rfind(sign, 0, full) for sign in _SIGNS) if full > 0 else -1
    if at < 0 or text.find(b"/step_", at, full) >= 0:  # saved within an epoch
        return False
    return text.count(b"|Loss:", at, full) == 1
