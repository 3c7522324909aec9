"""A group as it was written: what `plan.json` says, and its jobs in the order in which they are submitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runplan.errors import NoGroupError
from runplan.files.file_names import CELL_SCRIPT, DOCUMENT, TRAIN_SCRIPT
from runplan.files.plan_shape import wrong_part
from runplan.files.store import edited, read_document
from runplan.jobs.cells import cell_token

_NAMED = 5
"""So many groups are named."""


@dataclass(frozen=True)
class Job:
    """One script of a group: a run's training, or one evaluation cell."""

    token: str
    """Identifies the job in SLURM, in the ledger and in its own records."""
    run: str
    kind: str
    """`train` or `cell`."""
    cell: str | None
    """Directory of the cell relative to the run; None for training."""
    epoch: int | None
    """Whose checkpoint a cell evaluates; None for training and for models as they are."""
    directory: Path
    script: str
    path: str
    """Of the script, relative to the group: as the ledger has it."""
    after: str | None
    """Token of the training that has to succeed first."""
    resources: Mapping[str, Any]
    """What it asks for, as `plan.json` has it."""
    entry: Mapping[str, Any]
    """The run's entry in `plan.json`."""

    @property
    def name(self) -> str:
        """How people call it: the run, or `run/cell`."""
        return f"{self.run}/{self.cell}" if self.cell else self.run


@dataclass(frozen=True)
class WrittenGroup:
    """What a group's directory says it is."""

    directory: Path
    """Absolute."""
    document: Mapping[str, Any]
    """`plan.json`."""
    jobs: tuple[Job, ...]
    """In the order in which they are submitted: a run's training before its cells."""

    def of_run(self, run: str) -> tuple[Job, ...]:
        """The jobs of one run."""
        return tuple(job for job in self.jobs if job.run == run)


def read_group(directory: Path) -> WrittenGroup:
    """The group in a directory.

    Raises:
        NoGroupError: there is no group.
        StoreError: its `plan.json` is damaged.
    """
    directory = directory.absolute()
    if directory.is_file():
        raise NoGroupError(f"{directory}: is a file, and a group is a folder; {_near(directory)}")
    if not directory.is_dir():
        raise NoGroupError(f"{directory}: no such directory; `runplan KEY=VALUE…` plans a group and says where it is")
    document = read_document(directory)
    if document is None:
        raise NoGroupError(f"{directory}: holds no {DOCUMENT}, so it is no group; {_near(directory)}")
    try:
        jobs = tuple(job for entry in document["runs"] for job in _jobs(directory, entry))
        what = wrong_part(document)
    except (KeyError, TypeError, AttributeError) as error:
        what = wrong_part(document) or str(error)
    if what:
        raise edited(directory, what)
    return WrittenGroup(directory, document, jobs)


def _near(directory: Path) -> str:
    """Where a group is that may be meant: the one that the directory is a part of, or those in it."""
    around = next((above for above in directory.parents if (above / DOCUMENT).is_file()), None)
    if around is not None:
        return f"it is a part of the group {around}"
    with suppress(OSError):
        plans = [path for path in directory.glob(f"*/{DOCUMENT}") if path.is_file()]
        newest = [path.parent.name for path in sorted(plans, key=lambda path: (-path.stat().st_mtime, path))]
        if newest:
            more = f" and {len(newest) - _NAMED} more" if len(newest) > _NAMED else ""
            return f"groups in it, the newest first: {', '.join(newest[:_NAMED])}{more}"
    return "`runplan KEY=VALUE…` plans one"


def _jobs(group: Path, entry: Mapping[str, Any]) -> Iterator[Job]:
    name, token = _part(entry["dir"]), str(entry["token"])
    trains = entry["recipe"] is not None and entry["resources"]["time"] is not None
    if trains:
        yield Job(
            token=token, kind="train", cell=None, epoch=None, directory=group / name, script=TRAIN_SCRIPT,
            path=f"{name}/{TRAIN_SCRIPT}", after=None, resources=entry["resources"],
            run=name, entry=entry,
        )  # fmt: skip
    for cell in entry["cells"]:
        inside = "/".join(_part(part) for part in cell["dir"].split("/"))
        after = token if trains and cell["epoch"] is not None else None
        yield Job(
            token=cell_token(token, inside), kind="cell", cell=inside, epoch=cell["epoch"],
            directory=group / name / inside, script=CELL_SCRIPT, path=f"{name}/{inside}/{CELL_SCRIPT}", after=after,
            resources=cell["resources"], run=name, entry=entry,
        )  # fmt: skip


def _part(name: str) -> str:
    """A part of a path that stays inside the group."""
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise TypeError(f"{name!r} is no directory of a run")
    return name
