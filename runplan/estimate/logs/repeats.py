"""Logs that repeat each other: of thousands, few differ in what decides speed."""

from __future__ import annotations

from collections.abc import Iterable

from runplan.priors.record import PriorRun

KEPT = 5
"""Logs of one and the same setting that are looked at, the newest first."""
_SETTING = (
    "trainer",
    "model",
    "recipe",
    "lora_rank",
    "lora_targets",
    "batch_size",
    "gradient_accumulation_steps",
    "max_seq_len",
    "packed",
    "dtype",
    "activation_checkpointing",
    "compile",
    "gpu",
    "num_gpus",
    "dataset",
    "save_adapter_weights_only",
    "oom_batch_sizes",
    "quantize_base",
)


_LACKED = ("oom", "host_oom")


def newest_alike(priors: Iterable[PriorRun]) -> tuple[PriorRun, ...]:
    """The logs without those that repeat newer ones; a run that lacked memory repeats none that did not."""
    alike: dict[object, list[PriorRun]] = {}
    for run in sorted(priors, key=lambda run: (-run.modified_s, run.path)):
        setting = (run.state if run.state in _LACKED else "", *(getattr(run, name) for name in _SETTING))
        members = alike.setdefault(setting, [])
        if len(members) < KEPT:
            members.append(run)
    return tuple(run for members in alike.values() for run in members)


def repeats_left_out(number: int) -> str:
    """The line of evidence about logs that `newest_alike` left out."""
    what = "1 log repeats newer ones" if number == 1 else f"{number} logs repeat newer ones"
    return f"{what} of the same setting: of each setting the newest {KEPT} count"
