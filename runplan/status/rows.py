"""What the status table and the lines around it say. Pure: texts and styles; `screen.py` fits and prints them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from runplan.jobs.observe import REFUSED, JobState
from runplan.status.forecast import clock, speed_text
from runplan.status.group import GroupStatus, RunStatus
from runplan.status.job import JobStatus
from runplan.summary.readme import visible
from runplan.units import short_hours, short_time, some_of

COLUMNS = ("run", "state", "steps", "speed (of plan)", "time", "GiB (plan)", "evals", "job")
LESS_IMPORTANT = ("GiB (plan)", "evals", "job", "speed (of plan)", "time", "steps")
"""The columns that a narrow terminal does without, in this order."""
RIGHT = frozenset({"steps", "speed (of plan)", "time", "GiB (plan)", "evals"})
MOST_NAMED = 4
MOST_REASONS = 20
STYLES = {
    JobState.running: "cyan",
    JobState.completed: "green",
    JobState.pending: "",
    JobState.not_submitted: "dim",
    JobState.held: "yellow",
    JobState.unknown: "yellow",
}
"""Of states; the others are red."""
_ORDER = {state: number for number, state in enumerate(JobState)}
_WORDS = {JobState.host_oom: "host oom", JobState.node_fail: "node failed"}


class Row(NamedTuple):
    """One line of the table."""

    cells: tuple[str, ...]
    style: str
    state: JobState


@dataclass(frozen=True)
class Said:
    """A line below the table: what it is about, what is said, and a path or command to copy."""

    text: str
    style: str = ""
    copy: str = ""


def state_word(state: JobState) -> str:
    """A state as people read it."""
    return _WORDS.get(state, state.value)


def rows(status: GroupStatus, *, cells: bool = False) -> tuple[Row, ...]:
    """The table's lines, in the order of the plan.

    Args:
        status: the group's.
        cells: whether every evaluation has a line of its own.
    """
    found = []
    for run in status.runs:
        found.append(_run_row(run, status.at))
        if cells:
            found += [_cell_row(run, cell, status.at) for cell in run.cells]
    return tuple(found)


def _run_row(run: RunStatus, at: datetime) -> Row:
    training, state = run.training, run.state
    shown = training if training is not None and not run.trained else None
    job = shown or next((one for one in run.cells if one.state is state), training)
    cells = (
        visible(run.name), _run_word(run), _steps(training),
        _speed(training) if shown else "", _run_time(run, at), _memory(training),
        f"{run.evaluated}/{len(run.cells)}" if run.cells else "", (job.job_id or "") if job else "",
    )  # fmt: skip
    return Row(cells, STYLES.get(state, "red"), state)


def _run_word(run: RunStatus) -> str:
    """What a run does; behind its training its evaluations are named."""
    word = state_word(run.state)
    if run.state is JobState.running and run.trained:
        return "evaluating"
    if run.training is None or not run.trained or run.state is JobState.completed:
        return word
    return "trained" if run.state is JobState.not_submitted else f"evals {word}"


def _cell_row(run: RunStatus, cell: JobStatus, at: datetime) -> Row:
    name = cell.name.removeprefix(f"{run.name}/")
    samples = _steps(cell) if cell.done is not None else ""
    return Row(
        (f"  {visible(name)}", state_word(cell.state), samples, "", _time(cell, at), "", "", cell.job_id or ""),
        STYLES.get(cell.state, "red"),
        cell.state,
    )


def _steps(job: JobStatus | None) -> str:
    if job is None or job.total is None:
        return "" if job is None or job.done is None else str(job.done)
    return f"{'-' if job.done is None else job.done}/{job.total}"


def _speed(job: JobStatus | None) -> str:
    if job is None or job.it_per_s is None:
        return ""
    ratio = job.speed_ratio
    return f"{speed_text(job.it_per_s)}{f' ({ratio:.0%})' if ratio is not None else ''}"


def _memory(job: JobStatus | None) -> str:
    if job is None or job.memory is None:
        return ""
    plan = f" ({job.estimated_memory_gib:.1f})" if job.estimated_memory_gib is not None else ""
    return f"{job.memory.gib:.1f}{plan}"


def _run_time(run: RunStatus, at: datetime) -> str:
    """Of the training until it is over, then of the evaluations."""
    if run.training is not None and not run.trained:
        return _time(run.training, at)
    if run.state is JobState.running:
        return f"{short_time(max(0.0, (run.ends_at - at).total_seconds()))} left" if run.ends_at else ""
    return _time(run.training, at) if run.training else _longest(run.cells, run.state, at)


def _longest(cells: Sequence[JobStatus], state: JobState, at: datetime) -> str:
    mine = [cell for cell in cells if cell.state is state]
    return _time(max(mine, key=lambda cell: cell.seconds or 0.0), at) if mine else ""


def _time(job: JobStatus, at: datetime) -> str:
    if job.state is JobState.running:
        return f"{short_time(job.remaining_s)} left" if job.remaining_s is not None else ""
    if job.state is JobState.pending:
        return f"begins {clock(job.starts_at, at)}" if job.starts_at else ""
    if job.seconds is None or not job.state.over:
        return ""
    return f"{'took' if job.state is JobState.completed else 'after'} {short_time(job.seconds)}"


def heading(status: GroupStatus) -> tuple[str, str]:
    """Two lines on the whole group: its states, and its totals."""
    words = Counter(map(_heading_word, sorted(status.runs, key=lambda run: _ORDER[run.state])))
    states = ", ".join(f"{number} {word}" for word, number in words.items())
    runs = len(status.runs)
    done, total = status.steps
    parts = [f"{done:,} of {total:,} steps" if total else f"{done:,} steps" if done else ""]
    plan = ""
    if status.gpu_hours_p50 is not None:
        p95 = f", p95 {short_hours(status.gpu_hours_p95)}" if status.gpu_hours_p95 is not None else ""
        plan = f" (plan: {short_hours(status.gpu_hours_p50)}{p95})"
    if status.gpu_hours or status.gpu_hours_p50:
        parts.append(f"{short_hours(status.gpu_hours)} GPU-hours used{plan}")
    if status.ends_at is not None:
        left = short_time(max(0.0, (status.ends_at - status.at).total_seconds()))
        parts.append(f"ends about {clock(status.ends_at, status.at)}, in {left}")
    first = f"{visible(status.name)}: {runs} run{'s' * (runs != 1)}{f': {states}' if states else ''}"
    return first, ", ".join(filter(None, parts))


def _heading_word(run: RunStatus) -> str:
    """What a run does; where its evaluations failed alone, that it is trained."""
    word = state_word(run.state)
    return f"trained but evals {word}" if run.training and run.trained and run.state.ended_badly else word


def failures(status: GroupStatus) -> Iterator[Said]:
    """Why jobs ended badly, those with the same reason together, and where the first one's log is.

    Evaluations that fell with their training are not named: it is.
    """
    found: dict[tuple[JobState, str], list[JobStatus]] = {}
    fallen = status.fallen
    for job in status.jobs:
        if job.state.ended_badly and job.token not in fallen:
            found.setdefault((job.state, job.reason), []).append(job)
    for number, ((state, reason), jobs) in enumerate(found.items()):
        if number == MOST_REASONS:
            yield Said(f"and {len(found) - number} other reasons; --json has them all")
            return
        said = f": {visible(reason)}" if reason else ""
        log = next((job.log for job in jobs if job.log), None)
        yield Said(f"{_names(jobs)}: {state_word(state)}{said}", STYLES.get(state, "red"), visible(log or ""))


def waits(status: GroupStatus) -> Iterator[Said]:
    """Why jobs wait or were refused, those with the same reason together, and when the first is expected to begin."""
    found: dict[tuple[JobState, str], list[JobStatus]] = {}
    for job in status.jobs:
        if job.state in {JobState.pending, JobState.held} or job.reason.startswith(REFUSED):
            found.setdefault((job.state, job.reason), []).append(job)
    for (state, reason), jobs in found.items():
        starts = min((job.starts_at for job in jobs if job.starts_at is not None), default=None)
        begins = f"; the first begins about {clock(starts, status.at)}" if starts else ""
        yield Said(f"{len(jobs)} {state_word(state)}: {visible(reason) or 'SLURM has not said why'}{begins}")


def warnings(status: GroupStatus) -> Iterator[Said]:
    """What is wrong with the group, what running jobs' user should know, and which run with another configuration."""
    for note in status.notes:
        yield Said(visible(note), "yellow")
    found = list(_job_warnings(status.jobs))
    for text in found[:MOST_REASONS]:
        yield Said(text, "yellow")
    if len(found) > MOST_REASONS:
        yield Said(f"and {len(found) - MOST_REASONS} other warnings; --json has them all", "yellow")


def _job_warnings(jobs: Sequence[JobStatus]) -> Iterator[str]:
    for job in jobs:
        if job.warning:
            yield f"{visible(job.name)}: {job.warning}"
        if job.config and not job.state.ended_badly:
            yield f"{visible(job.name)}: runs with {visible(job.config)}, the configurations before it did not fit"


def _names(jobs: Sequence[JobStatus]) -> str:
    return some_of([visible(job.name) for job in jobs], MOST_NAMED)
