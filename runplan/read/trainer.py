"""The trainer in this environment."""

from __future__ import annotations

from importlib.util import find_spec

from runplan.facts import TrainerFacts


def read_trainer(name: str) -> TrainerFacts:
    """The installed version by its metadata; the trainer itself, which takes seconds, is not imported."""
    try:
        if find_spec(name) is None:
            return TrainerFacts(name)
    except (ImportError, ValueError):
        return TrainerFacts(name)
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - as slow as all of our readers

    try:
        return TrainerFacts(name, version(name), find_spec("wandb") is not None)
    except (PackageNotFoundError, ValueError):
        return TrainerFacts(name)
