"""Which log of a cell counts, and what is missing: why, and what to do about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runplan.collect.executions import moment, owner
from runplan.jobs.attempts import is_local
from runplan.jobs.observe import JobState
from runplan.pasting import pasted_word
from runplan.status.reasons import comes_again, lacks_something, waiting_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runplan.collect.found import FoundCell, FoundGroup, FoundJob, FoundRun, LogFile

SUCCESS = "success"
STARTED = "started"
"""What the log of an evaluation says until it has ended; for ever, if it was killed."""
UNREADABLE = "unreadable"
_SAID_BY_SLURM = {JobState.timeout, JobState.cancelled, JobState.preempted, JobState.node_fail}
"""Ends that come from outside: what the job printed last does not explain them."""


@dataclass(frozen=True)
class Missing:
    """A training or an evaluation without a result."""

    run: str
    kind: str
    """`train` or `cell`."""
    cell: str | None
    task: str | None
    epoch: int | None
    state: str
    """Of its job; `unreadable` where the job ended well and left no log that can be used."""
    reason: str
    fix: str

    @property
    def name(self) -> str:
        """How people call it: the run, or `run/cell`."""
        return f"{self.run}/{self.cell}" if self.cell else self.run


def usable_log(cell: FoundCell) -> LogFile | None:
    """The log that counts: the newest of those that succeeded, and whose job did not fail; None without."""
    usable = [file for file in cell.logs if not _objection(cell, file)]
    return max(usable, key=_age, default=None)


def _age(file: LogFile) -> tuple[float, str]:
    at = moment(file.log.created) if file.log else None
    return at.timestamp() if at else 0.0, file.path


def _objection(cell: FoundCell, file: LogFile) -> str:
    """Why a log does not count; empty when it may."""
    log = file.log
    if log is None:
        return file.problem
    if log.status == STARTED:
        return "is not finished"
    if log.status != SUCCESS:
        return f"ended with status {log.status}" + (f": {log.error}" if log.error else "")
    if not log.scores:
        return "holds no scores"
    ran = owner(cell.job.ran, log.created)
    if ran is not None and ran.exit_code:
        return f"is of a job that failed afterwards (job {ran.job_id}, exit code {ran.exit_code})"
    return ""


def missing(group: FoundGroup) -> list[Missing]:
    """Every training and evaluation that was planned and has no result, in the order of the plan."""
    return [item for run in group.runs for item in _of_run(run, pasted_word(group.directory))]


def _of_run(run: FoundRun, place: str) -> Iterator[Missing]:
    if run.job is not None and run.job.observed.state is not JobState.completed:
        training = run.job.observed.state
        yield Missing(run.name, "train", None, None, None, training.value, _told(run.job), _fix(run.job, place))
    for cell in run.cells:
        if usable_log(cell) is None:
            state, reason, fix = _cell_reason(run, cell, place)
            entry = cell.entry
            yield Missing(run.name, "cell", entry["dir"], entry["task"], entry["epoch"], state, reason, fix)


def _cell_reason(run: FoundRun, cell: FoundCell, place: str) -> tuple[str, str, str]:
    observed = cell.job.observed
    here = is_local(observed.job_id)
    again = f"cd {place}/{pasted_word(cell.path)} && {'bash' if here else 'sbatch'} cell.slurm"
    if cell.logs and observed.state in {JobState.completed, JobState.not_submitted}:
        newest = max(cell.logs, key=_age)
        return UNREADABLE, f"{newest.path} {_objection(cell, newest)}", again
    if observed.state is JobState.completed:
        return UNREADABLE, f"its job ended well and left no log in {cell.path}/logs", again
    waits = cell.entry["epoch"] is not None and run.job is not None
    if waits and not cell.job.ran and run.job and run.job.observed.state is not JobState.completed:
        training = run.job.observed.state
        return observed.state.value, f"its training: {training.value}", _fix(run.job, place)
    reason = _told(cell.job)
    if cell.logs:
        newest = max(cell.logs, key=_age)
        at_work = observed.state is JobState.running and newest.log is not None and newest.log.status == STARTED
        objection = "" if at_work else f"{newest.path} {_objection(cell, newest)}"
        reason = "; ".join(part for part in (reason, objection) if part)
    return observed.state.value, reason, _fix(cell.job, place)


def _told(job: FoundJob) -> str:
    """What is known of how a job is or ended."""
    observed = job.observed
    said = waiting_for(observed.reason) if observed.state is JobState.pending else observed.reason
    if said and observed.state in _SAID_BY_SLURM:
        return said
    if observed.exit_code and f"exit code {observed.exit_code}" not in said:
        said = f"{said}, exit code {observed.exit_code}" if said else f"exit code {observed.exit_code}"
    if job.last_words and job.last_words not in said:
        said = f"{said}: {job.last_words}" if said else job.last_words
    return said


def _fix(job: FoundJob, place: str) -> str:
    state, here = job.observed.state, is_local(job.observed.job_id)
    if state in {JobState.pending, JobState.running}:
        return f"collect again when it is done: runplan status {place}"
    if state.ended_badly:
        see = f"see {place}/{pasted_word(job.log)}, then: " if job.log else ""
        if state is JobState.failed and lacks_something(_told(job), job.observed.exit_code):
            see = f"{see.removesuffix('then: ')}install what its environment lacks, or plan again with another, then: "
        elif state is JobState.failed and (error := comes_again(_told(job))):
            see = f"{see.removesuffix('then: ')}mend what {error} is about, then: "
        return f"{see}runplan submit {place}{' --via local' if here else ''} --only {state.value}"
    return f"runplan submit {place}"


def warnings(group: FoundGroup) -> list[str]:
    """What a reader of the results should know: logs that were passed over, samples that failed, older checkpoints."""
    return [text for run in group.runs for cell in run.cells for text in _cell_warnings(run, cell)]


def _cell_warnings(run: FoundRun, cell: FoundCell) -> Iterator[str]:
    used = usable_log(cell)
    if used is None or used.log is None:
        return
    for file in cell.logs:
        if objection := _objection(cell, file):
            yield f"{file.path} {objection}; {used.path.rpartition('/')[2]} counts"
    if used.log.task and used.log.task not in {cell.entry.get("function"), cell.entry["task"]}:
        yield f"{used.path}: is of a task called {used.log.task}, planned is {cell.entry['task']}"
    planned = cell.entry.get("samples")
    counted = max((score.n for score in used.log.scores), default=0)
    if planned is not None and counted < planned and not used.log.notes:
        yield f"{used.path}: {counted} samples, planned were {planned}"
    for note in used.log.notes:
        yield f"{used.path}: {note}"
    if run.job is not None and cell.entry["epoch"] is not None and run.job.ran:
        last = next((one for one in reversed(run.job.ran) if one.trained), run.job.ran[-1])
        began, evaluated = moment(last.started_at), moment(used.log.created)
        if began and evaluated and evaluated < began:
            yield f"{used.path}: evaluated before the run's last training began, so it may be of other weights"
