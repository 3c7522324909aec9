from __future__ import annotations

import csv
import io
import json

import pytest
from factories_plan import make_plan

from runplan.estimate.workload import Interval
from runplan.files.document import document_csv, document_text, plan_document, rounded

RUN_KEYS = (
    "name", "type", "dir", "model", "factors", "overrides", "recipe", "trainer", "config", "steps", "estimate",
    "resources", "gpu_hours", "cells",
)  # fmt: skip


def test_the_document_has_every_key_of_schema_1():
    document = plan_document(make_plan())
    assert document["schema"] == 1
    assert document["design"] == {"type": "2x2 factorial", "factors": {"model": ["1B", "3B"], "lora.rank": [4, 64]}}
    assert document["totals"] == {"runs": 6, "fine_tuned": 4, "controls": 2, "gpu_hours": {"p50": 1.5, "p95": 2.0}}
    for run in document["runs"]:
        assert set(RUN_KEYS) <= set(run)
        assert set(run["estimate"]) >= {
            "it_per_s", "tokens_per_s", "time_s", "peak_memory_gib", "allocated_gib", "source", "n_priors",
            "extrapolated", "evidence",
        }  # fmt: skip
        assert set(run["resources"]) >= {"gpus", "time", "mem", "partition", "account", "constraint", "cpus_per_task"}
        assert all(set(cell) >= {"task", "epoch", "dir", "time_s", "resources"} for cell in run["cells"])
    assert [set(check) for check in document["verified"]] == [
        {"kind", "name", "path", "status", "detail", "fix", "files"} for _ in document["verified"]
    ]


def test_a_fine_tuned_run_and_a_control():
    document = plan_document(make_plan())
    run, control = document["runs"][1], document["runs"][-1]
    assert (run["name"], run["type"], run["factors"]) == ("1B_rank64", "fine-tuned", {"model": "1B", "lora.rank": 64})
    assert run["estimate"]["it_per_s"] == 1.2346
    assert run["estimate"]["time_s"] == {"p50": 600.0, "p95": 900.0}
    assert run["resources"]["time"] == "00:30:00"
    assert run["resources"]["mem"] == "32G"
    assert run["config"]["lora_rank"] == 64
    assert run["config"]["lr"] == 3e-4
    assert (control["name"], control["type"], control["factors"]) == ("3B_base", "control", {"model": "3B"})
    assert control["steps"] == {"per_epoch": None, "total": None}
    assert control["estimate"]["time_s"] == {"p50": None, "p95": None}
    assert control["cells"][0]["epoch"] is None


def test_factors_with_one_level_are_no_factors():
    document = plan_document(make_plan({"model": ["1B"], "lora.rank": [4, 8], "seed": [3]}))
    assert document["design"]["factors"] == {"lora.rank": [4, 8]}
    assert all(set(run["factors"]) <= {"lora.rank"} for run in document["runs"])


def test_text_is_the_same_from_call_to_call_and_strict_json():
    plan = make_plan(sizes={"peak_memory_gib": Interval(float("inf"), float("nan")), "tokens_per_s": 1 / 3})
    text = document_text(plan_document(plan))
    again = make_plan(sizes={"peak_memory_gib": Interval(float("inf"), float("nan")), "tokens_per_s": 1 / 3})
    assert text == document_text(plan_document(again))
    run = json.loads(text, parse_constant=pytest.fail)["runs"][0]
    assert run["estimate"]["peak_memory_gib"] == {"p50": None, "p95": None}
    assert run["estimate"]["tokens_per_s"] == 0.33333
    assert text.splitlines()[1] == '  "schema": 1,'


def test_hostile_text_survives():
    hostile = "a'; echo x\n\"|`$(rm)`\u2028日本"
    plan = make_plan({"system_prompt": [hostile, "b"]}, group=hostile)
    document = json.loads(document_text(plan_document(plan)))
    assert document["group"] == hostile
    assert document["design"]["factors"]["system_prompt"] == [hostile, "b"]


def test_the_table_has_one_row_a_run():
    rows = list(csv.DictReader(io.StringIO(document_csv(plan_document(make_plan())))))
    assert [row["name"] for row in rows] == ["1B_rank4", "1B_rank64", "3B_rank4", "3B_rank64", "1B_base", "3B_base"]
    assert rows[3]["lora.rank"] == "64"
    assert rows[3]["time_s_p95"] == "2250.0"
    assert (rows[4]["type"], rows[4]["lora.rank"], rows[4]["batch_size"]) == ("control", "", "")


def test_the_table_quotes_what_needs_it():
    plan = make_plan({"system_prompt": ['say "a, b"\nthen c', "x"]})
    rows = list(csv.DictReader(io.StringIO(document_csv(plan_document(plan)))))
    assert rows[0]["system_prompt"] == 'say "a, b"\nthen c'
    assert len(rows) == len(plan.runs)


@pytest.mark.parametrize(("value", "wanted"), [(1 / 3, 0.33333), (12345.678, 12346.0), (460, 460), (None, None)])
def test_rounding_keeps_five_digits(value, wanted):
    assert rounded(value) == wanted
