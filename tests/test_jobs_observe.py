"""What state a job is in, by everything that may be known of it."""

from dataclasses import replace

import pytest

from runplan.jobs.attempts import Attempt, Record
from runplan.jobs.observe import Ending, JobState, SlurmJobs, current_job, observe
from runplan.slurm.queue import SlurmJob

T0, T1, T2 = "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"
SUBMITTED = (Attempt("t", T0, "7"),)
QUIET = SlurmJobs({}, {})


def record(event, job_id="7", time=T1, code=None):
    return Record(event, "t", job_id, time, code, 60.0 if code is not None else None)


def slurm(state, job_id="7", reason=""):
    return SlurmJob(job_id, job_id, state, reason, "t")


def queue(*jobs):
    return SlurmJobs({job.job_id: job for job in jobs}, None)


def accounting(*jobs):
    return SlurmJobs({}, {job.job_id: job for job in jobs})


def test_nothing_is_known_of_a_job_that_nobody_submitted():
    assert observe((), (), QUIET).state is JobState.not_submitted


def test_an_intent_without_a_job_is_held():
    assert observe((Attempt("t", T0),), (), QUIET).state is JobState.held


def test_a_job_that_wrote_its_first_line_settles_its_intent():
    seen = observe((Attempt("t", T0),), (record("started"),), queue(slurm("RUNNING")))
    assert (seen.state, seen.job_id) == (JobState.running, "7")


def test_a_job_started_by_hand_counts():
    seen = observe((), (record("started", "local-4"), record("ended", "local-4", T2, 0)), QUIET)
    assert (seen.state, seen.job_id, seen.seconds) == (JobState.completed, "local-4", 60.0)


@pytest.mark.parametrize(
    ("word", "state"),
    [("PENDING", JobState.pending), ("RUNNING", JobState.running), ("COMPLETING", JobState.running),
     ("REQUEUED", JobState.pending), ("SUSPENDED", JobState.running), ("CONFIGURING", JobState.running)],
)  # fmt: skip
def test_the_queue_knows_what_is_not_over(word, state):
    assert observe(SUBMITTED, (), queue(slurm(word))).state is state


@pytest.mark.parametrize("state", ["preempted", "node_fail"])
def test_what_slurm_may_have_queued_again_is_not_over_while_it_does_not_answer(state):
    word = state.upper()
    said = Ending(state, f"JOB 7 CANCELLED DUE TO {word}")
    for known in (SlurmJobs(None, None), SlurmJobs(None, {"7": slurm(word)})):
        seen = observe(SUBMITTED, (record("started"),), known, said)
        assert (seen.state, seen.reason) == (
            JobState.unknown, f"{said.reason}; SLURM does not answer whether it is queued again"
        )  # fmt: skip
    assert observe(SUBMITTED, (record("started"),), QUIET, said).state is JobState(state)


def test_a_waiting_job_says_why():
    assert observe(SUBMITTED, (), queue(slurm("PENDING", reason="Resources"))).reason == "Resources"


@pytest.mark.parametrize(
    ("word", "state"),
    [("TIMEOUT", JobState.timeout), ("OUT_OF_MEMORY", JobState.host_oom), ("NODE_FAIL", JobState.node_fail),
     ("CANCELLED", JobState.cancelled), ("PREEMPTED", JobState.preempted), ("COMPLETED", JobState.completed)],
)  # fmt: skip
@pytest.mark.parametrize("where", [queue, accounting])
def test_slurm_knows_how_it_ended(where, word, state):
    assert observe(SUBMITTED, (record("started"),), where(slurm(word))).state is state


def test_a_failure_that_was_out_of_memory_is_told_by_the_log():
    seen = observe(SUBMITTED, (record("started"), record("ended", code=1, time=T2)), accounting(slurm("FAILED")),
                   Ending("oom", "CUDA out of memory"))  # fmt: skip
    assert (seen.state, seen.reason, seen.exit_code) == (JobState.oom, "CUDA out of memory", 1)


def test_a_timeout_stays_one_whatever_the_log_says():
    assert observe(SUBMITTED, (), accounting(slurm("TIMEOUT")), Ending("oom", "x")).state is JobState.timeout


def test_what_accounting_calls_running_and_no_queue_lists_is_over():
    for state in ("RUNNING", "PENDING"):
        assert observe(SUBMITTED, (), accounting(slurm(state))).state is JobState.cancelled
        assert observe(SUBMITTED, (record("started"),), accounting(slurm(state))).state is JobState.failed
        ended = (record("started"), record("ended", code=0, time=T2))
        assert observe(SUBMITTED, ended, accounting(slurm(state))).state is JobState.completed
    silent = SlurmJobs(None, {"7": slurm("RUNNING")})
    assert observe(SUBMITTED, (record("started"),), silent).state is JobState.running
    listed = SlurmJobs({"7": slurm("COMPLETED")}, {"7": slurm("RUNNING")})
    assert observe(SUBMITTED, (), listed).state is JobState.completed


def test_its_own_exit_code_is_enough_without_accounting():
    ends = (record("started"), record("ended", code=0, time=T2))
    assert observe(SUBMITTED, ends, SlurmJobs({}, None)).state is JobState.completed
    assert observe(SUBMITTED, ends, SlurmJobs(None, None)).state is JobState.completed
    bad = (record("started"), record("ended", code=2, time=T2))
    assert observe(SUBMITTED, bad, SlurmJobs(None, None)).reason == "exit code 2"


def test_a_requeued_job_that_runs_again_is_not_over():
    again = (record("started"), record("ended", code=143, time=T1), record("started", time=T2))
    assert observe(SUBMITTED, again, queue(slurm("RUNNING"))).state is JobState.running
    assert observe(SUBMITTED, again, SlurmJobs(None)).state is JobState.running


def test_a_job_that_left_without_a_word_failed_or_never_began():
    assert observe(SUBMITTED, (record("started"),), QUIET).state is JobState.failed
    assert observe(SUBMITTED, (), QUIET).state is JobState.cancelled
    assert observe(SUBMITTED, (record("started"),), QUIET, Ending("timeout", "x")).state is JobState.timeout
    assert observe(SUBMITTED, (), SlurmJobs(None)).state is JobState.unknown


def test_a_process_on_this_machine_runs_while_it_is_there():
    local = (Attempt("t", T0, "local-9", via="local"),)
    began = (record("started", "local-9"),)
    assert observe(local, began, SlurmJobs(None), alive=True).state is JobState.running
    assert observe(local, began, SlurmJobs(None), alive=False).state is JobState.cancelled


def test_the_last_attempt_counts():
    twice = (Attempt("t", T0, "7"), Attempt("t", T1, "8"))
    ends = (record("started"), record("ended", code=1))
    seen = observe(twice, ends, queue(slurm("PENDING", "8")))
    assert (seen.state, seen.job_id, seen.attempts) == (JobState.pending, "8", 2)
    assert current_job((SUBMITTED[0], Attempt("t", T1)), ends) is None


def test_a_job_started_by_hand_after_the_last_attempt_takes_its_place():
    ends = (record("started"), record("ended", code=1), record("started", "local-3", T2))
    assert current_job(SUBMITTED, ends) == "local-3"


def test_of_a_job_that_gave_way_the_other_counts():
    gave_way = (
        record("started"), record("started", "8", T2),
        Record("gave_way", "t", "8", T2, more={"to": "7"}), record("ended", "8", T2, code=1),
    )  # fmt: skip
    assert current_job(SUBMITTED, gave_way) == "7"
    by_ledger = (*SUBMITTED, replace(SUBMITTED[0], job_id="8", intended_at=T2))
    assert current_job(by_ledger, gave_way) == "7"
    assert observe(SUBMITTED, gave_way, queue(slurm("RUNNING"))).state is JobState.running
    requeued = (*gave_way, record("started", "8", T2), record("attempt", "8", T2))
    assert current_job(SUBMITTED, requeued) == "8"
    nonsense = (record("started"), *(Record("gave_way", "t", a, T2, more={"to": b}) for a, b in ("78", "87")))
    assert current_job(SUBMITTED, nonsense) in {"7", "8"}


def test_states_know_whether_they_are_an_end():
    assert JobState.timeout.ended_badly
    assert not JobState.completed.ended_badly
    assert not JobState.held.over


def test_a_killed_job_is_said_to_be():
    killed = SlurmJob("7", "7", "FAILED", "JobLaunchFailure", "t", exit_code=0, signal=9)
    seen = observe(SUBMITTED, (record("started"),), accounting(killed))
    assert (seen.state, seen.reason) == (JobState.failed, "killed by signal 9 (JobLaunchFailure)")
    words = observe(SUBMITTED, (record("started"),), accounting(killed), Ending("unknown", "last line: x"))
    assert words.reason == "killed by signal 9; last line: x"
    unknown = observe(SUBMITTED, (record("started"),), queue(slurm("FAILED")))
    assert unknown.reason == "it did not write its end: killed, or lost with its node"


def test_a_job_whose_log_could_not_be_opened_says_so():
    moved = SlurmJob("7", "7", "FAILED", "Dependency", "t", exit_code=0, signal=53)
    seen = observe(SUBMITTED, (), accounting(moved))
    assert seen.state is JobState.failed
    assert seen.reason == "SLURM could not open its log: its directory was moved, or the disk is full"


def test_why_a_cancelled_job_had_waited_is_no_reason_for_its_end():
    assert observe(SUBMITTED, (), queue(slurm("CANCELLED", reason="Priority"))).reason == ""
    assert observe(SUBMITTED, (), queue(slurm("CANCELLED", reason="Dependency"))).reason == "Dependency"


def test_the_line_of_the_log_that_says_the_same_as_slurm_is_the_reason():
    line = "slurmstepd: error: *** JOB 7 CANCELLED AT 2026-01-01T01:00:00 DUE TO TIME LIMIT ***"
    ending = Ending("timeout", line)
    assert observe(SUBMITTED, (record("started"),), queue(slurm("TIMEOUT", reason="TimeLimit")), ending).reason == line
    other = observe(SUBMITTED, (record("started"),), queue(slurm("NODE_FAIL", reason="NodeDown")), ending)
    assert (other.state, other.reason) == (JobState.node_fail, "NodeDown")
