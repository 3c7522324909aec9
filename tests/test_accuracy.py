"""benchmarks/accuracy.py: its arithmetic, and what the estimator owes to the measured runs at hand."""

import importlib
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = (
    "accuracy",
    "cases",
    "later",
    "milabench",
    "published",
    "rivals",
    "transformers_runs",
    "gpu",
    "gpu.grid",
    "gpu.shapes",
)


@pytest.fixture(name="script")
def _script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)


def test_scores_are_relative_errors_coverage_and_width(script):
    score = script("accuracy").Score()
    score.add((2.0, 3.0), 2.5)
    score.add((2.0, 2.2), 4.0)
    score.add((3.0, None), 2.0)
    assert score.errors == pytest.approx([-0.2, -0.5, 0.5])
    assert (score.covered, score.widths) == ([True, False], pytest.approx([1.5, 1.1]))
    assert score.line().split() == ["3", "50.0%", "40.0%", "-50.0%", "50%", "1.30"]


def test_history_comes_before_the_run_that_is_asked_about(script):
    accuracy, runs = script("accuracy"), script("cases").cases()
    cpu = [case for case in runs if case.fleet == "cpu 1 core"]
    others = [case for case in runs if not case.fleet.startswith("cpu")][:7]
    moments = accuracy._moments(cpu, others, 2)
    assert {(n, where) for n, where, _, _ in moments} == {
        *((0, ""), (1, "same"), (3, "same"), (10, "same")),
        *((1, "other"), (3, "other")),
    }
    for n, where, history, target in moments:
        assert len(history) == n
        assert target not in history
        assert all((case.fleet == "cpu 1 core") == (where == "same") for case in history)


def test_recorded_runs_are_whole(script):
    cpu = [case for case in script("cases").cases() if case.fleet.startswith("cpu")]
    assert len(cpu) >= 100
    assert all({"s/step", "wall"} <= set(case.measured) for case in cpu)
    assert len({case.workload.architecture for case in cpu}) == 3
    assert {case.workload.gpu.cores for case in cpu} == {1, 2}
    # What the reader makes of a log's whole seconds against steps timed one by one.
    read = [case.prior.s_per_step / case.measured["s/step"] for case in cpu if case.prior.s_per_step]
    # Logs of few steps, whose bars are seconds long, cannot tell.
    silent = [case for case in cpu if not case.prior.s_per_step]
    assert len(silent) <= 5
    assert all((case.prior.steps_done or 0) < 15 for case in silent)
    assert all(abs(ratio - 1) < 0.05 for ratio in read)


@pytest.fixture(name="scores", scope="module")
def _scores():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        accuracy, cases = importlib.import_module("accuracy"), importlib.import_module("cases")
        fleets = {}
        for case in cases.cases():
            fleets.setdefault(case.fleet, []).append(case)
        found = accuracy.replay(fleets, 4)
        found |= accuracy.whole(found)
        for name in MODULES:
            sys.modules.pop(name, None)
    return found


@pytest.mark.parametrize("fleet", ["cpu 1 core", "cpu 2 cores", "cpu drawn"])
@pytest.mark.parametrize(("logs", "mean"), [("0", 0.08), ("1 same", 0.12), ("3 same", 0.09), ("10 same", 0.08)])
def test_speed_on_a_processor(scores, fleet, logs, mean):
    score = scores[fleet, "s/step", "calibrated", logs]
    assert statistics.fmean(map(abs, score.errors)) < mean
    assert statistics.fmean(score.covered) >= 0.93
    if logs != "0":
        assert statistics.median(score.widths) < 1.36
        rival = scores[fleet, "s/step", "parameter ratio", logs]
        assert statistics.median(map(abs, score.errors)) < statistics.median(map(abs, rival.errors)) / 3


def test_logs_correct_what_is_expected_of_a_processor_that_others_use(scores):
    rows = [scores["cpu busy", "s/step", "calibrated", logs] for logs in ("0", "1 same", "3 same", "10 same")]
    errors = [statistics.fmean(map(abs, score.errors)) for score in rows]
    assert errors[3] < errors[2] < errors[1] < 0.65 * errors[0]
    assert min(statistics.fmean(score.covered) for score in rows) > 0.8


def test_logs_of_own_jobs_tell_the_whole_time(scores):
    before, after = (
        statistics.fmean(map(abs, scores["cpu 2 cores", "wall", "calibrated", logs].errors)) for logs in ("0", "3 same")
    )
    assert after < 0.12 < before
    assert statistics.fmean(scores["cpu 2 cores", "wall", "calibrated", "3 same"].covered) >= 0.95


@pytest.mark.parametrize(("logs", "mean"), [("0", 0.20), ("1 same", 0.08), ("3 same", 0.05)])
def test_published_step_times_are_met_over_all_gpu_types(scores, logs, mean):
    score = scores["all published of torchtune", "s/step", "calibrated", logs]
    assert statistics.fmean(map(abs, score.errors)) < mean
    assert statistics.fmean(score.covered) >= 0.95
    if logs != "0":
        assert statistics.median(score.widths) <= 1.3


def test_published_memory_is_met_over_all_gpu_types(scores):
    errors = sorted(map(abs, scores["all published of torchtune", "allocated", "calibrated", "0"].errors))
    assert statistics.median(errors) < 0.01
    assert errors[-1] < 0.03
    for kind in ("process", "reserved"):
        score = scores["all published of torchtune", kind, "calibrated", "0"]
        assert statistics.fmean(map(abs, score.errors)) < 0.05
        assert all(score.covered)


def test_reserved_memory_without_any_log(scores):
    score = scores["published mi355x-288", "reserved", "calibrated", "0"]
    assert max(map(abs, score.errors)) < 0.05
    assert all(score.covered)


def test_published_peaks_of_compiled_runs_are_met(scores):
    for gpu in ("a100-80", "rtx4090-24", "rtx6000ada-48"):
        errors = scores[f"published {gpu}", "allocated", "calibrated", "0"].errors
        assert max(map(abs, errors)) < 0.03


def test_published_peaks_of_eager_runs_are_met(scores):
    errors = scores["published mi355x-288", "allocated", "calibrated", "0"].errors
    assert max(map(abs, errors)) < 0.01


@pytest.mark.parametrize(
    ("trainer", "runs", "median", "worst"), [("torchtune", 20, 0.06, 0.20), ("trl", 26, 0.13, 0.40)]
)
def test_speed_of_published_runs_is_met_without_any_log(script, trainer, runs, median, worst):
    # Runs of transformers' layers are of older versions and other scripts than the TRL that is planned for.
    estimate, models = script("rivals").by_calibrated, script("cases").log_names()
    held = [
        case
        for case in script("cases").cases()
        if case.workload.trainer == trainer and case.fleet.startswith("published") and "s/step" not in case.taught
    ]
    errors, covered = [], []
    for case in held:
        p50, p95 = estimate(case.workload, [], script("cases").GPUS, models)["s/step"]
        errors.append(p50 / case.measured["s/step"] - 1)
        covered.append(case.measured["s/step"] <= p95)
    assert len(held) >= runs
    assert statistics.fmean(covered) >= 0.95
    assert statistics.median(map(abs, errors)) < median
    assert max(map(abs, errors)) < worst


def test_logs_of_transformers_layers_teach(scores):
    rows = {
        logs: scores["published a100-80 transformers", "s/step", "calibrated", logs]
        for logs in ("0", "3 same", "10 same")
    }
    errors = {logs: statistics.fmean(map(abs, score.errors)) for logs, score in rows.items()}
    assert errors["10 same"] < 0.6 * errors["0"]
    assert statistics.fmean(rows["10 same"].covered + rows["3 same"].covered) >= 0.9


def test_memory_of_published_runs_is_met_without_any_log(script):
    # All were in sight when the allocator's constants were chosen: 2 for 31 runs of two models.
    estimate, models = script("rivals").by_calibrated, script("cases").log_names()
    errors, covered = [], []
    for case in script("cases").milabench_cases():
        if "process" in case.measured:
            p50, p95 = estimate(case.workload, [], script("cases").GPUS, models)["process"]
            errors.append(p50 / case.measured["process"] - 1)
            covered.append(case.measured["process"] <= p95)
    assert len(errors) == 31
    assert statistics.fmean(map(abs, errors)) < 0.05
    assert statistics.fmean(covered) >= 0.95


@pytest.mark.parametrize("logits", [1.0, 2.6])
def test_logs_without_torch_s_memory_undo_a_wrong_constant(script, monkeypatch, logits):
    # Its own value was chosen with these runs in sight, so that on them nothing is left to learn.
    accuracy, allocator = script("accuracy"), importlib.import_module("runplan.estimate.memory.allocator")
    monkeypatch.setattr(allocator, "UNEVEN_LOGITS", logits)
    monkeypatch.setattr(accuracy, "ESTIMATORS", {"calibrated": script("rivals").by_calibrated})
    runs = [case for case in script("cases").milabench_cases() if "process" in case.measured]
    fleets = {fleet: [case for case in runs if case.fleet == fleet] for fleet in {case.fleet for case in runs}}
    scores = accuracy.replay(fleets, 1)

    def bias(logs):
        rows = [score for key, score in scores.items() if (key.quantity, key.logs) == ("process", logs)]
        assert statistics.fmean(held for score in rows for held in score.covered) >= 0.9
        return statistics.fmean(error for score in rows for error in score.errors)

    assert abs(bias("10 other")) < 0.75 * abs(bias("0"))


@pytest.mark.parametrize("gpu", ["h100-80", "h200-141", "l40s-48"])
def test_one_log_of_a_gpu_narrows_its_speed(scores, gpu):
    # Not of A100: its three runs are of two clusters and versions of torch, a fifth apart, as one cluster's are not.
    before, after = (scores[f"published {gpu}", "s/step", "calibrated", logs] for logs in ("0", "1 same"))
    assert statistics.median(after.widths) < statistics.median(before.widths) < 1.40
    assert statistics.median(after.widths) <= 1.33
    assert statistics.fmean(after.covered) >= 0.95
    assert statistics.median(map(abs, after.errors)) < 0.12


def test_lengths_that_stand_for_alpaca_s_have_what_is_published_of_them(script):
    lengths, padded = script("milabench").lengths(1.0, 51_760), importlib.import_module("runplan.estimate.steps")
    assert padded.padded_length(lengths, 8) == pytest.approx(412, rel=0.02)


def test_the_table_is_printed():
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/accuracy.py"), "--fleet", "cpu", "--orders", "1", "--each"],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'runplan/_hydra'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cpu 1 core: s/step" in done.stdout
    assert "10 same   calibrated" in done.stdout
    assert "of no setting several batches were tried" in done.stdout


def test_the_batch_chosen_without_any_log_is_more_than_half_of_what_ran(script):
    fleets = {}
    for case in script("cases").milabench_cases():
        fleets.setdefault(case.fleet, []).append(case)
    lines = "\n".join(script("accuracy").batches(fleets))
    chosen = [(int(ran), int(batch)) for ran, batch in re.findall(r"(\d+) ran, .*calibrated (\d+)", lines)]
    assert len(chosen) == 8
    assert all(batch > ran / 2 for ran, batch in chosen)


def test_runs_found_later_taught_nothing_and_are_counted(script):
    cases, rows = script("cases"), script("cases").older_and_later_runs()
    later = cases.later_cases()
    assert (len(rows), len(later)) == (27, 23)
    assert all(not case.taught for case in later)
    assert {case.fleet for case in later} == {case.fleet for case in cases.cases() if case.fleet.startswith("found")}


def test_memory_of_runs_found_later_is_met(scores):
    allocated, reserved = (
        scores["all found later of torchtune", kind, "calibrated", "0"] for kind in ("allocated", "reserved")
    )
    assert max(map(abs, allocated.errors)) < 0.005
    assert max(map(abs, reserved.errors)) < 0.15
    assert all(reserved.covered)


def test_the_batch_that_others_found_by_trying_is_the_largest(script):
    # 'batch size > 6 leads to OOM' on an A100 of 40 GB.
    estimate, models = script("rivals").by_calibrated, script("cases").log_names()
    case = next(case for case in script("cases").later_cases() if case.state == "oom")
    assert (case.workload.batch_size, case.workload.gpu.name) == (7, "a100-40")
    assert estimate(case.workload, [], script("cases").GPUS, models)["batch"][0] == 6


@pytest.mark.parametrize(
    ("logs", "mean", "covered"), [("0", 0.16, 0.94), ("1 same", 0.05, 0.99), ("3 same", 0.04, 0.99)]
)
def test_speed_of_runs_found_later(scores, logs, mean, covered):
    # Narrow models are slower on an H100 than its runs of 8B say, and several GPUs lose 7 % that are not foreseen.
    score = scores["all found later of torchtune", "s/step", "calibrated", logs]
    assert statistics.fmean(map(abs, score.errors)) < mean
    assert statistics.fmean(score.covered) > covered
    if logs != "0":
        assert statistics.median(score.widths) < 1.2


def test_older_recipes_wait_for_memory_at_every_word_of_the_vocabulary(script):
    """What runs of 8B before 0.3 take longer than estimated is 400 cycles a word and walk, on three kinds of card."""
    cases, later = script("cases"), script("later")
    estimate, models = script("rivals").by_calibrated, cases.log_names()
    hertz = {"rtx4090-24": 2.6e9, "rtx3090-24": 1.8e9, "a100-80": 1.41e9}
    older = [run for run in cases.older_and_later_runs() if run.workload.model_name == "8B"]
    older += [
        later.Run(case.name, case.workload, case.prior, {}, case.measured["s/step"])
        for case in cases.milabench_cases()
        if case.workload.loss_chunks == 0
    ]
    plain = [run for run in older if not run.workload.adapter.quantize_base]
    assert {run.workload.gpu.name for run in plain} == set(hertz)
    for run in plain:
        s = estimate(run.workload, [], cases.GPUS, models)["s/step"][0]
        assert 300 < later.waits(run, s) * hertz[run.workload.gpu.name] < 550
