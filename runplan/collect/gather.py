"""Reads everything that the runs of a group left: evaluation logs, training logs, records of their jobs."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runplan.attempts import moment
from runplan.collect.curves import Curve, bar_curve, disk_curve
from runplan.collect.executions import executions
from runplan.collect.found import FoundCell, FoundGroup, FoundJob, FoundRun, LogFile
from runplan.collect.inspect_log import parse_log
from runplan.ledger import read_ledger, read_records
from runplan.observe import Ending, Known, current_job, observe
from runplan.os_errors import spoken
from runplan.priors.read import read_priors
from runplan.slurm import read_accounting, read_queue
from runplan.submit.machine import is_alive
from runplan.written import Job, read_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runplan.attempts import Attempt, Record
    from runplan.priors.record import PriorRun

_TAIL_BYTES = 16_384
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b\x0c\x0e-\x1f]")
_NEWLINE = re.compile(r"[\r\n]+")
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
        ledger = read_ledger(group.directory)
        records = {job.token: _records(job) for job in group.jobs}
        known = _known({job.token: (ledger.of(job.token), records[job.token]) for job in group.jobs})
        found = {
            job.path: _job(job, ledger.of(job.token), records[job.token], known, newest.get(str(job.directory)))
            for job in group.jobs
        }
        runs = []
        for entry in group.document["runs"]:
            jobs = [job for job in group.of_run(entry["dir"]) if job.kind == "cell"]
            cells = tuple(_cell(job, one, found[job.path]) for job, one in zip(jobs, entry["cells"], strict=True))
            place = group.directory / entry["dir"]
            training = next((found[job.path] for job in group.of_run(entry["dir"]) if job.kind == "train"), None)
            curve = _curve(place) if training else Curve()
            runs.append(FoundRun(entry, cells, training, newest.get(str(place)) if training else None, curve))
    return FoundGroup(str(group.directory), group.document, tuple(runs))


def _records(job: Job) -> tuple[Record, ...]:
    return tuple(record for record in read_records(job.directory) if record.token == job.token)


def _known(jobs: Mapping[str, tuple[Sequence[Attempt], Sequence[Record]]]) -> Known:
    """What SLURM says; it is not asked where every job says of itself that it ended well, or never was SLURM's."""
    begun = []
    for attempts, records in jobs.values():
        job_id = current_job(attempts, records)
        well = any(record.job_id == job_id and record.exit_code == 0 for record in records)
        if (attempts or records) and not well and not (job_id or "").startswith("local-"):
            begun += [attempt.intended_at for attempt in attempts] + [record.time for record in records]
    moments = [at for at in map(moment, begun) if at is not None]
    return Known(read_queue(), read_accounting(min(moments))) if moments else Known(None)


def _job(
    job: Job, attempts: Sequence[Attempt], records: Sequence[Record], known: Known, prior: PriorRun | None
) -> FoundJob:
    ending = Ending(prior.state, prior.reason) if prior and job.kind == "train" else None
    alive = is_alive(current_job(attempts, records) or "", records)
    observed = observe(attempts, records, known, ending, alive=alive)
    logs = _job_logs(job.directory)
    path = f"{job.path.rpartition('/')[0]}/{logs[-1].name}" if logs else ""
    words = _last_words(logs[-1]) if logs and observed.state.ended_badly else ""
    return FoundJob(observed, executions(records), path, words)


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


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


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


def _last_words(log: Path) -> str:
    """The last line of a log that says something."""
    lines = _NEWLINE.split(_CONTROL.sub("", _text(log)[-_TAIL_BYTES:]))
    return next((line.strip() for line in reversed(lines) if line.strip(" -=_")), "")
