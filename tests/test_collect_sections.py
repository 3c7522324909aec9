from __future__ import annotations

from runplan.collect.outcome import Missing
from runplan.collect.sections import MISSING_SHOWN, lacking_items


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
