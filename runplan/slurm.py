"""The one place that asks SLURM what it is and what it would take. An edge: it runs commands, each with a limit."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from runplan.cluster import (
    SINFO_FORMAT,
    Associations,
    Cluster,
    merge_partitions,
    parse_associations,
    parse_config,
    parse_partitions,
    parse_sinfo,
)
from runplan.plan import Request
from runplan.queue import SACCT_FORMAT, SQUEUE_FORMAT, SlurmJob, parse_accounting, parse_queue
from runplan.sbatch import sbatch_options, value_problems

_NOT_ASKED = ("unable to contact", "connection refused", "socket timed out", "communication connection failure")


_PROGRAM = re.compile(r"^\w+: (?:fatal|error): ")
"""How SLURM's commands begin what they complain about."""


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
    answers = ask(
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
    command = ["squeue", "-h", "-r", "-t", "all", "-u", str(os.getuid() if uid is None else uid), "-o", SQUEUE_FORMAT]
    answer = ask({"squeue": command}, timeout_s)["squeue"]
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
    answer = ask({"sacct": command}, timeout_s)["sacct"]
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
    answer = ask({"sbatch": command}, timeout_s, "#!/bin/sh\ntrue\n")["sbatch"]
    if not answer.failure:
        return True, answer.text or answer.aside
    unknown = not answer.text or any(phrase in answer.failure.lower() for phrase in _NOT_ASKED)
    return (None if unknown else False), answer.failure


def ask(commands: Mapping[str, Sequence[str]], timeout_s: float, script: str = "") -> dict[str, Answer]:
    """The answers to commands that run side by side, with one deadline for all."""
    deadline = time.monotonic() + timeout_s
    started = {name: _start(command) for name, command in commands.items()}
    return {
        name: _finish(process, script, deadline, timeout_s) if isinstance(process, subprocess.Popen) else process
        for name, process in started.items()
    }


def _start(command: Sequence[str]) -> subprocess.Popen[str] | Answer:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=os.environ | {"LC_ALL": "C.UTF-8", "SLURM_TIME_FORMAT": "standard"},
            start_new_session=True,
        )
    except OSError as error:
        return Answer("", error.strerror or str(error))


def _finish(process: subprocess.Popen[str], script: str, deadline: float, timeout_s: float) -> Answer:
    try:
        out, err = process.communicate(script, timeout=max(0.01, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return Answer("", f"no answer in {timeout_s:g} s")
    if process.returncode == 0:
        return Answer(out, aside=err)
    said = [line.strip() for line in (err + out).splitlines() if line.strip() and not line.startswith('Try "')]
    return Answer(err + out, said[-1] if said else f"exit code {process.returncode}")
