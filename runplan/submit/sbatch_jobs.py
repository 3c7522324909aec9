"""Hands jobs to SLURM, each with one call of `sbatch`: intent on disk, call, answer on disk. An edge.

The lock of the group goes on to `sbatch`: should this process be killed while it talks to SLURM, nobody else begins
before it is done, and then its job is found by its token.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runplan.errors import SubmitError
from runplan.files.group_lock import GroupLock
from runplan.files.written import WrittenGroup
from runplan.jobs.ledger import append
from runplan.jobs.look import read_slurm_jobs, users_of
from runplan.jobs.observe import JobState, Observed, observe
from runplan.slurm.sbatch import OUTPUT, UNSAFE_IN_OUTPUT, comment
from runplan.submit.due import Due, Left, waits_for
from runplan.submit.refusals import Verdict, reason, verdict
from runplan.submit.result import SubmitResult
from runplan.submit.signals import noted_signals
from runplan.submit.snapshot import Snapshot

CALL_S = 300.0
"""How long one `sbatch` may take; it retries by itself while SLURM is busy."""
FRESH_S = 60.0
"""How long what SLURM said is believed; it forgets jobs that are over after `MinJobAge`, by default 300 s."""
REFUSALS = 3
"""So many in a row say that the next one is useless, too."""
AFTER_REFUSALS = (
    "change what SLURM refuses (resources.*, site.account, site.partition), plan the group again, "
    "then submit again: what is submitted stays"
)


@dataclass(frozen=True)
class Reply:
    """What a call of `sbatch` came to."""

    job_id: str | None
    verdict: Verdict | None = None
    said: str = ""


class Submission:
    """The submission of all jobs that are due in one call."""

    def __init__(
        self,
        group: WrittenGroup,
        snapshot: Snapshot,
        lock: GroupLock,
        say: Callable[[str], None],
        result: SubmitResult | None = None,
    ) -> None:
        self.group, self.snapshot, self.lock, self.say = group, snapshot, lock, say
        self.result = result or SubmitResult()
        self.fresh: dict[str, str] = {}
        """Token → job of what was submitted in this call."""
        self.known, self.known_at = snapshot.known, time.monotonic()
        self._unwritten: list[dict[str, Any]] = []
        self._in_a_row = 0

    def submit_all(self, due: Sequence[Due]) -> SubmitResult:
        """Submit jobs in order, until one is told that the queue is full or SLURM does not answer.

        Raises:
            SubmitError: the ledger cannot be written.
        """
        with noted_signals(obey_second=True) as stopped:  # a call that is cut short is found by its token
            try:
                for number, each in enumerate(due):
                    if stopped:
                        self.result.stopped = "interrupted; the same command continues"
                    if self.result.stopped or self.result.full:
                        self.leave(due[number:])
                        break
                    self._submit(each)
            finally:
                self.write([])
        return self.result

    def leave(self, due: Sequence[Due]) -> None:
        """Note jobs that are not tried any more; a retry that was decided on is kept as an open intent."""
        again = [each for each in due if self._tried(each)]
        self.write([line for each in again for line in (*self.adopted(each), intent(each, "sbatch"))])
        if self.result.full:
            self.result.waiting += due
        else:
            self.result.left += [Left(each.job, f"not tried: {self.result.stopped}") for each in due]

    def _submit(self, due: Due) -> None:
        dependency, why_not = self.dependency(due)
        if not why_not and not (due.job.directory / due.job.script).is_file():
            why_not = f"{due.job.directory / due.job.script} is gone; plan the same again to write it back"
        if why_not:
            self.left_because(due, why_not)
            return
        if due.replaces is not None:
            cancel(due.replaces)
        self.write([*self.adopted(due), intent(due, "sbatch")])
        job = due.job
        words = [f"--comment={comment(job.token)}", *output_option(job.directory), *due.options, *dependency]
        self.settle_all([due], call_sbatch(["--parsable", *words, job.script], job.directory, self.lock))

    def settle_all(self, due: Sequence[Due], reply: Reply, *, is_array: bool = False) -> None:
        """Take note of what a call came to; it is on disk with the next intent, or at the end."""
        if reply.job_id is not None:
            self._in_a_row = 0
            for task, each in enumerate(due):
                self._submitted(each, f"{reply.job_id}_{task}" if is_array else reply.job_id)
        elif reply.verdict is Verdict.full:
            # the intent of another attempt stays open, and the next call carries on
            self._unwritten += [self.refused_event(each, reply) for each in due if not self._tried(each)]
            self.result.full = reason(reply.said)
            self.result.waiting += due
        elif reply.verdict is Verdict.unknown:
            for each in due:
                self.left_because(each, f"submitted or not? {reason(reply.said)}")
            self.result.stopped = "SLURM does not answer; run the same again later, nothing is lost or done twice"
        else:
            self._unwritten += [self.refused_event(each, reply) for each in due]
            for each in due:
                self.left_because(each, f"refused: {reason(reply.said)}")
            self._in_a_row += 1
            if self._in_a_row == REFUSALS:
                self.result.stopped = f"three refusals in a row ({reason(reply.said)}); {AFTER_REFUSALS}"

    def _submitted(self, due: Due, job_id: str) -> None:
        event = {"event": "submitted", "token": due.job.token, "job_id": job_id, "path": due.job.path}
        self._unwritten.append(event)
        self.fresh[due.job.token] = job_id
        self.result.submitted.append((due, job_id))
        self.say(f"{due.job.name}  job {job_id}" + (f"  ({due.note})" if due.note else ""))

    def refused_event(self, due: Due, reply: Reply) -> dict[str, Any]:
        """The line of the ledger for a job that SLURM did not take."""
        event = {"event": "refused", "token": due.job.token, "job_id": None, "path": due.job.path}
        return event | {"reason": reason(reply.said)}

    def left_because(self, due: Due, why: str) -> None:
        """Note and say why a job is not submitted."""
        self.result.left.append(Left(due.job, why))
        self.say(f"{due.job.name}  not submitted: {why}")

    def _tried(self, due: Due) -> bool:
        return bool(self.snapshot.ledger.of(due.job.token))

    def dependency(self, due: Due) -> tuple[tuple[str, ...], str]:
        """The options that make a job wait for its training, or why it cannot be submitted."""
        if due.after is None:
            return (), ""
        job_id = self.fresh.get(due.after)
        if job_id is None or time.monotonic() - self.known_at > FRESH_S:
            seen = self._training(due.after)
            waits, why_not = waits_for(seen)
            if why_not or not waits:
                return (), why_not
            job_id = seen.job_id
        return (f"--dependency=afterok:{job_id}", "--kill-on-invalid-dep=yes"), ""

    def _training(self, token: str) -> Observed:
        """The state of a training now: an id that SLURM forgot must never be waited for."""
        if time.monotonic() - self.known_at > FRESH_S:
            self.write([])
            users = users_of(self.group.directory)
            self.known, self.known_at = (
                read_slurm_jobs(self.snapshot.ledger, self.snapshot.records, users),
                time.monotonic(),
            )
        if token not in self.fresh:
            if self.known is self.snapshot.known:
                return self.snapshot.states[token]
            return observe(self.snapshot.ledger.of(token), self.snapshot.records[token], self.known)
        job = self.known.job(self.fresh[token])
        if job is not None and (job.active or job.state == "COMPLETED"):
            return Observed(JobState.running if job.active else JobState.completed, job.job_id)
        return Observed(JobState.unknown, self.fresh[token])

    def adopted(self, due: Due) -> list[dict[str, Any]]:
        """A job that was started by hand goes into the ledger before another attempt: it is not taken for that one."""
        job_id = self.snapshot.states[due.job.token].job_id
        known = self.snapshot.ledger.job_ids(due.job.token)
        if job_id is None or job_id in known:
            return []
        return [{"event": "submitted", "token": due.job.token, "job_id": job_id, "path": due.job.path}]

    def write(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Put lines into the ledger, behind those that are not written yet.

        Raises:
            SubmitError: they cannot be written.
        """
        lines = [*self._unwritten, *events]
        if not lines:
            return
        try:
            append(self.group.directory, lines)
        except OSError as error:
            jobs = ", ".join(str(line["job_id"]) for line in self._unwritten if line.get("job_id"))
            said = f"; job {jobs} is submitted and will be found by its token" if jobs else ""
            raise SubmitError(
                f"{self.group.directory}: the ledger cannot be written ({error.strerror}){said}; "
                "see to the disk and run the same again"
            ) from error
        self._unwritten = []


def intent(due: Due, via: str, **more: Any) -> dict[str, Any]:
    """The line of the ledger that comes before a call."""
    event = {"event": "intent", "token": due.job.token, "job_id": None, "path": due.job.path, "via": via}
    return event | ({"options": list(due.options)} if due.options else {}) | more


def output_option(directory: Path) -> tuple[str, ...]:
    """Where the log goes: where SLURM would misread the directory's name, the job writes its log itself."""
    hostile = any(char in str(directory) for char in UNSAFE_IN_OUTPUT)
    return (f"--output={'/dev/null' if hostile else OUTPUT}",)


def call_sbatch(words: Sequence[str], directory: Path, lock: GroupLock) -> Reply:
    """Call `sbatch` in a directory; it keeps the group's lock until it is done, whatever happens to us."""
    try:
        process = subprocess.Popen(
            ["sbatch", *words],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            pass_fds=(lock.handle,),
            start_new_session=True,
        )
    except OSError as error:
        return Reply(None, Verdict.refused, f"sbatch cannot be started: {error.strerror}")
    try:
        out, err = process.communicate(timeout=CALL_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return Reply(None, Verdict.unknown, f"no answer from sbatch in {CALL_S:.0f} s")
    last = out.strip().rpartition("\n")[2].partition(";")[0]
    if process.returncode == 0 and last.isdigit():
        return Reply(last)
    return Reply(None, verdict(err + out) if process.returncode else Verdict.unknown, err + out)


def cancel(job_id: str) -> None:
    """Take a job out of the queue that can never begin."""
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(["scancel", job_id], capture_output=True, timeout=60, check=False)
