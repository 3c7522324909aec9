"""Writes a group again and again, killed with SIGKILL at one operation of the file system after the other.

Run by test_staging.py as a program of its own: it forks, which a test process with threads should not. Prints how many
operations there were and, as JSON, what was wrong after each kill.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from factories_plan import make_files, make_plan, plan_templates

from runplan.estimate.workload import Interval
from runplan.files import staging
from runplan.files.group_files import by_run
from runplan.files.store import write_group

OPERATIONS = ("mkdir", "open", "write", "close", "rename", "replace", "link", "unlink", "rmdir", "makedirs")


def snapshot(root: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in root.rglob("*")}


class Killer:
    """Counts calls of os functions and kills this process in front of the n-th."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0
        for name in OPERATIONS:
            setattr(os, name, self.counting(getattr(os, name)))

    def counting(self, real):
        def call(*args, **kwargs):
            self.count += 1
            if self.count == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call


def write(job) -> None:
    plan, files = job
    write_group(plan, by_run(files), templates=plan_templates())


def killed_at(number: int, job) -> bool:
    """Whether a child that writes was killed at that operation; False when it was done before."""
    child = os.fork()
    if child == 0:
        Killer(number)
        write(job)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def whole_or_absent(group: Path, *accepted: dict[str, bytes | None]) -> list[str]:
    """Runs that are neither as they were nor as they shall be; user's files count."""
    wrong = []
    for path in group.iterdir():
        if path.is_dir() and not staging.TEMPORARY.fullmatch(path.name):
            inside = snapshot(path)
            wanted = [
                {
                    name.removeprefix(f"{path.name}/"): data
                    for name, data in tree.items()
                    if name.startswith(f"{path.name}/")
                }
                for tree in accepted
            ]
            if inside not in wanted:
                wrong.append(path.name)
    return wrong


def main(root: Path, case: str) -> None:
    group = root / "group"
    factors = {"lora.rank": [4, 8]}
    old = make_plan(factors, directory=str(group))
    new = make_plan({"lora.rank": [8, 16]}, directory=str(group), sizes={"time_s": Interval(1.0, 2.0)})
    before: dict[str, bytes | None] = {}
    job = (old, make_files(old))
    if case == "changed":
        write(job)
        (group / "1B_rank8" / "notes").mkdir()
        (group / "1B_rank8" / "notes" / "mine.txt").write_text("mine")
        before = snapshot(group)
        shutil.copytree(group, root / "kept", copy_function=shutil.copy2)
        job = (new, make_files(new))
    write(job)
    after = snapshot(group)
    wrong, number = [], 0
    while True:
        number += 1
        shutil.rmtree(group)
        if case == "changed":
            shutil.copytree(root / "kept", group)
        if not killed_at(number, job):
            break
        if group.exists():
            wrong += [f"{number}: {name} is half-written" for name in whole_or_absent(group, before, after)]
        write(job)
        found = snapshot(group)
        wrong += [
            f"{number}: {name} differs"
            for name in sorted(found.keys() | after.keys())
            if found.get(name, 0) != after.get(name, 0)
        ]
    sys.stdout.write(json.dumps({"points": number - 1, "wrong": wrong[:20]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
