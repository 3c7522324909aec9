"""Every earlier run that a set of folders, files and globs holds."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from runplan.errors import ConfigError, Problem
from runplan.priors.accounting import has_accounting, job_id, read_accounting
from runplan.priors.files import LogFile, find_logs, is_pattern, matches, read_text
from runplan.priors.index import Index
from runplan.priors.join import join_disk_logs
from runplan.priors.processes import in_processes, processes
from runplan.priors.record import MemoryGib, PriorRun

_PARALLEL_FROM = 300
_FRESH_S = 120
_ASK_AGAIN_S = 7 * 86400
_NAMES = frozenset(item.name for item in fields(PriorRun))
_TUPLES = ("lora_targets", "checkpoint_s")
_MEMORY = ("peak_memory_gib", "init_memory_gib")

Fields = dict[str, Any]
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


@dataclass(frozen=True)
class PriorsRead:
    """Earlier runs, oldest path first as searched."""

    runs: tuple[PriorRun, ...]
    searched: int
    """Files looked into."""
    warnings: tuple[str, ...] = ()


def read_priors(
    paths: Sequence[str],
    gpu: str | None,
    cache_dir: Path,
    cwd: Path,
    *,
    refresh: bool = False,
    optional: Collection[str] = frozenset(),
) -> PriorsRead:
    """All earlier runs that logs tell of, one record a log; what is no training log is searched but no run.

    Args:
        paths: folders (searched recursively), files or globs; relative ones start at `cwd`.
        gpu: the GPU of logs that do not say theirs; None leaves it unknown.
        cache_dir: the user's cache directory; nothing is ever written among the logs.
        cwd: folder that relative paths start from.
        refresh: read every log again, whatever the index says.
        optional: those of `paths` that need not exist.

    Raises:
        ConfigError: a folder or file does not exist; all of them are named.
    """
    warnings = _check(paths, cwd, optional)
    with _no_collection():
        return _read(paths, gpu, cache_dir, cwd, warnings, refresh=refresh)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python's search for reference cycles costs half the time here, and there are none to be found."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(
    paths: Sequence[str], gpu: str | None, cache_dir: Path, cwd: Path, warnings: list[str], *, refresh: bool
) -> PriorsRead:
    found: dict[str, tuple[LogFile, Fields | None]] = {}
    for path in paths:
        search = str(cwd / Path(path).expanduser())
        index = Index(cache_dir, search)
        if not refresh:
            index.load()
        logs = find_logs([search])
        found.update((log.path, (log, said)) for log, said in _fields(logs, index))
        index.save()
    if not warnings and not any(said for _, said in found.values()):
        warnings += (
            [f"no training log in {_count(len(found), 'file')} of priors.paths: {', '.join(paths)}"] if paths else []
        )
    now = time.time()
    runs = tuple(_run(log, said, gpu, now) for log, said in join_disk_logs(found.values()))
    return PriorsRead(runs, len(found), tuple(warnings))


def _check(paths: Sequence[str], cwd: Path, optional: Collection[str]) -> list[str]:
    """Warnings about paths that need not exist and do not; all others that do not are one error.

    An optional path is worth a warning only where nothing else is there either.
    """
    problems: list[Problem] = []
    warnings: list[str] = []
    missing = [path for path in paths if not _is_there(str(cwd / Path(path).expanduser()))]
    for path in missing:
        whole = cwd / Path(path).expanduser()
        if path in optional:
            warnings += [f"priors.paths: nothing at {whole}"] if len(missing) == len(paths) else []
        elif is_pattern(path):
            warnings.append(f"priors.paths: nothing at {whole}")
        else:
            problems.append(
                Problem(
                    f"{whole} does not exist",
                    "priors.paths",
                    "name a folder of earlier logs, or priors.paths=[] for none",
                )
            )
    if problems:
        raise ConfigError(problems)
    return warnings


def _is_there(path: str) -> bool:
    return Path(path).exists() or (is_pattern(path) and matches(path))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _fields(logs: Sequence[LogFile], index: Index) -> list[tuple[LogFile, Fields | None]]:
    """What each log says, from the index or from the log; both in the order of `logs`."""
    known: dict[str, Fields | None] = {}
    unread: list[LogFile] = []
    for log in logs:
        hit, said = index.get(log)
        if hit:
            known[log.path] = said
        else:
            unread.append(log)
    texts = _read_all(unread)
    for log, text, said in zip(unread, texts, json.loads(f"[{','.join(texts)}]"), strict=True):
        known[log.path] = said
        index.put(log, text)
    for log in _add_accounting(logs, known):
        index.put(log, _encode(known[log.path]))
    return [(log, known[log.path]) for log in logs]


def read_log(log: LogFile) -> Fields | None:
    """What one log and the files beside it say, ready for JSON; None when it is no training log or cannot be read."""
    from runplan.priors.parse import parse_text  # noqa: PLC0415 - fifty patterns to compile, not needed for known logs
    from runplan.priors.siblings import sibling_fields  # noqa: PLC0415

    try:
        text = read_text(log.path, log.size)
    except OSError:
        return None
    said = parse_text(text, log.name)
    if said is None:
        return None
    for name in _MEMORY:
        if isinstance(memory := said.get(name), MemoryGib):
            said[name] = [memory.allocated, memory.active, memory.reserved]
    beside = sibling_fields(log.folder, [name for name, _, _ in log.siblings])
    gpu = better_gpu(said.get("gpu") if said.get("device") else None, beside.get("gpu"), said.get("gpu"))
    said = {**beside, **said}
    if gpu:
        said["gpu"] = gpu
    if said.get("steps_per_epoch") and said.get("epochs") and not said.get("steps_total"):
        said["steps_total"] = said["steps_per_epoch"] * said["epochs"]
    return said


def better_gpu(*names: str | None) -> str | None:
    """The first name; where it leaves the memory open (`a100`), a later one that agrees and says it."""
    said = [name for name in names if name]
    for name in said[1:]:
        if "-" not in said[0] and name.lower().startswith(f"{said[0].lower()}-"):
            return name
    return said[0] if said else None


def _read_all(logs: Sequence[LogFile]) -> list[str]:
    """What every log says, each as JSON; on several processes where it pays."""
    workers = processes() if len(logs) >= _PARALLEL_FROM else 1
    return in_processes(_said, logs, workers) if workers > 1 else [_said(log) for log in logs]


def _said(log: LogFile) -> str:
    return _encode(read_log(log))


def _add_accounting(logs: Sequence[LogFile], said: dict[str, Fields | None]) -> list[LogFile]:
    """Ask `sacct` once about jobs it was not asked about yet and recent ones whose end is not known; whose changed."""
    if not has_accounting():
        return []
    now = time.time()
    jobs: dict[str, list[tuple[LogFile, Fields]]] = {}
    for log in logs:
        one = said[log.path]
        if one is None or (job := job_id(log.name)) is None:
            continue
        asked = one.get("accounting", "no")
        if asked == "no" or (asked == "open" and now - log.modified_ns / 1e9 < _ASK_AGAIN_S):
            jobs.setdefault(job, []).append((log, one))
    answers = read_accounting(list(jobs))
    changed: list[LogFile] = []
    for job, ones in jobs.items():
        answer = answers.get(job)
        closed = answer is not None and answer.get("state") not in {None, "running"}
        news = {"accounting": "done" if closed else "open", **({"job": answer} if answer else {})}
        for log, one in ones:
            if any(one.get(key) != value for key, value in news.items()):
                one.update(news)
                changed.append(log)
    return changed


def _run(log: LogFile, said: Fields, gpu: str | None, now: float) -> PriorRun:
    """The record; built once, for `dataclasses.replace` costs more than everything else here."""
    values = {key: value for key, value in said.items() if key in _NAMES}
    for name in _MEMORY:
        if name in values:
            values[name] = MemoryGib(*values[name])
    for name in _TUPLES:
        if name in values:
            values[name] = tuple(values[name])
    if job := said.get("job"):
        _take_accounting(values, job)
    if gpu is not None and values.get("gpu") is None:
        values["gpu"] = gpu
    modified_s = log.modified_ns / 1e9
    if values["state"] == "unknown" and values.get("steps_done") and now - modified_s < _FRESH_S:
        values["state"] = "running"
    if "tokens_per_s" not in values and values.get("packed") and (tokens := _tokens_per_s(values)):
        values["tokens_per_s"] = tokens
    return PriorRun(path=log.path, modified_s=modified_s, **values)


def _take_accounting(values: Fields, job: Fields) -> None:
    """Add to a record what SLURM accounted; a GPU's OOM in the log explains SLURM's FAILED."""
    for key in ("max_rss_gib", "num_gpus"):
        if key in job:
            values.setdefault(key, job[key])
    state, told = job.get("state"), values["state"]
    if state and told != "oom" and not (state == "failed" and told not in {"unknown", "completed"}):
        values["state"] = state
        if state != told:
            values["reason"] = f"sacct: {state}"
    if gpu := better_gpu(job.get("gpu"), values.get("gpu")):
        values["gpu"] = gpu
    if elapsed := job.get("elapsed_s"):
        bars = values.get("wall_s")
        if values["state"] == "completed" and bars and elapsed >= bars:
            values["startup_s"] = elapsed - bars
        values["wall_s"] = elapsed


def _tokens_per_s(values: Fields) -> float | None:
    """Tokens a second with padding, where every sequence is known to be full; None when a part is unknown."""
    tokens = 1.0
    for key in ("batch_size", "gradient_accumulation_steps", "max_seq_len", "num_gpus"):
        tokens *= values.get(key) or 0
    return tokens / values["s_per_step"] if tokens and values.get("s_per_step") else None
