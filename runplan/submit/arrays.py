"""Which jobs go to SLURM together: those that ask for the same become the tasks of one array. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runplan.plan import Request
from runplan.slurm.sbatch import OUTPUT, submitit_parameters
from runplan.submit.due import Due
from runplan.submit.request import by_request, request_of

LARGEST = 1000
"""Tasks in an array: SLURM's default `MaxArraySize` is 1001."""


@dataclass(frozen=True)
class Batch:
    """Jobs that one call of `sbatch` submits."""

    due: tuple[Due, ...]
    dependency: str = ""
    """As `--dependency` has it; empty for none."""

    @property
    def is_array(self) -> bool:
        """Whether its jobs are the tasks of an array."""
        return len(self.due) > 1

    @property
    def is_paired(self) -> bool:
        """Whether each of its tasks waits for the same task of another array, so that none may change its number."""
        return self.dependency.startswith("aftercorr:")

    def halves(self) -> tuple[Batch, ...]:
        """The same jobs in two batches, for a queue that does not take them all; tasks keep no numbers then."""
        middle = len(self.due) // 2
        return Batch(self.due[:middle], self.dependency), Batch(self.due[middle:], self.dependency)

    def parts(self, largest: int) -> tuple[Batch, ...]:
        """The same jobs in batches of so many at most; tasks keep no numbers then."""
        starts = range(0, len(self.due), max(1, largest))
        return tuple(Batch(self.due[start : start + max(1, largest)], self.dependency) for start in starts)


def batches(due: Sequence[Due], largest: int = LARGEST) -> list[Batch]:
    """Jobs that wait for nothing, those with equal requests and scripts together, in order of the first of each."""
    found = []
    for jobs in by_request(due).values():
        for script in dict.fromkeys(each.job.script for each in jobs):
            same = [each for each in jobs if each.job.script == script]
            found += [Batch(tuple(same[start : start + largest])) for start in range(0, len(same), largest)]
    return found


def batches_after(due: Sequence[Due], job_of: Mapping[str, str], arrays: Mapping[str, int]) -> list[Batch]:
    """Cells that wait for trainings: as an array where each task waits for the same task of one, else one by one.

    Args:
        due: the cells, each with a training that it waits for.
        job_of: job of each training, by token.
        arrays: number of tasks of each array that may be waited for as a whole.
    """
    found: list[Batch] = []
    for jobs in by_request(due).values():
        for cell in dict.fromkeys(each.job.cell for each in jobs):
            same = [each for each in jobs if each.job.cell == cell]
            found += _column(same, job_of, arrays)
    return found


def _column(due: Sequence[Due], job_of: Mapping[str, str], arrays: Mapping[str, int]) -> list[Batch]:
    tasks: dict[str, dict[int, Due]] = {}
    for each in due:
        array, _, task = job_of[each.after or ""].partition("_")
        if array in arrays and task:
            tasks.setdefault(array, {})[int(task)] = each
    whole = {array: row for array, row in tasks.items() if len(row) == arrays[array]}
    together = {each.job.token for row in whole.values() for each in row.values()}
    found = [Batch(tuple(row[task] for task in sorted(row)), f"aftercorr:{array}") for array, row in whole.items()]
    alone = [each for each in due if each.job.token not in together]
    return found + [Batch((each,), f"afterok:{job_of[each.after or '']}") for each in alone]


def parameters(batch: Batch, token: str, name: str) -> dict[str, Any]:
    """What submitit's `AutoExecutor.update_parameters` takes for a batch.

    The job scripts run in the batch script itself, in place of submitit's own program: that one reads a file which
    submitit moves to its place only after SLURM has the job, so a crash in between would make a job that cannot run;
    and it would catch signals that are the job script's. Their output is one file, which a job moves into its run.

    Args:
        batch: jobs with equal requests.
        token: goes into the comment.
        name: of an array; a job of its own keeps its name.
    """
    request: Request = request_of(batch.due[0].job.resources, batch.due[0].options)
    values = submitit_parameters(request, token)
    more = {"output": OUTPUT} | ({"dependency": batch.dependency} if batch.dependency else {})
    if batch.dependency:
        more["kill-on-invalid-dep"] = "yes"
    return values | {
        "name": name if batch.is_array else values["name"],
        "slurm_setup": setup(batch),
        "slurm_use_srun": False,
        "slurm_array_parallelism": len(batch.due),
        "stderr_to_stdout": True,
        "slurm_additional_parameters": values.get("slurm_additional_parameters", {}) | more,
    }


def setup(batch: Batch) -> list[str]:
    """Shell lines that become the job script of one job, or of one task of an array."""
    places = [shlex.quote(str(each.job.directory)) for each in batch.due]
    script = f"exec bash {shlex.quote(batch.due[0].job.script)}"
    if not batch.is_array:
        return [f"cd -- {places[0]} || exit 1", script]
    last = f'{script} "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"'
    rows = [f"{number}) directory={place} ;;" for number, place in enumerate(places)]
    return ["case $SLURM_ARRAY_TASK_ID in", *rows, "*) exit 1 ;;", "esac", 'cd -- "$directory" || exit 1', last]
