r"""`runplan status` of a group of 500 runs that all train, beside a shell loop that shows the last line of each log.

Every run has a log of 170 kB, redrawn bars as torchtune 0.6.1 writes them, and an hour of GPU samples; every
evaluation waits for its training. `squeue` is a program that prints a file: what SLURM takes counts on neither side.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import measure
from measure import IMPORT_HYDRA, Row, medians, seconds, show, take

from runplan.files.written import read_group
from runplan.jobs.attempts import TIME_FORMAT
from runplan.jobs.ledger import append

AT_MOST = 7.0
"""Times `import hydra`: a second on a 3 GHz core."""
BAR = "1|{n}|Loss: 1.5{n}: {part}%|{bar:<10}| {n}/2000 [{minutes:02d}:{rest:02d}<45:00,  1.52s/it]\r"
SAMPLES_HEADER = "timestamp, index, name, utilization.gpu [%], memory.used [MiB], memory.total [MiB], power.draw [W]\n"
SAMPLE = "2026/01/31 12:00:{n:02d}.000, 0, NVIDIA A100-SXM4-80GB, 98 %, {n} MiB, 81920 MiB, 300.00 W\n"
LOOP = 'for log in */slurm-*.out; do tail -c 400 "$log" | tr "\\r" "\\n" | tail -n 1; done'


def make_group(folder: Path, runs: int) -> Path:
    """A planned group whose trainings have all begun."""
    (folder / "logs").mkdir()
    command = ["-m", "runplan", "dataset.create=true", "priors.paths=[logs]", "group.name=many"]
    seconds([*command, f"seed=range(0,{runs})"], folder)
    group = read_group(folder / "outputs" / "many")
    began = (datetime.now(UTC) - timedelta(minutes=30)).strftime(TIME_FORMAT)
    bars, samples = drawn_bars(), SAMPLES_HEADER + "".join(SAMPLE.format(n=n % 60) for n in range(360))
    queue, events = [], []
    for number, job in enumerate(group.jobs):
        trains = job.kind == "train"
        state = "RUNNING|None" if trains else "PENDING|Dependency"
        queue.append(f"{number}|{number}|{state}|2026-01-31T12:00:00|N/A|runplan:{job.token}\n")
        common = {"token": job.token, "path": job.path, "time": began}
        events += [
            {"event": "intent", "job_id": None, **common},
            {"event": "submitted", "job_id": str(number), **common},
        ]
        if trains:
            line = {"event": "started", "token": job.token, "job_id": str(number), "time": began}
            (job.directory / "jobs.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
            (job.directory / f"slurm-{number}.out").write_text(bars, encoding="utf-8")
            (job.directory / "gpu_metrics.csv").write_text(samples, encoding="utf-8")
    append(group.directory, events)
    pretend_slurm(folder, "".join(queue))
    return group.directory


def drawn_bars() -> str:
    """What a trainer has drawn by its 1,200th step."""
    return "".join(
        BAR.format(n=n, part=n // 20, bar="█" * (n // 200), minutes=n * 3 // 120, rest=n * 3 // 2 % 60)
        for n in range(1200)
    )


def pretend_slurm(folder: Path, queue: str) -> None:
    """Put a `squeue` that prints a file, and a `sacct` without accounting, on the path."""
    programs = folder / "programs"
    programs.mkdir()
    (folder / "queue.txt").write_text(queue, encoding="utf-8")
    for name, what in (("squeue", f"cat '{folder}/queue.txt'"), ("sacct", "exit 1")):
        (programs / name).write_text(f"#!/bin/sh\n{what}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    measure.ENVIRONMENT["PATH"] = f"{programs}:{os.environ['PATH']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500, help="runs of the group")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is run; the median counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        group = make_group(Path(name), options.runs)
        commands = {
            IMPORT_HYDRA: ["-c", IMPORT_HYDRA],
            "status": ["-m", "runplan", "status", str(group)],
            "status --json": ["-m", "runplan", "status", str(group), "--json"],
        }
        taken = medians(commands, Path(name), options.rounds)
        rival = min(take(["-c", LOOP], group, "bash").cpu for _ in range(3))
    most = AT_MOST * taken.pop(IMPORT_HYDRA).cpu
    rows = [Row(what, ours.cpu, rival, "tail of each log", most, "s") for what, ours in taken.items()]
    title = f"Status of {options.runs} runs, CPU time, median of {options.rounds}"
    show(f"{title} (at most: {AT_MOST:g} x import hydra)", rows)


if __name__ == "__main__":
    main()
