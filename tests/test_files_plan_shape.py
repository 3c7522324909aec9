"""What is said about a plan.json that somebody edited."""

import json

import pytest
from job_plans import cell, control, plan, run

from runplan.files.document import document_text, plan_document
from runplan.files.plan_shape import wrong_part


@pytest.fixture
def document():
    return json.loads(document_text(plan_document(plan(run(cells=(cell(),)), control()))))


def test_what_is_written_is_right(document):
    assert wrong_part(document) == ""


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda d: d["runs"][0].pop("estimate"), "runs[0].estimate is not there"),
        (lambda d: d.update(totals=None), "totals: no mapping"),
        (lambda d: d["runs"][1].update(cells="x"), "runs[1].cells: no list"),
        (lambda d: d["runs"][0]["resources"].update(gpus="x"), "runs[0].resources.gpus: 'x' is not a number or null"),
        (lambda d: d["runs"][0]["cells"][0].update(task=None), "runs[0].cells[0].task: None is not text"),
        (
            lambda d: d["runs"][0]["resources"].update(mem=4),
            "runs[0].resources.mem: 4 is not an amount of memory such as 64G or null",
        ),
        (
            lambda d: d["runs"][0]["resources"].update(mem="much"),
            "runs[0].resources.mem: 'much' is not an amount of memory such as 64G or null",
        ),
        (
            lambda d: d["runs"][0]["cells"][0]["resources"].update(time="soon"),
            "runs[0].cells[0].resources.time: 'soon' is not a time such as 02:30:00 or null",
        ),
    ],
)  # fmt: skip
def test_an_edited_part_is_named(document, edit, said):
    edit(document)
    assert wrong_part(document) == said
