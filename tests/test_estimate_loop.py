"""Plan, train, collect, plan again: recorded runs on a processor teach the second plan."""

import dataclasses
import importlib
import math
import statistics
import sys
from pathlib import Path

import pytest
from estimate_cases import workload

from runplan.catalogue import gpus
from runplan.estimate import calibrated
from runplan.estimate.calibration import calibrate
from runplan.estimate.speed.step import planned_step
from runplan.estimate.workload import Adapter
from runplan.facts import Architecture, Lengths
from runplan.paths import CONF_DIR
from runplan.priors.read import read_priors

ROOT = Path(__file__).parents[1]
GROUP = ROOT / "tests/data/collected_group"
GPUS = gpus([CONF_DIR])
TINY = Architecture("llama", 64, 2, 4, 2, 16, 256, 512, 131072, 500000.0, 32.0, 1e-5, tie_word_embeddings=True)
NAMES = {"tiny": TINY, "Tiny-Llama-3.2": TINY}
WORDS = Lengths(((36, 2560), (40, 2560)))
"""5,120 rows, the longest of 40 tokens, as plan.json of the group says."""


@pytest.fixture(name="logs", scope="module")
def _logs(tmp_path_factory):
    return read_priors([str(GROUP)], None, tmp_path_factory.mktemp("cache"), ROOT).runs


def planned(log, **changes):
    values = {
        "architecture": TINY,
        "adapter": Adapter(log.lora_rank, ("q_proj", "v_proj", "output_proj"), apply_to_mlp=True),
        "gpu": dataclasses.replace(GPUS["cpu"], cores=4),  # as the jobs of the group asked for
        "lengths": WORDS,
        "dtype": "fp32",
        "epochs": 2,
        "batch_size": 64,
        "effective_batch_size": 64,
        "validation_lengths": Lengths(((38, 60),)),
        "run_val_every_n_steps": 40,
        "dataset": "/elsewhere/vowels.json",
    }
    return workload(**(values | changes))


def sized(log, logs, **changes):
    return calibrated.size(planned(log, **changes), calibrate(logs, GPUS, NAMES))


def off(estimate, measured):
    return abs(math.log(estimate / measured))


def test_the_second_plan_of_a_group_knows_all_its_runs(logs):
    before, after = ([sized(log, known) for log in logs] for known in ((), logs))
    assert len(logs) == 4
    assert [(plan.source, plan.n_priors) for plan in after] == [("priors", 4)] * 4
    assert not any(plan.extrapolated for plan in after)
    walls = [log.wall_s for log in logs]
    errors = [
        [off(plan.time_s.p50, wall) for plan, wall in zip(plans, walls, strict=True)] for plans in (before, after)
    ]
    assert statistics.fmean(errors[1]) < statistics.fmean(errors[0])
    # One took 1.7 times as long a step as its twin, on a machine that others used.
    assert [wall <= plan.time_s.p95 for plan, wall in zip(after, walls, strict=True)].count(True) >= 3
    assert all(
        b.time_s.p95 / b.time_s.p50 < 0.9 * a.time_s.p95 / a.time_s.p50 for a, b in zip(before, after, strict=True)
    )


def test_a_run_of_the_group_is_foretold_by_the_others(logs):
    errors, covered = [[], []], []
    for log in logs:
        others = [other for other in logs if other is not log]
        for known, found in zip(((), others), errors, strict=True):
            plan = sized(log, known)
            found.append(off(plan.time_s.p50, log.wall_s))
        covered.append(log.wall_s <= plan.time_s.p95)
    assert statistics.fmean(errors[1]) < statistics.fmean(errors[0])
    assert covered.count(True) >= 3


def test_another_dataset_and_length_learn_from_the_tokens_that_were_trained(logs):
    essays = {"dataset": "essays.json", "lengths": Lengths(((100, 5120),)), "max_seq_len": 1024}
    usual = statistics.median(log.s_per_step for log in logs)
    for log in logs:
        plan = sized(log, logs, **essays)
        assert plan.n_priors == 4
        assert plan.extrapolated
        assert "100 tokens a sequence, logs have 3" in plan.evidence[-1]
        # The rows are 2.5 times as long; a small step has parts that do not grow with them.
        assert 1.3 < 1 / plan.it_per_s / usual < 4.0
    silent = [dataclasses.replace(log, trained_tokens_per_s=None) for log in logs]
    w = planned(logs[0], **essays)
    speed = calibrate(logs, GPUS, NAMES).speed(w.gpu, w.lengths, w.dataset)
    assert speed.log_step_s(planned_step(planned(logs[0]), 64, 1))[1] < speed.log_step_s(planned_step(w, 64, 1))[1]
    width = [
        calibrate(some, GPUS, NAMES).speed(w.gpu, w.lengths, w.dataset).log_step_s(planned_step(w, 64, 1))[1]
        for some in (logs, silent)
    ]
    assert width[0] < width[1]


def test_every_recorded_run_on_a_processor_is_foretold_by_the_others(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    cases = importlib.import_module("cases")
    runs = [case for case in cases.cases() if case.fleet == "cpu 2 cores"]
    errors, covered = [[], []], 0
    for case in runs:
        others = [other.prior for other in runs if other is not case]
        for known, found in zip(((), others), errors, strict=True):
            plan = calibrated.size(case.workload, calibrate(known, GPUS, cases.log_names()))
            found.append(off(plan.time_s.p50, case.measured["wall"]))
        covered += case.measured["wall"] <= plan.time_s.p95
    for name in ("cases", "gpu", "gpu.grid", "gpu.shapes"):
        sys.modules.pop(name, None)
    assert statistics.fmean(errors[1]) < 0.5 * statistics.fmean(errors[0])
    assert covered >= 0.95 * len(runs)


def test_cores_of_a_log_are_its_own_and_else_those_that_are_planned(logs):
    w = planned(logs[0])
    two, unknown = (dataclasses.replace(logs[0], cpus=cpus) for cpus in (2, None))
    cores = [
        [seen.step.gpu.cores for seen in calibrate([log], GPUS, NAMES).speed(w.gpu, w.lengths, w.dataset).used]
        for log in (two, unknown)
    ]
    assert cores == [[2], [4]]
    plans = [sized(log, [log]) for log in (two, unknown)]
    assert plans[0].it_per_s > plans[1].it_per_s
