"""The trainer in this environment."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from runplan.facts import TrainerFacts


def read_trainer(name: str) -> TrainerFacts:
    """The installed version by its metadata; the trainer itself, which takes seconds, is not imported."""
    try:
        return TrainerFacts(name, version(name))
    except (PackageNotFoundError, ValueError):
        return TrainerFacts(name)
