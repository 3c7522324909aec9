from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.collect.curves import Curve, bar_curve, disk_curve, thinned
from runplan.collect.executions import Execution, executions, owner
from runplan.jobs.attempts import Record

DISK = """Step 1 | loss:4.5 lr:0.0003 tokens_per_second_per_gpu:788.7\x20
Step 2 | loss:4.25 lr:0.0006 tokens_per_second_per_gpu:2780.5\x20
Step 2 | val_loss:4.5\x20
Step 3 | loss:nan lr:0.0006
"""
BARS = (
    "1|1|Loss: 4.5:   0%| | 1/2 [00:00<00:21, 9.3it/s]\r1|1|Loss: 4.5:   0%| | 2/2 [00:00<00:21, 9.3it/s]"
    "\r1|2|Loss: 4.25: 100%|#| 2/2 Validation loss: 4.500000 | step 2 | 25 batches in 0.19 seconds\n"
)


def test_what_the_disk_logger_writes():
    curve = disk_curve([DISK])
    assert (curve.train, curve.validation) == (((1, 4.5), (2, 4.25)), ((2, 4.5),))
    assert (curve.last_train, curve.last_validation, curve.best_validation) == (4.25, 4.5, (2, 4.5))


def test_what_bars_show():
    assert bar_curve([BARS]) == disk_curve([DISK])


def test_a_resumed_run_continues_its_curve():
    assert disk_curve([DISK, "Step 2 | loss:1.0 lr:1\nStep 3 | loss:0.5 lr:1\n"]).train == (
        (1, 4.5),
        (2, 1.0),
        (3, 0.5),
    )


def test_nothing_is_no_curve():
    assert disk_curve(["", "\x00\xff", "Step x | loss:"]) == Curve()
    assert (Curve().last_train, Curve().last_validation, Curve().best_validation) == (None, None, None)


@given(st.lists(st.floats(0, 10), max_size=400), st.integers(1, 120))
def test_thinned_curves_keep_their_ends_and_their_mean(losses, most):
    points = tuple(enumerate(losses, 1))
    shown = thinned(points, most)
    assert len(shown) == min(len(points), most)
    assert [step for step, _ in shown] == sorted(step for step, _ in shown)
    if losses and len(losses) % most == 0:
        mean = math.fsum(loss for _, loss in shown) / len(shown)
        assert mean == pytest.approx(math.fsum(losses) / len(losses), abs=1e-9)


def record(event, job="7", time="2026-01-01T00:00:00Z", code=None, seconds=None):
    return Record(event, "t", job, time, code, seconds)


def test_a_job_that_was_requeued_ran_twice():
    later = "2026-01-01T01:00:00Z"
    ran = executions([record("started"), record("started", time=later), record("ended", code=0, seconds=9.0)])
    assert ran == (Execution("7", "2026-01-01T00:00:00Z"), Execution("7", later, 0, 9.0))


def test_ends_without_a_beginning_and_odd_times_are_passed_over():
    assert executions([record("ended", code=0), record("cleaned")]) == ()
    tried = executions([record("started"), record("attempt"), record("started", time="2026-01-02T00:00:00Z")])
    assert [each.trained for each in tried] == [True, False]
    assert executions([record("started"), record("ended", code=1, seconds=-5.0)])[0].seconds is None


def test_a_file_belongs_to_the_last_job_that_had_begun():
    ran = (Execution("7", "2026-01-01T00:00:00Z", 0), Execution("8", "2026-01-01T02:00:00Z", 1))
    assert owner(ran, "2026-01-01T02:00:00+01:00") == ran[0]
    assert owner(ran, "2026-01-01T02:00:01+00:00") == ran[1]
    assert owner(ran, "2025-01-01T00:00:00+00:00") is None
    assert owner(ran, "yesterday") is None
    assert owner((Execution("7", "?"),), "2026-01-01T00:00:00+00:00") is None
