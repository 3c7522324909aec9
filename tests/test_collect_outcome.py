from __future__ import annotations

from dataclasses import replace

import pytest
from factories_collect import CREATED, make_cell, make_control, make_group, make_job, make_log, make_run

from runplan.collect.actual import actuals, coverage, record_of, totals
from runplan.collect.executions import Execution
from runplan.collect.found import FoundJob, LogFile
from runplan.collect.outcome import missing, usable_log, warnings
from runplan.jobs.observe import JobState, Observed
from runplan.priors.record import MemoryGib, PriorRun

LATER = "2026-01-02T00:00:00+00:00"
FAILED = replace(make_job(JobState.failed, exit_code=1), log="a b/slurm-1.out", last_words="cell.slurm: no model at /m")
WAITING = FoundJob()


def with_logs(*files, job=None, **more):
    return replace(make_cell(job=job, **more), logs=files)


def log_file(path="a.json", problem="", **more):
    return LogFile(path, None if problem else make_log(**more), problem)


def of(*runs):
    return missing(make_group(*runs))


def test_nothing_is_missing_of_what_is_there():
    assert of(make_run(), make_control()) == []
    assert warnings(make_group(make_run(), make_control())) == []


def test_what_an_environment_lacks_comes_before_another_try():
    job = replace(
        make_job(JobState.failed, exit_code=127), log="r/slurm-1.out", last_words="no tune on PATH: install it"
    )
    (training,) = of(make_run(job=job))
    assert training.fix == (
        "see /groups/g/r/slurm-1.out, install what its environment lacks, or plan again with another, "
        "then: runplan submit /groups/g --only failed"
    )


def test_the_newest_success_counts():
    cell = with_logs(log_file("a", created=LATER), log_file("b"), log_file("c", created=LATER, status="error"))
    assert usable_log(cell).path == "a"
    found = warnings(make_group(make_run(cells=[cell])))
    assert found == ["c ended with status error; a counts"]


def test_a_damaged_log_beside_a_whole_one_is_named():
    cell = with_logs(log_file("a"), log_file("b", "is cut short"))
    assert usable_log(cell).path == "a"
    assert warnings(make_group(make_run(cells=[cell]))) == ["b is cut short; a counts"]


def test_the_log_of_a_job_that_failed_afterwards_does_not_count():
    ran = (Execution("1", "2026-01-01T00:00:00Z", 0), Execution("2", "2026-01-01T12:00:00Z", 7))
    job = FoundJob(Observed(JobState.failed, exit_code=7), ran)
    both = with_logs(log_file("a", created=CREATED), log_file("b", created=LATER), job=job)
    assert usable_log(both).path == "a"
    only = with_logs(log_file("b", created=LATER), job=job)
    (item,) = of(make_run(cells=[only]))
    assert item.reason == "exit code 7; b is of a job that failed afterwards (job 2, exit code 7)"


@pytest.mark.parametrize(
    ("problem", "more", "reason"),
    [
        ("is cut short (line 1)", {}, "a.json is cut short (line 1)"),
        ("", {"status": "error", "error": "no GPU"}, "a.json ended with status error: no GPU"),
        ("", {"scores": ()}, "a.json holds no scores"),
    ],
)
def test_a_job_that_ended_well_with_a_log_that_cannot_be_used(problem, more, reason):
    (item,) = of(make_run(cells=[with_logs(log_file(problem=problem, **more))]))
    assert (item.name, item.state, item.reason) == ("1B_rank4/eval/words_epoch0", "unreadable", reason)
    assert item.fix == "cd /groups/g/eval/words_epoch0 && sbatch cell.slurm"


def test_what_ran_without_slurm_is_evaluated_again_without():
    job = FoundJob(Observed(JobState.completed, "local-7", 1))
    (item,) = of(make_run(cells=[make_cell(job=job)]))
    assert item.fix.endswith("&& bash cell.slurm")


def test_a_job_that_ended_well_without_a_log():
    (item,) = of(make_run(cells=[make_cell()]))
    assert item.reason == "its job ended well and left no log in eval/words_epoch0/logs"


def test_a_job_that_failed_is_told_by_its_last_words():
    (item,) = of(make_run(cells=[make_cell(job=FAILED)]))
    assert (item.state, item.reason) == ("failed", "exit code 1: cell.slurm: no model at /m")
    assert item.fix == "see /groups/g/'a b/slurm-1.out', then: runplan submit /groups/g --only failed"


@pytest.mark.parametrize("state", [JobState.timeout, JobState.cancelled, JobState.preempted, JobState.node_fail])
def test_a_job_that_was_stopped_is_not_told_by_what_it_happened_to_print_last(state):
    stopped = Observed(state, "1", exit_code=143, reason="*** JOB 1 ON n1 CANCELLED ***")
    (item,) = of(make_run(cells=[make_cell(job=FoundJob(stopped, last_words="Checkpoint saved in 0.06 seconds."))]))
    assert item.reason == "*** JOB 1 ON n1 CANCELLED ***"


def test_cells_wait_for_a_training_that_failed():
    oom = FoundJob(Observed(JobState.oom, "1", reason="CUDA out of memory"), (Execution("1", CREATED, 1),))
    training, cell = of(make_run(job=oom, cells=[make_cell(job=WAITING)]))
    assert (training.kind, training.name, training.state, training.reason) == (
        *("train", "1B_rank4", "oom"),
        "CUDA out of memory",
    )
    assert (cell.state, cell.reason) == ("not submitted", "its training: oom")
    assert cell.fix == "runplan submit /groups/g --only oom"


def test_what_was_not_submitted_is_submitted_and_what_runs_is_waited_for():
    running = FoundJob(Observed(JobState.running, "1"), (Execution("1", CREATED),))
    training, cell, other = of(make_run(job=WAITING, cells=[make_cell(job=WAITING), make_cell(epoch=1, job=running)]))
    assert training.fix == cell.fix == "runplan submit /groups/g"
    assert (other.state, other.fix) == ("running", "collect again when it is done: runplan status /groups/g")


def test_commands_survive_hostile_names():
    group = make_group(make_run(cells=[make_cell(job=FAILED)]))
    hostile = replace(group, directory="/a b/$(x)'; echo")
    (item,) = missing(hostile)
    assert "submit '/a b/$(x)'\"'\"'; echo' --only" in item.fix


def test_samples_that_are_not_there_are_said():
    cell = make_cell(make_log(), samples=100)
    assert warnings(make_group(make_run(cells=[cell]))) == [
        "eval/words_epoch0/logs/a.json: 4 samples, planned were 100"
    ]
    noted = make_cell(make_log(notes=("3 of 4 samples completed",)), samples=100)
    assert warnings(make_group(make_run(cells=[noted]))) == [
        "eval/words_epoch0/logs/a.json: 3 of 4 samples completed",
    ]


def test_an_evaluation_of_older_weights_is_said():
    later = FoundJob(Observed(JobState.completed), (Execution("9", "2026-02-01T00:00:00Z", 0, 1.0),))
    (text,) = warnings(make_group(make_run(job=later)))
    assert "before the run's last training began" in text
    assert warnings(make_group(make_run(job=later, cells=[make_cell(make_log(), None)]))) == []


def test_a_job_that_trained_nothing_made_no_weights():
    ran = (
        Execution("9", "2026-01-01T00:00:00Z", 0, 1.0, trained=True),
        Execution("10", "2026-02-01T00:00:00Z", 0, 0.0),
    )
    assert warnings(make_group(make_run(job=FoundJob(Observed(JobState.completed), ran)))) == []


def test_a_task_of_another_name_is_said():
    (text,) = warnings(make_group(make_run(cells=[make_cell(make_log(task="other"))])))
    assert text.endswith("is of a task called other, planned is words")


PRIOR = PriorRun("x.out", s_per_step=0.6, peak_memory_gib=MemoryGib(reserved=11.0), state="completed")


def test_estimates_beside_what_came_true():
    run = replace(make_run(job=make_job(seconds=100.0)), prior=PRIOR)
    training, cell = actuals(make_group(run))
    assert (training.time_s.actual, training.time_s.ratio, training.time_s.inside) == (100.0, 2.0, False)
    assert training.s_per_step.ratio == pytest.approx(1.2)
    assert (training.memory_gib.actual, training.memory_gib.inside) == (11.0, True)
    assert (training.gpu_hours_requested, training.gpu_hours_used) == (1.0, pytest.approx(100 / 3600))
    assert (cell.kind, cell.cell, cell.time_s.ratio, cell.memory_gib.p50) == ("cell", "eval/words_epoch0", 1.2, None)


def test_host_memory_asked_for_and_used():
    job = replace(make_job(), observed=Observed(JobState.completed, max_rss_gib=3.5))
    (training,) = actuals(make_group(make_run(job=job, cells=[])))
    assert record_of(training)["host_memory_gib"] == {"requested": 16.0, "used": 3.5}


def test_the_process_counts_more_than_the_allocator():
    run = replace(make_run(), prior=replace(PRIOR, process_peak_gib=13.0))
    assert actuals(make_group(run))[0].memory_gib.inside is False


def test_a_job_that_failed_is_not_compared_and_its_hours_count():
    ran = (Execution("1", CREATED, 1, 1800.0), Execution("2", CREATED))
    job = FoundJob(Observed(JobState.timeout, "2", seconds=3600.0), ran)
    run = replace(make_run(job=job, cells=[]), prior=PRIOR)
    (training,) = actuals(make_group(run))
    assert (training.state, training.time_s.actual, training.s_per_step.actual) == ("timeout", None, None)
    assert training.gpu_hours_used == 1.5


def test_hours_of_a_job_whose_end_nobody_knows_are_unknown():
    job = FoundJob(Observed(JobState.failed, "1"), (Execution("1", CREATED),))
    jobs = actuals(make_group(make_run(job=job, cells=[])))
    assert jobs[0].gpu_hours_used is None
    assert record_of(jobs[0])["gpu_hours"] == {"requested": 1.0, "used": None}
    hours = totals(jobs, make_group(make_run()).document)["gpu_hours"]
    assert (hours["used"], hours["unknown_jobs"], hours["requested"]) == (0.0, 1, 1.0)


def test_coverage_counts_what_can_be_compared():
    jobs = actuals(make_group(*(make_run(job=make_job(seconds=s), cells=[]) for s in (40.0, 60.0, 90.0))))
    assert coverage([job.time_s for job in jobs]) == {"compared": 3, "inside_p95": 2, "median_ratio": 1.2}
    assert coverage([]) == {"compared": 0, "inside_p95": None, "median_ratio": None}


def test_an_evaluation_at_work_has_an_unfinished_log_and_that_is_no_fault():
    unfinished = log_file(status="started", scores=())
    running = FoundJob(Observed(JobState.running, "7"))
    (item,) = of(make_run(cells=[with_logs(unfinished, job=running)]))
    assert (item.state, item.reason) == ("running", "")
    killed = FoundJob(Observed(JobState.cancelled, "7", reason="cancelled"), (Execution("7", CREATED, 143),))
    (item,) = of(make_run(cells=[with_logs(unfinished, job=killed)]))
    assert item.reason == "cancelled; a.json is not finished"
