"""Which jobs are due, by the states of all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.files.written import Job, WrittenGroup
from runplan.jobs.observe import JobState, Observed
from runplan.submit.due import AGAIN, Retry, find_due


def job(name: str, after: str | None = None) -> Job:
    kind, script = ("cell", "cell.slurm") if "/" in name else ("train", "finetune.slurm")
    run, _, inside = name.partition("/")
    directory = Path("/g") / name
    return Job(
        name, run, kind, inside or None, 0 if after else None, directory, script, f"{name}/{script}", after, {}, {}
    )


JOBS = (job("a"), job("a/e0", "a"), job("a/e1", "a"), job("b"), job("b/e0", "b"), job("base/e"))
GROUP = WrittenGroup(Path("/g"), {}, JOBS)
DONE, BAD, WAITS, RUNS = JobState.completed, JobState.failed, JobState.pending, JobState.running
NEW, GONE = JobState.not_submitted, JobState.cancelled


def decide(*states: JobState, only=(), begun=None, retry=None):
    seen = {each.token: Observed(state, "7") for each, state in zip(JOBS, states, strict=True)}
    found = find_due(GROUP, seen, frozenset(only), begun, retry)
    return found, {due.job.token: due.after for due in found.due}, {left.job.token: left.reason for left in found.left}


def test_everything_of_a_new_group_cells_after_their_trainings():
    _, due, left = decide(*[NEW] * 6)
    assert due == {"a": None, "a/e0": "a", "a/e1": "a", "b": None, "b/e0": "b", "base/e": None}
    assert left == {}


def test_what_was_submitted_is_not_due():
    found, due, left = decide(DONE, DONE, RUNS, RUNS, WAITS, DONE)
    assert (due, left, len(found.already)) == ({}, {}, 6)


@pytest.mark.parametrize(("training", "after"), [(DONE, None), (RUNS, "a"), (WAITS, "a")])
def test_a_cell_that_was_left_waits_only_for_a_training_that_is_under_way(training, after):
    _, due, _ = decide(training, NEW, DONE, DONE, DONE, DONE)
    assert due == {"a/e0": after}


@pytest.mark.parametrize("training", [state for state in JobState if state.ended_badly or state is JobState.held])
def test_a_cell_never_waits_for_a_training_that_will_not_succeed(training):
    _, due, left = decide(training, NEW, DONE, DONE, DONE, DONE)
    assert due == {}
    assert "a/e0" in left


def test_a_training_that_runs_on_this_machine_is_no_dependency():
    seen = {each.token: Observed(DONE) for each in JOBS} | {"a": Observed(RUNS, "local-5"), "a/e0": Observed(NEW)}
    found = find_due(GROUP, seen)
    assert found.due == ()
    assert "runs on this machine (local-5)" in found.left[0].reason


@pytest.mark.parametrize(("here", "due"), [({"a"}, ("a/e0", "a")), (set(), None)])
def test_a_cell_that_runs_here_waits_only_for_a_training_of_this_machine(here, due):
    seen = {each.token: Observed(DONE) for each in JOBS} | {"a": Observed(RUNS, "local-5"), "a/e0": Observed(NEW)}
    found = find_due(GROUP, seen, here=here)
    assert [(each.job.token, each.after) for each in found.due] == ([due] if due else [])
    assert [each.reason for each in found.left] == (
        [] if due else ["its training (local-5) is under way elsewhere; submit again when it is done"]
    )


def test_what_ended_badly_is_named_and_left_alone():
    found, due, left = decide(BAD, GONE, GONE, DONE, DONE, DONE)
    assert (due, left) == ({}, {})
    assert {state: len(jobs) for state, jobs in found.ended.items()} == {BAD: 1, GONE: 2}


def test_a_training_takes_its_cells_along():
    _, due, _ = decide(BAD, GONE, DONE, DONE, DONE, NEW, only=[BAD])
    assert due == {"a": None, "a/e0": "a"}


def test_a_cell_that_still_waits_for_the_dead_training_is_replaced():
    found, due, _ = decide(BAD, WAITS, DONE, DONE, DONE, DONE, only=[BAD])
    assert due == {"a": None, "a/e0": "a"}
    assert [each.replaces for each in found.due] == [None, "7"]


def test_a_cell_is_tried_again_by_itself():
    _, due, _ = decide(DONE, BAD, DONE, DONE, DONE, DONE, only=[BAD])
    assert due == {"a/e0": None}


def test_what_would_end_the_same_way_is_left_with_its_cells():
    _, due, left = decide(
        JobState.timeout, GONE, GONE, DONE, DONE, DONE,
        only=[JobState.timeout], retry=lambda *_: Retry(impossible="needs 31 h, the partition allows 24 h"),
    )  # fmt: skip
    assert due == {}
    assert left == {"a": "needs 31 h, the partition allows 24 h"}


def test_a_submission_that_came_to_nothing_is_due_whatever_is_asked_for_with_its_options():
    found, due, _ = decide(BAD, GONE, GONE, DONE, DONE, DONE, only=[JobState.oom], begun={"a": ("--mem=48G",)})
    assert due == {"a": None, "a/e0": "a", "a/e1": "a"}
    assert found.due[0].options == ("--mem=48G",)


def test_where_slurm_does_not_answer_nothing_is_risked():
    _, due, left = decide(JobState.held, NEW, DONE, DONE, DONE, NEW)
    assert due == {"base/e": None}
    assert left == {
        "a": "submitted or not? SLURM does not answer; run this again later",
        "a/e0": "nobody knows yet whether its training was submitted",
    }


@given(st.tuples(*[st.sampled_from(JobState)] * 6), st.frozensets(st.sampled_from(AGAIN)))
def test_laws(states, only):
    found, due, left = decide(*states, only=only)
    by = dict(zip((each.token for each in JOBS), states, strict=True))
    places = [
        *due,
        *left,
        *(each.token for each in found.already),
        *(j.token for js in found.ended.values() for j in js),
    ]
    assert len(places) == len(set(places))
    for token, after in due.items():
        assert by[token] not in {DONE, RUNS, JobState.held}
        if after is not None:
            assert after in due or by[after] in {WAITS, RUNS}
            assert after not in due or [*due].index(after) < [*due].index(token)
        elif "/" in token and token != "base/e":
            assert by[token.partition("/")[0]] is DONE
    if not only:
        assert {by[token] for token, after in due.items() if after not in due} <= {NEW}
