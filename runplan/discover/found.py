"""What was found on a machine, before anything is decided."""

from __future__ import annotations

from dataclasses import dataclass

from runplan.slurm.cluster import Cluster


@dataclass(frozen=True)
class ModelFolder:
    """A folder whose config.json is a language model's."""

    path: str
    model_type: str
    option: str | None = None
    """Option of `conf/model` whose folder has this name."""
    hub: str | None = None
    """Repository, where the folder is a snapshot in Hugging Face's cache."""


@dataclass(frozen=True)
class DataFile:
    """A JSON file with splits."""

    path: str
    size_bytes: int
    rows: tuple[tuple[str, int], ...] = ()
    """Split → rows; empty where the file is too large to count them."""


@dataclass(frozen=True)
class LogFolder:
    """A folder below which there are logs of torchtune."""

    path: str
    logs: int


@dataclass(frozen=True)
class Environment:
    """A conda environment or a virtual environment."""

    kind: str
    """`conda` or `venv`."""
    name: str
    """What activates it: a name that conda knows, or a path."""
    path: str
    torchtune: str | None
    """Version of torchtune in it; None = none there."""
    active: bool = False
    """Whether this shell is in it."""
    trl: str | None = None
    """Version of TRL in it."""

    @property
    def trainers(self) -> str:
        """What can train in it, in words; empty when nothing can."""
        versions = {"torchtune": self.torchtune, "trl": self.trl}
        return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


@dataclass(frozen=True)
class Discovered:
    """Everything that was found, and what could not be looked at."""

    host: str
    user: str
    cluster: Cluster | None = None
    gpus_here: tuple[str, ...] = ()
    """Names that `nvidia-smi` prints, one a GPU of this machine."""
    environments: tuple[Environment, ...] = ()
    modules: tuple[str, ...] = ()
    """Modules that bring conda, CUDA or Python."""
    loaded_modules: tuple[str, ...] = ()
    models: tuple[ModelFolder, ...] = ()
    data: tuple[DataFile, ...] = ()
    logs: tuple[LogFolder, ...] = ()
    scratch: tuple[tuple[str, str], ...] = ()
    """(folder, how it was found) of the user's folders on large file systems that can be written."""
    unknown: tuple[str, ...] = ()
    """What did not answer or could not be looked at, each with the reason."""


@dataclass(frozen=True)
class Wishes:
    """What the user said on the command line; None and empty = to be found."""

    name: str | None = None
    models: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    partition: str | None = None
    account: str | None = None


@dataclass(frozen=True)
class Offer:
    """A value that was found but not chosen."""

    value: str
    said: str
    """What it is and where it was found."""


@dataclass(frozen=True)
class Setting:
    """One key of the site file."""

    key: str
    value: str | tuple[str, ...] | None
    """None = left as runplan has it."""
    said: str
    """Where it was found, or why it was left open."""
    offers: tuple[Offer, ...] = ()


@dataclass(frozen=True)
class Site:
    """A site file before it is text."""

    name: str
    settings: tuple[Setting, ...]
    facts: tuple[str, ...] = ()
    """What is worth knowing but is no key: partitions, models, data."""
    resources: Setting = Setting("resources", None, "")
    """The option of `conf/resources` that runs here by default."""
    trainer: Setting = Setting("trainer", None, "")
    """The option of `conf/trainer` that trains here by default, where it is not torchtune; what else can as offers."""
