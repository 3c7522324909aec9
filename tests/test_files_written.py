"""A group read back from its plan.json."""

import json
import os
import re
from dataclasses import replace

import pytest
from job_plans import cell, control, plan, run, templates

from runplan.errors import NoGroupError, StoreError
from runplan.files.document import document_text, plan_document
from runplan.files.written import read_group
from runplan.jobs.scripts import submit_all


@pytest.fixture
def group(tmp_path):
    made = plan(run(cells=(cell(0), cell(1))), control(), directory=str(tmp_path / "group"))
    (tmp_path / "group").mkdir()
    (tmp_path / "group" / "plan.json").write_text(document_text(plan_document(made)))
    return made, tmp_path / "group"


def test_jobs_are_those_of_the_submit_script_in_its_order(group):
    made, directory = group
    script = submit_all(made, templates())
    tokens = re.findall(r"^submit \S+ \S+ (\S+)", script, re.MULTILINE)
    jobs = read_group(directory).jobs
    assert [job.token for job in jobs] == tokens
    assert [job.kind for job in jobs] == ["train", "cell", "cell", "cell"]
    assert [job.after for job in jobs] == [None, tokens[0], tokens[0], None]
    assert jobs[1].path == "1B_rank4/eval/cap_epoch0/cell.slurm"
    assert jobs[1].directory == directory / "1B_rank4/eval/cap_epoch0"
    assert jobs[1].name == "1B_rank4/eval/cap_epoch0"


def test_a_request_is_complete(group):
    made, directory = group
    made = replace(made, runs=(replace(made.runs[0], request=replace(
        made.runs[0].request, gres="gpu:a100:2", exclude="n1", extra=("--mail-type=END",), qos="q")),))  # fmt: skip
    (directory / "plan.json").write_text(document_text(plan_document(made)))
    resources = read_group(directory).jobs[0].resources
    assert (resources["gres"], resources["exclude"], resources["extra"], resources["qos"]) == (
        "gpu:a100:2", "n1", ["--mail-type=END"], "q",
    )  # fmt: skip


def test_groups_that_may_be_meant_are_named(group, tmp_path):
    _, directory = group
    (directory / "1B_rank4/eval").mkdir(parents=True)
    for part in ("1B_rank4", "1B_rank4/eval"):
        with pytest.raises(NoGroupError, match=f"it is a part of the group {re.escape(str(directory))}$"):
            read_group(directory / part)
    for number in range(6):
        (tmp_path / f"g{number}").mkdir()
        (tmp_path / f"g{number}/plan.json").write_text("{}")
        os.utime(tmp_path / f"g{number}/plan.json", (number, number))
    with pytest.raises(NoGroupError, match=r"newest first: group, g5, g4, g3, g2 and 2 more$"):
        read_group(tmp_path)


def test_no_directory_and_no_plan_are_said(tmp_path):
    with pytest.raises(StoreError, match="no such directory"):
        read_group(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"holds no plan\.json"):
        read_group(tmp_path)


def test_a_groups_plan_in_its_place_is_said(tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(
        NoGroupError, match=r"plan\.json: is a file, and a group is a folder; it is a part of the group /"
    ):
        read_group(tmp_path / "plan.json")


@pytest.mark.parametrize(
    "edit",
    [lambda run: run.pop("token"), lambda run: run.update(dir="../elsewhere"), lambda run: run.update(cells=3),
     lambda run: run["cells"][0].update(dir="eval/../../x"), lambda run: run.update(resources=None)],
    ids=["no token", "outside", "no list", "cell outside", "no resources"],
)  # fmt: skip
def test_an_edited_plan_is_refused_and_named(group, edit):
    _, directory = group
    document = json.loads((directory / "plan.json").read_text())
    edit(document["runs"][0])
    (directory / "plan.json").write_text(json.dumps(document))
    with pytest.raises(StoreError, match=r"plan\.json: not as runplan wrote it"):
        read_group(directory)
