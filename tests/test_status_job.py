"""What is said of one job: how far, when it ends, whether that is too late, why it waits."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from job_plans import config
from status_groups import trained, write_group
from test_status_pace import bars

from runplan.jobs.attempts import Attempt, Record
from runplan.jobs.observe import JobState, Observed
from runplan.jobs.seen import JobSeen
from runplan.slurm.queue import SlurmJob
from runplan.status.forecast import Estimate, clock, later, number, remaining_s, slurm_moment, speed_text
from runplan.status.job import job_status
from runplan.status.pace import Pace

START = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
AT = START + timedelta(minutes=10)
RUNNING = Observed(JobState.running, "7", 1, started_at="2026-01-31T12:00:00Z")


@pytest.fixture
def jobs(tmp_path):
    settings = config()
    settings.epochs = 2
    return write_group(tmp_path / "group", trained(config=settings)).jobs


def status(job, seen=None, observed=RUNNING, attempts=(), at=AT):
    return job_status(job, attempts, seen or JobSeen(written_at=at.timestamp()), observed, at)


def seen(tail, age_s=1.0, **more):
    return JobSeen(log="/g/slurm-7.out", tail=tail, written_at=AT.timestamp() - age_s, **more)


def test_what_is_left_goes_at_the_present_speed(jobs):
    found = status(jobs[0], seen(bars(1, 150, 4.0)))
    assert (found.done, found.total) == (150, 500)
    assert found.it_per_s == pytest.approx(0.25, rel=0.02)
    assert found.speed_ratio == pytest.approx(0.5, rel=0.02)
    # 350 steps of 4 s; validation at half the planned speed, 70 % of it left; both epochs are still to be saved
    assert found.remaining_s == pytest.approx(350 * 4 + 40 * 2 * 0.7 + 27, rel=0.02)
    assert found.ends_at == AT + timedelta(seconds=found.remaining_s)


def test_a_run_too_slow_for_its_limit_is_said_with_both_numbers(jobs):
    found = status(jobs[0], seen(bars(1, 150, 4.0)))
    ends = clock(START + timedelta(minutes=30), AT)
    assert found.warning.startswith(f"will hit its time limit of 30min at {ends}: at 4.00 s/it it needs 3")
    longer = status(jobs[0], seen(bars(1, 150, 4.0)), attempts=(Attempt("t", "", "7", options=("--time=01:00:00",)),))
    assert (longer.warning, longer.limit_s) == ("", 3600)


def test_near_its_limit_it_only_may_hit_it(jobs):
    job = replace(jobs[0], resources={**jobs[0].resources, "time": "00:30:00"})
    near = Observed(JobState.running, "7", 1, started_at="2026-01-31T11:57:46Z")  # 12 min ago, 17 min left
    left = status(job, seen(bars(1, 190, 3.1)), near)
    assert left.warning.startswith("may hit its time limit of 30min")


def test_before_the_first_step_the_plan_counts(jobs):
    early = status(jobs[0], at=START + timedelta(seconds=10))
    assert early.remaining_s == pytest.approx(1090.0)
    late = status(jobs[0], at=START + timedelta(seconds=600))
    assert late.remaining_s == pytest.approx(1070.0), "no step is done: all but the start-up is left"
    assert late.warning.startswith("may hit its time limit of 30min")
    assert late.warning.endswith("with its start it may need 35min")
    assert (late.done, late.total, late.it_per_s) == (None, 500, None)


def test_a_silent_log_is_said(jobs):
    assert status(jobs[0], seen(bars(1, 150, 2.0), 1500)).warning == "its log was last written 25min ago"
    slow = seen(bars(1, 3, 100.0), 1500)
    assert "last written" not in status(jobs[0], slow).warning, "steps that take minutes are no silence"


def test_a_completed_run_did_all_its_steps(jobs):
    over = Observed(JobState.completed, "7", 1, started_at="2026-01-31T12:00:00Z", seconds=900.0)
    found = status(jobs[0], JobSeen(), over)
    assert (found.done, found.total, found.seconds, found.remaining_s, found.ends_at) == (500, 500, 900.0, None, None)


def test_a_waiting_job_says_why_and_when(jobs, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    slurm = SlurmJob("7", "7", "PENDING", "Resources", "t", start_at="2026-01-31T14:00:00")
    found = status(jobs[0], JobSeen(), Observed(JobState.pending, "7", 1, "Resources", slurm=slurm))
    assert found.reason == "waiting for free resources"
    assert found.starts_at == slurm_moment("2026-01-31T14:00:00")
    assert found.ends_at == found.starts_at + timedelta(seconds=1100)
    other = status(jobs[0], JobSeen(), Observed(JobState.pending, "7", 1, "FrontEndDown"))
    assert (other.reason, other.ends_at) == ("FrontEndDown", None)


def test_the_limit_is_slurm_s_which_may_have_been_changed(jobs):
    slurm = SlurmJob("7", "7", "RUNNING", limit_s=7200)
    assert status(jobs[0], seen(b""), Observed(JobState.running, "7", 1, slurm=slurm)).limit_s == 7200


def test_a_waiting_job_whose_directory_is_gone_says_both(jobs):
    waits = Observed(JobState.pending, "7", 1, "BeginTime")
    reason = status(jobs[0], JobSeen(there=False), waits).reason
    assert reason.startswith("begins later, as was asked or after a requeue; its directory ")


def test_a_held_job_begins_when_it_is_released(jobs):
    slurm = SlurmJob("7", "7", "PENDING", start_at="2026-01-31T14:00:00")
    for reason in ("job requeued in held state", "JobHeldUser"):
        held = Observed(JobState.pending, "7", 1, reason, slurm=replace(slurm, reason=reason))
        found = status(jobs[0], JobSeen(), held)
        assert (found.starts_at, found.ends_at) == (None, None)
        assert "scontrol release" in found.reason


def test_a_suspended_job_says_so_and_has_no_end(jobs):
    rests = SlurmJob("7", "7", "SUSPENDED", "None", "t", start_at="2026-01-31T12:00:00")
    found = status(jobs[0], JobSeen(), Observed(JobState.running, "7", 1, slurm=rests))
    assert (found.ends_at, found.warning.partition(":")[0]) == (None, "suspended")
    goes_on = Observed(JobState.running, "7", 1, slurm=replace(rests, state="RUNNING"))
    assert status(jobs[0], JobSeen(), goes_on).ends_at is not None


def test_another_configuration_is_named(jobs):
    tries = tuple(Record("attempt", "t", "7", "", more={"config": name}) for name in ("finetune.yaml", "rung1.yaml"))
    assert status(jobs[0], replace(seen(b""), records=tries)).config == "rung1.yaml"
    assert status(jobs[0], replace(seen(b""), records=tries[:1])).config is None
    assert status(jobs[0], replace(seen(b""), records=(replace(tries[1], job_id="6"),))).config is None


def test_a_deleted_directory_is_named(jobs):
    found = status(jobs[0], JobSeen(there=False))
    assert found.reason == f"its directory {jobs[0].directory} is gone"


def test_an_evaluation_counts_samples(jobs):
    tail = b"cap | Steps:   5/ 10  50% | Samples:   5/ 10 |\n"
    found = status(jobs[1], seen(tail))
    assert (found.done, found.total, found.remaining_s) == (5, 10, 150.0)
    fresh = status(jobs[1], at=START + timedelta(seconds=100))
    assert fresh.remaining_s == 200.0


KEYS = ["estimate", "it_per_s", "time_s", "parts_s", "p50", "steps", "total", "config", "epochs", "cells", "time"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda one: st.lists(one, max_size=2) | st.dictionaries(st.sampled_from(KEYS), one, max_size=3),
    max_leaves=8,
)
TREES = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(TREES, TREES)
def test_an_edited_plan_is_no_crash(jobs, entry, resources):
    for job in jobs:
        found = status(replace(job, entry=entry, resources=resources), seen(bars(1, 20, 2.0)))
        assert found.remaining_s is None or found.remaining_s >= 0


def test_only_finite_numbers_are_numbers():
    assert number({"a": {"b": 2}}, "a", "b") == 2
    assert [number({"a": value}, "a") for value in (True, "1", None, float("nan"), float("inf"), [1])] == [None] * 6
    assert number({"a": 1}, "a", "b") is None


@given(
    st.builds(Estimate, st.none() | st.integers(1, 9), st.none() | st.integers(1, 999),
              *[st.none() | st.floats(0.01, 1e6)] * 3),
    st.builds(Pace, st.none() | st.integers(0, 999), st.none() | st.integers(1, 999), st.none() | st.integers(1, 99),
              st.none() | st.floats(1e-6, 1e6)),
    st.none() | st.integers(1, 999),
    st.none() | st.floats(0, 1e9),
)  # fmt: skip
def test_what_is_left_is_never_negative_and_always_finite(estimate, pace, total, elapsed):
    left = remaining_s(estimate, pace, total, elapsed)
    assert left is None or 0 <= left < 1e12


def test_moments_and_speeds_are_written_as_people_do(monkeypatch):
    assert speed_text(2.2) == "2.20 it/s"
    assert speed_text(0.1456) == "6.87 s/it"
    assert clock(AT, AT) == f"{AT.astimezone():%H:%M}"
    assert len(clock(AT + timedelta(days=3), AT).split()) == 3
    assert slurm_moment("garbage") is None
    assert later(AT, 1e300) is None
