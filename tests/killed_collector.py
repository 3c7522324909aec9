"""Writes results into a group again and again, killed with SIGKILL at one operation of the file system after the other.

Run by test_collect_command.py as a program of its own: it forks, which a test process with threads should not. Prints
how many operations there were and, as JSON, what was wrong after each kill.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from killed_writer import Killer, snapshot

from runplan.collect.write import write_results
from runplan.files.file_names import PAGE, README
from runplan.summary.readme import RESULTS_END, RESULTS_START

OLD = {"results.csv": "old\n", "results/effects.svg": "<old/>\n"}
NEW = {"results.csv": "new\n", "results/effects.svg": "<new/>\n", "results/learning_curves.svg": "<new/>\n"}


def write(group: Path, files: dict[str, str], text: str) -> None:
    write_results(group, files, {PAGE: text, README: text}, {}, None)


def killed_at(number: int, group: Path) -> bool:
    """Whether a child that writes was killed at that operation; False when it was done before."""
    child = os.fork()
    if child == 0:
        Killer(number)
        write(group, NEW, "new\n")
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def wrong_in(found: dict, before: dict, after: dict) -> list[str]:
    """Files that are neither as they were nor as they shall be."""
    there = {path: data for path, data in found.items() if not path.startswith(".tmp-")}
    wrong = [path for path, data in there.items() if data not in (before.get(path, 0), after.get(path, 0))]
    return wrong + [path for path in before if path not in there]


def main(root: Path) -> None:
    group, kept, done = root / "group", root / "kept", root / "done"
    kept.mkdir()
    for name in (README, PAGE):
        (kept / name).write_text(f"# Mine\n\n{RESULTS_START}\n{RESULTS_END}\n")
    write(kept, OLD, "old\n")
    before = snapshot(kept)
    shutil.copytree(kept, done)
    write(done, NEW, "new\n")
    after = snapshot(done)
    wrong, number = [], 0
    while True:
        number += 1
        shutil.copytree(kept, group)
        if not killed_at(number, group):
            break
        wrong += [f"{number}: {path}" for path in wrong_in(snapshot(group), before, after)]
        write(group, NEW, "new\n")
        if snapshot(group) != after:
            wrong.append(f"{number}: the next call did not complete it")
        shutil.rmtree(group)
    sys.stdout.write(json.dumps({"points": number - 1, "wrong": wrong[:20]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
