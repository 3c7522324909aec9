"""The trainer in this environment."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

from runplan.facts import TrainerFacts

PROGRAMS = {"torchtune": "tune"}
"""Trainer → what its jobs start."""


def read_trainer(name: str) -> TrainerFacts:
    """The installed version by its metadata; the trainer itself, which takes seconds, is not imported."""
    try:
        if find_spec(name) is None:
            return TrainerFacts(name)
    except (ImportError, ValueError):
        return TrainerFacts(name)
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - as slow as all of our readers

    try:
        program = PROGRAMS.get(name, "")
        lacking = program if program and shutil.which(program) is None else ""
        return TrainerFacts(name, version(name), find_spec("wandb") is not None, lacking)
    except (PackageNotFoundError, ValueError):
        return TrainerFacts(name)
