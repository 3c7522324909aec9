"""Logs that contradict physics or all others are named, not averaged in: memory, start-up, checkpoints, speed."""

import dataclasses

import pytest
from estimate_cases import GPUS, MODELS, workload
from hypothesis import given
from hypothesis import strategies as st
from test_estimate_calibrated import LOG

from runplan.estimate import calibrated, evidence
from runplan.estimate.calibration import calibrate
from runplan.estimate.logs.figures import cleaned
from runplan.estimate.memory.outliers import odd_memory
from runplan.estimate.wall_time.outliers import learn_times
from runplan.estimate.wall_time.two_parts import Timed, learn_parts
from runplan.priors.record import MemoryGib
from runplan.summary.evidence_shown import CAVEATS

SAME = dataclasses.replace(LOG, dataset="words.json")
PLANNED = workload(dataset="words.json")


def group(n, **changes):
    return [dataclasses.replace(SAME, path=f"{i}.out", **changes) for i in range(n)]


def size(logs, w=PLANNED):
    return calibrated.size(w, calibrate(logs, GPUS, MODELS))


def named(plan, path):
    (line,) = [line for line in plan.evidence if line.startswith(f"{path}: ") and "left out" in line]
    return line


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (MemoryGib(1.2, None, 1.3), "1.20 GiB at the peak, less than the 2.30 GiB of the weights alone"),
        (MemoryGib(None, 1.2), "1.20 GiB at the peak, less than the 2.30 GiB of the weights alone"),
        (MemoryGib(20.0, None, 19.0), "19.00 GiB reserved, less than the 20.00 GiB in use"),
        (MemoryGib(90.0, None, 91.0), "90.00 GiB at the peak, more than the 79.15 GiB of a a100-80"),
        (MemoryGib(20.0, None, 24.0), ""),
        (MemoryGib(None, None, 1.0), ""),
        (None, ""),
    ],
)
def test_memory_that_cannot_be(block, why):
    assert odd_memory(dataclasses.replace(LOG, peak_memory_gib=block), 2.3, 79.15) == why


def test_impossible_memory_is_named_and_changes_nothing():
    good = group(3, peak_memory_gib=MemoryGib(20.0, None, 22.0))
    odd = dataclasses.replace(SAME, path="odd.out", peak_memory_gib=MemoryGib(0.4, None, 0.9))
    with_it, without = size([*good, odd]), size(good)
    assert named(with_it, "odd.out").startswith("odd.out: its memory left out, 0.40 GiB at the peak, less than")
    assert with_it.peak_memory_gib == without.peak_memory_gib


def test_memory_unlike_the_formulas_is_named():
    w = workload(packed=True, batch_size=4)
    held = calibrated.size(w, calibrate([], GPUS, MODELS)).allocated_gib
    log = dataclasses.replace(LOG, packed=True, batch_size=4, s_per_step=2.0)
    right, wrong = (dataclasses.replace(log, path=f"{f}", peak_memory_gib=MemoryGib(f * held)) for f in (1.0, 1.4))
    plan = size([right, wrong], w)
    assert "1.4 times the allocated memory that the formulas give" in named(plan, "1.4")
    assert not any(line.startswith("1.0: its memory") for line in plan.evidence)
    assert plan.allocated_gib == pytest.approx(held, rel=1e-3)


@pytest.mark.parametrize(
    ("field", "part", "odd", "why"),
    [
        ("startup_s", "startup", 20_000.0, "its start-up left out, 2e+04 s, 6"),
        ("startup_s", "startup", 0.01, "its start-up left out, 0.01 s, faster than 40 GB/s"),
        ("checkpoint_s", "checkpoints", (9_000.0,), "its checkpoint left out, 9e+03 s, 1"),
    ],
)
def test_times_that_stand_apart_are_named_and_change_nothing(field, part, odd, why):
    good = group(4)
    log = dataclasses.replace(SAME, path="odd.out", **{field: odd})
    with_it, without = size([*good, log]), size(good)
    assert why in named(with_it, "odd.out")
    assert with_it.parts_s[part] == pytest.approx(without.parts_s[part], rel=1e-6)


def test_one_log_alone_may_be_impossible_too():
    plan = size([dataclasses.replace(SAME, startup_s=20_000.0)])
    assert plan.parts_s["startup"] < 60
    assert "times what is usual" in named(plan, SAME.path)


@given(st.lists(st.floats(0.6, 1.6), min_size=3, max_size=12))
def test_usual_scatter_is_left_alone(factors):
    times = [(f"{i}", Timed(14.0 * factor, 12.0, 2.0)) for i, factor in enumerate(factors)]
    learnt, odd = learn_times("start-up", times, 0.6)
    assert (learnt, odd) == (learn_parts([one for _, one in times]), [])


def test_a_fast_log_whose_length_was_guessed_is_named_too():
    good = group(3)
    fast = dataclasses.replace(SAME, path="fast.out", s_per_step=LOG.s_per_step / 100)
    with_it, without = size([*good, fast]), size(good)
    assert "more than it can do" in named(with_it, "fast.out")
    assert with_it.it_per_s == without.it_per_s


def test_the_summary_knows_the_words_of_what_speaks_against_an_estimate():
    fast = dataclasses.replace(SAME, path="fast.out", s_per_step=LOG.s_per_step / 100)
    slow = dataclasses.replace(SAME, path="slow.out", startup_s=20_000.0)
    broke = dataclasses.replace(SAME, path="broke.out", state="oom", s_per_step=None, batch_size=512)
    plan = size([*group(3), fast, slow, broke], dataclasses.replace(PLANNED, batch_size=256))
    said = [line for line in plan.evidence if any(words in line for words in CAVEATS)]
    assert [line.split(" ")[0] for line in said] == ["fast.out:", "slow.out:", "extrapolates:", "broke.out:"]


def test_a_fast_processor_is_no_contradiction():
    log = dataclasses.replace(LOG, gpu="cpu", num_gpus=0, packed=True, batch_size=1, s_per_step=4.0)
    w = workload(packed=True, gpu=dataclasses.replace(GPUS["a100-80"], name="cpu", bf16_tflops=0.3, fp32_tflops=0.3))
    assert size([log], w).n_priors == 1


def test_hundreds_of_logs_make_short_evidence():
    logs = [
        dataclasses.replace(
            SAME, path=f"{i}.out", lora_rank=1 + i, batch_size=1 + i % 24, gpu=("a100-80", "h100-80")[i % 2]
        )
        for i in range(200)
    ]
    silent = [dataclasses.replace(LOG, path=f"s{i}.out", s_per_step=None, lora_rank=i) for i in range(40)]
    strange = [dataclasses.replace(LOG, path="gpt.out", model="gpt2")]
    lines = size([*logs, *silent, *strange]).evidence
    assert len(lines) <= 14
    assert any(line.startswith("and ") and "as similar or less" in line and "on a100-80" in line for line in lines)
    assert "41 logs without use for speed: 40 no speed or no batch size; 1 model gpt2 is not known" in lines
    assert "40 logs without use for speed: no speed or no batch size" in size([*logs, *silent]).evidence


def test_one_first_step_of_many_minutes_does_not_slow_all_plans_and_three_do():
    def first_step(n):
        logs = [dataclasses.replace(SAME, path=f"{i}.out", first_step_s=600.0) for i in range(n)]
        plan = calibrated.size(workload(dataset="words.json"), calibrate(logs, GPUS, MODELS))
        return plan.parts_s["first_step"], " ".join(plan.evidence)

    alone, said = first_step(1)
    assert alone < 5.0
    assert "0.out: its first step left out, 600 s, 2e+02 times what is usual" in said
    usual, said = first_step(3)
    assert usual > 300.0
    assert "first step left out" not in said


def test_figures_that_measure_nothing_are_as_good_as_none():
    wild = {"startup_s": float("nan"), "checkpoint_s": (0.0, 5.0, float("inf")), "s_per_step": 2e5, "batch_size": 0,
            "peak_memory_gib": MemoryGib(-1.0, 3.0, float("inf")), "oom_batch_sizes": (0, 4)}  # fmt: skip
    clean = cleaned(dataclasses.replace(SAME, **wild))
    assert (clean.startup_s, clean.checkpoint_s, clean.s_per_step, clean.batch_size) == (None, (5.0,), None, None)
    assert clean.peak_memory_gib == MemoryGib(None, 3.0, None)
    assert clean.oom_batch_sizes == (4,)
    assert cleaned(SAME) is SAME


def test_an_odd_log_that_widens_the_interval_is_named_even_where_it_is_not_among_the_most_similar(monkeypatch):
    monkeypatch.setattr(evidence, "MOST_ALIKE", 0)
    usual, slow = (dataclasses.replace(SAME, path=f"{seconds}.out", s_per_step=seconds) for seconds in (0.25, 1.2))
    plan = calibrated.size(workload(dataset="words.json"), calibrate([usual, slow], GPUS, MODELS))
    said = [line for line in plan.evidence if ".out" in line]
    assert len(said) == 1
    assert said[0].startswith("1.2.out")
    assert "times the step time that physics and the other logs imply, so the interval reaches further" in said[0]
    assert "and 1 log as similar or less, 1 of them on a100-80" in plan.evidence
    assert plan.time_s.p95 > 1.2 * plan.steps_total
