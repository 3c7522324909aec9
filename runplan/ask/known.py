"""What the interview knows before it asks: what there is to choose from, and what holds when nothing is said. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runplan.plan import Check


@dataclass(frozen=True)
class Thing:
    """One thing to choose: an option of a config group, or a folder or file that was found."""

    name: str
    """Option, or path."""
    detail: str = ""
    path: str = ""
    """Where it is on disk; empty when it is not there, or not looked for."""
    kind: str = ""
    """Of a data file: the option of `dataset` that reads such rows. Of a task: the script's path."""
    has_splits: bool = True
    """Of a data file; one without is a source of random splits."""


@dataclass(frozen=True)
class Known:
    """Choices and defaults, as the user's and our conf folders and the machine have them."""

    chosen: Mapping[str, str] = field(default_factory=dict)
    """Config group → option that holds when nothing is said."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Key → value that holds when nothing is said, as text; without an entry runplan works it out."""
    place: str = ""
    """The site that holds, in words."""
    sites: tuple[Thing, ...] = ()
    own_sites: tuple[str, ...] = ()
    """Sites of the user's own conf folders."""
    models: tuple[Thing, ...] = ()
    datasets: tuple[Thing, ...] = ()
    evaluations: tuple[Thing, ...] = ()
    gpus: tuple[Thing, ...] = ()
    trainers: tuple[Thing, ...] = ()
    """Trainers that are installed where jobs look for them, as far as that can be seen; their versions as details."""
    taken: frozenset[str] = frozenset()
    """Names of groups that are there."""
    checks: tuple[Check, ...] = ()
    """What verification found so far, as the answers go."""
    experiment: str = ""
    """A kept sweep that the given lines name; what it sweeps is left to it."""
    can_submit: bool = False
    """Whether SLURM's `sbatch` is here."""

    @property
    def lacking(self) -> tuple[Check, ...]:
        """What is missing or invalid of what was chosen so far."""
        return tuple(check for check in self.checks if check.is_lacking)

    def thing(self, group: str, name: str) -> Thing | None:
        """The model, dataset, evaluation or GPU type of a name."""
        things = {
            "model": self.models,
            "dataset": self.datasets,
            "evaluation": self.evaluations,
            "resources": self.gpus,
        }
        return next((thing for thing in things[group] if thing.name == name), None)
