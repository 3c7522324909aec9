"""Groups on disk in any state: a plan, a ledger, what jobs left behind, and SLURM commands that only pretend."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from job_plans import cell, control, fake_program, plan, request, run

from runplan.estimate.workload import Interval, Sizing
from runplan.files.document import document_text, plan_document
from runplan.files.written import WrittenGroup, read_group
from runplan.jobs.ledger import append

if TYPE_CHECKING:
    from pathlib import Path

T0 = "2026-01-31T12:00:00Z"
SIZING = Sizing(
    batch_size=4, gradient_accumulation_steps=4, largest_batch_size=8, steps_per_epoch=250, steps_total=500,
    allocated_gib=9.0, peak_memory_gib=Interval(10.0, 12.0), needed_memory_gib=Interval(10.0, 11.0),
    it_per_s=0.5, tokens_per_s=4000.0, time_s=Interval(1100.0, 1500.0), source="physics",
    parts_s={"startup": 30.0, "first_step": 5.0, "steps": 998.0, "validation": 40.0, "checkpoints": 27.0},
)  # fmt: skip


def trained(name: str = "1B_rank4", token: str = "tok1", cells: int = 2, **more):
    """A run of 500 planned steps, its evaluations after it."""
    asked = replace(request(name), gpus=2, time_s=1800)
    return run(name, token=token, cells=tuple(cell(epoch) for epoch in range(cells)), request=asked,
               sizing=SIZING, gpu_hours=Interval(0.6, 0.9), **more)  # fmt: skip


def write_group(path: Path, *runs) -> WrittenGroup:
    """A group of these runs on disk, nothing submitted."""
    made = plan(*(runs or (trained(), control())), directory=str(path), gpu_hours=Interval(0.8, 1.2))
    path.mkdir(parents=True, exist_ok=True)
    (path / "plan.json").write_text(document_text(plan_document(made)))
    group = read_group(path)
    for job in group.jobs:
        job.directory.mkdir(parents=True, exist_ok=True)
    return group


def submitted(group: WrittenGroup, jobs: dict[str, str], time: str = T0, **more) -> None:
    """Ledger lines of jobs by token."""
    for token, job_id in jobs.items():
        common = {"token": token, "path": "x", "time": time, **more}
        append(group.directory, [{"event": "intent", "job_id": None, **common},
                                 {"event": "submitted", "job_id": job_id, **common}])  # fmt: skip


def told(directory: Path, event: str, token: str, job_id: str, time: str = T0, **more) -> None:
    """A line that a job wrote."""
    with (directory / "jobs.jsonl").open("a") as file:
        file.write(json.dumps({"event": event, "token": token, "job_id": job_id, **more, "time": time}) + "\n")


def fake_slurm(folder: Path, monkeypatch, queue: str | None = "", accounting: str | None = None) -> Path:
    """`squeue` and `sacct` that print a text, count their calls in `calls`, and fail where the text is None."""
    for name, text in (("squeue", queue), ("sacct", accounting)):
        (folder / f"{name}.txt").parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.txt").write_text(text or "")
        end = "exit 0" if text is not None else "echo 'error: Unable to contact slurm controller' >&2; exit 1"
        fake_program(folder, name, f'echo "{name} $*" >>"{folder}/calls"; cat "{folder}/{name}.txt"; {end}')
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def queue_line(job_id: str, state: str, reason: str = "None", start: str = "N/A", raw: str | None = None) -> str:
    """A line as `squeue` prints it."""
    return f"{job_id}|{raw or job_id}|{state}|{reason}|2026-01-31T12:00:00|{start}|runplan:x\n"


def account_line(job_id: str, state: str, code: str = "0:0", elapsed: int = 60, rss: str = "", raw: str = "") -> str:
    """A job and its batch step as `sacct` prints them."""
    times = "2026-01-31T12:00:00|2026-01-31T12:00:01"
    return (f"{job_id}|{raw or job_id}|{state}|{code}|{elapsed}||{times}|None|runplan:x\n"
            f"{job_id}.batch|{raw or job_id}.batch|{state}|{code}|{elapsed}|{rss}|{times}||\n")  # fmt: skip
