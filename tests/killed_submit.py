"""Submits groups to a real SLURM, killed with SIGKILL in front of and behind one step after the other.

Run by tests/slurm/test_submit_on_slurm.py as a program of its own: it forks, which a test process with threads should
not. Arguments: where, how, attempts of each job, trainings, cells of each, what else sbatch is asked. After each kill
the same command runs again, at once. Prints, as JSON, how many kills there were and which jobs there are more or fewer
of than there should be.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path

import real_groups

from runplan.jobs.attempts import parse_ledger
from runplan.jobs.observe import JobState
from runplan.submit.command import Wish, submit_group

STEPS = ((os, "write"), (os, "fsync"), (subprocess.Popen, "__init__"), (subprocess.Popen, "wait"))
"""Lines to the ledger; start and end of every program."""


class Killer:
    """Kills this process at its n-th step: odd numbers are in front of one, even ones behind it."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0
        for place, name in STEPS:
            setattr(place, name, self.counting(getattr(place, name)))

    def tick(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def counting(self, real):
        def call(*args, **kwargs):
            self.tick()
            made = real(*args, **kwargs)
            self.tick()
            return made

        return call


def submit(group: Path, via: str, kill_at: int = 0, only: frozenset[JobState] = frozenset()) -> int:
    """What the operating system says of a child that submits: 0 when it was done and all went well."""
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        if kill_at:
            os.dup2(quiet, 2)
            Killer(kill_at)
        os._exit(submit_group(Wish(group, via, only)))
    return os.waitpid(child, 0)[1]


def jobs_of(prefix: str) -> dict[str, list[str]]:
    """Token (an array's, for its tasks) → jobs that SLURM knows, by their comments."""
    listed = subprocess.run(
        ["squeue", "-h", "-r", "-t", "all", "-o", "%i|%k"], capture_output=True, text=True, check=True
    ).stdout
    found: dict[str, list[str]] = {}
    for line in listed.splitlines():
        job, _, comment = line.partition("|")
        found.setdefault(comment.removeprefix("runplan:"), []).append(job)
    return {token: jobs for token, jobs in found.items() if token.startswith((prefix, "array-"))}


def cancelled(group: Path, via: str) -> frozenset[JobState]:
    """What to ask for again, once a group was submitted and all of it was cancelled."""
    submit(group, via)
    jobs = {line["job_id"].partition("_")[0] for line in real_groups.ledger(group) if line["job_id"]}
    subprocess.run(["scancel", *jobs], check=True)
    return frozenset({JobState.cancelled})


def wrong_with(group: Path, jobs: dict[str, list[str]], attempts: int) -> list[str]:
    """Jobs of a group that SLURM does not have once, or has under another number than the ledger says."""
    lines = real_groups.ledger(group)
    ledger = parse_ledger((group / "ledger.jsonl").read_text())
    arrays = {line["array"] for line in lines if line.get("array")}
    tokens = {line["token"] for line in lines}
    there = Counter(job for token in (*tokens, *arrays) for job in jobs.get(token, ()))
    said = Counter(job for token in tokens for job in ledger.job_ids(token))
    wrong = [f"{token}: {len(ledger.of(token))} attempts" for token in tokens if len(ledger.of(token)) != attempts]
    return wrong + ([f"SLURM has {sorted(there)}, the ledger {sorted(said)}"] if there != said else [])


def main(root: Path, via: str, attempts: int, trainings: int, cells: int, extra: list[str]) -> None:
    prefix = uuid.uuid4().hex[:8]
    groups, wrong, number = {}, [], 0
    while True:
        number += 1
        group = real_groups.group(root / f"{number}", f"{prefix}-{number}", trainings, cells, extra=tuple(extra))
        only = cancelled(group, via) if attempts > 1 else frozenset()
        status = submit(group, via, number, only)
        groups[number] = group
        if not os.WIFSIGNALED(status):
            wrong += [f"{number}: exit {status}"] if status else []
            break
        if status := submit(group, via, only=only):
            wrong.append(f"{number}: submitting again: exit {status}")
    jobs = jobs_of(prefix)
    for number, group in groups.items():
        expected = trainings * (1 + cells) + 1
        found = wrong_with(group, jobs, attempts)
        tokens = {line["token"] for line in real_groups.ledger(group)}
        wrong += [f"{number}: {each}" for each in found]
        wrong += [f"{number}: {len(tokens)} of {expected} jobs"] if len(tokens) != expected else []
    own = {
        line["job_id"].partition("_")[0]
        for group in groups.values()
        for line in real_groups.ledger(group)
        if line["job_id"]
    }
    subprocess.run(["scancel", *own], check=False)
    sys.stdout.write(json.dumps({"kills": len(groups) - 1, "wrong": wrong[:20]}))


if __name__ == "__main__":
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6]), sys.argv[6:])
