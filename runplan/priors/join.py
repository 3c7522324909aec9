"""One record a run: the numbers of a DiskLogger file go to the log of the run that wrote it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from runplan.units import GB_PER_GIB

if TYPE_CHECKING:
    from runplan.priors.files import LogFile

Fields = dict[str, Any]
Sizes = tuple[Any, ...]
RUNNING_LOG = "running_log.txt"
TRAINER_LOG = "trainer_log.jsonl"
"""LLaMA-Factory's own, beside what it saves; the second says little that is not in the first, which came later."""
SWIFT_LOG = "logging.jsonl"
STEP_LOGS = frozenset({TRAINER_LOG, SWIFT_LOG})
"""LLaMA-Factory's and ms-swift's lines of JSON, which stand on standard output, too."""

# Where our job scripts put what an attempt left that does not count: without settings, and never finished.
_ASIDE = re.compile(r"/attempts/\d+/logs/[^/]*$")
_SAME = ("steps_total", "batch_size", "gradient_accumulation_steps", "epochs")
_APART_NS = 900 * 10**9
"""Between what a job writes last to its two logs: after training it evaluates and draws."""
_CHECKPOINT = re.compile(r"/(?:epoch|step)_\d+(?=/[^/]*$)")


def join_disk_logs(found: Iterable[tuple[LogFile, Fields | None]]) -> list[tuple[LogFile, Fields]]:
    """The training logs among what was found; a DiskLogger file whose run has a log of its own is merged into that."""
    logs = _without_copies([(log, said) for log, said in found if said and not _ASIDE.search(log.path)])
    logs = _without_steps(logs)
    disk = [(log, said) for log, said in logs if log.name.endswith(".txt")]
    if not disk:
        return logs
    owners: dict[str, list[tuple[LogFile, Fields]]] = {}
    by_folder: dict[str, list[tuple[LogFile, Fields]]] = {}
    by_sizes: dict[Sizes, list[tuple[LogFile, Fields]]] = {}
    for log, said in logs:
        if log.name.endswith(".txt"):
            continue
        by_folder.setdefault(log.folder, []).append((log, said))
        by_sizes.setdefault(_sizes(said), []).append((log, said))
        if name := said.get("disk_log"):
            owners.setdefault(name, []).append((log, said))
    merged: dict[str, Fields] = {}
    gone: set[str] = set()
    for log, said in disk:
        alone = log.name == RUNNING_LOG
        if (owner := _twin(log, said, by_sizes) if alone else _owner(log, owners, by_folder)) is not None:
            base = merged.get(owner[0].path, owner[1])
            merged[owner[0].path] = _merge(base, said)
            gone.add(log.path)
    return [(log, merged.get(log.path, said)) for log, said in logs if log.path not in gone]


def _without_copies(logs: list[tuple[LogFile, Fields]]) -> list[tuple[LogFile, Fields]]:
    """Logs but those that were copied to the checkpoint of an epoch: a run counts once."""
    copies = [log for log, _ in logs if _CHECKPOINT.search(log.path)]
    if not copies:
        return logs
    paths = {log.path for log, _ in logs}
    gone = {log.path for log in copies if _CHECKPOINT.sub("", log.path) in paths}
    return [(log, said) for log, said in logs if log.path not in gone]


def _without_steps(logs: list[tuple[LogFile, Fields]]) -> list[tuple[LogFile, Fields]]:
    """Logs but those lines of JSON whose run has another log: in its folder, or of as many steps and as old."""
    if all(log.name not in STEP_LOGS for log, _ in logs):
        return logs
    others = [(log, said) for log, said in logs if log.name not in STEP_LOGS]
    folders = {log.folder for log, _ in others}
    by_steps: dict[Any, list[int]] = {}
    for log, said in others:
        for steps in {said.get("steps_total"), said.get("steps_done")} - {None}:
            by_steps.setdefault(steps, []).append(log.written_ns)
    return [
        (log, said)
        for log, said in logs
        if log.name not in STEP_LOGS
        or not (
            log.folder in folders or any(abs(at - log.written_ns) < _APART_NS for at in by_steps.get(_steps(said), ()))
        )
    ]


def _steps(said: Fields) -> int | None:
    """Steps in all, or those done where a trainer's lines do not tell them all."""
    return said.get("steps_total") or said.get("steps_done")


def _owner(
    log: LogFile,
    owners: dict[str, list[tuple[LogFile, Fields]]],
    by_folder: dict[str, list[tuple[LogFile, Fields]]],
) -> tuple[LogFile, Fields] | None:
    """The log that names this file and lies nearest above it; else the only log of the run directory it is in."""
    named = [one for one in owners.get(log.name, []) if log.path.startswith(one[0].folder + "/")]
    if named:
        return max(named, key=lambda one: len(one[0].folder))
    folder = log.folder
    for _ in range(3):
        folder = os.path.dirname(folder)  # noqa: PTH120 - as in files.LogFile.folder
        around = by_folder.get(folder, [])
        if around:
            return around[0] if len(around) == 1 and not around[0][1].get("disk_log") else None
    return None


def _sizes(said: Fields) -> Sizes:
    return tuple(said.get(key) for key in _SAME)


def _twin(
    log: LogFile, said: Fields, by_sizes: dict[Sizes, list[tuple[LogFile, Fields]]]
) -> tuple[LogFile, Fields] | None:
    """The log that the same job wrote to its standard output, wherever it is: of the same sizes, and as old."""
    alike = by_sizes.get(_sizes(said), []) if said.get("steps_total") else []
    as_old = [one for one in alike if abs(one[0].written_ns - log.written_ns) < _APART_NS]
    return min(as_old, key=lambda one: abs(one[0].written_ns - log.written_ns), default=None)


def _merge(run: Fields, disk: Fields) -> Fields:
    """A run's fields with the higher peaks, and with what only the DiskLogger file says."""
    whole = {**disk, **{key: value for key, value in run.items() if value is not None}}
    mine, theirs = run.get("peak_memory_gib"), disk.get("peak_memory_gib")
    if theirs and run.get("gigabytes") is not None and disk.get("gigabytes") is not None:
        factor = (GB_PER_GIB if run["gigabytes"] else 1.0) / (GB_PER_GIB if disk["gigabytes"] else 1.0)
        theirs = [value * factor if value is not None else None for value in theirs]
    if mine and theirs:
        theirs = [max(filter(None, pair), default=None) for pair in zip(mine, theirs, strict=True)]
    if theirs or mine:
        whole["peak_memory_gib"] = theirs or mine
    for key in ("state", "reason", "disk_log"):
        if key in run:
            whole[key] = run[key]
    if len(run.get("checkpoint_s") or ()) == 0:
        whole["checkpoint_s"] = disk.get("checkpoint_s") or ()
    return whole
