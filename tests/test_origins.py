"""A problem about what a job asks for names the file and the line that ask for it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from runplan import origins
from runplan.cli import main
from runplan.slurm import commands as slurm
from runplan.slurm.cluster import Cluster, NodeShape, Partition

PLAN = ["model=tiny", "dataset.create=true", "dataset.n_words=400", "priors.paths=[]", "evaluation=none"]
SHAPE = NodeShape(4, 64, 512.0, gpus=4)


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    partition = Partition("gpu", default=True, up=True, time_limit_s=36_000, shapes=(SHAPE,))
    cluster = Cluster("c", (partition,), accounts=("mine",), qos=("normal",))
    monkeypatch.setattr(slurm, "read_cluster", lambda: cluster)
    monkeypatch.setattr(slurm, "would_take", lambda _: (None, ""))
    (tmp_path / "conf/site").mkdir(parents=True)
    (tmp_path / "conf/resources").mkdir()

    def plan(*more, words=PLAN, code=1):
        assert main([*words, *more]) == code
        return re.findall(r"@ (.*)", capsys.readouterr().err.replace(f"{tmp_path}/", ""))

    return plan


def site(name, text):
    Path(f"conf/site/{name}.yaml").write_text(f"defaults:\n  - _site\n  - _self_\n\nname: {name}\n{text}")


def test_the_site_file_and_its_line(said):
    site("lab", "account: mine\npartition: nope # old\n")
    assert said("site=lab") == ["site.partition in conf/site/lab.yaml, line 7"]
    site("lab", "account: other\nqos: high\n")
    assert said("site=lab") == ["site.account in conf/site/lab.yaml, line 6", "site.qos in conf/site/lab.yaml, line 7"]


def test_the_site_that_the_chosen_one_begins_with(said):
    site("lab", "partition: nope\n")
    Path("conf/site/mine.yaml").write_text("defaults: [lab, _self_]\nname: mine\naccount: null\n")
    assert said("site=mine") == ["site.partition in conf/site/lab.yaml, line 6"]


def test_a_value_of_the_command_line_is_its_keys(said):
    site("lab", "partition: nope\n")
    assert said("site=lab", "site.partition=other") == ["site.partition"]
    assert said("site=lab", "resources.partition=other") == ["resources.partition"]
    assert said("resources.account=other") == ["resources.account"]


def test_a_kind_of_node_that_names_the_partition(said):
    Path("conf/resources/big.yaml").write_text("defaults: [a100-80, _self_]\npartition: nope\n")
    assert said("resources=big") == ["resources.partition in conf/resources/big.yaml, line 2"]


def test_what_earlier_logs_are_read_with(said):
    site("lab", "gpu: a100-90\n")
    assert said("site=lab", code=2) == ["site.gpu in conf/site/lab.yaml, line 6"]
    site("lab", "priors: [nowhere]\n")
    Path("conf/site/mine.yaml").write_text("defaults: [lab, _self_]\nname: mine\n")
    words = [word for word in PLAN if "priors" not in word]
    assert said("site=mine", words=words, code=2) == ["site.priors in conf/site/lab.yaml, line 6"]


def test_a_file_of_ours_is_not_to_be_edited(said):
    assert not origins._written("site", "della", "gpu")
    Path("conf/site/mine.yaml").write_text("defaults: [della, _self_]\nname: mine\nqos: normal\n")
    assert not origins._written("site", "mine", "gpu")
    assert origins._written("site", "mine", "qos").endswith("conf/site/mine.yaml, line 3")
