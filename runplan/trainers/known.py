"""The trainers that runplan plans for: what each adds to a plan, in one place. A new one is a module and a row here.

Which of a trainer's programs does what is asked is `recipe.CAPABILITIES`; memory, steps and speed of its training are
in `estimate/`, by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runplan.config import Config
from runplan.errors import Problem
from runplan.facts import Architecture, Finding, ModelFacts
from runplan.plan import Plan, PlannedRun
from runplan.trainers import data_paths, settings, torchtune, trl, trl_settings

if TYPE_CHECKING:
    import jinja2


@dataclass(frozen=True)
class Trainer:
    """One training library as planning, verification and rendering see it."""

    name: str
    install: str
    """Arguments of `pip install`, with `{version}` for the version."""
    complete_defaults: Callable[[Config, Architecture], Config]
    """What it does where the user says nothing."""
    setting_problems: Callable[[Config, Architecture], tuple[Problem, ...]]
    """What it would refuse."""
    path_problems: Callable[[str, str], Iterable[Problem]]
    """Where it could not train: the data file's path, the group's directory."""
    model_findings: Callable[[ModelFacts], tuple[Finding, ...]]
    """What keeps it from training a model."""
    training_files: Callable[[Plan, PlannedRun, jinja2.Environment], dict[str, str]]
    """What its job needs, by path in the run."""
    start: Callable[[PlannedRun, int], dict[str, Any]]
    """How the job starts it, for `templates/<name>/finetune.slurm.j2`."""


TORCHTUNE = Trainer(
    "torchtune",
    "torchtune=={version}",
    settings.complete_trainer_defaults,
    settings.setting_problems,
    data_paths.path_problems,
    torchtune.model_findings,
    torchtune.training_files,
    torchtune.start,
)
TRL = Trainer(
    "trl",
    "trl=={version} peft==0.21.2 transformers==5.23.0 accelerate==1.15.0",
    trl_settings.complete_trainer_defaults,
    trl_settings.setting_problems,
    lambda *_: (),  # rows.py reads the file, and TRL what that wrote to the job's temporary folder
    trl_settings.model_findings,
    trl.training_files,
    trl.start,
)
TRAINERS = {trainer.name: trainer for trainer in (TORCHTUNE, TRL)}


def trainer_of(config: Config) -> Trainer:
    """The trainer of a run; torchtune where the name is not known, which `choose_recipe` says."""
    return TRAINERS.get(config.trainer.name, TORCHTUNE)
