"""Small plans whose job scripts are tested; only what the scripts need is real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from runplan.config import Config
from runplan.estimate.workload import Interval
from runplan.facts import DatasetFacts, ModelFacts, Status
from runplan.files.render import environment
from runplan.jobs.scripts import job_files, submit_all
from runplan.paths import TEMPLATES_DIR
from runplan.plan import Cell, Composed, Design, Plan, PlannedRun, Recipe, Request, RunType
from runplan.tiny import TINY

if TYPE_CHECKING:
    from jinja2 import Environment

MINUTES_10 = Interval(300.0, 600.0)


def templates() -> Environment:
    return environment(TEMPLATES_DIR)


def config(**site) -> Config:
    made = Config(seed=14, system_prompt="", prompt="{input}", epochs=1)
    made.model.full_name = "Tiny"
    made.lora.alpha, made.optimizer.lr, made.optimizer.lr_scheduler = 16.0, 3e-4, "cosine"
    made.trainer.save_adapter_weights_only = False
    made.evaluation.max_tokens, made.evaluation.temperature, made.evaluation.batch_size = 8, 0.0, 4
    for key, value in site.items():
        setattr(made.site, key, value)
    return made


def request(name: str = "1B_rank4", **more) -> Request:
    return replace(Request(job_name=name, time_s=600, mem_gib=1, cpus_per_task=1, gpus=0), **more)


def cell(epoch: int | None = 0, script: str = "/tasks/cap/inspect.py", **more) -> Cell:
    directory = "eval/cap" if epoch is None else f"eval/cap_epoch{epoch}"
    made = Cell("cap", "cap", script, epoch, directory, MINUTES_10, request(f"{directory}"))
    return replace(made, **more)


def run(name: str = "1B_rank4", *, token: str = "tok1", cells: tuple[Cell, ...] = (), **more) -> PlannedRun:
    settings = more.pop("config", None) or config()
    composed = Composed(settings, frozenset(), ("model=1B", f"note={name}"), {}, {}, {})
    made = PlannedRun(
        name=name,
        type=RunType.fine_tuned,
        config=settings,
        composed=composed,
        model=ModelFacts("/models/Tiny", Status.ok, TINY),
        dataset=DatasetFacts("/data/words.json", Status.ok),
        cells=cells,
        recipe=Recipe("lora_finetune_single_device", distributed=False, validation=False),
        request=request(name),
        token=token,
    )
    return replace(made, **more)


def control(name: str = "1B_base", token: str = "tok9", **more) -> PlannedRun:
    return run(name, token=token, cells=(cell(None),), type=RunType.control, recipe=None, request=None, **more)


def plan(*runs: PlannedRun, directory: str = "/out/group", **more) -> Plan:
    made = Plan("group", directory, "model=1B", Design("single run", {}), runs, (), (), Interval(0.0, 0.0))
    return replace(made, **more)


def write(made: Plan) -> Path:
    """The job scripts of a plan in its directory, and the files they need."""
    group = Path(made.directory)
    group.mkdir(parents=True, exist_ok=True)
    for planned in made.runs:
        for path, text in job_files(made, planned, templates()).items():
            target = group / planned.name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    (group / "submit_all.sh").write_text(submit_all(made, templates()))
    return group


def fake_program(directory: Path, name: str, body: str) -> Path:
    """A shell script on which PATH can begin."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)
    return path
