"""What to call next in a group, and what to change before what failed is tried again. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runplan.jobs.attempts import is_local
from runplan.jobs.observe import JobState
from runplan.status.reasons import comes_again, lacks_something

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runplan.status.group import GroupStatus
    from runplan.status.job import JobStatus


def next_commands(status: GroupStatus, directory: str) -> tuple[str, ...]:
    """What to call next, if anything.

    Args:
        status: the group's.
        directory: of the group, quoted for a shell.
    """
    passed_over = status.fallen | status.in_vain
    jobs = [job for job in status.jobs if job.token not in passed_over]
    found = {job.state for job in jobs}
    states = [state for state in JobState if state in found]
    directory = f"./{directory}" if directory.startswith("-") else directory
    here = any(is_local(job.job_id) for job in status.jobs)
    submit = f"runplan submit {directory}{' --via local' if here else ''}"
    # what was stopped here goes on with the same command, without being asked for
    bad = [state.name for state in states if state.ended_badly and state is not JobState.unknown]
    bad = [name for name in bad if not (here and name == JobState.cancelled.name)]
    commands = []
    if any(state in {JobState.not_submitted, JobState.held} for state in states) or (
        here and JobState.cancelled in states
    ):
        commands.append(submit)
    first = _first(jobs)
    if first:
        commands.append(f"# first {first}: runplan {status.command} overwrite=true".replace("\n", " "))
    if bad:
        commands.append(f"{submit} --only {','.join(bad)}")
    if status.to_collect:
        commands.append(f"runplan collect {directory}")
    return tuple(commands)


def _first(jobs: Sequence[JobStatus]) -> str:
    """What has to be changed first, since the same job would fail the same way; empty where another try may do."""
    failed = [job for job in jobs if job.state is JobState.failed]
    if any(lacks_something(job.reason, job.exit_code) for job in failed):
        return "install what the jobs lack, or plan again with another site.venv or site.conda_env"
    errors = dict.fromkeys(error for job in failed if (error := comes_again(job.reason)))
    if not errors:
        return ""
    return f"mend what {' and '.join(errors)} is about: in place, or plan again with other settings"
