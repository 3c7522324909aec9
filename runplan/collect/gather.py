"""Reads everything that the runs of a group left: evaluation logs, training logs, records of their jobs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runplan.collect.curves import Curve, bar_curve, disk_curve
from runplan.collect.executions import executions
from runplan.collect.found import FoundCell, FoundGroup, FoundJob, FoundRun, LogFile
from runplan.collect.inspect_log import parse_log
from runplan.files.written import Job, read_group
from runplan.jobs.attempts import other_config
from runplan.jobs.look import look
from runplan.jobs.observe import Observed
from runplan.jobs.seen import JobSeen, last_words
from runplan.os_errors import spoken
from runplan.priors.read import read_priors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runplan.priors.record import PriorRun

ANSWER_S = 30.0
"""How long SLURM may take."""
_CONVERT = "inspect log convert --to json --output-dir . "


def gather(directory: Path, cache_dir: Path) -> FoundGroup:
    """What was planned in a group and what its runs left; nothing is written in it.

    Files that cannot be read or understood are facts like others, with the reason beside them.

    Args:
        directory: the group.
        cache_dir: the user's cache directory, for the index of training logs.

    Raises:
        StoreError: there is no group, or its `plan.json` is damaged.
    """
    with spoken(directory, "collect"):
        group = read_group(directory)
        newest = _newest_logs(group.directory, cache_dir)
        sight = look(group, ANSWER_S)
        found = {job.path: _job(job, sight.jobs[job.token], sight.observed[job.token]) for job in group.jobs}
        runs = []
        for entry in group.document["runs"]:
            jobs = [job for job in group.of_run(entry["dir"]) if job.kind == "cell"]
            cells = tuple(_cell(job, one, found[job.path]) for job, one in zip(jobs, entry["cells"], strict=True))
            place = group.directory / entry["dir"]
            training = next((found[job.path] for job in group.of_run(entry["dir"]) if job.kind == "train"), None)
            curve = _curve(place) if training else Curve()
            runs.append(FoundRun(entry, cells, training, newest.get(str(place)) if training else None, curve))
    return FoundGroup(str(group.directory), group.document, tuple(runs))


def _job(job: Job, seen: JobSeen, observed: Observed) -> FoundJob:
    if seen.unread:
        raise OSError(seen.unread)
    logs = _job_logs(job.directory)
    path = f"{job.path.rpartition('/')[0]}/{logs[-1].name}" if logs else ""
    words = last_words(_content(logs[-1])) if logs and observed.state.ended_badly else ""
    config = other_config(seen.records, observed.job_id)
    return FoundJob(observed, executions(seen.records), path, words, config)


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


def _cell(job: Job, entry: Mapping[str, Any], found: FoundJob) -> FoundCell:
    path = f"{job.run}/{job.cell}"
    files = sorted(file for file in _files(job.directory / "logs") if file.suffix in {".json", ".eval"})
    logs = tuple(_log(file, f"{path}/logs/{file.name}") for file in files)
    return FoundCell(entry, path, found, logs)


def _files(folder: Path) -> list[Path]:
    try:
        return [file for file in folder.iterdir() if file.is_file()]
    except OSError:
        return []


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _text(file: Path) -> str:
    return _content(file).decode("utf-8", "replace")


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
        cut = isinstance(error, json.JSONDecodeError) and _reaches_the_end(error)
        raise ValueError(f"is {'cut short' if cut else 'no JSON'} ({error})") from None


def _reaches_the_end(error: json.JSONDecodeError) -> bool:
    """Whether JSON is right as far as it goes, and there is too little of it."""
    return error.msg.startswith("Unterminated string") or 0 < error.pos >= len(error.doc.rstrip()) - 1


def _eval_document(file: Path) -> Any:
    """A log in Inspect's own format, of which only Inspect can read every kind."""
    if importlib.util.find_spec("inspect_ai") is None:
        raise ValueError(f"is in Inspect's .eval format, and there is no inspect-ai here: {_CONVERT}{file.name}")
    from inspect_ai.log import read_eval_log  # noqa: PLC0415 - takes seconds

    try:
        return json.loads(read_eval_log(str(file)).model_dump_json())
    except Exception as error:
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
