"""Names of GPUs → options of conf/resources: one where the name says it, several where it leaves it open."""

from __future__ import annotations

import pytest

from runplan.discover.gpu_types import node_options, options_of
from runplan.paths import CONF_DIR
from runplan.slurm.cluster import NodeShape, parse_sinfo

KNOWN = frozenset(path.stem for path in (CONF_DIR / "resources").glob("[!_]*.yaml"))


@pytest.mark.parametrize(
    ("name", "more", "options"),
    [
        ("a100", ["gpu80", "rh9"], ["a100-80"]),
        ("a100", ["gpu40"], ["a100-40"]),
        ("a100", [], ["a100-40", "a100-80"]),
        ("NVIDIA_A100-SXM4-80GB", [], ["a100-80"]),
        ("nvidia_a100_80gb_pcie", [], ["a100-80"]),
        ("h100", ["gpu80"], ["h100-80", "h100-pcie-80"]),
        ("nvidia_h100_80gb_hbm3", [], ["h100-80"]),
        ("NVIDIA H100 PCIe", [], ["h100-pcie-80"]),
        ("h200", [], ["h200-141"]),
        ("NVIDIA GH200 480GB", [], ["gh200-96"]),
        ("nvidia_a40", [], ["a40-48"]),
        ("l40s", [], ["l40s-48"]),
        ("l40", [], ["l40-48"]),
        ("nvidia_a30", [], ["a30-24"]),
        ("h100_nvl", [], ["h100-nvl-94"]),
        ("h100", [], ["h100-80", "h100-94", "h100-nvl-94", "h100-pcie-80"]),
        ("h100_sxm", [], ["h100-80"]),
        ("a800", ["gpu80"], ["a100-80"]),
        ("nvidia_h20", [], ["h20-96"]),
        ("1g.18gb", ["h200"], []),
        ("l4", [], ["l4-24"]),
        ("v100", [], ["v100-16", "v100-32"]),
        ("tesla_v100-sxm2-16gb", [], ["v100-16"]),
        ("NVIDIA GeForce RTX 4090", [], ["rtx4090-24"]),
        ("rtx_6000_ada", [], ["rtx6000ada-48"]),
        ("quadro_rtx_6000", [], ["rtx6000-24"]),
        ("rtx_6000", [], ["rtx6000-24", "rtx6000ada-48", "rtx6000pro-96"]),
        ("rtx6000", ["gpu48"], ["rtx6000ada-48"]),
        ("rtx_a5000", [], ["rtxa5000-24"]),
        ("rtx_pro_6000", [], ["rtx6000pro-96"]),
        ("mi250", [], ["mi250x-64"]),
        ("mi300", [], []),
        ("1g.10gb", ["a100"], ["a100-mig-10"]),
        ("1g.10gb", [], ["a100-mig-10", "h100-mig-10"]),
        ("gpu80", [], []),
        ("mi300x", ["gpu80"], ["mi300x-192"]),
        ("", [], []),
        ("\n", ["\x00"], []),
    ],
)
def test_options_of_a_name(name, more, options):
    assert list(options_of(name, KNOWN, more)) == options


def test_features_name_the_gpu_where_gres_does_not():
    assert node_options(NodeShape(1, 8, 64, 4, (), ("a100", "gpu40")), KNOWN) == ("a100-40",)


def test_a_feature_that_says_only_the_memory_leaves_the_card_open():
    assert node_options(NodeShape(1, 8, 64, 4, (), ("gpu80",)), KNOWN) == ("a100-80", "h100-80", "h100-pcie-80")


def test_nodes_without_gpus_and_features_of_other_kinds():
    assert node_options(NodeShape(1, 8, 64, 0, (), ("a100",)), KNOWN) == ()
    assert node_options(NodeShape(1, 8, 64, 4, (), ("rh9", "cascade")), KNOWN) == ()


def test_a_mixed_cluster():
    text = "gpu|gpu|up|1:00|2|8|64000|gpu:a100:2(S:0),gpu:1g.10gb:14(S:0-1)|a100,gpu80\n"
    (partition,) = parse_sinfo(text)
    assert node_options(partition.shapes[0], KNOWN) == ("a100-80", "a100-mig-10")
