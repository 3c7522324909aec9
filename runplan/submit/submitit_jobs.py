"""Hands jobs to SLURM through submitit, those with equal requests as one array. An edge."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runplan.errors import SubmitError
from runplan.files.group_lock import GroupLock
from runplan.slurm.commands import read_cluster
from runplan.slurm.sbatch import UNSAFE_IN_OUTPUT
from runplan.submit.arrays import LARGEST, Batch, batches, batches_after, parameters
from runplan.submit.due import Due
from runplan.submit.refusals import Verdict, is_array_too_large, verdict
from runplan.submit.result import SubmitResult
from runplan.submit.sbatch_jobs import Reply, Submission, cancel, intent
from runplan.submit.signals import noted_signals

FOLDER = ".submitit"
"""Where submitit keeps its own files, in the group."""


def submit_arrays(submission: Submission, due: Sequence[Due]) -> SubmitResult:
    """Submit jobs through submitit: what waits for nothing first, then cells after their trainings.

    Raises:
        SubmitError: submitit cannot work in the group's directory, or the ledger cannot be written.
    """
    group = submission.group.directory
    if any(char in str(group) for char in UNSAFE_IN_OUTPUT):
        raise SubmitError(f"{group}: submitit loses files in a directory with % or \\ in its name; use --via sbatch")
    if shutil.which("srun") is None:
        raise SubmitError(
            "no srun on PATH, without which submitit takes this machine for none of SLURM's; use --via sbatch"
        )
    through = _Through(submission, group / FOLDER)
    with noted_signals(obey_second=True) as stopped:
        through.stopped = stopped
        try:
            through.send(batches([each for each in due if each.after is None]))
            ready = [each for each in due if each.after is not None and through.may_wait(each)]
            through.send(batches_after(ready, through.job_of, through.arrays))
        finally:
            submission.write([])
    return submission.result


class _Through:
    """The submission of all batches of one call."""

    def __init__(self, submission: Submission, folder: Path) -> None:
        self.submission, self.folder = submission, folder
        self.stopped: list[int] = []
        self.arrays: dict[str, int] = {}
        """Array → tasks, of those that were submitted in this call."""
        self.job_of: dict[str, str] = {}
        """Training's token → the job that its cells wait for."""
        self.largest = LARGEST
        """Tasks of an array that SLURM takes, as far as is known."""

    def may_wait(self, due: Due) -> bool:
        """Whether a cell can wait for its training; if not, that is noted."""
        dependency, why_not = self.submission.dependency(due)
        if why_not and self.submission.result.full:
            self.submission.result.waiting.append(due)
        elif why_not:
            self.submission.left_because(due, why_not)
        elif dependency:
            self.job_of[due.after or ""] = dependency[0].partition(":")[2]
        return bool(dependency)

    def send(self, found: Sequence[Batch]) -> None:
        """Submit batches in order, smaller ones where the queue does not take large ones."""
        todo = list(found)
        result = self.submission.result
        while todo:
            batch = todo.pop(0)
            if self.stopped:
                result.stopped = "interrupted; the same command continues"
            if result.stopped or result.full:
                self.submission.leave(batch.due)
                continue
            batch = self._there(batch)
            if len(batch.due) > self.largest and not batch.is_paired:
                todo[:0] = batch.parts(self.largest)
            elif batch.due:
                todo[:0] = self._submit(batch)

    def _there(self, batch: Batch) -> Batch:
        """The batch without jobs whose script is gone."""
        gone = [each for each in batch.due if not (each.job.directory / each.job.script).is_file()]
        for each in gone:
            self.submission.left_because(each, f"{each.job.path} is gone; plan the same again to write it back")
        kept = tuple(each for each in batch.due if each not in gone)
        if gone and batch.is_paired:  # tasks would move to other trainings
            for each in kept:
                self.submission.left_because(each, "evaluations of the same array are gone; plan the same again")
            kept = ()
        return Batch(kept, batch.dependency)

    def _submit(self, batch: Batch) -> tuple[Batch, ...]:
        """Submit one batch; returns smaller ones to try instead, where SLURM may take those."""
        submission = self.submission
        token = f"array-{uuid.uuid4().hex[:16]}" if batch.is_array else batch.due[0].job.token
        try:
            values = parameters(batch, token, str(submission.group.document["group"]))
        except SubmitError as error:
            for each in batch.due:
                submission.left_because(each, str(error))
            return ()
        for each in batch.due:
            if each.replaces is not None:
                cancel(each.replaces)
        more = [{"array": token, "task": task} if batch.is_array else {} for task in range(len(batch.due))]
        lines = [
            line
            for each, place in zip(batch.due, more, strict=True)
            for line in (*submission.adopted(each), intent(each, "submitit", **place))
        ]
        submission.write(lines)
        reply = call_submitit(values, batch, self.folder, submission.lock)
        if smaller := self._smaller(batch, reply):
            submission.write([submission.refused_event(each, reply) for each in batch.due])
            return smaller
        if reply.job_id and batch.is_array:
            self.arrays[reply.job_id] = len(batch.due)
        submission.settle_all(batch.due, reply, is_array=batch.is_array)
        return ()

    def _smaller(self, batch: Batch, reply: Reply) -> tuple[Batch, ...]:
        """The same jobs in batches that SLURM may take, where it did not take them all at once."""
        if not batch.is_array or batch.is_paired:
            return ()
        if reply.verdict is Verdict.full:
            return batch.halves()
        if reply.verdict is not Verdict.refused or not is_array_too_large(reply.said):
            return ()
        cluster, half = read_cluster(), len(batch.due) // 2
        told = cluster.max_array_size if cluster else None
        self.largest = max(1, told) if told is not None and told < len(batch.due) else half
        return batch.parts(self.largest)


def call_submitit(values: dict[str, Any], batch: Batch, folder: Path, lock: GroupLock) -> Reply:
    """Submit a batch with submitit; its `sbatch` keeps the group's lock until it is done, whatever happens to us."""
    import submitit  # noqa: PLC0415 - loads slowly

    folder.mkdir(exist_ok=True)
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
        executor.update_parameters(**values)
        with contextlib.chdir(folder), _lock_as_input(lock), _quiet(), executor.batch():
            jobs = [_submit(executor, each) for each in batch.due]
        return Reply(jobs[0].job_id.partition("_")[0])
    except submitit.core.utils.FailedJobError as error:
        return Reply(None, verdict(str(error)), str(error))
    except (OSError, RuntimeError, ValueError) as error:
        return Reply(None, Verdict.unknown, f"submitit: {error}")


def _submit(executor: Any, due: Due) -> Any:
    """A job as submitit has it; its function is never reached: the job script runs before it (`arrays.setup`)."""
    from submitit.helpers import CommandFunction  # noqa: PLC0415 - loads slowly

    return executor.submit(CommandFunction(["bash", due.job.script], cwd=due.job.directory))


def _quiet() -> contextlib.AbstractContextManager[Any]:
    """Submitit repeats what sbatch complains of; it is said in our words."""
    return contextlib.redirect_stderr(io.StringIO())


@contextlib.contextmanager
def _lock_as_input(lock: GroupLock) -> Iterator[None]:
    """Whatever is started meanwhile inherits the group's lock: submitit hands nothing on but the standard streams."""
    try:
        kept = os.dup(0)
    except OSError:  # closed, as some daemons leave it
        kept = os.open(os.devnull, os.O_RDONLY)
    os.dup2(lock.handle, 0)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)
