"""The plan: every run of a group with its size, requests and evidence.

Frozen; what is written is made from it alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from runplan.config import Config
from runplan.errors import Problem
from runplan.estimate.workload import Interval, Sizing
from runplan.facts import DatasetFacts, ModelFacts, Status

SCHEMA = 1


class RunType(Enum):
    """What a run directory is for."""

    fine_tuned = "fine-tuned"
    control = "control"
    eval_only = "eval-only"


@dataclass(frozen=True)
class Composed:
    """One combination of the sweep, as Hydra composed it."""

    config: Config
    """Typed and complete but for the keys in `estimated`, which are None."""
    estimated: frozenset[str]
    """Dotted keys that hold an `rp.*` mark: runplan works them out."""
    overrides: tuple[str, ...]
    """The override lines of this combination."""
    factors: Mapping[str, Any]
    """Swept key → level (a group choice's name or a value), in command order; keys with one level included."""
    choices: Mapping[str, str | None]
    """Config group → chosen option."""
    tree: Mapping[str, Any]
    """The composed config as plain data, interpolations unresolved; for `.hydra/config.yaml`."""


@dataclass(frozen=True)
class Request:
    """What one job asks of SLURM. The only source of `#SBATCH` lines and of submitit's parameters."""

    job_name: str
    time_s: int
    mem_gib: int | None
    cpus_per_task: int
    gpus: int
    nodes: int = 1
    gres: str | None = None
    """Given by the user instead of `gpu:N`."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """A training program of the trainer, chosen from the capability table."""

    name: str
    """As the trainer knows it, or the user's own file."""
    distributed: bool
    validation: bool
    shipped: str | None = None
    """File of `runplan/recipes/` that is copied into the run; None for the trainer's own and the user's."""
    custom: bool = False
    note: str = ""
    """What cannot be told about the user's own recipe."""


@dataclass(frozen=True)
class Rung:
    """A configuration for when the one before ran out of GPU memory; the effective batch is the same."""

    file: str
    """Relative to the run: `finetune.rung1.yaml`."""
    batch_size: int
    gradient_accumulation_steps: int
    activation_checkpointing: bool


@dataclass(frozen=True)
class Cell:
    """One evaluation: a task at a saved epoch, or of a base model."""

    task: str
    """Label of the task."""
    function: str
    """Name of the `@task` function."""
    script: str
    """Absolute path of the Inspect file."""
    epoch: int | None
    """Epoch whose checkpoint is evaluated; None for models as they are."""
    dir: str
    """Relative to the run directory: `eval/capitalization_epoch0`."""
    time_s: Interval
    request: Request
    samples: int | None = None
    prompt_tokens: int = 0
    """Of its longest prompt."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the task function that the script takes."""
    takes_data: bool = True
    """Whether the task asks for the run's dataset; one that brings its own measures the same beside any."""
    samples_source: str = ""
    """Of a task that brings its data: where the number of its samples is from, in words; else empty."""
    time_logs: int = 0
    """Logs of earlier evaluations from which its time is learnt."""
    time_evidence: str = ""
    """What these logs are; empty where there are none."""


@dataclass(frozen=True)
class PlannedRun:
    """One run directory."""

    name: str
    type: RunType
    config: Config
    """Complete: what was estimated is filled in."""
    composed: Composed
    model: ModelFacts
    dataset: DatasetFacts | None
    cells: tuple[Cell, ...]
    recipe: Recipe | None = None
    sizing: Sizing | None = None
    request: Request | None = None
    gpu_hours: Interval = field(default=Interval(0.0, 0.0))
    """Training and evaluation."""
    time_limit_s: int | None = None
    """What the partition or the user's `resources.time_limit` allows; None where nobody knows."""
    packed_reason: str = ""
    """Why rows are packed or not."""
    padded_tokens: tuple[float, ...] = ()
    """Mean tokens of a training row in batches of 1, 2, 4 ... 64, padding included; empty where nobody counted."""
    token: str = ""
    """Identifies the run's jobs in SLURM, in the ledger and in the run itself."""
    rungs: tuple[Rung, ...] = ()
    """Tried one after the other in the same job when the GPU runs out of memory."""
    retries_s: float = 0.0
    """Seconds of the requested time that are there for attempts that run out of memory; 0 where that is unlikely."""


TO_BE_MADE = "will be made"
"""How the detail begins of what is missing and will be made when the plan is written."""


@dataclass(frozen=True)
class Check:
    """One row of `verified`."""

    kind: str
    """model, dataset, evaluation, trainer, disk or cluster."""
    name: str
    path: str
    status: Status
    detail: str
    fix: str = ""

    @property
    def is_lacking(self) -> bool:
        """Whether the thing has to be got or mended before jobs can run."""
        return self.status in {Status.missing, Status.invalid}


@dataclass(frozen=True)
class Design:
    """What is varied."""

    type: str
    """`2x2 factorial`, `single run`, …"""
    factors: Mapping[str, tuple[Any, ...]]
    """Swept key → levels, two or more."""


@dataclass(frozen=True)
class Plan:
    """A whole group."""

    group: str
    directory: str
    """Absolute path of the group."""
    command: str
    """The override line that makes this plan again."""
    design: Design
    runs: tuple[PlannedRun, ...]
    """In sweep order, controls last."""
    checks: tuple[Check, ...]
    risks: tuple[Problem, ...]
    """What the user should know and decide, but which does not stop the plan."""
    gpu_hours: Interval
    """p95 is that of the sum."""

    def of_type(self, kind: RunType) -> tuple[PlannedRun, ...]:
        """The runs of one type."""
        return tuple(run for run in self.runs if run.type is kind)

    @property
    def lacking(self) -> tuple[Check, ...]:
        """Rows of what is missing or invalid."""
        return tuple(check for check in self.checks if check.is_lacking)

    @property
    def ready(self) -> bool:
        """Whether nothing that the runs need is missing or invalid."""
        return not self.lacking
