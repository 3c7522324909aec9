"""What SLURM would refuse is said before, with both numbers; what it did not tell never blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runplan.facts import Status
from runplan.plan import Request
from runplan.slurm.cluster import Cluster, parse_sinfo
from runplan.verify.cluster import check_cluster, closed_partitions, distinct, time_limit_s

RECORDED = Path(__file__).parent / "data" / "slurm" / "sinfo_mixed.txt"
CLUSTER = Cluster("c", parse_sinfo(RECORDED.read_text()), accounts=("lab",), qos=("normal", "high"))
FINE = Request("1B_rank4", 3600, 100, 8, 1, partition="gpu", account="lab", qos="high", constraint="gpu80&a100")


def said(request: Request, cluster: Cluster | None = CLUSTER, **more) -> list[str]:
    return [f"{problem.what} @ {problem.where}" for problem in check_cluster(cluster, [request], **more)[1]]


def test_a_request_that_fits_has_no_problem():
    rows, problems = check_cluster(CLUSTER, [FINE, replace(FINE, job_name="other")])
    assert problems == ()
    assert [(row.name, row.status) for row in rows] == [("partition gpu", Status.ok), ("account lab", Status.ok)]
    assert rows[0].detail == "up, limit 72:00:00, up to 4 GPUs a node"


@pytest.mark.parametrize(
    ("change", "what", "where"),
    [
        ({"partition": "gpus"}, "there is no partition gpus", "partition"),
        ({"partition": "gpu,gpus,cpus"}, "there is no partition gpus, cpus", "partition"),
        ({"partition": "old", "constraint": None}, "partition old is not up", "partition"),
        ({"account": "guest"}, "account guest is not yours", "account"),
        ({"qos": "low"}, "QOS low is not yours", "qos"),
        ({"gpus": 8}, "asks for 8 GPUs on a node, the largest of partition gpu has 4 GPUs", "gpus"),
        (
            {"cpus_per_task": 49},
            "asks for 49 CPUs on a node, the largest of partition gpu has 48 CPUs",
            "cpus_per_task",
        ),
        ({"mem_gib": 977}, "asks for 977 GiB on a node, the largest of partition gpu has 976.562 GiB", "mem"),
        ({"constraint": "gpu80&h100"}, "no node of partition gpu has feature h100", "constraint"),
        ({"constraint": "gpu40", "mem_gib": 300}, "the largest of partition gpu has 244.141 GiB", "mem"),
        ({"constraint": "gpu40&gpu80"}, "the largest of partition gpu has 0 GPUs", "gpus"),
        ({"gres": "gpu:h100:1"}, "no node of partition gpu has GPUs of type h100", "gres"),
        ({"gres": "gpu:a100:8"}, "asks for 8 GPUs", "gpus"),
        ({"time_s": 73 * 3600}, "asks for 73:00:00, partition gpu allows 72:00:00", "time"),
        ({"partition": "gpu\nx"}, "control character", "partition"),
        ({"extra": ("--mail-type='END",)}, "No closing quotation", "extra_sbatch"),
        ({"extra": ("mail-type=END",)}, "not an option", "extra_sbatch"),
    ],
)
def test_each_problem_names_both_numbers_and_its_key(change, what, where):
    found = said(replace(FINE, **change))
    assert any(what in line and line.endswith(f"@ resources.{where}") for line in found), found


def test_two_demands_that_no_node_meets_together():
    shapes = parse_sinfo("p|p*|up|infinite|1|64|100000|(null)|x\np|p*|up|infinite|1|8|100000|gpu:4|x\n")
    request = Request("r", 60, 10, 64, 4)
    assert said(request, Cluster("c", shapes)) == [
        "no node of partition p has 4 GPUs, 64 CPUs and 10 GiB at once @ resources.gpus"
    ]


def test_alternatives_and_counts_of_features_are_left_to_slurm():
    for constraint in ("[gpu40|gpu80]", "gpu80*2", "a100&!gpu40"):
        assert said(replace(FINE, constraint=constraint)) == []


def test_without_slurm_nothing_blocks_but_a_declared_limit():
    rows, problems = check_cluster(None, [FINE])
    assert (problems, [row.status for row in rows]) == ((), [Status.unchecked])
    assert said(FINE, None, time_limits={"1B_rank4": 1800}) == [
        "asks for 01:00:00, partition gpu allows 00:30:00 @ resources.time"
    ]


def test_what_did_not_answer_is_said_and_does_not_block():
    rows, problems = check_cluster(Cluster("", (), slow=("sinfo: no answer in 10 s",)), [FINE])
    assert problems == ()
    assert (rows[0].status, rows[0].detail) == (Status.unchecked, "sinfo: no answer in 10 s")
    assert rows[1].status is Status.unchecked


def test_sbatch_has_the_last_word():
    asked = {distinct(FINE): (False, "Invalid qos")}
    (refused,) = said(FINE, tested=asked)
    assert refused.startswith("sbatch refuses the request: Invalid qos (--nodes=1 --cpus-per-task=8 --gres=gpu:1 ")
    assert "--qos=high --constraint=gpu80&a100" in refused
    other = replace(FINE, gpus=2)
    found = check_cluster(CLUSTER, [FINE, other], tested=asked | {distinct(other): (False, "Invalid qos")})[1]
    assert ["--gres=gpu:1 " in found[0].what, "--gres=gpu:2 " in found[1].what] == [True, True]
    odd = replace(FINE, constraint="made-at-boot")
    assert said(odd) != []
    assert said(odd, tested={distinct(odd): (True, "")}) == []
    late = replace(FINE, time_s=73 * 3600)
    assert said(late, tested={distinct(late): (True, "")}) != []
    assert said(odd, tested={distinct(odd): (None, "no answer")}) != []


def test_time_limit_is_slurms_where_it_says_one():
    assert time_limit_s(CLUSTER, FINE, 60) == 72 * 3600
    assert time_limit_s(CLUSTER, replace(FINE, partition="cpu"), 60) is None
    assert time_limit_s(None, FINE, 60) == 60


def test_of_several_partitions_one_that_takes_the_job_is_enough():
    both = replace(FINE, partition="old,gpu")
    rows, problems = check_cluster(CLUSTER, [both])
    assert problems == ()
    assert [(row.name, row.status, row.detail) for row in rows[:1]] == [
        ("partition old,gpu", Status.ok, "up, limit 72:00:00, up to 4 GPUs a node")
    ]
    assert said(replace(both, time_s=73 * 3600)) == [
        "asks for 73:00:00, partition old,gpu allows 72:00:00 @ resources.time"
    ]
    assert CLUSTER.partition("cpu,gpu").time_limit_s is None


def test_a_time_that_is_too_long_is_said_once():
    long = replace(FINE, time_s=73 * 3600)
    tested = {distinct(long): (False, "Requested time limit is invalid")}
    assert len(said(long, tested=tested)) == 1


def test_a_partition_that_is_down_and_takes_jobs_is_a_risk():
    waits = replace(FINE, partition="old", constraint=None)
    (risk,) = closed_partitions(CLUSTER, [FINE, waits, replace(waits, job_name="other")])
    assert (risk.what, risk.where) == ("partition old is not up now", "resources.partition")
    assert closed_partitions(CLUSTER, [FINE]) == closed_partitions(None, [waits]) == []
