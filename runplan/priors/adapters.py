"""Where the run of a log saved its adapters: beside it, or in the folder of a checkpoint beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable

from runplan.priors.join import STEP_LOGS

ADAPTER = "adapter_config.json"
SWIFT_ARGUMENTS = ("args.json", "sft_args.json")
"""Of ms-swift, since 3.0 and before."""
RESULTS = ("train_results.json", "all_results.json")
"""HF Trainer's, of the training alone and with its evaluation."""
_CHECKPOINTS = ("checkpoint-", "epoch_", "step_")
_TRIED = 3
"""Checkpoints looked into: all are of one run, and the newest may be being written."""


def of_one_run(logs: Iterable[str]) -> bool:
    """Whether logs of these names, in one folder, are of no more than one run: trainers add files of their own.

    >>> of_one_run(["train.log", "logging.jsonl"]), of_one_run(["slurm-7.out", "slurm-8.out"])
    (True, False)
    """
    return sum(name not in STEP_LOGS and not name.endswith(".txt") for name in logs) <= 1


def saved_adapter(folder: str, folders: Iterable[str]) -> tuple[tuple[str, int, int], ...]:
    """(name, size, modification time in ns) of what one of the checkpoints in a folder says of its adapters."""
    names = [name for path in folders if (name := path.rsplit("/", 1)[-1]).startswith(_CHECKPOINTS)]
    for name in sorted(names, reverse=True)[:_TRIED]:
        try:
            stat = os.stat(f"{folder}/{name}/{ADAPTER}")  # noqa: PTH116 - as in files.LogFile.folder
        except OSError:
            continue
        return ((f"{name}/{ADAPTER}", stat.st_size, stat.st_mtime_ns),)
    return ()
