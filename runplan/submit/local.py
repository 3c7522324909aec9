"""Runs the jobs of a group on this machine: as many at a time as fit, each on GPUs of its own.

The same scripts run that SLURM would run, and the same ledger says which did. A job is a process in a session of its
own: it outlives this one, and the next call finds it by its record and waits for it.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runplan.errors import SubmitError
from runplan.files.group_lock import group_lock
from runplan.jobs.attempts import LOCAL
from runplan.jobs.ledger import append, read_ledger, read_records
from runplan.jobs.observe import JobState, Observed, SlurmJobs, current_job, observe
from runplan.jobs.processes import is_alive
from runplan.submit.child import launch, send_signal
from runplan.submit.gpu_locks import busy_gpus, take_gpus
from runplan.submit.lanes import Machine, Share, held_by, impossible, ready, share_for
from runplan.submit.signals import noted_signals
from runplan.units import short_time

if TYPE_CHECKING:
    from runplan.files.written import Job, WrittenGroup
    from runplan.jobs.attempts import Attempt, Ledger, Record

LOOK_S = 0.2
"""How often jobs are looked at."""
PATIENCE_S = 30.0
"""How long a job may take to write its end once it was told to stop."""


@dataclass
class _Running:
    """A job that is under way."""

    job: Job
    share: Share
    job_id: str
    process: subprocess.Popen[bytes] | None
    """None for one that an earlier call started."""
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
    lane = _Lane(group, due, machine, say)
    waiting = [job for job in due if job.token not in lane.running]
    with noted_signals() as stopped:
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

    def __init__(self, group: WrittenGroup, due: Sequence[Job], machine: Machine, say: Callable[[str], None]) -> None:
        self.group, self.machine, self.say = group, machine, say
        self.due = {job.token for job in due}
        self.running: dict[str, _Running] = {}
        self.done: dict[str, bool] = {}
        """Token → whether it succeeded; trainings that nobody runs now included."""
        self.completed: list[str] = []
        self.failed: list[str] = []
        self.skipped: list[str] = []
        self.told: set[str] = set()
        """Of whose waiting was told."""
        self.before: dict[str, str | None] = {}
        """The last attempt of what is due when this began: whatever comes after is of this call or of another."""
        trainings = {job.after for job in due} - self.due
        for job, seen in self._look_around():
            self.before[job.token] = seen.job_id
            if job.token in trainings and job.token not in self.running:
                self.done[job.token] = seen.state is JobState.completed

    def _look_around(self) -> list[tuple[Job, Observed]]:
        """Follow what other calls started on this machine: it holds its GPUs, and its cells wait for it."""
        ledger, found = read_ledger(self.group.directory), []
        for job in self.group.jobs:
            seen = _observe(job, ledger)
            found.append((job, seen))
            if seen.state is not JobState.running or seen.job_id is None or job.token in self.running:
                continue
            if is_alive(seen.job_id, ledger.of(job.token), _records(job), job.directory):
                self._follow(job, seen.job_id, ledger.last(job.token))
        return found

    def start(self, waiting: Sequence[Job]) -> list[Job]:
        """Start what fits now; returns what has to wait."""
        may, never = ready(waiting, self.done)
        for job in never:
            self.skipped.append(job.name)
            self.say(f"{job.name}  not run: its training has not succeeded")
        for job in may:
            share = self._share(job)
            if share is None:
                self._say_who_is_waited_for(job)
            if share is None or not self._start(job):
                break  # in order: small ones must not keep passing a large one
        return [
            job for job in waiting if job.token not in self.running and job.token not in self.done and job not in never
        ]

    def _share(self, job: Job, *, others: bool = True) -> Share | None:
        """What a job would get now; with `others`, of the GPUs that no other group's job holds."""
        held = [each.share for each in self.running.values()]
        mine = {gpu for share in held for gpu in share.gpus}
        busy = busy_gpus(set(self.machine.gpus) - mine) if others and job.resources["gpus"] else {}
        free = tuple(gpu for gpu in self.machine.gpus if gpu not in busy)
        return share_for(job, replace(self.machine, gpus=free), held)

    def _say_who_is_waited_for(self, job: Job) -> None:
        """Say once that a job waits for GPUs of other groups, where it does."""
        share = self._share(job, others=False)
        busy = busy_gpus(share.gpus) if share and job.token not in self.told else {}
        if set(busy.values()) - {str(self.group.directory)}:
            self.told.add(job.token)
            who = ", ".join(f"{gpu} (used by {group or 'another group'})" for gpu, group in busy.items())
            self.say(f"{job.name}  waiting for GPU {who}")

    def _start(self, job: Job) -> bool:
        """Start a job, unless another call did; False when what others started leaves no room for it now."""
        with group_lock(self.group.directory):
            seen = next(seen for each, seen in self._look_around() if each.token == job.token)
            if job.token in self.running:
                return True
            another = seen.job_id != self.before[job.token] and seen.state is not JobState.not_submitted
            if another or seen.state is JobState.running:
                self._leave(job, seen)
                return True
            share = self._share(job)
            locks = take_gpus(share.gpus, str(self.group.directory)) if share else None
            if share is None or locks is None:
                return False
            event = {"token": job.token, "path": job.path, "via": "local", "gpus": list(share.gpus)}
            event["host"] = socket.gethostname()
            append(self.group.directory, [{"event": "intent", "job_id": None, **event}])
            process = launch(job, share, locks)
            job_id = f"{LOCAL}{process.pid}"
            append(self.group.directory, [{"event": "submitted", "job_id": job_id, **event}])
        self.running[job.token] = _Running(job, share, job_id, process)
        where = f"on GPU {', '.join(share.gpus)}" if share.gpus else "on the CPU"
        self.say(f"{job.name}  started {where}, {job_id}")
        return True

    def _leave(self, job: Job, seen: Observed) -> None:
        """A job that another call started meanwhile, and that is over or cannot be followed from here."""
        if seen.state.ended_badly or seen.state is JobState.completed:
            self._settle(job, seen, "by another call")
            return
        self.done[job.token] = False
        self.skipped.append(job.name)
        self.say(f"{job.name}  not run: it is under way elsewhere, as {seen.job_id}; submit again when it is done")

    def _follow(self, job: Job, job_id: str, attempt: Attempt | None) -> None:
        """A job that another call started; where nobody knows which GPUs it has, nothing new starts on any."""
        known = attempt.gpus if attempt is not None and attempt.job_id == job_id else ()
        gpus = (known or self.machine.gpus) if job.resources["gpus"] else ()
        self.running[job.token] = _Running(job, held_by(job, self.machine, gpus), job_id, None)
        self.say(f"{job.name}  runs already, as {job_id}")

    def reap(self) -> None:
        """Take note of what ended."""
        for token, each in list(self.running.items()):
            over = each.process.poll() is not None if each.process else not self._runs(each)
            if over:
                del self.running[token]
                self._note(each)

    def _note(self, each: _Running) -> None:
        took = short_time(time.monotonic() - each.since)
        self._settle(each.job, _observe(each.job, read_ledger(self.group.directory)), took)

    def _settle(self, job: Job, seen: Observed, how: str) -> None:
        """Keep and say how a job ended; what only others wait for is not this call's success or failure."""
        self.done[job.token] = good = seen.state is JobState.completed
        when = how if how.startswith("by") else f"{'in' if good else 'after'} {how}"
        if job.token in self.due:
            (self.completed if good else self.failed).append(job.name)
        if good:
            self.say(f"{job.name}  completed {when}")
            return
        ended = "stopped" if seen.state is JobState.cancelled else "failed"
        log = job.directory / f"slurm-{seen.job_id}.out"
        self.say(f"{job.name}  {ended} {when} ({seen.reason}): see {log}")

    def stop(self) -> None:
        """Stop what runs; each job writes its own end, or is killed after a while."""
        for each in self.running.values():
            self.say(f"{each.job.name}  stopping")
            send_signal(each.job_id, signal.SIGTERM)
        until = time.monotonic() + PATIENCE_S
        while self.running and time.monotonic() < until:
            self.reap()
            time.sleep(LOOK_S)
        for each in self.running.values():
            send_signal(each.job_id, signal.SIGKILL, group=True)
            self.failed.append(each.job.name)

    def outcome(self, *, interrupted: bool = False) -> Outcome:
        """What became of the jobs so far."""
        return Outcome(tuple(self.completed), tuple(self.failed), tuple(self.skipped), interrupted)

    def _runs(self, each: _Running) -> bool:
        """Whether a job that another call started still runs."""
        return _observe(each.job, read_ledger(self.group.directory)).state is JobState.running


def _observe(job: Job, ledger: Ledger) -> Observed:
    attempts, records = ledger.of(job.token), _records(job)
    alive = is_alive(current_job(attempts, records), attempts, records, job.directory)
    return observe(attempts, records, SlurmJobs(None), alive=alive)


def _records(job: Job) -> tuple[Record, ...]:
    return tuple(record for record in read_records(job.directory) if record.token == job.token)
