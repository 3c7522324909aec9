"""Groups for tests of collecting: found facts made by hand, without a disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runplan.collect.executions import Execution
from runplan.collect.found import FoundCell, FoundGroup, FoundJob, FoundRun, LogFile
from runplan.collect.inspect_log import EvalLog, Score
from runplan.jobs.observe import JobState, Observed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STARTED = "2026-01-01T00:00:00Z"
CREATED = "2026-01-01T00:00:30+00:00"
REQUEST = {"gpus": 1, "time": "01:00:00", "mem": "16G"}


def make_log(values: Sequence[float] = (0.0, 1.0, 1.0, 1.0), created: str = CREATED, **more: Any) -> EvalLog:
    samples = {(str(i), '"t"'): float(value) for i, value in enumerate(values)}
    score = Score("match", {"accuracy": sum(values) / len(values)}, 0.1, samples, len(values))
    return EvalLog(**({"task": "words", "status": "success", "created": created, "scores": (score,)} | more))


def make_job(state: JobState = JobState.completed, *, exit_code: int | None = 0, seconds: float = 60.0) -> FoundJob:
    observed = Observed(state, "12", 1, exit_code=exit_code, started_at=STARTED, seconds=seconds)
    return FoundJob(observed, (Execution("12", STARTED, exit_code, seconds),))


def make_cell(
    log: EvalLog | None = None, epoch: int | None = 0, job: FoundJob | None = None, **entry: Any
) -> FoundCell:
    name = "eval/words" if epoch is None else f"eval/words_epoch{epoch}"
    facts = {"task": "words", "function": "words", "script": "/tasks/words.py", "epoch": epoch, "dir": name,
             "time_s": {"p50": 50.0, "p95": 100.0}, "resources": REQUEST}  # fmt: skip
    files = (LogFile(f"{name}/logs/a.json", log),) if log else ()
    return FoundCell(facts | entry, name, job or make_job(), files)


def make_run(
    name: str = "1B_rank4",
    factors: Mapping[str, Any] | None = None,
    cells: Sequence[FoundCell] | None = None,
    job: FoundJob | None = None,
    **more: Any,
) -> FoundRun:
    entry = {
        "name": name, "dir": name, "type": "fine-tuned", "model": "1B", "factors": dict(factors or {}), "recipe": "r",
        "config": {"model_path": "/m", "dataset": "/d.json", "system_prompt": "", "prompt": "{input}"},
        "estimate": {"it_per_s": 2.0, "time_s": {"p50": 50.0, "p95": 80.0},
                     "peak_memory_gib": {"p50": 10.0, "p95": 12.0}},
        "resources": REQUEST,
    }  # fmt: skip
    made = tuple(cells if cells is not None else (make_cell(make_log()),))
    entry["cells"] = [cell.entry for cell in made]
    return FoundRun(entry | more, made, job or make_job())


def make_control(scores: Sequence[float] = (0.0, 0.0, 0.0, 1.0), name: str = "1B_base", **more: Any) -> FoundRun:
    cells = (make_cell(make_log(scores), None),)
    made = make_run(name, more.pop("factors", {}), cells, type="control", recipe=None, **more)
    return FoundRun(made.entry, cells)


def make_group(*runs: FoundRun, factors: Mapping[str, Sequence[Any]] | None = None) -> FoundGroup:
    document = {
        "schema": 1, "group": "g", "design": {"type": "single run", "factors": dict(factors or {})},
        "runs": [run.entry for run in runs], "totals": {"gpu_hours": {"p50": 1.0, "p95": 2.0}},
    }  # fmt: skip
    return FoundGroup("/groups/g", document, runs)
