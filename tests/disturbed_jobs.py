"""A run's files written for real, and its job started while something goes wrong in the trainer."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factories import make_plan, make_templates
from tiny_training import planned

from runplan.jobs.rungs import plan_rungs
from runplan.jobs.scripts import job_files

if TYPE_CHECKING:
    from collections.abc import Callable


def write_run(
    training_files: Callable[..., dict[str, str]], place: Path, settings: dict[str, Any], *data: Path
) -> Path:
    """The directory of a run of a trainer, its rungs included; `data` is the model folder and the dataset."""
    run = planned(*data, **settings)
    run = replace(run, rungs=plan_rungs(run.config, run.composed, run.recipe))
    group = replace(make_plan(run), directory=str(place))
    folder = place / run.name
    folder.mkdir(parents=True)
    files = training_files(group, run, make_templates()) | job_files(group, run, make_templates())
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def start(folder: Path, shim: str, **disturbance: str) -> subprocess.CompletedProcess[str]:
    """Run its job here; every Python of it runs `shim` first, which reads `disturbance` from the environment."""
    place = folder.parent / "shim"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(shim)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    settings = {"PATH": path, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", str(folder / "finetune.slurm")],
        env=os.environ | settings | disturbance, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
