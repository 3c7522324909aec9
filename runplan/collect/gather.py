"""Reads everything that the runs of a group left: evaluation logs, training logs, records of their jobs."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runplan.collect.attempts import Attempt, parse_attempts
from runplan.collect.curves import Curve, bar_curve, disk_curve
from runplan.collect.found import FoundCell, FoundGroup, FoundRun, LogFile
from runplan.collect.inspect_log import parse_log
from runplan.errors import ConfigError, Problem
from runplan.os_errors import spoken
from runplan.priors.accounting import has_accounting, read_accounting
from runplan.priors.read import read_priors
from runplan.store import read_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runplan.priors.record import PriorRun

JOBS = "jobs.jsonl"
_TAIL_BYTES = 16_384
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b\x0c\x0e-\x1f]")
_NEWLINE = re.compile(r"[\r\n]+")
_CONVERT = "inspect log convert --to json --output-dir . "


def read_group(directory: Path, cache_dir: Path) -> FoundGroup:
    """What was planned in a group and what its runs left; nothing is written in it.

    Files that cannot be read or understood are facts like others, with the reason beside them.

    Args:
        directory: the group.
        cache_dir: the user's cache directory, for the index of training logs.

    Raises:
        ConfigError: there is no group.
        StoreError: its `plan.json` is damaged.
    """
    with spoken(directory, "collect"):
        document = read_document(directory) if directory.is_dir() else None
    if document is None:
        what = "has no plan.json" if directory.is_dir() else "is no folder"
        raise ConfigError([Problem(f"{directory} {what}", "GROUP", "name the folder that planning wrote")])
    place = directory.resolve()
    newest = _newest_logs(place, cache_dir)
    runs = tuple(_run(place, entry, newest.get(f"{place}/{entry['dir']}")) for entry in document["runs"])
    return FoundGroup(str(place), document, runs, _accounting(runs))


def _newest_logs(directory: Path, cache_dir: Path) -> dict[str, PriorRun]:
    """Folder of a run → what its newest training log says; a job's log counts more than a DiskLogger file."""
    newest: dict[str, PriorRun] = {}
    for prior in read_priors([str(directory)], None, cache_dir, directory).runs:
        path = Path(prior.path)
        folder = str(path.parent.parent if path.suffix == ".txt" else path.parent)
        known = newest.get(folder)
        if known is None or _rank(known) <= _rank(prior):
            newest[folder] = prior
    return newest


def _rank(prior: PriorRun) -> tuple[bool, float]:
    return not prior.path.endswith(".txt"), prior.modified_s


def _run(group: Path, entry: Mapping[str, Any], prior: PriorRun | None) -> FoundRun:
    place = group / entry["dir"]
    cells = tuple(_cell(group, f"{entry['dir']}/{cell['dir']}", cell) for cell in entry["cells"])
    if not entry["recipe"]:
        return FoundRun(entry, cells)
    attempts = _attempts(place, "train")
    return FoundRun(entry, cells, attempts, prior, _curve(place), _last_words(place, attempts))


def _cell(group: Path, path: str, entry: Mapping[str, Any]) -> FoundCell:
    place = group / path
    found = sorted(file for file in _files(place / "logs") if file.suffix in {".json", ".eval"})
    attempts = _attempts(place, "cell")
    logs = tuple(_log(file, f"{path}/logs/{file.name}") for file in found)
    return FoundCell(entry, path, logs, attempts, _last_words(place, attempts))


def _files(folder: Path) -> list[Path]:
    try:
        return [file for file in folder.iterdir() if file.is_file()]
    except OSError:
        return []


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def _attempts(folder: Path, kind: str) -> tuple[Attempt, ...]:
    return parse_attempts(_text(folder / JOBS), kind)


def _log(file: Path, path: str) -> LogFile:
    """One evaluation log; whatever is wrong with it is said, never raised."""
    try:
        document = _eval_document(file) if file.suffix == ".eval" else _json_document(file)
        return LogFile(path, parse_log(document))
    except OSError as error:
        return LogFile(path, None, f"cannot be read ({error.strerror or error})")
    except ValueError as error:
        return LogFile(path, None, str(error))


def _json_document(file: Path) -> Any:
    data = file.read_bytes()
    if not data.strip():
        raise ValueError("is empty: whoever wrote it was stopped")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("is no Inspect log: nested too deep") from None
    except ValueError as error:
        end = getattr(error, "pos", 0) >= len(data.decode("utf-8", "replace").rstrip()) - 1
        raise ValueError(f"is {'cut short' if end else 'no JSON'} ({error})") from None


def _eval_document(file: Path) -> Any:
    """A log in Inspect's own format, of which only Inspect can read every kind."""
    if importlib.util.find_spec("inspect_ai") is None:
        raise ValueError(f"is in Inspect's .eval format, and there is no inspect-ai here: {_CONVERT}{file.name}")
    from inspect_ai.log import read_eval_log  # noqa: PLC0415 - takes seconds

    try:
        return json.loads(read_eval_log(str(file)).model_dump_json())
    except Exception as error:  # noqa: BLE001 - a zip of a stranger, read by a stranger
        said = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise ValueError(f"cannot be read by Inspect ({said})") from error


def _curve(run: Path) -> Curve:
    disk = sorted((file for file in _files(run / "logs") if file.match("log_*.txt")), key=_modified)
    curve = disk_curve(map(_text, disk))
    return curve if curve.train else bar_curve(map(_text, _job_logs(run)))


def _job_logs(folder: Path) -> list[Path]:
    """Logs of a folder's jobs, oldest first."""
    return sorted((file for file in _files(folder) if file.match("slurm-*.out")), key=_modified)


def _modified(file: Path) -> tuple[float, str]:
    try:
        return file.stat().st_mtime, file.name
    except OSError:
        return 0.0, file.name


def _last_words(folder: Path, attempts: Iterable[Attempt]) -> str:
    """The last line of a failed job's log; empty when its last attempt did not fail."""
    last = [*attempts][-1:]
    logs = _job_logs(folder)
    if not logs or (last and last[0].exit_code == 0):
        return ""
    lines = _NEWLINE.split(_CONTROL.sub("", _text(logs[-1])[-_TAIL_BYTES:]))
    return next((line.strip() for line in reversed(lines) if line.strip(" -=_")), "")


def _accounting(runs: Iterable[FoundRun]) -> dict[str, dict[str, Any]]:
    """What SLURM accounted of the jobs, where it does."""
    jobs = [
        attempt.job_id
        for run in runs
        for attempts in (run.attempts, *(cell.attempts for cell in run.cells))
        for attempt in attempts
        if attempt.in_slurm and attempt.job_id
    ]
    return read_accounting(jobs) if jobs and has_accounting() else {}


