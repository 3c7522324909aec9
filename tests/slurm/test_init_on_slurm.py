"""`runplan init` on a SLURM that answers: what it writes is what SLURM has, and a plan made with it is taken."""

from __future__ import annotations

import json
import subprocess

import pytest

from runplan import cli
from runplan.slurm.commands import read_cluster

pytestmark = pytest.mark.slurm


def test_what_is_written_is_what_slurm_has_and_plans_with_it(capsys):
    assert cli.main(["init", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    cluster = read_cluster()
    assert cluster is not None
    assert said["site"] == cluster.name
    assert said["unknown"] == []
    names = [partition.name for partition in cluster.partitions]
    assert [line.split()[1].rstrip(":") for line in said["partitions"]] == names
    assert {offer["value"] for offer in said["settings"]["account"]["alternatives"]} == {*(cluster.accounts or ())}
    assert cli.main(["dataset.create=true", "preview=true"]) == 0
    assert "Cluster partition" in capsys.readouterr().out


def test_a_partition_of_the_users_choice_is_asked_for(capsys):
    names = subprocess.run(["sinfo", "-h", "-o", "%R"], capture_output=True, text=True, check=True).stdout.split()
    assert cli.main(["init", "mine", "--partition", names[-1]]) == 0
    assert cli.main(["--cfg", "job"]) == 0
    assert f"  partition: {names[-1]}" in capsys.readouterr().out
    assert cli.main(["init", "other", "--partition", "no-such"]) == 2
