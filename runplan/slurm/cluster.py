"""What SLURM says about itself, parsed. Text in, facts out; `commands.py` fetches the text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from runplan.units import MIB_PER_GIB, parse_slurm_time

SINFO_FORMAT = "%R|%P|%a|%l|%D|%c|%m|%G|%f"
"""Partition, the same with `*` where default, availability, limit; nodes, CPUs, MiB, gres and features of a kind."""

_GPU = re.compile(r"gpu(?::(?P<type>[^:,()]+))?:(?P<count>\d+)(?:\([^)]*\))?(?:,|$)")
_KEY_VALUE = re.compile(r"(\S+?)=(\S*)")


@dataclass(frozen=True)
class NodeShape:
    """One kind of node of a partition."""

    nodes: int
    cpus: int
    memory_gib: float
    gpus: int = 0
    gpu_types: tuple[str, ...] = ()
    """Types that SLURM knows by name; empty when gres has none."""
    features: tuple[str, ...] = ()


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
    denied_accounts: tuple[str, ...] = ()
    shapes: tuple[NodeShape, ...] = ()
    """Kinds of nodes; empty when SLURM did not say."""


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
        """The partition of that name; the default one for None; of a list (`a,b`) what one or the other offers.

        SLURM starts a job that names several where it can first.
        """
        for partition in self.partitions:
            if (partition.name == name) if name else partition.default:
                return partition
        if not name or "," not in name:
            return None
        several = [self.partition(part) for part in name.split(",")]
        known = [partition for partition in several if partition is not None]
        return _either(name, known) if len(known) == len(several) else None

    def unknown_partitions(self, name: str | None) -> tuple[str, ...]:
        """Which names of a partition, or of a list of them, are none."""
        return tuple(part for part in (name or "").split(",") if part and self.partition(part) is None)


class Associations(NamedTuple):
    """What a user may charge; None where accounting does not say."""

    accounts: tuple[str, ...] | None
    qos: tuple[str, ...] | None
    max_submit_jobs: int | None


def parse_gres(text: str) -> tuple[int, tuple[str, ...]]:
    """GPUs of a gres text and the types it names.

    >>> parse_gres("gpu:a100:2(S:0,1),gpu:1g.10gb:14(S:0-1)")
    (16, ('1g.10gb', 'a100'))
    >>> parse_gres("(null)")
    (0, ())
    """
    found = list(_GPU.finditer(text))
    return sum(int(match["count"]) for match in found), tuple(sorted({m["type"] for m in found if m["type"]}))


def parse_sinfo(text: str) -> tuple[Partition, ...]:
    """Partitions with their kinds of nodes, from `sinfo -a -h -e -o SINFO_FORMAT`; lines that are none are skipped."""
    partitions: dict[str, Partition] = {}
    shapes: dict[str, list[NodeShape]] = {}
    for line in _lines(text):
        fields = line.split("|")
        if len(fields) != 9 or not fields[4].isdigit():
            continue
        name, marked, available, limit, nodes, cpus, memory, gres, features = fields
        gpus, types = parse_gres(gres)
        shape = NodeShape(int(nodes), _number(cpus), _number(memory) / MIB_PER_GIB, gpus, types, _names(features))
        shapes.setdefault(name, []).append(shape)
        partitions[name] = Partition(name, marked.endswith("*"), available == "up", _limit(limit))
    return tuple(_with_shapes(partition, shapes[name]) for name, partition in partitions.items())


def parse_partitions(text: str) -> tuple[Partition, ...]:
    """Partitions with who may use them, from `scontrol -a show partition -o`; kinds of nodes are not in it."""
    partitions = []
    for line in _lines(text):
        fields = dict(_KEY_VALUE.findall(line))
        if "PartitionName" not in fields:
            continue
        partitions.append(
            Partition(
                name=fields["PartitionName"],
                default=fields.get("Default") == "YES",
                up=fields.get("State", "UP") == "UP",
                time_limit_s=_limit(fields.get("MaxTime", "UNLIMITED")),
                nodes=_number(fields.get("TotalNodes", "0")),
                accounts=_allowed(fields.get("AllowAccounts", "ALL")),
                qos=_allowed(fields.get("AllowQos", "ALL")),
                denied_accounts=_names(fields.get("DenyAccounts", "")),
            )
        )
    return tuple(partitions)


def merge_partitions(ruled: Sequence[Partition], shaped: Sequence[Partition]) -> tuple[Partition, ...]:
    """What `scontrol` says of partitions with the kinds of nodes that `sinfo` says; either may be empty."""
    shapes = {partition.name: partition.shapes for partition in shaped}
    known = {partition.name for partition in ruled}
    merged = tuple(_with_shapes(partition, shapes.get(partition.name, ())) for partition in ruled)
    return merged + tuple(partition for partition in shaped if partition.name not in known)


def parse_associations(text: str) -> Associations:
    """What the user may charge, from `sacctmgr -n -P show assoc user=… format=account,partition,qos,maxsubmit`.

    No line at all means that accounting knows nothing of the user, so all is None.
    """
    rows = [fields for line in _lines(text) if len(fields := line.split("|")) == 4]
    if not rows:
        return Associations(None, None, None)
    accounts = dict.fromkeys(row[0] for row in rows if row[0])
    qos = dict.fromkeys(name for row in rows for name in _names(row[2]))
    limits = [row[3] for row in rows]
    most = max(map(int, limits)) if all(limit.isdigit() for limit in limits) else None
    return Associations(tuple(accounts), tuple(qos) or None, most)


def parse_config(text: str) -> Mapping[str, str]:
    """Settings from `scontrol show config`, by name."""
    pairs = (line.partition("=") for line in _lines(text) if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _lines(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))


def _with_shapes(partition: Partition, shapes: Sequence[NodeShape]) -> Partition:
    if not shapes:
        return partition
    return replace(
        partition,
        nodes=sum(shape.nodes for shape in shapes),
        cpus_per_node=max(shape.cpus for shape in shapes),
        memory_gib_per_node=max(shape.memory_gib for shape in shapes),
        gpus_per_node=max(shape.gpus for shape in shapes),
        gpu_types=tuple(sorted({name for shape in shapes for name in shape.gpu_types})),
        features=tuple(sorted({name for shape in shapes for name in shape.features})),
        shapes=tuple(shapes),
    )


def _either(name: str, several: Sequence[Partition]) -> Partition:
    """One partition that stands for several: what any of them allows is allowed."""
    limits = [partition.time_limit_s for partition in several]
    accounts = [partition.accounts for partition in several]
    qos = [partition.qos for partition in several]
    denied = [set(partition.denied_accounts) for partition in several]
    shapes = [partition.shapes for partition in several]
    either = Partition(
        name,
        up=any(partition.up for partition in several),
        time_limit_s=None if None in limits else max(limit or 0 for limit in limits),
        nodes=sum(partition.nodes for partition in several),
        accounts=_union(accounts),
        qos=_union(qos),
        denied_accounts=tuple(sorted(set.intersection(*denied))),
    )
    return _with_shapes(either, [each for some in shapes for each in some] if all(shapes) else ())


def _union(allowed: Sequence[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    found = dict.fromkeys(name for names in allowed for name in names or ())
    return None if None in allowed else tuple(found)


def _number(text: str) -> int:
    """A count; sinfo's `16+` means at least 16."""
    digits = text.rstrip("+")
    return int(digits) if digits.isdigit() else 0


def _limit(text: str) -> int | None:
    try:
        return parse_slurm_time(text)
    except ValueError:
        return None


def _names(text: str) -> tuple[str, ...]:
    return () if text in {"", "(null)", "N/A", "NONE"} else tuple(text.split(","))


def _allowed(text: str) -> tuple[str, ...] | None:
    return None if text in {"ALL", "", "(null)", "N/A"} else tuple(text.split(","))
