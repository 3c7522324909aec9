"""Laws that every estimate keeps, whatever logs there are: what asks for more never costs less, and nobody is sure."""

import dataclasses
import math

import pytest
from estimate_cases import A100, ADAPTER, LLAMA_1B, LLAMA_3B, ROWS, workload
from estimate_histories import LOGS, WILD_LOGS, learn, like
from hypothesis import given, settings
from hypothesis import strategies as st

from runplan.estimate import calibrated
from runplan.facts import Lengths

HISTORY = st.lists(LOGS, max_size=6)
SLACK = 1 - 1e-4  # slopes are taken numerically
LOGS_SAY = 0.8
"""Logs that contradict each other may say that the larger task is a little faster."""
FEW = settings(max_examples=25)


def figures(plan):
    """What a larger task takes more of."""
    return {
        "allocated": plan.allocated_gib,
        "needed p50": plan.needed_memory_gib.p50,
        "needed p95": plan.needed_memory_gib.p95,
        "held p50": plan.peak_memory_gib.p50,
        "held p95": plan.peak_memory_gib.p95,
        "s/step": 1 / plan.it_per_s,
        "time p50": plan.time_s.p50,
    }


def longer(lengths, factor):
    return Lengths(tuple((factor * length, count) for length, count in lengths.counts))


BASE = workload(dataset="/data/words.json", batch_size=8, effective_batch_size=8)
MORE = {
    "batch": {"batch_size": 16, "effective_batch_size": 16},
    "rank": {"adapter": dataclasses.replace(ADAPTER, rank=64)},
    "model": {"architecture": LLAMA_3B},
    "length": {"lengths": longer(ROWS, 2)},
    "epochs": {"epochs": 3},
    "accumulation": {"gradient_accumulation_steps": 4, "effective_batch_size": 32},
}


@FEW
@given(HISTORY, st.sampled_from(sorted(MORE)), st.booleans(), st.booleans())
def test_what_asks_for_more_never_costs_less(logs, what, packed, checkpointing):
    learnt = learn(logs)
    changes = {"max_seq_len": 4096} if packed and what == "length" else MORE[what]
    small = dataclasses.replace(BASE, packed=packed, activation_checkpointing=checkpointing)
    large = dataclasses.replace(small, **changes)
    before, after = (figures(calibrated.size(w, learnt)) for w in (small, large))
    allowed = {"s/step": LOGS_SAY, "time p50": LOGS_SAY}
    dearer = {name: (before[name], now) for name, now in after.items() if now < before[name] * allowed.get(name, SLACK)}
    if what in {"batch", "accumulation"} or (what == "length" and packed):
        dearer.pop("time p50", None)  # steps take longer, but are fewer
    assert not dearer


FASTER = dataclasses.replace(A100, memory_bandwidth_gb_per_s=4000.0, bf16_tflops=900.0, fp32_tflops=60.0)


@FEW
@given(HISTORY, st.booleans(), st.sampled_from([LLAMA_1B, LLAMA_3B]))
def test_a_faster_gpu_is_never_slower_and_a_larger_one_never_takes_a_smaller_batch(logs, packed, model):
    w = dataclasses.replace(BASE, packed=packed, architecture=model, batch_size=None, effective_batch_size=64)
    nothing = learn([])
    slow, fast = (calibrated.size(dataclasses.replace(w, gpu=gpu), nothing) for gpu in (A100, FASTER))
    assert fast.time_s.p50 <= slow.time_s.p50
    learnt = learn(logs)
    roomy = dataclasses.replace(A100, memory_gib=2 * A100.memory_gib)
    small, large = (calibrated.size(dataclasses.replace(w, gpu=gpu), learnt) for gpu in (A100, roomy))
    assert large.batch_size >= small.batch_size


@FEW
@given(
    HISTORY,
    st.booleans(),
    st.sampled_from([LLAMA_1B, LLAMA_3B]),
    st.sampled_from([1, 8, 12, 32, 64]),
    st.integers(1, 2),
)
def test_a_batch_is_a_power_of_two_that_fits_and_fills_the_effective_batch(logs, packed, model, effective, gpus):
    w = dataclasses.replace(
        BASE, packed=packed, architecture=model, batch_size=None, effective_batch_size=effective, gpus=gpus
    )
    learnt = learn(logs)
    plan = calibrated.size(w, learnt)
    assert plan.batch_size & (plan.batch_size - 1) == 0
    reached = plan.batch_size * plan.gradient_accumulation_steps * gpus
    assert reached == effective or any("effective batch is" in line for line in plan.evidence)
    assert plan.largest_batch_size == 0 or plan.needed_memory_gib.p95 <= A100.memory_gib
    out = learnt.ran_out(w, plan.gradient_accumulation_steps)
    assert out is None or plan.batch_size < out.batch or plan.largest_batch_size == 0


@settings(max_examples=60)
@given(st.lists(WILD_LOGS, max_size=8), st.booleans())
def test_whatever_logs_say_figures_are_finite_and_ordered(logs, packed):
    plan = calibrated.size(dataclasses.replace(BASE, packed=packed), learn(logs))
    for interval in (plan.time_s, plan.peak_memory_gib, plan.needed_memory_gib):
        assert 0 < interval.p50 <= interval.p95 < math.inf
    assert all(0 <= part < math.inf for part in plan.parts_s.values())
    assert 0 < plan.it_per_s < math.inf
    assert plan.time_s.p50 >= sum(plan.parts_s.values()) * SLACK
    assert plan.time_s.p95 < 40 * 86400
    assert 0 < plan.allocated_gib < math.inf


@FEW
@given(HISTORY, st.randoms(use_true_random=False), st.booleans())
def test_neither_the_order_of_logs_nor_a_second_copy_of_all_matters(logs, rng, packed):
    w = dataclasses.replace(BASE, packed=packed)
    logs = [dataclasses.replace(log, path=f"{i}.out") for i, log in enumerate(logs)]
    shuffled = rng.sample(logs, len(logs))
    one, other = (calibrated.size(w, learn(some)) for some in (logs, shuffled))
    assert one.time_s == pytest.approx(other.time_s, rel=1e-6)
    assert one.needed_memory_gib == pytest.approx(other.needed_memory_gib, rel=1e-9)


@FEW
@given(HISTORY, st.floats(0.4, 3.0), st.integers(1, 4), st.booleans())
def test_p95_is_above_what_happened_in_an_equal_run(logs, times, n, packed):
    w = dataclasses.replace(BASE, packed=packed)
    seconds = times / calibrated.size(w, learn([])).it_per_s
    equal = [like(w, calibrated.size(w, learn([])), seconds, path=f"equal-{i}.out") for i in range(n)]
    plan = calibrated.size(w, learn([*logs, *equal]))
    steps_s = seconds * plan.steps_total
    named = any("equal-" in line and "left out" in line for line in plan.evidence)
    assert plan.time_s.p95 > steps_s or named


@FEW
@given(HISTORY, st.booleans())
def test_one_more_log_that_agrees_never_widens(logs, packed):
    w = dataclasses.replace(BASE, packed=packed)
    before = calibrated.size(w, learn(logs))
    agrees = like(w, before, 1 / before.it_per_s, path="agrees.out")
    after = calibrated.size(w, learn([*logs, agrees]))
    assert after.it_per_s == pytest.approx(before.it_per_s, rel=0.05)
    assert after.time_s.p95 / after.time_s.p50 <= 1.01 * before.time_s.p95 / before.time_s.p50
