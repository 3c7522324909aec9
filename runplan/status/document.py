"""`runplan status --json`: a group's status as machines read it. Pure.

Schema 1; fields may be added, never renamed. What is unknown or does not apply is null. Times are UTC,
`2026-01-31T12:00:00Z`; durations are seconds, memory GiB, speed optimizer steps a second::

    {"schema": 1, "group": "…", "directory": "…", "time": "…Z",
     "slurm": "answered|silent|absent|not asked", "accounting": true, "over": false, "failed": false,
     "totals": {"runs": 6, "states": {"running": 2, …}, "jobs": {"pending": 4, …}, "steps_done": 120,
                "steps_total": 3000, "gpu_hours": {"used": 0.4, "p50": 3.1, "p95": 4.0}, "ends_at": "…Z"},
     "runs": [{"name": "…", "type": "fine-tuned|control|eval-only", "state": "…",
               "evaluations": {"done": 1, "total": 3}, "training": {JOB} or null, "cells": [{JOB}, …]}],
     "notes": ["…"], "next": ["runplan submit …"]}

`over`: nothing more will happen by itself. `failed`: some job ended and not as it should (exit code 1). A state is one
of not_submitted, held (its submission is not recorded to the end), pending, running, completed, failed, oom (of a
GPU), host_oom, timeout, cancelled, node_fail, preempted, unknown. A run's is its training's until that is completed,
then that of its evaluations together. A JOB is::

    {"token", "name", "kind": "train|cell", "state", "reason", "job_id", "submissions",
     "config": of a later try within the job or null, "log": path, "exit_code",
     "started_at", "expected_start_at", "ended_at", "seconds": so far or in all,
     "done", "total": optimizer steps of a training, samples of a cell, "it_per_s": recently, "estimated_it_per_s",
     "speed_ratio", "remaining_s": of work, "ends_at", "time_limit_s", "warning",
     "gpu_memory_gib", "gpu_memory_source": "nvidia-smi|reserved|active|allocated", "estimated_gpu_memory_gib",
     "host_memory_gib"}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from runplan.files.document import rounded
from runplan.jobs.attempts import TIME_FORMAT
from runplan.jobs.observe import JobState
from runplan.status.advice import next_commands
from runplan.status.group import GroupStatus, RunStatus
from runplan.status.job import JobStatus

SCHEMA = 1
encode = json.JSONEncoder(allow_nan=False, check_circular=False).encode
"""One line; characters beyond ASCII escaped, so that any stream takes them."""


def status_document(status: GroupStatus, directory: str) -> dict[str, Any]:
    """The status as plain data.

    Args:
        status: the group's.
        directory: of the group, as commands name it.
    """
    jobs = Counter(job.state for job in status.jobs)
    done, total = status.steps
    return {
        "schema": SCHEMA,
        "group": status.name,
        "directory": status.directory,
        "time": _time(status.at),
        "slurm": status.slurm.value,
        "accounting": status.accounting,
        "over": status.over,
        "failed": status.failed,
        "totals": {
            "runs": len(status.runs),
            "states": {state.name: number for state, number in status.states.items()},
            "jobs": {state.name: jobs[state] for state in JobState if state in jobs},
            "steps_done": done,
            "steps_total": total,
            "gpu_hours": {
                "used": rounded(status.gpu_hours),
                "p50": status.gpu_hours_p50,
                "p95": status.gpu_hours_p95,
            },
            "ends_at": _time(status.ends_at),
        },
        "runs": [_run(run) for run in status.runs],
        "notes": list(status.notes),
        "next": list(next_commands(status, directory)),
    }


def status_text(document: Mapping[str, Any]) -> str:
    """The document as JSON text: one line a field, one a run. Python indents at a tenth of the speed."""
    fields = [
        f"{encode(name)}: {_listed(value) if name == 'runs' else encode(value)}" for name, value in document.items()
    ]
    return "{\n" + ",\n".join(fields) + "\n}\n"


def _listed(runs: Sequence[Any]) -> str:
    return "[\n" + ",\n".join(map(encode, runs)) + "\n]"


def _run(run: RunStatus) -> dict[str, Any]:
    return {
        "name": run.name,
        "type": run.type,
        "state": run.state.name,
        "evaluations": {"done": run.evaluated, "total": len(run.cells)},
        "training": _job(run.training) if run.training else None,
        "cells": [_job(cell) for cell in run.cells],
    }


def _job(job: JobStatus) -> dict[str, Any]:
    return {
        "token": job.token,
        "name": job.name,
        "kind": job.kind,
        "state": job.state.name,
        "reason": job.reason or None,
        "job_id": job.job_id,
        "submissions": job.attempts,
        "config": job.config,
        "log": job.log,
        "exit_code": job.exit_code,
        "started_at": _time(job.started_at),
        "expected_start_at": _time(job.starts_at),
        "ended_at": _time(job.ended_at),
        "seconds": rounded(job.seconds),
        "done": job.done,
        "total": job.total,
        "it_per_s": rounded(job.it_per_s),
        "estimated_it_per_s": rounded(job.estimated_it_per_s),
        "speed_ratio": rounded(job.speed_ratio),
        "remaining_s": rounded(job.remaining_s),
        "ends_at": _time(job.ends_at),
        "time_limit_s": rounded(job.limit_s),
        "warning": job.warning or None,
        "gpu_memory_gib": rounded(job.memory.gib) if job.memory else None,
        "gpu_memory_source": job.memory.source if job.memory else None,
        "estimated_gpu_memory_gib": rounded(job.estimated_memory_gib),
        "host_memory_gib": rounded(job.host_memory_gib),
    }


def _time(when: datetime | None) -> str | None:
    return when.astimezone(UTC).strftime(TIME_FORMAT) if when is not None else None
