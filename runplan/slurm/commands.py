"""The one place that asks SLURM what it is and what it would take. An edge: it runs commands, each with a limit."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from runplan.plan import Request
from runplan.slurm.cluster import (
    SINFO_FORMAT,
    Associations,
    Cluster,
    merge_partitions,
    parse_associations,
    parse_config,
    parse_partitions,
    parse_sinfo,
)
from runplan.slurm.queue import SACCT_FORMAT, SQUEUE_FORMAT, SlurmJob, parse_accounting, parse_queue
from runplan.slurm.sbatch import sbatch_options, value_problems

_NOT_ASKED = ("unable to contact", "connection refused", "socket timed out", "communication connection failure")


PATIENCE_S = 1.0
"""Seconds of silence after which `scontrol ping` is asked whether the controller is up at all."""
PING_S = 3.0
TELL_S = 0.5
"""Seconds to wait for that answer before the user is told what is being waited for."""
LEAST_S = 5.0
"""Seconds that accounting has to answer, however long the queue took."""
AWAY = "SLURM's controller is away (scontrol ping)"
_CONTROLLERS = frozenset({"squeue", "sinfo", "scontrol", "sbatch"})
"""Commands that SLURM's controller answers; accounting has a program of its own."""

_PROGRAM = re.compile(r"^\w+: (?:fatal|error): ")
"""How error messages of SLURM's commands begin."""


@dataclass(frozen=True)
class Answer:
    """What a command said; `failure` says why there is no answer."""

    text: str
    failure: str = ""
    aside: str = ""
    """What it said beside its answer."""


def read_cluster(timeout_s: float = 10.0) -> Cluster | None:
    """What SLURM says about itself, asked with four commands at once; None when there is no `sbatch` on PATH.

    A command that hangs, fails or is not there is named in `Cluster.slow`; what it would have said stays unknown.

    Args:
        timeout_s: seconds after which all commands are given up.
    """
    if shutil.which("sbatch") is None:
        return None
    user = f"user={getpass.getuser()}"
    answers = run_commands(
        {
            "sinfo": ["sinfo", "-a", "-h", "-e", "-o", SINFO_FORMAT],
            "scontrol show partition": ["scontrol", "-a", "-o", "show", "partition"],
            "scontrol show config": ["scontrol", "show", "config"],
            "sacctmgr": ["sacctmgr", "-n", "-P", "show", "assoc", user, "format=account,partition,qos,maxsubmit"],
        },
        timeout_s,
    )
    settings = parse_config(answers["scontrol show config"].text)
    accounted = settings.get("AccountingStorageType", "").endswith("slurmdbd")
    if settings and not accounted:  # sacctmgr then fails by design, which is no news
        answers["sacctmgr"] = Answer("")
    associations = parse_associations(answers["sacctmgr"].text) if accounted else Associations(None, None, None)
    largest = settings.get("MaxArraySize", "")
    return Cluster(
        name=settings.get("ClusterName", ""),
        partitions=merge_partitions(
            parse_partitions(answers["scontrol show partition"].text), parse_sinfo(answers["sinfo"].text)
        ),
        accounts=associations.accounts,
        qos=associations.qos,
        max_submit_jobs=associations.max_submit_jobs,
        max_array_size=int(largest) if largest.isdigit() else None,
        slow=_failures(answers),
    )


def read_queue(timeout_s: float = 30.0, uid: int | str | None = None) -> dict[str, SlurmJob] | None:
    """A user's jobs that SLURM's controller still knows, by id, from one call; None when it does not answer.

    Jobs that are over stay known for some minutes (`MinJobAge`).

    Args:
        timeout_s: seconds after which it is given up.
        uid: whose jobs, several separated by commas; None: this process's user's.
    """
    # by number: the name that the environment says may be another's, whose queue is empty
    user = str(os.getuid() if uid is None else uid)
    # -a: jobs in hidden partitions, too
    command = ["squeue", "-a", "-h", "-r", "-t", "all", "-u", user, "-o", SQUEUE_FORMAT]
    answer = run_commands({"squeue": command}, timeout_s)["squeue"]
    # squeue 22.05 says "Invalid user", lists nothing, and exits with 0
    refused = not answer.text.strip() and "error:" in answer.aside
    return None if answer.failure or refused else parse_queue(answer.text)


def read_accounting(
    since: datetime, timeout_s: float = 30.0, uid: int | str | None = None
) -> dict[str, SlurmJob] | None:
    """A user's jobs that were in the queue since a moment, by id, from one call; None without accounting.

    Args:
        since: aware; some minutes earlier are asked for, should the clocks of SLURM and of this machine differ.
        timeout_s: seconds after which it is given up.
        uid: whose jobs, several separated by commas; None: this process's user's.
    """
    start = (since - timedelta(minutes=10)).astimezone().strftime("%Y-%m-%dT%H:%M:%S")
    user = str(os.getuid() if uid is None else uid)
    command = ["sacct", "-n", "-P", "-u", user, "-S", start, "-o", SACCT_FORMAT]
    answer = run_commands({"sacct": command}, timeout_s)["sacct"]
    return None if answer.failure else parse_accounting(answer.text)


def _failures(answers: Mapping[str, Answer]) -> tuple[str, ...]:
    """Which commands did not answer, those with the same reason together."""
    commands: dict[str, list[str]] = {}
    for name, answer in answers.items():
        if answer.failure:
            commands.setdefault(_PROGRAM.sub("", answer.failure), []).append(name)
    return tuple(f"{', '.join(names)}: {reason}" for reason, names in commands.items())


def would_take(request: Request, timeout_s: float = 20.0) -> tuple[bool | None, str]:
    """Whether SLURM would take a request, by `sbatch --test-only`, and what it said.

    None: it did not answer, or there is no `sbatch` on PATH. Nothing is submitted.
    """
    if value_problems(request):
        return None, "not asked: the request cannot be written"
    command = ["sbatch", "--test-only", *sbatch_options(request, output="/dev/null")]
    answer = run_commands({"sbatch": command}, timeout_s, "#!/bin/sh\ntrue\n")["sbatch"]
    if not answer.failure:
        return True, answer.text or answer.aside
    unknown = not answer.text or any(phrase in answer.failure.lower() for phrase in _NOT_ASKED)
    return (None if unknown else False), answer.failure


def controller_is_down(tell: Callable[[], None] = lambda: None) -> bool:
    """Whether SLURM itself says that its controller is away; False where nobody knows.

    `scontrol ping` says so at once, while all other commands keep trying for half a minute.

    Args:
        tell: called where even that takes a while.
    """
    process = _start(["scontrol", "ping"])
    if isinstance(process, Answer):
        return False
    for wait_s in (min(TELL_S, PING_S), PING_S - TELL_S):
        try:
            out, _ = process.communicate(timeout=max(0.01, wait_s))
        except subprocess.TimeoutExpired:
            tell()
        else:
            return " is DOWN" in out and " is UP" not in out
    _kill(process)
    return False


def run_commands(commands: Mapping[str, Sequence[str]], timeout_s: float, script: str = "") -> dict[str, Answer]:
    """The answers to commands that run side by side, with one deadline for all.

    Those that SLURM's controller has to answer are given up as soon as it is known to be away.
    """
    wait = _Wait(timeout_s)
    started = {name: _start(command) for name, command in commands.items()}
    return {
        name: _finish(process, script, wait) if isinstance(process, subprocess.Popen) else process
        for name, process in started.items()
    }


class _Wait:
    """How long commands are waited for."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._began = time.monotonic()
        self._down: bool | None = None
        self._told = False

    def left_s(self, most_s: float) -> float:
        return max(0.01, self._began + min(self.timeout_s, most_s) - time.monotonic())

    def is_useless(self, command: str) -> bool:
        """Whether to stop waiting for a silent command, as the controller is down; else tells what is waited for."""
        if self.timeout_s <= PATIENCE_S:
            return False
        if command not in _CONTROLLERS:
            self._tell(command)
            return False
        if self._down is None:
            self._down = controller_is_down(lambda: self._tell(command))
        if not self._down:
            self._tell(command)
        return self._down

    def _tell(self, command: str) -> None:
        """Tell the user, once, what is being waited for."""
        if not self._told:
            self._told = True
            text = f"waiting for SLURM ({command}), {self.timeout_s:.0f} s at most"
            print(f"runplan: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the user's screen is the place


def _start(command: Sequence[str]) -> subprocess.Popen[str] | Answer:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=_environment(),
            start_new_session=True,
        )
    except OSError as error:
        return Answer("", error.strerror or str(error))


def _environment() -> dict[str, str]:
    """This process's environment, without variables that change what SLURM's commands list."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SQUEUE_", "SINFO_"))}
    return kept | {"LC_ALL": "C.UTF-8", "SLURM_TIME_FORMAT": "standard"}


def _finish(process: subprocess.Popen[str], script: str, wait: _Wait) -> Answer:
    try:
        out, err = process.communicate(script, timeout=wait.left_s(PATIENCE_S))
    except subprocess.TimeoutExpired:
        useless = wait.is_useless(str(process.args[0]))  # type: ignore[index]
        try:
            out, err = process.communicate(timeout=0.01 if useless else wait.left_s(wait.timeout_s))
        except subprocess.TimeoutExpired:
            _kill(process)
            return Answer("", AWAY if useless else f"no answer in {wait.timeout_s:g} s")
    if process.returncode == 0:
        return Answer(out, aside=err)
    said = [line.strip() for line in (err + out).splitlines() if line.strip() and not line.startswith('Try "')]
    return Answer(err + out, said[-1] if said else f"exit code {process.returncode}")


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
