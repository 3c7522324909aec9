"""Whether a task evaluates the run's data or its own, and how many samples its own have. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runplan.config import Config
    from runplan.facts import DatasetFacts, TaskFacts

PATH_PARAMETERS = ("dataset_path", "data_path")
"""What a task function is told the run's data file by."""


@dataclass(frozen=True)
class SeenTask:
    """What the log of an earlier evaluation says of the data that a task brings."""

    function: str
    samples: int
    """All of its data's, whatever `limit` was."""
    path: str
    """The log."""
    prompt_tokens: float | None = None
    """Mean tokens of a prompt; None where the log does not say."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that the task function had."""


def reads_rows(config: Config, task: TaskFacts | None, function: str, dataset: DatasetFacts | None) -> bool:
    """Whether a task function evaluates the test rows of the run's dataset; True where its signature is not known.

    It does where it takes the path of a data file and the user gave it no other file and no other split.
    """
    parameters = task.parameters.get(function) if task else None
    if parameters is None:
        return True
    given, path = config.evaluation.args, dataset.path if dataset else None
    if any(name in given and given[name] != path for name in PATH_PARAMETERS):
        return False
    test = dataset.fields.get("test", config.dataset.test_split) if dataset else config.dataset.test_split
    if given.get("split", test) != test:
        return False
    return any(name in parameters or name in given for name in PATH_PARAMETERS)


def seen_data(config: Config, task: TaskFacts, function: str) -> SeenTask | None:
    """What earlier evaluations say of a task that brings its data: of those with the same arguments, the newest."""
    given = config.evaluation.args
    alike = (each for each in task.seen if each.function == function)
    return next((each for each in alike if all(each.args.get(key) == value for key, value in given.items())), None)
