"""One run of HF Trainer and its kin: what it was asked, what it counted, how far and how fast it came."""

from __future__ import annotations

import re
from typing import Any

from runplan.priors import losses, peaks, saving, settings, trainers, trl
from runplan.priors.arguments import argument_fields
from runplan.priors.bars import add_progress
from runplan.priors.devices import other_device
from runplan.priors.letters import settled, tidy
from runplan.priors.progress import HF_PAUSES, bar_seconds, pauses, plain_progress
from runplan.priors.steady import WARM_STEPS
from runplan.priors.trainings import BANNERS, last_training

Fields = dict[str, Any]

_HEAD = 1 << 16
_LOGGED = re.compile(rb"^\[(?:INFO|WARNING)\|[^\r\n]{1,300}", re.MULTILINE)
"""Lines of loggers, which say arguments, too, where more than that is printed before training."""
_ROUNDED = 0.0006
"""What steps a second are wrong by, that are told to three decimals."""
_MEAN_STEPS, _MEAN_S = 20, 600
"""From which on the mean over a whole run is about its speed."""
_SWIFT_BAR = b"Train:"
_FULL = 0.5
"""Of the time that a training took; a bar that was full in less is another one's."""
_ENOUGH = 0.94
"""Of what was planned, for a run that was not stopped early: some versions leave out each epoch's incomplete step."""


def hugging_face_run(data: bytes, name: str) -> Fields:
    """Fields of a record, and `begun`, `last_at`, `told_at`, `completed`, by which its ending is looked for.

    Args:
        data: the text of the log.
        name: which trainer it is.
    """
    since, start = last_training(data)
    told = settled(data)
    fields: Fields = {"trainer": name, "begun": start or None, **_asked_of_last(told, name, since)}
    counted = trainers.hugging_face_fields(told, start, since)
    started = fields.get("num_gpus") or 0
    fields |= {key: value for key, value in counted.items() if key not in trainers.BESIDES}
    if started > (fields.get("num_gpus") or started) and started % fields["num_gpus"] == 0:
        fields["num_gpus"] = started  # several hold one copy of the model
    fields["checkpoint_s"] = saving.seconds(data) if fields["recipe"] else ()
    fields["init_memory_gib"] = peaks.init_memory(told)
    fields["peak_memory_gib"] = peaks.peak_memory_of_callbacks(told[since:])
    if (device := other_device(told[since : since + _HEAD])) is not None:
        fields["gpu"] = fields["device"] = device
        fields |= {"num_gpus": 0} if device == "cpu" else {}
    last = data[start:] if start else data
    # What it was asked to do may be said of something else, too; what the trainer counted is its bar's.
    rate, wall_s = counted.get("mean_it_per_s"), counted.get("wall_s", 0)
    wanted = counted.get("steps_total") or (rate or 0) * wall_s
    doubt = 0.0 if counted.get("steps_total") else _ROUNDED * wall_s
    marks = pauses(last, HF_PAUSES)
    swift = name == "swift"
    drawn = losses.counted_progress(last, marks) if swift else None
    drawn = drawn or plain_progress(last, marks, wanted, doubt, wall_s, _SWIFT_BAR if swift else b"")
    if progress := drawn or (losses.sped_progress(last, marks) if swift else None):
        known = {key: counted[key] for key in ("wall_s", "steps_total") if counted.get(key)}
        add_progress(fields, progress)
        # The one bar is that of all epochs.
        fields |= {"steps_total": progress.steps_per_epoch, **known}
        # Of a bar that was not drawn to its end, or was lost in the text, the losses tell more.
        later = losses.logged_progress(last, counted, marks) if progress.steps_done < progress.steps_per_epoch else None
        if later and later.last_at > progress.last_at and later.steps_done > progress.steps_done:
            fields |= {"steps_done": later.steps_done, "last_at": later.last_at}
            fields |= {} if "wall_s" in known else {"wall_s": None}
    else:
        _add_what_is_left(fields, counted, last, marks)
    seconds = fields.get("s_per_step") or _mean_s_per_step(fields, counted, last, wanted)
    fields["s_per_step"], fields["it_per_s"] = seconds, 1 / seconds if seconds else None
    return fields


def _asked_of_last(told: bytes, name: str, since: int) -> Fields:
    """What the last training was asked to do: what it says itself counts more than what the first one said."""
    first = _asked(told, name)
    own = _asked(told[since:], name) if since else {}
    own = {key: value for key, value in own.items() if value is not None}
    if own.get("model", first.get("model")) != first.get("model"):
        first = {key: value for key, value in first.items() if key not in {"params_b", "quantize_base"}}
    return {**first, **own}


def _asked(told: bytes, name: str) -> Fields:
    """What a run of HF Trainer's kin was asked to do: its own arguments, or the config that our job prints."""
    begun = told.find(b"{'loss': ")
    text = told[: min(begun if begun >= 0 else _HEAD, _HEAD)]
    if (banner := told.find(BANNERS[0])) > _HEAD:
        text += b"\n" + b"\n".join(_LOGGED.findall(told, _HEAD, banner))
    head = tidy(text)
    recipe, flat = settings.printed_config(head)
    fields: Fields = {**argument_fields(head, name), "recipe": recipe, **trl.trl_fields(flat)}
    if match := settings.DISK_LOG.search(head):
        fields["disk_log"] = match[2].decode()
    return fields


def _add_what_is_left(fields: Fields, counted: Fields, last: bytes, marks: list[int]) -> None:
    """How far it came where its bar is not in the log: a notebook's progress, lines of losses, or that it ended."""
    fields["told_at"] = max(last.rfind(b"'loss': "), 0)
    if noted := losses.notebook_fields(last):
        fields |= {**noted, **{key: counted[key] for key in ("wall_s", "completed") if counted.get(key)}}
        return
    planned = losses.planned_epochs(last, counted)
    ended = counted.get("last_epoch")
    if counted.get("completed") and planned and ended and ended >= _ENOUGH * planned:
        fields["steps_done"] = counted.get("steps_total")
        return
    if logged := losses.logged_progress(last, counted, marks):
        fields["steps_done"] = logged.steps_done or None
        fields["s_per_step"] = logged.s_per_step
        if not fields.get("wall_s"):
            fields["wall_s"] = logged.wall_s
            # A run that was stopped by hand says that it completed, too.
            fields["completed"] = fields.get("completed") and logged.steps_done >= _ENOUGH * logged.steps_per_epoch


def _mean_s_per_step(fields: Fields, counted: Fields, last: bytes, wanted: float) -> float | None:
    """Seconds a step over the whole run, where it ended; first steps and pauses are in it.

    What HF Trainer calls steps a second are all those that were planned over the time of this attempt, also where it
    was stopped early or had gone on from a checkpoint.
    """
    wall_s, total = fields.get("wall_s") or 0.0, counted.get("steps_total")
    rate: float | None = counted.get("mean_it_per_s")
    start = losses.start_of(last)
    if start.resumed:
        left = (total or 0) - (start.step or 0)
        known = wall_s and start.step and fields.get("completed")
        return wall_s / left if known and left >= WARM_STEPS else None
    planned = losses.planned_epochs(last, counted) or (None if fields.get("steps_total") else fields.get("epochs"))
    ended = counted.get("last_epoch")
    if planned and ended and ended < _ENOUGH * planned:
        return None
    done: int = fields.get("steps_done") or 0
    if fields.get("completed") and wall_s and done == fields.get("steps_total"):
        return _full_s(last, done, wall_s) / done if _long(done, wall_s) else None
    return 1 / rate if rate and (_long(wanted, wall_s) or not wanted) else None


def _full_s(last: bytes, steps: int, wall_s: float) -> float:
    """Seconds until the bar was full: what is saved afterwards is in those that the training took."""
    match = re.search(rb"\b%d/%d \[((?:\d+:)?\d+:\d\d)<" % (steps, steps), last)
    full_s = float(bar_seconds(match[1])) if match else 0.0
    return full_s if _FULL * wall_s <= full_s < wall_s else wall_s


def _long(steps: float, wall_s: float) -> bool:
    """Whether first steps, which may take a minute, are little of the whole."""
    return steps >= _MEAN_STEPS or (steps >= WARM_STEPS and wall_s >= _MEAN_S)
