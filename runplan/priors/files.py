"""Finding logs on disk, and what stands beside them."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from runplan.priors.adapters import ADAPTER, RESULTS, SWIFT_ARGUMENTS, of_one_run, saved_adapter
from runplan.priors.join import RUNNING_LOG, STEP_LOGS
from runplan.priors.samples import is_recording
from runplan.priors.slurm_words import is_job_text

_LOG_SUFFIXES = (".out", ".err", ".log")
_DISK_LOG = re.compile(r"log_\d+\.txt|" + re.escape(RUNNING_LOG))
CONFIGS = ("finetune.yaml", "setup_finetune.yaml", "finetune.slurm")
"""What is written before a run starts."""
NOTES = "jobs.jsonl"
SIBLINGS = (*CONFIGS, "gpu_metrics.csv", "trainer_state.json", NOTES, ADAPTER, *SWIFT_ARGUMENTS, *RESULTS)
_OF_ONE_RUN = frozenset({ADAPTER, *RESULTS})
YAML = (".yaml", ".yml")
"""Endings of files that may hold a trainer's arguments, whatever they are called."""
_HYDRA = (".hydra", "config.yaml")
_RESULTS = "/artifacts"
"""Folder in a run's own one in which some labs keep its log; what the run was asked to do stays above."""
# Folders that hold weights and caches, never a log: a checkpoint has thousands of files.
_SKIPPED = frozenset({".git", "__pycache__", "node_modules", ".venv", "wandb", ".cache"})


Siblings = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class LogFile:
    """A file that may be a log, with what decides whether it must be read again."""

    path: str
    size: int
    modified_ns: int
    siblings: Siblings = field(default=())
    """(name, size, modification time in ns) of the files beside it that say more."""
    errors: tuple[str, int, int] | None = None
    """The one of them that the same job wrote as its standard error, where that has a file of its own."""

    @property
    def folder(self) -> str:
        """The folder it lies in."""
        return os.path.dirname(self.path)  # noqa: PTH120 - ten thousand Path objects cost a tenth of a second

    @property
    def name(self) -> str:
        """Its name without the folder."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def written_ns(self) -> int:
        """When the job last wrote, to whichever of its files."""
        return max(self.modified_ns, self.errors[2] if self.errors else 0)


def outputs_of(name: str) -> tuple[str, ...]:
    """Names that a job's standard output may have whose standard error is in a file of this name.

    >>> outputs_of("train_7010.err")
    ('train_7010.out', 'train_7010.log')
    """
    if name.endswith(".err"):
        return (f"{name[:-4]}.out", f"{name[:-4]}.log")
    return (name.replace("stderr", "stdout"),) if "stderr" in name else ()


def is_log_name(name: str) -> bool:
    """Whether a file of this name is looked into: `*.out`, `*.err`, `*.log`, and the names that trainers give.

    Those are DiskLogger's `log_<time>.txt` and LLaMA-Factory's `running_log.txt` and
    `trainer_log.jsonl`, and ms-swift's `logging.jsonl`.
    """
    if name.endswith(_LOG_SUFFIXES):
        return True
    return name in STEP_LOGS or (name.endswith(".txt") and _DISK_LOG.fullmatch(name) is not None)


def is_evaluation(path: str) -> bool:
    """Whether a file is looked into as a log of Inspect: `*.eval`, and `*.json` in a folder called `logs`."""
    return path.endswith(".eval") or (path.endswith(".json") and path.rsplit("/", 2)[-2:-1] == ["logs"])


def walk(root: str) -> Iterator[LogFile]:
    """Every log below a folder in the order of its path; unreadable folders and links to folders are passed over."""
    stack: list[tuple[str, Siblings]] = [(root, ())]
    while stack:
        folder, above = stack.pop()
        logs, folders, siblings, evaluations = _listing(folder)
        for entry in evaluations:
            if (log := _log_file(entry, _notes(folder), None)) is not None:
                yield log
        if logs:
            errors = _errors(logs)
            taken = {entry.name for entry in errors.values()}
            beside = (*_beside(folder, logs, errors, folders, siblings), *above)
            for entry in logs:
                if entry.name not in taken and (log := _log_file(entry, beside, errors.get(entry.name))) is not None:
                    yield log
        folders.sort(reverse=True)
        jobs = _job_texts(folder, siblings, above)
        stack += [
            (child, (*_from_above(folder, siblings), *jobs) if child.endswith(_RESULTS) else jobs) for child in folders
        ]


def _job_texts(folder: str, entries: Beside, above: Siblings) -> Siblings:
    """What SLURM said of jobs, in a folder or above it, as named from the folders in it."""
    own = {name: entry for name, entry in entries.items() if is_job_text(name)} if entries else {}
    found = (*(_siblings(folder, own) if own else ()), *(one for one in above if is_job_text(one[0])))
    return tuple((f"../{name}", size, time) for name, size, time in found)


Entries = list[os.DirEntry[str]]
Beside = dict[str, os.DirEntry[str]]


def _notes(folder: str) -> Siblings:
    """What a job notes beside the folder of its evaluation's log."""
    try:
        stat = os.stat(f"{folder}/../{NOTES}")  # noqa: PTH116 - as in LogFile.folder
    except OSError:
        return ()
    return ((f"../{NOTES}", stat.st_size, stat.st_mtime_ns),)


def _listing(folder: str) -> tuple[Entries, list[str], Beside, Entries]:
    """Logs of trainings, folders, what stands beside, and logs of evaluations."""
    json_too = folder.endswith("/logs")
    evaluations: Entries = []
    logs: Entries = []
    folders: list[str] = []
    siblings: Beside = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if is_log_name(name):
                    logs.append(entry)
                    if is_job_text(name) or is_recording(name):
                        siblings[name] = entry
                elif name in SIBLINGS or name == _HYDRA[0]:
                    siblings[name] = entry
                elif name not in _SKIPPED and entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif name.endswith(".eval") or (json_too and name.endswith(".json")):
                    evaluations.append(entry)
                elif is_job_text(name) or is_recording(name) or name.endswith(YAML):
                    siblings[name] = entry
    except OSError:
        pass
    logs.sort(key=lambda entry: entry.name)
    evaluations.sort(key=lambda entry: entry.name)
    return logs, folders, siblings, evaluations


def _errors(logs: list[os.DirEntry[str]]) -> Beside:
    """Files of standard error by the name of the same job's standard output, where that is there, too."""
    if len(logs) < 2:  # the usual folder, of which there may be ten thousand
        return {}
    names = {entry.name for entry in logs}
    found = {}
    for entry in logs:
        output = next((name for name in outputs_of(entry.name) if name in names), None)
        if output is not None:
            found[output] = entry
    return found


def _from_above(folder: str, entries: Beside) -> Siblings:
    return tuple((f"../{name}", size, time) for name, size, time in _siblings(folder, entries) if name in CONFIGS)


def _beside(folder: str, logs: Entries, errors: Beside, folders: list[str], siblings: Beside) -> Siblings:
    """What stands beside the logs of a folder; adapters and arguments only where they can be of one run alone."""
    if of_one_run({entry.name for entry in logs} - {entry.name for entry in errors.values()}):
        return (*_siblings(folder, siblings), *saved_adapter(folder, folders))
    shared = {name: entry for name, entry in siblings.items() if name in SIBLINGS or not name.endswith(YAML)}
    return _siblings(folder, {name: entry for name, entry in shared.items() if name not in _OF_ONE_RUN})


def _siblings(folder: str, entries: Beside) -> Siblings:
    found: list[tuple[str, int, int]] = []
    for name in sorted(entries):
        try:
            if name == _HYDRA[0]:
                path = os.path.join(folder, *_HYDRA)  # noqa: PTH118 - as in LogFile.folder
                stat = os.stat(path)  # noqa: PTH116 - same
                name = "/".join(_HYDRA)  # noqa: PLW2901 - the file in the folder stands for it
            else:
                stat = entries[name].stat()
        except OSError:
            continue
        found.append((name, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


def _log_file(entry: os.DirEntry[str], siblings: Siblings, errors: os.DirEntry[str] | None) -> LogFile | None:
    try:
        if not entry.is_file():
            return None
        stat = entry.stat()
    except OSError:
        return None
    return _with_errors(LogFile(entry.path, stat.st_size, stat.st_mtime_ns, siblings), errors)


def _with_errors(log: LogFile, entry: os.DirEntry[str] | None) -> LogFile:
    if entry is None or not (own := _siblings(log.folder, {entry.name: entry})):
        return log
    return replace(log, siblings=(*own, *log.siblings), errors=own[0])


def one_file(path: str) -> LogFile | None:
    """A file named by the user, whatever its name; None when it is no regular file."""
    folder = os.path.dirname(path) or "."  # noqa: PTH120 - as in LogFile.folder
    try:
        stat = os.stat(path)  # noqa: PTH116 - same
    except OSError:
        return None
    if not Path(path).is_file():
        return None
    if is_evaluation(path):
        return LogFile(path, stat.st_size, stat.st_mtime_ns, _notes(folder))
    logs, folders, siblings, _ = _listing(folder)
    errors = _errors(logs)
    beside = _beside(folder, logs, errors, folders, siblings)
    if folder.endswith(_RESULTS):
        above = folder.removesuffix(_RESULTS) or "/"
        beside += _from_above(above, _listing(above)[2])
    log = LogFile(path, stat.st_size, stat.st_mtime_ns, beside)
    return _with_errors(log, errors.get(log.name))


def is_pattern(path: str) -> bool:
    """Whether a path is a glob."""
    return glob.has_magic(path)


def matches(pattern: str) -> bool:
    """Whether a glob finds anything."""
    return any(True for _ in glob.iglob(pattern, recursive=True))  # noqa: PTH207 - absolute patterns


def find_logs(paths: Iterable[str]) -> list[LogFile]:
    """Every log of folders, files and globs, each once, in the order they were named; evaluations' among them.

    Standard error in a file of its own belongs to the log that its job wrote to standard output, where that is found.
    """
    found: dict[str, LogFile] = {}
    for path in paths:
        named = [path] if Path(path).exists() or not is_pattern(path) else sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - absolute patterns
        for one in named:
            if Path(one).is_dir():
                found.update((log.path, log) for log in walk(one.rstrip("/") or "/"))
            elif (log := one_file(one)) is not None:
                found[log.path] = log
    taken = {f"{log.folder}/{log.errors[0]}" for log in found.values() if log.errors}
    return [log for path, log in found.items() if path not in taken]
