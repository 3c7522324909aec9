"""runplan/estimate/logs/repeats.py: logs that repeat each other."""

import dataclasses
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_estimate_calibrated import GPUS, LOG, MODELS

from runplan.estimate.logs.repeats import KEPT, newest_alike
from runplan.estimate.speed.merged import merged
from runplan.estimate.speed.observation import observe
from runplan.estimate.speed.posterior import MOST, fit

A100 = GPUS["a100-80"]


def seen(seconds, path="a.out", **changes):
    changes = {"packed": True, "batch_size": 4, **changes}
    return observe(dataclasses.replace(LOG, path=path, s_per_step=seconds, **changes), MODELS, GPUS, A100)


def test_of_one_setting_the_newest_are_looked_at_and_runs_that_lacked_memory_always():
    logs = [dataclasses.replace(LOG, path=f"{i}.out", modified_s=float(i)) for i in range(2 * KEPT)]
    broke = dataclasses.replace(LOG, path="broke.out", state="oom", s_per_step=None)
    kept = newest_alike([broke, *logs])
    assert [run.path for run in kept] == [*(f"{i}.out" for i in range(2 * KEPT - 1, KEPT - 1, -1)), "broke.out"]


@given(st.lists(st.floats(0.99, 1.01), min_size=1, max_size=9))
def test_the_median_of_all_that_repeat_a_task_stands_for_them_and_is_surer(factors):
    (one,), apart = merged([seen(2.0 * factor, f"{i}.out") for i, factor in enumerate(factors)])
    assert (one.repeats, apart) == (len(factors), [])
    assert one.seconds == pytest.approx(2.0 * math.exp(statistics.median(map(math.log, factors))))
    alone = seen(2.0)
    # The noise that all share (what the log does not say) does not shrink.
    assert math.sqrt(alone.noise**2 - alone.run_noise**2) <= one.noise + 1e-12 <= alone.noise + 1e-11


def test_one_that_stands_apart_from_its_likes_is_named():
    near = [seen(2.0 + i / 100, f"{i}.out") for i in range(4)]
    (one,), ((odd, why),) = merged([*near, seen(20.0, "odd.out")])
    assert (one.repeats, odd.run.path) == (4, "odd.out")
    assert why == "9.9 times the step time of 4 logs of the same setting"
    # Of two nothing says which is odd: both stay.
    assert [len(part) for part in merged([seen(2.0), seen(20.0)])] == [2, 0]


def test_runs_that_scatter_are_no_surer_than_their_scatter():
    calm, wild = ([seen(2.0 * math.exp(scale * i), f"{i}.out") for i in (-1, 0, 1)] for scale in (0.01, 0.2))
    assert merged(wild)[0][0].noise > 2 * merged(calm)[0][0].noise


def test_all_logs_of_a_group_count_however_many():
    few = fit([seen(2.0, f"{i}.out") for i in range(4)], A100)
    assert (len(few.used), few.n_logs) == (4, 4)
    many = fit([seen(2.0 + i % 7 / 100, f"{i}.out", lora_rank=4 + i % 4) for i in range(2 * MOST)], A100)
    assert (len(many.used), many.n_logs) == (4, 2 * MOST)
    assert not many.outliers
