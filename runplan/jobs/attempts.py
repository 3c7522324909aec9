"""What a group's ledger and the records of its jobs say: what was submitted, what began, what ended. Pure.

The formats are in the docstring of `scripts.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from runplan.files.file_names import TRAINER_CONFIG

LOCAL = "local-"
"""How the ids of jobs without SLURM begin; a process number follows."""
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Attempt:
    """One submission of a job: intended, and submitted once `job_id` is known."""

    token: str
    intended_at: str
    """UTC, `2026-01-31T12:00:00Z`; empty where a ledger does not say."""
    job_id: str | None = None
    """None: intended, but the outcome is not recorded."""
    via: str = "sbatch"
    options: tuple[str, ...] = ()
    """What was asked beyond what the script says, such as `--mem=32G` after a run was out of memory."""
    refused: bool = False
    """SLURM did not take it: there is no job."""
    array: str = ""
    """Token of the array that it is a task of, from the array's comment; empty for a job by itself."""
    task: int = 0
    """Its number in the array."""
    host: str = ""
    """The machine of a job without SLURM; empty where a ledger does not say."""
    gpus: tuple[str, ...] = ()
    """Its GPUs where it runs without SLURM, as `CUDA_VISIBLE_DEVICES` names them."""
    path: str = ""
    """Of its script, relative to the group; empty where a ledger does not say."""


@dataclass(frozen=True)
class Ledger:
    """What a group's ledger says."""

    attempts: Mapping[str, tuple[Attempt, ...]] = field(default_factory=dict)
    """By token, in order; refused ones are left out."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """By token, of jobs that SLURM did not take when they were last submitted: why, where that is recorded."""
    damaged: tuple[int, ...] = ()
    """Numbers of lines that cannot be read: cut short by a crash, or edited."""

    def of(self, token: str) -> tuple[Attempt, ...]:
        """The attempts of a job, the last one last."""
        return self.attempts.get(token, ())

    def last(self, token: str) -> Attempt | None:
        """The attempt that counts."""
        return self.of(token)[-1] if self.of(token) else None

    def job_ids(self, token: str) -> frozenset[str]:
        """Every job that is known to have had this token."""
        return frozenset(attempt.job_id for attempt in self.of(token) if attempt.job_id is not None)

    def joined(self, jobs: Mapping[str, str]) -> Ledger:
        """The same with jobs by token that it has no attempt of: somebody submitted them past it."""
        more = {token: (Attempt(token, "", job_id),) for token, job_id in jobs.items() if token not in self.attempts}
        return replace(self, attempts={**self.attempts, **more}) if more else self

    @property
    def unsettled(self) -> tuple[Attempt, ...]:
        """Submissions whose outcome is not recorded: each may or may not have made a job."""
        return tuple(tried[-1] for tried in self.attempts.values() if tried[-1].job_id is None)


@dataclass(frozen=True)
class Record:
    """One line that a job wrote into its own directory."""

    event: str
    """`started`, `ended`, or what else a job tells."""
    token: str
    job_id: str
    time: str
    exit_code: int | None = None
    seconds: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


def parse_ledger(text: str) -> Ledger:
    """What the text of a ledger says; lines that are not ours are numbered, and otherwise ignored."""
    attempts: dict[str, list[Attempt]] = {}
    refused: dict[str, str] = {}
    damaged = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        event = _object(line)
        token = event.get("token") if event else None
        if event is None or not isinstance(token, str) or not _apply(event, attempts.setdefault(token, [])):
            damaged.append(number)
            continue
        refused.pop(token, None)
        if event.get("event") == "refused":
            refused[token] = str(event.get("reason", ""))
    tried = {token: tuple(each) for token, each in attempts.items() if each}
    return Ledger(tried, refused, tuple(damaged))


def _apply(event: Mapping[str, Any], tried: list[Attempt]) -> bool:
    """Add one line to the attempts of its token; False for one that says nothing we know."""
    kind, job_id, time = event.get("event"), event.get("job_id"), str(event.get("time", ""))
    via, options, path = str(event.get("via", "sbatch")), event.get("options", []), str(event.get("path", ""))
    if kind == "intent":
        if tried and tried[-1].job_id is None:  # nothing came of the one before: it was looked for
            tried.pop()
        words = tuple(str(word) for word in options) if isinstance(options, list) else ()
        array, task = event.get("array"), event.get("task")
        gpus, host = event.get("gpus"), str(event.get("host", ""))
        held = tuple(str(gpu) for gpu in gpus) if isinstance(gpus, list) else ()
        made = Attempt(str(event["token"]), time, via=via, options=words, host=host, gpus=held, path=path)
        if isinstance(array, str) and isinstance(task, int):
            made = replace(made, array=array, task=task)
        tried.append(made)
    elif kind == "submitted" and isinstance(job_id, str) and job_id:
        if any(attempt.job_id == job_id for attempt in tried):
            return True  # said twice
        if tried and tried[-1].job_id is None:
            tried[-1] = replace(tried[-1], job_id=job_id)
        else:
            tried.append(Attempt(str(event["token"]), time, job_id, via, path=path))
    elif kind == "refused":
        if tried and tried[-1].job_id is None:
            tried.pop()
    else:
        return False
    return True


def parse_records(text: str) -> tuple[Record, ...]:
    """The lines that jobs wrote into a `jobs.jsonl`, in order; damaged lines are left out."""
    return tuple(_records(text))


def _records(text: str) -> Iterator[Record]:
    for line in text.split("\n"):
        found = _object(line)
        if found is None or not all(isinstance(found.get(key), str) for key in ("event", "token", "job_id")):
            continue
        code, seconds = found.get("exit_code"), found.get("seconds")
        known = {"event", "token", "job_id", "time", "exit_code", "seconds"}
        yield Record(
            found["event"],
            found["token"],
            found["job_id"],
            str(found.get("time", "")),
            code if isinstance(code, int) else None,
            float(seconds) if isinstance(seconds, (int, float)) else None,
            {key: value for key, value in found.items() if key not in known},
        )


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def other_config(records: Iterable[Record], job_id: str | None) -> str | None:
    """The configuration of a job's last try, where it is not the planned one: a rung, after its GPU was too small."""
    tries = [one for one in records if one.event == "attempt" and one.job_id == job_id]
    config = tries[-1].more.get("config") if tries else None
    return config if isinstance(config, str) and config != TRAINER_CONFIG else None


def is_local(job_id: str | None) -> bool:
    """Whether a job runs, or ran, without SLURM; False for no job."""
    return (job_id or "").startswith(LOCAL)


def now() -> str:
    """The time as ledgers and records have it."""
    return datetime.now(UTC).strftime(TIME_FORMAT)


def moment(text: str) -> datetime | None:
    """A time of a ledger or a record; None for what is none."""
    try:
        return datetime.strptime(text, TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
