"""Texts of SLURM become facts; texts that are none become nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.slurm.cluster import (
    Associations,
    Cluster,
    NodeShape,
    Partition,
    merge_partitions,
    parse_associations,
    parse_config,
    parse_gres,
    parse_partitions,
    parse_sinfo,
)

RECORDED = Path(__file__).parent / "data" / "slurm"


def text(name: str) -> str:
    return (RECORDED / name).read_text()


def test_recorded_sinfo():
    shape = NodeShape(4, 32, 600000 / 1024, 8, (), ("gpu80",))
    main, short = parse_sinfo(text("sinfo.txt"))
    assert (main.name, main.default, main.up, main.time_limit_s, main.shapes) == ("main", True, True, 86400, (shape,))
    assert (short.name, short.default, short.time_limit_s, short.gpus_per_node) == ("short", False, 1800, 8)


def test_kinds_of_nodes_of_one_partition_are_kept_apart():
    cpu, gpu, mig, old = parse_sinfo(text("sinfo_mixed.txt"))
    assert (cpu.default, cpu.time_limit_s, cpu.gpus_per_node) == (True, None, 0)
    assert [(shape.gpus, shape.cpus) for shape in gpu.shapes] == [(4, 48), (2, 28)]
    assert (gpu.nodes, gpu.gpus_per_node, gpu.features) == (60, 4, ("a100", "gpu40", "gpu80", "rh9"))
    assert mig.gpu_types == ("1g.10gb", "a100")
    assert (old.up, old.cpus_per_node, old.time_limit_s) == (False, 16, 3600)


def test_recorded_partitions_say_who_may_use_them():
    main, short = parse_partitions(text("partitions.txt"))
    assert (main.name, main.default, main.up, main.time_limit_s, main.nodes) == ("main", True, True, 86400, 4)
    assert (main.accounts, main.qos, short.default) == (None, None, False)
    (closed,) = parse_partitions(
        "PartitionName=x AllowAccounts=lab,group DenyAccounts=guests AllowQos=high State=DRAIN MaxTime=UNLIMITED"
    )
    assert (closed.accounts, closed.qos, closed.denied_accounts) == (("lab", "group"), ("high",), ("guests",))
    assert (closed.up, closed.time_limit_s) == (False, None)


def test_either_source_of_partitions_is_enough():
    ruled, shaped = parse_partitions(text("partitions.txt")), parse_sinfo(text("sinfo.txt"))
    both = Cluster("sim", merge_partitions(ruled, shaped)).partition(None)
    assert both is not None
    assert (both.name, both.gpus_per_node, both.accounts) == ("main", 8, None)
    assert merge_partitions((), shaped) == shaped
    assert merge_partitions(ruled, ()) == ruled


def test_associations():
    assert parse_associations(text("associations.txt")) == Associations(("lab", "root"), ("normal",), None)
    assert parse_associations("a||high,normal|10\nb|gpu|normal|20\n") == Associations(
        ("a", "b"), ("high", "normal"), 20
    )
    assert parse_associations("") == Associations(None, None, None)


def test_recorded_config():
    settings = parse_config(text("config.txt"))
    assert (settings["ClusterName"], settings["MaxArraySize"]) == ("sim", "1001")


@pytest.mark.parametrize(
    ("gres", "gpus", "types"),
    [
        ("gpu:8", 8, ()),
        ("gpu:a100:4(S:0-1)", 4, ("a100",)),
        ("gpu:a100:2(S:0,1),shard:8", 2, ("a100",)),
        ("(null)", 0, ()),
        ("craynetwork:4", 0, ()),
    ],
)
def test_gres(gres, gpus, types):
    assert parse_gres(gres) == (gpus, types)


@given(st.text())
def test_no_text_is_too_odd(noise):
    for partition in (*parse_sinfo(noise), *parse_partitions(noise)):
        assert isinstance(partition, Partition)
    parse_associations(noise)
    parse_config(noise)
    parse_gres(noise)
