from __future__ import annotations

import pytest
from factories_collect import REQUEST, make_cell, make_group, make_run

from runplan.collect.outcome import Missing
from runplan.collect.report import make_report
from runplan.collect.sections import MISSING_SHOWN, lacking_items, results_sections
from runplan.summary.blocks import Fact, Table


def missing(run, state="pending", reason="behind jobs of higher priority", cell=None):
    return Missing(run, "cell" if cell else "train", cell, None, None, state, reason, f"see {run}")


def test_what_lacks_a_result_for_the_same_reason_is_said_once():
    many = [missing(f"r{i}") for i in range(9)] + [missing("r9", "running", "")]
    many += [missing(f"r{i}", reason="its training: pending", cell="eval/t_epoch0") for i in range(2)]
    first, second, third = lacking_items(many)
    assert (first.text, first.command) == (
        "r0, r1, r2, r3 and 5 more: pending: behind jobs of higher priority",
        "see r0",
    )
    assert second.text == "r9: running"
    assert third.text == "r0/eval/t_epoch0, r1/eval/t_epoch0: pending: its training: pending"


def test_of_very_many_reasons_the_rest_is_counted():
    items = lacking_items([missing(f"r{i}", "failed", f"reason {i}") for i in range(MISSING_SHOWN + 3)])
    assert len(items) == MISSING_SHOWN + 1
    assert items[-1].text.startswith("… and 3 more")


@pytest.mark.parametrize(("gpus", "said"), [(1, "used 0.033"), (0, None)])
def test_gpu_hours_are_said_of_jobs_with_gpus_alone(gpus, said):
    asked = REQUEST | {"gpus": gpus}
    report = make_report(make_group(make_run(cells=[make_cell(resources=asked)], resources=asked)))
    estimated = next(section for _, section in results_sections(report) if section.heading == "Estimated vs actual")
    [table] = [block for block in estimated.blocks if isinstance(block, Table)]
    hours = [block.value for block in estimated.blocks if isinstance(block, Fact) and block.label == "GPU-hours"]
    assert table.rows[0][-2:] == (("1.0", "0.017") if gpus else ("-", "-"))
    assert all(value.endswith(said) for value in hours) if said else not hours
