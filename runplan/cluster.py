"""What SLURM says about itself, parsed. Text in, facts out; `slurm.py` fetches the text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Partition:
    """One partition, as far as planning cares."""

    name: str
    default: bool = False
    up: bool = True
    time_limit_s: int | None = None
    """None = unlimited."""
    nodes: int = 0
    cpus_per_node: int = 0
    """Of the largest node."""
    memory_gib_per_node: float = 0.0
    """Of the largest node."""
    gpus_per_node: int = 0
    """Of the largest node."""
    gpu_types: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    accounts: tuple[str, ...] | None = None
    """Accounts that may use it; None = all."""
    qos: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Cluster:
    """A SLURM that answered."""

    name: str
    partitions: tuple[Partition, ...]
    accounts: tuple[str, ...] | None = None
    """Accounts this user may charge; None when there is no accounting."""
    qos: tuple[str, ...] | None = None
    max_submit_jobs: int | None = None
    max_array_size: int | None = None
    slow: tuple[str, ...] = ()
    """Commands that did not answer in time or failed, with the reason; what they would have told is unknown."""

    def partition(self, name: str | None) -> Partition | None:
        """The partition of that name; the default one for None."""
        for partition in self.partitions:
            if (partition.name == name) if name else partition.default:
                return partition
        return None
