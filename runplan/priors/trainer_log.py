"""LLaMA-Factory's `trainer_log.jsonl`: a line of JSON each so many steps, beside what the run saves."""

from __future__ import annotations

import re
from typing import Any

from runplan.priors.courses import courses
from runplan.priors.progress import summary
from runplan.priors.steady import Draw, steady_s_per_step

_LINE = re.compile(
    rb'^\{"current_steps": (\d{1,9}), "total_steps": (\d{1,9}), ([^{}\r\n]{0,2000}?)"elapsed_time": "'
    rb'(?:(\d{1,4}) days?, )?(\d{1,2}):(\d\d):(\d\d)"([^{}\r\n]{0,500})\}',
    re.MULTILINE,
)
"""One that is whole; the last one may be being written."""
_EVALUATED = b'"eval_loss"'
_TRAINED = b'"loss"'
_EPOCH = b'"epoch"'
"""Which lines of predictions have not; it is in the last one of a training that told no losses, too."""
_MEAN_STEPS = 100
"""After which the first step is little of the whole."""
_TOKENS = re.compile(rb'"throughput": (\d{1,9}(?:\.\d{1,6})?)[,\s]*')


def trainer_log_fields(data: bytes) -> dict[str, Any] | None:
    """Steps, times and ending of the last training in such a file; None where it holds no step of one.

    Its last line has no loss: the trainer writes it when all is done. `throughput` counts the tokens of all GPUs with
    their padding (`num_input_tokens_seen` of transformers).

    >>> line = b'{"current_steps": 50, "total_steps": 310, "loss": 2.8, "elapsed_time": "0:02:37"}'
    >>> said = trainer_log_fields(line)
    >>> said["steps_done"], said["steps_total"], said["wall_s"], said["state"]
    (50, 310, 157.0, 'unknown')
    """
    lines = list(_LINE.finditer(data))
    if all(_TRAINED not in line[3] and (_EPOCH not in line[3] or _EVALUATED in line[3]) for line in lines):
        return None
    draws = courses([_draw(line) for line in lines])[-1]
    places = {draw.at for draw in draws}
    mine = [line for line in lines if line.start() in places]
    evaluated = [line.start() for line in mine if _EVALUATED in line[3]]
    final = mine[-1]
    ended = _TRAINED not in final[3] and _EVALUATED not in final[3]
    marks = [*evaluated, final.start() - 1] if ended else evaluated  # after the last checkpoint was saved
    progress = summary(draws, steady_s_per_step(draws, marks)[0])
    seconds = progress.s_per_step
    if seconds is None and ended and len(draws) == 1 and progress.steps_done >= _MEAN_STEPS and progress.wall_s:
        seconds = progress.wall_s / progress.steps_done
    rates = [found[1] for line in mine if _TRAINED in line[3] and (found := _TOKENS.search(line[8]))]
    return {
        "trainer": "hf",
        "steps_done": progress.steps_done,
        "steps_total": progress.steps_per_epoch,
        "s_per_step": seconds,
        "it_per_s": 1 / seconds if seconds else None,
        "wall_s": progress.wall_s,
        "tokens_per_s": float(rates[-1]) if rates else None,
        "state": "completed" if ended and progress.steps_done == progress.steps_per_epoch else "unknown",
    }


def _draw(line: re.Match[bytes]) -> Draw:
    days, hours, minutes, seconds = (int(part or 0) for part in line.group(4, 5, 6, 7))
    elapsed_s = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return Draw(line.start(), 1, int(line[1]), int(line[2]), elapsed_s, None)
