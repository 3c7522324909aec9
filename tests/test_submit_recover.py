"""Submissions of which the end is not recorded."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from test_submit_due import JOBS

from runplan.jobs.attempts import Attempt, Ledger, Record, parse_ledger
from runplan.jobs.observe import SlurmJobs
from runplan.slurm.queue import SlurmJob
from runplan.submit.recover import find_job, settle

AT = "2026-01-31T12:00:00Z"
OPEN = Attempt("a", AT)


def local(text: str) -> str:
    """A time of SLURM's on this machine."""
    when = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return when.astimezone().strftime("%Y-%m-%dT%H:%M:%S")


def slurm(job_id: str, token: str = "a", at: str = AT, state: str = "PENDING") -> SlurmJob:
    return SlurmJob(job_id, job_id, state, token=token, submitted_at=local(at))


def started(job_id: str, at: str = AT) -> Record:
    return Record("started", "a", job_id, at)


def test_by_its_own_record():
    assert find_job(OPEN, frozenset(), [started("5")], []) == "5"


def test_by_slurm():
    assert find_job(OPEN, frozenset(), [], [slurm("4", "b"), slurm("5")]) == "5"


@pytest.mark.parametrize("state", ["COMPLETED", "CANCELLED", "FAILED"])
def test_by_slurm_when_it_is_over(state):
    assert find_job(OPEN, frozenset(), [], [slurm("5", state=state)]) == "5"


def test_never_an_earlier_attempt():
    assert find_job(OPEN, frozenset({"5"}), [started("5")], [slurm("5")]) is None
    assert find_job(OPEN, frozenset({"5"}), [started("5"), started("6")], [slurm("5")]) == "6"


def test_never_a_job_of_before_it_was_meant_to_be():
    assert find_job(OPEN, frozenset(), [], [slurm("5", at="2026-01-31T11:49:00Z")]) is None


def test_its_own_record_whatever_the_node_s_clock_says():
    assert find_job(OPEN, frozenset(), [started("5", "2026-01-30T00:00:00Z")], []) == "5"


def test_clocks_may_differ():
    assert find_job(OPEN, frozenset(), [], [slurm("5", at="2026-01-31T11:51:00Z")]) == "5"


def test_the_hour_that_comes_twice(monkeypatch):
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        attempt = Attempt("a", "2026-10-25T00:59:59Z")  # 02:59:59 there, in summer
        made = SlurmJob("5", "5", "PENDING", token="a", submitted_at="2026-10-25T02:00:05")
        assert find_job(attempt, frozenset(), [], [made]) == "5"
        assert find_job(attempt, frozenset(), [], [replace(made, submitted_at="2026-10-25T00:30:00")]) is None
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("listed", ["77_[0-3]", "77_0", "77_2", "77"])
def test_a_task_by_the_token_of_its_array(listed):
    attempt = Attempt("a", AT, via="submitit", array="array-1", task=2)
    assert find_job(attempt, frozenset(), [], [slurm(listed, "array-1")]) == "77_2"


def intent(token: str, **more) -> str:
    return json.dumps({"event": "intent", "token": token, "job_id": None, "time": AT} | more) + "\n"


def test_found_nothing_and_unknown_are_told_apart():
    ledger = parse_ledger(intent("a") + intent("b", options=["--mem=4G"]))
    found = settle(JOBS, ledger, {}, SlurmJobs({"5": slurm("5")}))
    assert (found.found, found.nothing, found.unknown) == ({"a": "5"}, {"b": ("--mem=4G",)}, frozenset())
    silent = settle(JOBS, ledger, {"a": [started("5")]}, SlurmJobs(None))
    assert (silent.found, silent.nothing, silent.unknown) == ({"a": "5"}, {}, {"b"})


def test_a_process_of_this_machine_needs_no_slurm_to_be_known_as_nothing():
    assert settle(JOBS, parse_ledger(intent("a", via="local")), {}, SlurmJobs(None)).nothing == {"a": ()}


def test_what_was_submitted_by_hand_is_found_while_it_is_not_over():
    assert settle(JOBS, Ledger(), {}, SlurmJobs({"5": slurm("5")})).found == {"a": "5"}
    assert settle(JOBS, Ledger(), {}, SlurmJobs({"5": slurm("5", state="FAILED")})).found == {}


def test_a_job_that_works_in_a_copy_of_the_run_is_another_s():
    known = SlurmJobs({"5": slurm("5")})
    for ledger in (Ledger(), parse_ledger("{edited\n"), parse_ledger(intent("a"))):
        settled = settle(JOBS, ledger, {}, known, lambda job, found: (job.token, found.job_id) == ("a", "5"))
        assert settled.found == {}


def test_of_a_damaged_ledger_every_job_is_looked_for():
    damaged = parse_ledger("{edited\n")
    assert settle(JOBS, damaged, {}, SlurmJobs({"5": slurm("5", state="FAILED")})).found == {"a": "5"}
