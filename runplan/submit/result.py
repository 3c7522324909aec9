"""What one call submitted and what it did not, as lines and as JSON. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runplan.jobs.observe import JobState
from runplan.pasting import pasted_word
from runplan.submit.due import Decision, Due, Left


@dataclass
class SubmitResult:
    """What became of the jobs that were due."""

    submitted: list[tuple[Due, str]] = field(default_factory=list)
    """With the job of each."""
    left: list[Left] = field(default_factory=list)
    """Not submitted: refused, or in need of something that is not there."""
    waiting: list[Due] = field(default_factory=list)
    """Not submitted because the queue takes no more jobs of this user now."""
    full: str = ""
    """What SLURM said when it took no more."""
    stopped: str = ""
    """Why the rest was not tried."""

    @property
    def exit_code(self) -> int:
        """1 where something could not be submitted; what only waits for room is no failure."""
        return 1 if self.left or self.stopped else 0


def closing_lines(directory: Path, decision: Decision, result: SubmitResult, via: str = "sbatch") -> list[str]:
    """What is said at the end: how many, what ended before, what to type next."""
    place = pasted_word(str(directory))
    n_left = len(result.left)
    head = f"{len(result.submitted)} submitted, {len(decision.already)} already submitted, {n_left} not submitted"
    lines = [head]
    if result.waiting:
        n = len(result.waiting)
        room = "for room in the queue" + (f" ({result.full})" if result.full else "")
        lines.append(f"{n} {'waits' if n == 1 else 'wait'} {room}: the same command continues, --wait keeps at it")
    if decision.ended:
        said = ", ".join(f"{len(jobs)} {state.value}" for state, jobs in decision.ended.items())
        only = ",".join(state.value for state in _asked_for(decision))
        how = "" if via == "sbatch" else f" --via {via}"
        first = f"why: runplan status {place}; " if JobState.failed in decision.ended else ""
        lines.append(f"ended before: {said}; {first}again with: runplan submit {place}{how} --only {only}")
    if result.submitted or decision.already:
        lines.append(f"next: runplan status {place}")
    return lines


def _asked_for(decision: Decision) -> list[JobState]:
    """Endings that `--only` has to name: evaluations that ended with their training are submitted with it."""
    ended = {job.token for jobs in decision.ended.values() for job in jobs}
    return [state for state, jobs in decision.ended.items() if any(job.after not in ended for job in jobs)]


def json_document(directory: Path, via: str, decision: Decision, result: SubmitResult) -> dict[str, Any]:
    """The same for programs; `left_for_room` counts what the same command submits later."""
    return {
        "group": str(directory),
        "via": via,
        "submitted": [
            {
                "job": due.job.name, "token": due.job.token, "job_id": job_id, "options": list(due.options),
                "after": due.after, "note": due.note or None,
            }
            for due, job_id in result.submitted
        ],
        "already": [job.name for job in decision.already],
        "not_submitted": [{"job": left.job.name, "reason": left.reason} for left in result.left],
        "left_for_room": [due.job.name for due in result.waiting],
        "ended": {state.value: [job.name for job in jobs] for state, jobs in decision.ended.items()},
        "stopped": result.stopped or None,
        "next": f"runplan status {pasted_word(str(directory))}",
    }  # fmt: skip
