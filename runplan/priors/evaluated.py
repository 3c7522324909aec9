"""One earlier evaluation, as Inspect's log and our own job's notes tell it. Unknown is `None`, never a guess."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from runplan.task_data import SeenTask


@dataclass(frozen=True)
class PriorCell:
    """One log of Inspect."""

    path: str
    function: str
    """Name of the task function."""
    script: str | None = None
    """Name of the task's file with that of its folder, `quiz/inspect.py`: what is the same on another machine."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Of the task function."""
    data_samples: int | None = None
    """Samples that its data have, whatever `limit` was."""
    prompt_tokens: float | None = None
    """Mean tokens of a prompt, with padding."""
    samples: int | None = None
    """Samples that were evaluated, repetitions counted; None where not all were."""
    seconds: float | None = None
    """From Inspect's start to its end, the model loaded; None unless it ended well and ran on Hugging Face's engine."""
    output_tokens: float | None = None
    """Mean tokens generated for a sample; Inspect counts for each those of the longest answer in its batch."""
    max_tokens: int | None = None
    batch_size: int | None = None
    models: tuple[str, ...] = ()
    """Names that the model may be known by."""
    tuned: bool | None = None
    """Whether it was a fine-tuned model."""
    gpu: str | None = None
    """Key of `conf/resources`."""
    startup_s: float | None = None
    """Seconds of the job beside `seconds`: imports, loading the model, writing the log."""
    task_id: str | None = None
    """Inspect's; the same in an evaluation that goes on where another stopped."""
    modified_s: float = field(default=0.0, compare=False)
    """When the log was last written (seconds since the epoch)."""


def seen_tasks(cells: Iterable[PriorCell], script: str, functions: Iterable[str]) -> tuple[SeenTask, ...]:
    """What earlier evaluations say of the data that these task functions bring, newest first.

    Args:
        cells: evaluations.
        script: the Inspect file; its name and that of its folder tell it from others, wherever it was.
        functions: names of its tasks.
    """
    names, place = frozenset(functions), "/".join(PurePath(script).parts[-2:])
    alike = [cell for cell in cells if cell.function in names and cell.script == place and cell.data_samples]
    alike.sort(key=lambda cell: cell.modified_s, reverse=True)
    newest: dict[str, SeenTask] = {}
    for cell in alike:
        key = f"{cell.function} {sorted(cell.args.items(), key=lambda item: item[0])}"
        known = newest.get(key)
        if known is None or (known.samples == cell.data_samples and known.prompt_tokens is None):
            newest[key] = SeenTask(cell.function, cell.data_samples or 0, cell.path, cell.prompt_tokens, cell.args)
    return tuple(newest.values())


def made_cells(
    logs: Iterable[tuple[str, float, Mapping[str, Any] | None]], gpu: str | None = None
) -> tuple[PriorCell, ...]:
    """Evaluations from what was read of their logs.

    Args:
        logs: path, time of the last writing, and fields of a record (None: it is none) of each.
        gpu: that of logs that do not say theirs.
    """
    made = []
    for path, modified_s, said in logs:
        if said is not None:
            values = {"gpu": gpu, **said, "models": tuple(said.get("models", ()))}
            made.append(PriorCell(path=path, modified_s=modified_s, **values))
    return said_for_sure(made)


def said_for_sure(cells: Iterable[PriorCell]) -> tuple[PriorCell, ...]:
    """Evaluations without the times of those that went on where another stopped, and of all copies of a log but one."""
    cells = list(cells)
    said: dict[str, set[object]] = {}
    for cell in cells:
        if cell.task_id:
            said.setdefault(cell.task_id, set()).add((cell.seconds, cell.samples, cell.output_tokens))
    timed: set[str] = set()
    found = []
    for cell in cells:
        name = cell.task_id or cell.path
        if len(said.get(name, ())) > 1 or name in timed:
            found.append(replace(cell, seconds=None, startup_s=None, output_tokens=None))
        else:
            timed.add(name)
            found.append(cell)
    return tuple(found)
