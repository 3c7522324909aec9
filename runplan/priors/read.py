"""Every earlier run that a set of folders, files and globs holds."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runplan.errors import ConfigError, Problem
from runplan.paths import absolute
from runplan.priors.accounting import has_accounting, read_accounting
from runplan.priors.evaluated import PriorCell, made_cells
from runplan.priors.files import CONFIGS, LogFile, find_logs, is_evaluation, is_pattern, matches
from runplan.priors.index import Index
from runplan.priors.join import join_disk_logs
from runplan.priors.names import better_gpu, sized_gpu
from runplan.priors.record import MemoryGib, PriorRun, quick_run
from runplan.priors.slurm_words import job_id
from runplan.units import number_of

_FRESH_S = 120
_ASK_FOR_S = 7 * 86400
_ASK_AGAIN_S = 600
_BESIDES = ("disk_log", "gigabytes", "accounting", "asked_s", "job", "again", "job_s")
"""What is known of a log and is no field of its record."""
_CAPACITY = re.compile(r"total capacity of (?P<after>[\d.]{1,9}) GiB|(?P<before>[\d.]{1,9}) GiB total capacity")
_STARTED = re.compile(r"log_(\d{9,11})\.txt")
_LONGEST_LOADING_S = 7200
_TUPLES = ("lora_targets", "checkpoint_s", "oom_batch_sizes", "padded_tokens")
_MEMORY = ("peak_memory_gib", "init_memory_gib")

Fields = dict[str, Any]


@dataclass(frozen=True)
class PriorsRead:
    """Earlier runs, oldest path first as searched."""

    runs: tuple[PriorRun, ...]
    searched: int
    """Files looked into."""
    warnings: tuple[str, ...] = ()
    cells: tuple[PriorCell, ...] = ()
    """Earlier evaluations."""


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
    evaluated: dict[str, tuple[LogFile, Fields | None]] = {}
    for path in paths:
        search = str(absolute(path, cwd))
        index = Index(cache_dir, search)
        if not refresh:
            index.load()
        evaluations: list[LogFile] = []
        logs: list[LogFile] = []
        for log in find_logs([search]):
            (evaluations if is_evaluation(log.path) else logs).append(log)
        evaluated.update((log.path, (log, said)) for log, said in index.remembered(evaluations, _read_evaluation))
        found.update((log.path, (log, said)) for log, said in _fields(logs, index))
        index.save()
    if not warnings and not any(said for _, said in found.values()):
        where = f"{number_of(len(found), 'file')} of priors.paths: {', '.join(paths)}"
        warnings += [f"no training log in {where}; priors.paths=[DIR] names yours"] if paths else []
    now = time.time()
    runs = tuple(_run(log, said, gpu, now) for log, said in join_disk_logs(found.values()))
    cells = made_cells(((log.path, log.written_ns / 1e9, said) for log, said in evaluated.values()), gpu)
    return PriorsRead(runs, len(found), tuple(warnings), cells)


def _check(paths: Sequence[str], cwd: Path, optional: Collection[str]) -> list[str]:
    """Warnings about paths that need not exist and do not; all others that do not are one error.

    An optional path is worth a warning only where nothing else is there either.
    """
    problems: list[Problem] = []
    warnings: list[str] = []
    missing = [path for path in paths if not _is_there(str(absolute(path, cwd)))]
    for path in missing:
        whole = absolute(path, cwd)
        if path in optional:
            said = f"no earlier logs: nothing at {whole} yet; priors.paths=[DIR] names those you have"
            warnings += [said] if len(missing) == len(paths) else []
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
    for log, said in zip(unread, _read_logs(unread), strict=True):
        known[log.path] = said
        index.put(log, said)
    for log in _add_accounting(logs, known):
        index.put(log, known[log.path])
    return [(log, known[log.path]) for log in logs]


def _read_evaluation(path: str) -> Fields | None:
    from runplan.priors.eval_logs import cell_fields  # noqa: PLC0415 - archives, not for known logs

    return cell_fields(path)


def _read_logs(logs: Sequence[LogFile]) -> list[Fields | None]:
    """What every log says."""
    if not logs:
        return []
    from runplan.priors.processes import read_logs  # noqa: PLC0415 - fifty patterns to compile, not for known logs

    return read_logs(logs)


def _add_accounting(logs: Sequence[LogFile], said: dict[str, Fields | None]) -> list[LogFile]:
    """Ask `sacct` about jobs it was not asked about yet, and now and then about recent ones whose end is not known.

    Returns the logs about which more is known now.
    """
    if not has_accounting():
        return []
    now = time.time()
    jobs: dict[str, list[tuple[LogFile, Fields]]] = {}
    for log in logs:
        one = said[log.path]
        if one is None or (job := job_id(log.name)) is None:
            continue
        recent = now - log.written_ns / 1e9 < _ASK_FOR_S and now - one.get("asked_s", 0) > _ASK_AGAIN_S
        if (asked := one.get("accounting")) is None or (asked == "open" and recent):
            jobs.setdefault(job, []).append((log, one))
    answers = read_accounting(list(jobs))
    changed: list[LogFile] = []
    for job, ones in jobs.items():
        answer = answers.get(job)
        closed = answer is not None and answer.get("state") not in {None, "running"}
        news: Fields = {"accounting": "done" if closed else "open", **({"job": answer} if answer else {})}
        news |= {} if closed else {"asked_s": int(now)}
        for log, one in ones:
            if any(one.get(key) != value for key, value in news.items()):
                one.update(news)
                changed.append(log)
    return changed


def _run(log: LogFile, said: Fields, gpu: str | None, now: float) -> PriorRun:
    """The record; built once, for that costs more than everything else here."""
    values = dict(said)
    for name in _BESIDES:
        values.pop(name, None)
    for name in _MEMORY:
        if name in values:
            values[name] = MemoryGib(*values[name])
    for name in _TUPLES:
        if name in values:
            values[name] = tuple(values[name])
    job = said.get("job") or {}
    _take_accounting(values, job)
    _take_times(values, log, said, job.get("elapsed_s") or said.get("job_s"))
    if found := better_gpu(values.get("gpu"), gpu):
        open_ = "-" not in found
        values["gpu"] = sized_gpu(found, _capacity_gib(values.get("reason")), _held_gib(values)) if open_ else found
    modified_s = log.written_ns / 1e9
    if values["state"] == "unknown" and values.get("steps_done") and now - modified_s < _FRESH_S:
        values["state"] = "running"
    if "tokens_per_s" not in values and values.get("packed") and (tokens := _tokens_per_s(values)):
        values["tokens_per_s"] = tokens
    return quick_run({"path": log.path, "modified_s": modified_s, **values})


def _capacity_gib(reason: str | None) -> float | None:
    """The GPU's memory as torch says it when that lacks."""
    said = _CAPACITY.search(reason) if reason and "capacity" in reason else None
    return float(said["before"] or said["after"]) if said else None


def _held_gib(values: Fields) -> float | None:
    """The most GPU memory that a record knows of."""
    block: MemoryGib | None = values.get("peak_memory_gib")
    held = [values.get("process_peak_gib"), *((block.allocated, block.active, block.reserved) if block else ())]
    return max((one for one in held if one), default=None)


def _take_accounting(values: Fields, job: Fields) -> None:
    """Add to a record what SLURM accounted; a GPU's OOM in the log explains SLURM's FAILED."""
    for key in ("max_rss_gib", "num_gpus", "asked_mem_gib", "cpus"):
        if key in job:
            values.setdefault(key, job[key])
    state, told = job.get("state"), values["state"]
    if state and told != "oom" and not (state == "failed" and told not in {"unknown", "completed"}):
        values["state"] = state
        if state != told:
            values["reason"] = f"{job.get('source', 'sacct')}: {state}"
    if gpu := better_gpu(job.get("gpu"), values.get("gpu")):
        values["gpu"] = gpu


def _take_times(values: Fields, log: LogFile, said: Fields, elapsed_s: float | None) -> None:
    """Add what the job's whole time says; the bars' own time is what is not start-up.

    Earlier attempts in the same log took a part of the job that nothing tells.
    """
    bars = values.get("wall_s")
    if values["state"] == "completed" and bars and not said.get("again"):
        if elapsed_s and elapsed_s >= bars:
            values["startup_s"] = elapsed_s - bars
        if (loading := _loading_s(log, said.get("disk_log"), bars)) is not None:
            values["loading_s"] = loading
    if elapsed_s:
        values["wall_s"] = elapsed_s


def _loading_s(log: LogFile, disk_log: str | None, bars: float) -> float | None:
    """Seconds between the logger's start, which its file's name tells, and the first bar, or None.

    The log was last written when the run ended, unless it was copied since. Then the config beside it, which is older
    than the run, would look younger than its start.
    """
    found = _STARTED.fullmatch(disk_log or "")
    written = [modified_ns / 1e9 for name, _, modified_ns in log.siblings if name in CONFIGS]
    if found is None or not any(at <= int(found[1]) + 1 for at in written):
        return None
    loading = log.written_ns / 1e9 - int(found[1]) - bars
    return loading if 0 < loading < _LONGEST_LOADING_S else None


def _tokens_per_s(values: Fields) -> float | None:
    """Tokens a second with padding, where every sequence is known to be full; None when a part is unknown."""
    tokens = 1.0
    for key in ("batch_size", "gradient_accumulation_steps", "max_seq_len", "num_gpus"):
        tokens *= values.get(key) or 0
    return tokens / values["s_per_step"] if tokens and values.get("s_per_step") else None
