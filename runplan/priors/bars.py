"""Bars that are not drawn as torchtune and HF Trainer draw them: llama-recipes', and what a paste left of others."""

from __future__ import annotations

import re
from typing import Any

from runplan.priors.progress import Progress, plain_progress, summary
from runplan.priors.steady import Draw, steady_s_per_step

_RECIPES = re.compile(
    rb"Training Epoch: (\d+)/\d+, step \d+/\d+ completed \(loss: [^)\r\n]{0,64}\): *\d+%\|[^|\r\n]{0,1200}\| *"
    rb"(\d+)/(\d+) \[(?:(\d+):)?(\d+):(\d\d)<[^,\]\r\n]{0,16}, *(?:(\d+\.?\d*)(it/s|s/it))?"
)
_BARE = re.compile(rb"(\d{1,6})\|(\d{1,9})\|Loss: [\w.+-]{1,32}:? *(?:\d+%\|[^|\r\n]{0,400}\| *(\d+)/(\d+)(?=\D))?")


def recipes_progress(data: bytes) -> Progress | None:
    """What llama-recipes' bars say, in optimizer steps; None without one."""
    draws = [_draw(match) for match in _RECIPES.finditer(data)]
    return summary(draws, steady_s_per_step(draws, ())[0]) if draws else None


def _draw(match: re.Match[bytes]) -> Draw:
    epoch, done, total, hours, minutes, seconds, rate, unit = match.groups()
    value = float(rate) if rate else 0.0
    elapsed_s = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    s_per_it = (value if unit == b"s/it" else 1 / value) if value else None
    return Draw(match.start(), int(epoch), int(done), int(total), elapsed_s, s_per_it)


def cut_progress(data: bytes) -> Progress | None:
    """How far torchtune came where no bar of its own is whole: before the first loss, or where bars lost their times.

    The number before `|Loss:` counts the steps of all epochs; in the first versions it counted batches of an epoch.
    """
    if data.find(b"|Loss: ") < 0:
        return plain_progress(data, ())
    matches = list(_BARE.finditer(data, max(0, data.rfind(b"|Loss: ") - 4096)))
    if not matches:
        return None
    last = matches[-1]
    epoch, step, done, total = (int(number or 0) for number in last.groups())
    if total:
        step = (epoch - 1) * total + done
    elif epoch > 1 and b"torchtune.utils._logging" not in data:
        return None
    return Progress(None, None, None, epoch, step, total, last.start())


def add_progress(fields: dict[str, Any], progress: Progress) -> None:
    """Put what bars say into the fields of a record."""
    fields["steps_done"] = progress.steps_done
    fields["first_step_s"] = progress.first_step_s
    fields["wall_s"] = progress.wall_s or None
    fields["s_per_step"] = progress.s_per_step
    fields["last_at"] = progress.last_at
    fields["steps_per_epoch"] = progress.steps_per_epoch
    if (epochs := fields.get("epochs")) and progress.steps_per_epoch:
        fields["steps_total"] = max(epochs, progress.epochs_seen) * progress.steps_per_epoch


def add_cut_progress(fields: dict[str, Any], progress: Progress) -> None:
    """Put into the fields of a record what torchtune's bars say that show no loss.

    PPO's is that of all epochs, GRPO's begins again with each of them; a step of both is several of the optimizer.
    """
    recipe = (fields.get("recipe") or fields.get("counts") or "").lower()
    if "grpo" in recipe:
        fields["last_at"] = progress.last_at
        return
    add_progress(fields, progress)
    if "ppo" in recipe:
        fields |= {"steps_total": progress.steps_per_epoch, "s_per_step": None}
