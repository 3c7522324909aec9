"""What another attempt is given, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_submit_due import job

from runplan.jobs.observe import JobState, Observed
from runplan.slurm.queue import SlurmJob
from runplan.submit.retries import Done, Limits, plan_retry
from runplan.units import parse_slurm_time

TRAINING = replace(
    job("a"), resources={"mem": "32G", "time": "01:00:00"}, entry={"steps": {"total": 400, "per_epoch": 100}}
)
CELL = replace(job("a/e0", "a"), resources={"mem": "8G", "time": "00:10:00"}, entry={"steps": {"total": 400}})
LATE = Observed(JobState.timeout, "5", seconds=3600.0)
HUNGRY = Observed(JobState.host_oom, "5", max_rss_gib=31.9)
DAY = 86400


def test_out_of_memory_asks_for_half_as_much_again():
    assert plan_retry(TRAINING, HUNGRY, ()).options == ("--mem=48G",)


def test_and_of_what_it_had_last():
    assert plan_retry(TRAINING, HUNGRY, ("--mem=48G", "--time=02:00:00")).options == ("--mem=72G", "--time=02:00:00")


def test_what_it_used_counts_where_it_is_more_than_was_asked_for():
    assert plan_retry(TRAINING, replace(HUNGRY, max_rss_gib=40.0), ()).options == ("--mem=60G",)


def test_at_most_what_a_node_has():
    how = plan_retry(TRAINING, HUNGRY, (), limits=Limits(memory_gib=40.5))
    assert how.options == ("--mem=40G",)
    assert "all that a node has" in how.note
    assert (
        "no node of its partition has more than 40G"
        in plan_retry(TRAINING, HUNGRY, how.options, limits=Limits(None, 40.5)).impossible
    )


def test_memory_of_which_nothing_is_known():
    bare = replace(TRAINING, resources={"mem": None, "time": "01:00:00"})
    assert "set resources.mem" in plan_retry(bare, replace(HUNGRY, max_rss_gib=None), ()).impossible


def test_time_is_learnt_from_progress():
    how = plan_retry(TRAINING, LATE, (), Done(300))
    assert how.options == ("--time=01:40:00",)  # 3600 s for 300 of 400 steps, and a fifth more
    assert "300 of 400 steps in 1h 00min" in how.note


def test_the_limit_that_slurm_had_counts_whatever_the_plan_says():
    edited = replace(LATE, seconds=4 * 3600.0, slurm=SlurmJob("5", "5", "TIMEOUT", limit_s=4 * 3600))
    how = plan_retry(TRAINING, edited, ())
    assert how.options == ("--time=06:00:00",)
    assert "04:00:00 were too short" in how.note


def test_saved_epochs_need_not_be_trained_again():
    how = plan_retry(TRAINING, LATE, (), Done(300, saved_epochs=3))
    assert how.options == ("--time=00:25:00",)
    assert "epochs saved: 3" in how.note


@pytest.mark.parametrize("made", [TRAINING, CELL])
def test_without_progress_half_as_much_again(made):
    asked = parse_slurm_time(made.resources["time"])
    (option,) = plan_retry(made, LATE, ()).options
    assert parse_slurm_time(option.partition("=")[2]) == pytest.approx(1.5 * asked, abs=300)


def test_the_limit_is_asked_for_and_said_when_more_is_needed():
    how = plan_retry(TRAINING, LATE, (), Done(30), Limits(2 * 3600))
    assert how.options == ("--time=02:00:00",)
    assert "needs about 16h 00min" in how.note


def test_the_same_limit_again_is_useless_unless_something_is_saved():
    full = ("--time=02:00:00",)
    again = plan_retry(TRAINING, LATE, full, Done(30), Limits(2 * 3600))
    assert "the partition allows 02:00:00" in again.impossible
    assert plan_retry(TRAINING, LATE, full, Done(30, saved_epochs=1), Limits(2 * 3600)).options == full


def test_other_endings_keep_what_the_last_attempt_had():
    assert plan_retry(TRAINING, Observed(JobState.failed), ("--mem=48G",)).options == ("--mem=48G",)


@given(st.integers(1, 400), st.integers(0, 3), st.integers(300, DAY), st.integers(600, DAY))
def test_never_above_the_limit_and_never_without_a_reason(steps, saved, seconds, limit):
    how = plan_retry(
        TRAINING, replace(LATE, seconds=float(seconds)), (), Done(steps, min(saved, steps // 100)), Limits(limit)
    )
    assert bool(how.impossible) != bool(how.note and how.options)
    for option in how.options:
        assert 0 < parse_slurm_time(option.partition("=")[2]) <= limit
