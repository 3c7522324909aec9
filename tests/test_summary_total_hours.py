"""Groups are counted in the hours of what their jobs ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.summary.total_hours import total_hours


def _job(gpus, hours, cores=4):
    return {"gpus": gpus, "cpus_per_task": cores}, {"p50": hours * 3600, "p95": hours * 7200}


def _document(*jobs, gpu_hours=(0, 0)):
    """A plan of one run a job, the last one its run's evaluation."""
    (resources, time_s), *cells = jobs
    run = {
        "resources": resources,
        "estimate": {"time_s": time_s},
        "cells": [{"resources": asked, "time_s": seconds} for asked, seconds in cells],
    }
    return {"runs": [run], "totals": {"gpu_hours": dict(zip(("p50", "p95"), gpu_hours, strict=True))}}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (_document(_job(1, 1.5), gpu_hours=(1.5, 3)), [("GPU hours", "1.5 (p95 3.0)")]),
        (_document(_job(0, 0.5)), [("CPU core-hours", "2.0 (p95 4.0)")]),
        (_document(_job(0, 0.5, cores=1)), [("CPU core-hours", "0.5 (p95 1.0)")]),
        (
            _document(_job(0, 0.5), _job(1, 0.25), gpu_hours=(0.25, 0.5)),
            [("GPU hours", "0.25 (p95 0.5)"), ("CPU core-hours", "2.0 (p95 4.0)")],
        ),
        (_document(({"gpus": None, "cpus_per_task": None}, {"p50": None, "p95": None})), [("GPU hours", "0 (p95 0)")]),
        (_document(_job(1, 1), gpu_hours=(None, None)), [("GPU hours", "unknown")]),
    ],
)
def test_hours_are_of_gpus_or_of_cores(document, said):
    assert total_hours(document) == said


def test_runs_that_the_plan_lacks_do_not_count():
    document = _document(_job(0, 0.5))
    document["runs"].append(document["runs"][0] | {"orphaned": True})
    assert total_hours(document) == [("CPU core-hours", "2.0 (p95 4.0)")]


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=5))
def test_the_p95_of_a_sum_is_at_most_the_sum_of_p95s(hours):
    [(_, said)] = total_hours(_document(*(_job(0, each) for each in hours)))
    p50, p95 = (float(word.strip("()")) for word in said.replace("(p95 ", "").split())
    assert 4 * sum(hours) - 0.06 <= p50 <= p95 <= 8 * sum(hours) + 0.06
