"""Runs the jobs of a group on this machine: as many at a time as fit, each on GPUs of its own.

The same scripts run that SLURM would run, and the same ledger says which did. A job is a process in a session of its
own: it outlives this one, and the next call finds it by its record and waits for it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runplan.errors import SubmitError
from runplan.ledger import append, read_ledger, read_records
from runplan.observe import JobState, Known, Observed, current_job, observe
from runplan.processes import LOCAL, is_alive
from runplan.submit.lanes import Machine, Share, impossible, ready, share_for
from runplan.turn import group_lock
from runplan.units import short_time

if TYPE_CHECKING:
    from runplan.attempts import Attempt, Record
    from runplan.written import Job, WrittenGroup

LOOK_S = 0.2
"""How often jobs are looked at."""
PATIENCE_S = 30.0
"""How long a job may take to write its end once it was told to stop."""
OF_SLURM = ("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_SUBMIT_DIR")
"""What would make a job take itself for the one around it, where this runs inside an allocation."""


@dataclass
class _Running:
    """A job that is under way."""

    job: Job
    share: Share
    job_id: str
    process: subprocess.Popen[bytes] | None
    """None for one that an earlier call started."""
    here: bool = True
    """Whether its process is known to be on this machine."""
    since: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Outcome:
    """What became of the jobs."""

    completed: tuple[str, ...] = ()
    """Names of jobs."""
    failed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    """Never started: what they wait for failed."""
    interrupted: bool = False


def run_jobs(
    group: WrittenGroup,
    due: Sequence[Job],
    machine: Machine,
    say: Callable[[str], None],
    look_s: float = LOOK_S,
    tick: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run jobs to their end; what they wait for may have run before or be among them.

    Args:
        group: where they belong.
        due: the jobs, in the order in which they should start.
        machine: what they share.
        say: takes a line about what happens.
        look_s: seconds between two looks at them.
        tick: called at every look, for whoever shows how they get on.

    Raises:
        SubmitError: some of them can never run here; none was started then.
        StoreError: the group is being submitted elsewhere.
    """
    _refuse_impossible(due, machine)
    lane = _Lane(group, machine, say)
    lane.adopt(due)
    waiting = [job for job in due if job.token not in lane.running]
    with _interruptible() as stopped:
        while (waiting or lane.running) and not stopped:
            waiting = lane.start(waiting)
            lane.reap()
            tick()
            time.sleep(look_s)
        if stopped:
            lane.stop()
            return lane.outcome(interrupted=True)
    return lane.outcome()


def _refuse_impossible(due: Sequence[Job], machine: Machine) -> None:
    reasons: dict[str, list[str]] = {}
    for job in due:
        if reason := impossible(job, machine):
            reasons.setdefault(reason, []).append(job.name)
    if reasons:
        lines = [f"  {', '.join(names)}: {reason}" for reason, names in reasons.items()]
        fix = "  submit where there is more (--via sbatch), or plan again with resources=… that this machine has"
        raise SubmitError("\n".join(["some jobs can never run on this machine, none was started", *lines, fix]))


class _Lane:
    """The jobs that run, and what became of those that did."""

    def __init__(self, group: WrittenGroup, machine: Machine, say: Callable[[str], None]) -> None:
        self.group, self.machine, self.say = group, machine, say
        self.running: dict[str, _Running] = {}
        self.done: dict[str, bool] = {}
        """Token → whether it succeeded; trainings that nobody runs now included."""
        self.completed: list[str] = []
        self.failed: list[str] = []
        self.skipped: list[str] = []

    def adopt(self, due: Sequence[Job]) -> None:
        """Look at what runs already, and at trainings that are not among the jobs but that these wait for."""
        tokens = {job.token for job in due}
        wanted = tokens | {job.after for job in due}
        for job in self.group.jobs:
            if job.token not in wanted:
                continue
            seen = self._observe(job)
            if seen.state is JobState.running and seen.job_id is not None:
                self._follow(job, seen.job_id)
            elif job.token not in tokens:
                self.done[job.token] = seen.state is JobState.completed

    def start(self, waiting: Sequence[Job]) -> list[Job]:
        """Start what fits now; returns what has to wait."""
        may, never = ready(waiting, self.done)
        for job in never:
            self.skipped.append(job.name)
            self.say(f"{job.name}  not run: its training did not succeed")
        started = set()
        for job in may:
            share = share_for(job, self.machine, [each.share for each in self.running.values()])
            if share is None:
                break  # in order: small ones must not keep passing a large one
            started.add(job.token)
            self._start(job, share)
        return [job for job in waiting if job.token not in started and job not in never]

    def _start(self, job: Job, share: Share) -> None:
        with group_lock(self.group.directory):
            seen = self._observe(job)
            if seen.state is JobState.running and seen.job_id is not None:
                self._follow(job, seen.job_id)  # another call was quicker
                return
            event = {"token": job.token, "path": job.path, "via": "local", "host": socket.gethostname()}
            append(self.group.directory, [{"event": "intent", "job_id": None, **event}])
            process = _launch(job, share)
            job_id = f"{LOCAL}{process.pid}"
            append(self.group.directory, [{"event": "submitted", "job_id": job_id, **event}])
        self.running[job.token] = _Running(job, share, job_id, process)
        where = f"on GPU {', '.join(share.gpus)}" if share.gpus else "on the CPU"
        self.say(f"{job.name}  started {where}, {job_id}")

    def _follow(self, job: Job, job_id: str) -> None:
        """A job that another call started: nobody knows which GPUs it has, so nothing new starts on GPUs beside it."""
        gpus = self.machine.gpus if job.resources["gpus"] else ()
        here = _alive(job, read_ledger(self.group.directory).of(job.token), _records(job)) is True
        self.running[job.token] = _Running(job, Share(gpus, 1, 0.0), job_id, None, here)
        self.say(f"{job.name}  still runs as {job_id}" + ("" if here else ", on another machine"))

    def reap(self) -> None:
        """Take note of what ended."""
        for token, each in list(self.running.items()):
            over = each.process.poll() is not None if each.process else not self._runs(each)
            if over:
                del self.running[token]
                self._note(each)

    def _note(self, each: _Running) -> None:
        seen = self._observe(each.job)
        took = short_time(time.monotonic() - each.since)
        self.done[each.job.token] = seen.state is JobState.completed
        if seen.state is JobState.completed:
            self.completed.append(each.job.name)
            self.say(f"{each.job.name}  completed in {took}")
            return
        self.failed.append(each.job.name)
        log = each.job.directory / f"slurm-{each.job_id}.out"
        self.say(f"{each.job.name}  failed after {took} ({seen.reason}): see {log}")

    def stop(self) -> None:
        """Stop what runs; each job writes its own end, or is killed after a while."""
        for token, each in list(self.running.items()):
            if not each.here:
                del self.running[token]
                self.say(f"{each.job.name}  goes on elsewhere")
                continue
            self.say(f"{each.job.name}  stopping")
            _signal(each.job_id, signal.SIGTERM)
        until = time.monotonic() + PATIENCE_S
        while self.running and time.monotonic() < until:
            self.reap()
            time.sleep(LOOK_S)
        for each in self.running.values():
            _signal(each.job_id, signal.SIGKILL, group=True)
            self.failed.append(each.job.name)

    def outcome(self, *, interrupted: bool = False) -> Outcome:
        """What became of the jobs so far."""
        return Outcome(tuple(self.completed), tuple(self.failed), tuple(self.skipped), interrupted)

    def _observe(self, job: Job) -> Observed:
        attempts = read_ledger(self.group.directory).of(job.token)
        records = _records(job)
        return observe(attempts, records, Known(None), alive=_alive(job, attempts, records))

    def _runs(self, each: _Running) -> bool:
        """Whether a job that an earlier call started still runs, here or, as far as anybody knows, elsewhere."""
        return self._observe(each.job).state is JobState.running


def _records(job: Job) -> tuple[Record, ...]:
    return tuple(record for record in read_records(job.directory) if record.token == job.token)


def _alive(job: Job, attempts: Sequence[Attempt], records: Sequence[Record]) -> bool | None:
    return is_alive(current_job(attempts, records), attempts, records, job.directory)


def _launch(job: Job, share: Share) -> subprocess.Popen[bytes]:
    """Start a job's script in a session of its own; it keeps its log itself.

    Raises:
        SubmitError: the script or its directory is gone.
    """
    kept = {key: value for key, value in os.environ.items() if key not in OF_SLURM}
    gpus = {"CUDA_VISIBLE_DEVICES": ",".join(share.gpus)}
    try:
        return subprocess.Popen(
            ["bash", job.script],
            cwd=job.directory,
            env=kept | gpus,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise SubmitError(f"{job.directory / job.script}: cannot be started ({error.strerror}); plan again") from error


def _signal(job_id: str, number: signal.Signals, *, group: bool = False) -> None:
    """Send a signal to the process of a job, or to all of its session."""
    pid = int(job_id.removeprefix(LOCAL))
    with suppress(ProcessLookupError, PermissionError):
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """While this holds, a signal to stop does not end the process: it is in the list that this yields."""
    caught: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda got, _frame: caught.append(got)) for number in numbers}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
