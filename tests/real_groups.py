"""Whole groups, plan.json included, that a real SLURM runs in a moment: trainer and evaluation only pretend."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from job_plans import cell, control, fake_program, plan, run, write

from runplan.document import plan_json

TUNE = 'mkdir -p artifacts/epoch_0; echo "{}" >artifacts/epoch_0/config.json; exec bash -c "${TUNE:-exit 0}"'
INSPECT = """echo '{"status": "success", "results": {"scores": []}}' >logs/1.json"""


def programs(folder: Path) -> Path:
    """A folder for the front of PATH."""
    fake_program(folder, "tune", TUNE)
    fake_program(folder, "inspect", INSPECT)
    return folder


def group(
    directory: Path, token: str, trainings: int = 1, cells: int = 1, *, base: bool = True, name: str = "r", **request
) -> Path:
    """A written group of some trainings with evaluations, and a control."""
    things = directory.parent / "things"
    things.mkdir(parents=True, exist_ok=True)
    for each in ("config.json", "words.json", "inspect.py"):
        (things / each).write_text("{}")
    small = {"time_s": 300, "mem_gib": 1, "cpus_per_task": 1, "gpus": 0} | request
    runs = [
        run(f"{name}{number}", token=f"{token}-{number}", cells=tuple(cell(epoch) for epoch in range(cells)))
        for number in range(trainings)
    ]
    if base:
        runs.append(control(token=f"{token}-base"))
    made = [
        replace(
            each,
            model=replace(each.model, path=str(things)),
            dataset=replace(each.dataset, path=str(things / "words.json")),
            request=replace(each.request, **small) if each.request else None,
            cells=tuple(
                replace(one, script=str(things / "inspect.py"), request=replace(one.request, **small))
                for one in each.cells
            ),
        )
        for each in runs
    ]
    whole = plan(*made, directory=str(directory))
    write(whole)
    (directory / "plan.json").write_text(plan_json(whole))
    return directory


def ledger(directory: Path) -> list[dict]:
    """The lines of a group's ledger."""
    return [json.loads(line) for line in (directory / "ledger.jsonl").read_text().splitlines()]
