"""What nvidia-smi saw of earlier runs: it teaches, bounds, and is left out where it cannot be right."""

import dataclasses
import itertools

import pytest
from estimate_cases import A100, GPUS, H100, LLAMA_1B, LLAMA_8B, MODELS, workload
from hypothesis import given, settings
from hypothesis import strategies as st
from test_estimate_calibrated import LOG

from runplan.estimate import calibrated
from runplan.estimate.calibration import calibrate
from runplan.estimate.memory import outside_torch
from runplan.facts import Lengths
from runplan.priors.record import MemoryGib

EVERY_ROW = Lengths(((300, 3000), (800, 900), (2000, 100)))
PACKED = workload(packed=True, batch_size=4, effective_batch_size=4)
UNPACKED = workload(
    lengths=EVERY_ROW, dataset="words.json", batch_size=4, effective_batch_size=4, activation_checkpointing=True
)
SHORT = dataclasses.replace(LOG, packed=True, peak_memory_gib=None)


def known(*logs):
    return calibrate(logs, GPUS, MODELS)


NOTHING = known()


def log_of(w, gib, name="seen.out", **changes):
    """What an earlier run of a workload left: no torch block, and the peak that nvidia-smi saw."""
    settings_of = {
        "packed": w.packed,
        "activation_checkpointing": w.activation_checkpointing,
        "batch_size": w.batch_size,
        "gpu": w.gpu.name,
        "num_gpus": w.gpus,
        "dataset": w.dataset or None,
        "max_seq_len": w.max_seq_len,
    }
    return dataclasses.replace(SHORT, path=name, process_peak_gib=gib, **settings_of | changes)


def peak(w, *logs, batch=None):
    return calibrated.peak(w, known(*logs), batch or w.batch_size, 1)


def needed(w, *logs, batch=None):
    return calibrated.needed(w, known(*logs), batch or w.batch_size, 1)


def named(w, *logs):
    plan = calibrated.size(w, known(*logs))
    return [line for line in plan.evidence if "memory left out" in line]


@given(st.floats(0.97, 1.15))
def test_the_very_same_shape_pulls_to_what_was_seen(factor):
    before = peak(PACKED)
    seen = factor * before.p50
    after = peak(PACKED, log_of(PACKED, seen))
    assert seen <= after.p95 <= 1.1 * seen
    assert abs(after.p50 - seen) <= abs(before.p50 - seen) + 1e-9
    assert after.p95 - after.p50 < before.p95 - before.p50


def test_more_logs_of_a_shape_narrow():
    before = peak(UNPACKED)
    logs = [log_of(UNPACKED, before.p50, f"{i}.out", steps_done=30) for i in range(5)]
    widths = [peak(UNPACKED, *logs[:n]) for n in (0, 1, 2, 5)]
    ratios = [one.p95 / one.p50 for one in widths]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] < ratios[0]


@settings(max_examples=30)
@given(st.sampled_from([PACKED, UNPACKED]), st.integers(1, 24), st.floats(0.5, 1.6))
def test_p95_is_never_below_what_a_run_of_the_same_or_a_smaller_shape_took(w, batch, factor):
    seen = factor * calibrated.peak(w, NOTHING, batch, 1).p50
    log = log_of(w, seen, batch_size=batch)
    learnt = known(log)
    if learnt.memory(w).odd:
        assert [one.path for one in learnt.memory(w).odd] == ["seen.out"]
        return
    for planned in (batch, batch + 1, 2 * batch):
        assert calibrated.peak(w, learnt, planned, 1).p95 >= min(seen, w.gpu.memory_gib)


@settings(max_examples=25)
@given(
    st.sampled_from([PACKED, UNPACKED]),
    st.lists(st.tuples(st.integers(1, 32), st.floats(0.9, 1.5)), min_size=1, max_size=4),
)
def test_a_larger_batch_never_takes_less(w, tried):
    logs = [
        log_of(w, factor * calibrated.peak(w, NOTHING, batch, 1).p50, f"{i}.out", batch_size=batch)
        for i, (batch, factor) in enumerate(tried)
    ]
    learnt = known(*logs)
    for of in (calibrated.peak, calibrated.needed):
        sizes = [of(w, learnt, batch, 1) for batch in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)]
        for less, more in itertools.pairwise(sizes):
            assert less.p50 <= more.p50 + 1e-9
            assert less.p95 <= more.p95 + 1e-9
            assert less.p50 <= less.p95


@pytest.mark.parametrize("factor", [0.97, 1.0, 1.05])
def test_a_tiny_run_takes_no_margin_from_a_large_one(factor):
    tiny = dataclasses.replace(UNPACKED, batch_size=1, lengths=Lengths(((40, 400),)), max_seq_len=64)
    large = dataclasses.replace(UNPACKED, architecture=LLAMA_8B, model_name="8B", gpu=H100)
    seen = factor * peak(tiny).p50
    log = log_of(tiny, seen, max_seq_len=64)
    for of in (peak, needed):
        before, after = of(large), of(large, log)
        assert after.p95 > 0.97 * before.p95
        assert after.p50 > 0.97 * before.p50


def test_a_batch_that_got_through_is_known_to_fit():
    w = dataclasses.replace(PACKED, batch_size=None, effective_batch_size=256)
    largest = calibrated.largest_batch(w, NOTHING)
    more = largest + 1
    full = log_of(PACKED, 0.97 * A100.memory_gib, batch_size=more, gradient_accumulation_steps=2)
    assert calibrated.largest_batch(w, known(full)) >= more
    said = f"seen.out: batch {more} got through with {full.process_peak_gib:.1f} GiB as nvidia-smi saw it"
    assert said in calibrated.size(w, known(full)).evidence
    # Not where another setting took less, nor where it ended before nvidia-smi can have seen its peak.
    for changes in ({"lora_rank": 4}, {"steps_done": 5}, {"max_seq_len": 1024}, {"gpu": "h100-80"}):
        assert calibrated.largest_batch(w, known(dataclasses.replace(full, **changes))) == largest


def test_unpacked_rows_bound_from_above_only_once_all_were_seen():
    before = needed(UNPACKED)
    for steps_done, bounds in ((50, False), (1000, True)):
        log = log_of(UNPACKED, 1.02 * before.p50, steps_done=steps_done)
        assert (needed(UNPACKED, log).p95 < before.p95) == bounds


def test_torch_s_own_segments_leave_the_context():
    allocated = calibrated.size(PACKED, NOTHING).allocated_gib
    block = MemoryGib(allocated, allocated, 23.2)
    logs = [log_of(PACKED, 24.1, f"{i}.out", peak_memory_gib=block) for i in range(3)]
    learnt = known(*logs).memory(PACKED).outside
    usual = outside_torch.usual_gib("a100-80", 1)
    assert usual < learnt.of(usual).p50 < 0.9
    assert learnt.sigma < NOTHING.memory(PACKED).outside.sigma
    # What lies outside is the same of another model.
    other = dataclasses.replace(PACKED, architecture=LLAMA_8B, batch_size=1)
    assert peak(other, *logs).p50 > peak(other).p50 + 0.1


@pytest.mark.parametrize(
    ("gib", "changes", "why"),
    [
        (1.2, {}, "nvidia-smi saw 1.20 GiB at most, less than the 2.31 GiB of the weights alone"),
        (95.0, {}, "nvidia-smi saw 95.00 GiB, more than the 79.15 GiB of a a100-80"),
        (15.0, {}, "of 21.84 that steps take: looked too seldom"),
        (70.0, {}, "are usual: something else was on the GPU, or other settings"),
        (40.0, {"peak_memory_gib": MemoryGib(21.8, 21.8, 23.0)}, "torch held 23.00: something else was on the GPU"),
    ],
)
def test_samples_that_cannot_be_right_are_named_and_change_nothing(gib, changes, why):
    odd = log_of(PACKED, gib, "odd.out", **changes)
    (line,) = named(PACKED, odd)
    assert line.startswith("odd.out: its memory left out, ")
    assert why in line
    assert peak(PACKED, odd) == peak(PACKED, dataclasses.replace(odd, process_peak_gib=None))
    assert needed(PACKED, odd) == needed(PACKED, dataclasses.replace(odd, process_peak_gib=None))


def test_one_of_several_alike_that_stands_apart_is_named_and_does_not_move():
    usual = peak(UNPACKED).p50
    logs = [log_of(UNPACKED, gib, f"{gib}.out", steps_done=30) for gib in (usual, usual * 1.02, usual * 0.98)]
    odd = log_of(UNPACKED, 1.5 * usual, "odd.out", steps_done=30)
    (line,) = named(UNPACKED, *logs, odd)
    assert "odd.out: its memory left out, nvidia-smi saw 1.5 times what 3 logs of the same setting show" in line
    assert peak(UNPACKED, *logs, odd) == peak(UNPACKED, *logs)


def test_logs_that_do_not_tell_their_lengths_teach_nothing():
    log = log_of(UNPACKED, 30.0, dataset="others.json")
    assert peak(UNPACKED, log) == peak(UNPACKED)
    no_gpu = log_of(PACKED, 30.0, gpu=None)
    by_size = log_of(PACKED, 30.0, model=None, params_b=LLAMA_1B.params / 1e9)
    broke = log_of(PACKED, 30.0, state="oom")
    halved = log_of(PACKED, 70.0, oom_batch_sizes=(8,))
    for other in (no_gpu, by_size, broke, halved):
        assert known(other).memory(PACKED).samples == ()


@pytest.mark.parametrize(("factor", "is_named"), [(1.05, False), (1.3, True), (0.5, False)])
def test_torch_s_peak_above_that_of_the_longest_row_is_named(factor, is_named):
    gib = factor * calibrated.allocated_gib(UNPACKED, NOTHING, 4, 2000, 1)
    log = log_of(UNPACKED, None, peak_memory_gib=MemoryGib(gib, gib, 1.05 * gib))
    said = named(UNPACKED, log)
    assert ["allocated for its dataset's longest row (2000 tokens)" in line for line in said] == [True] * is_named
    for less in ({"dataset": "others.json"}, {"activation_checkpointing": None}):
        assert named(UNPACKED, dataclasses.replace(log, **less)) == []


def test_what_is_named_does_not_depend_on_what_else_is_planned():
    gib = 1.3 * calibrated.allocated_gib(UNPACKED, NOTHING, 4, 2000, 1)
    learnt = known(log_of(UNPACKED, None, peak_memory_gib=MemoryGib(gib, gib, 1.05 * gib)))
    others = dataclasses.replace(UNPACKED, dataset="others.json")
    assert [len(learnt.memory(w).odd) for w in (others, UNPACKED, others)] == [0, 1, 0]


def test_a_full_gpu_says_only_that_no_less_was_held():
    few = dataclasses.replace(UNPACKED, batch_size=4)
    for seen, moves in ((0.96 * few.gpu.memory_gib, True), (peak(few).p50 * 0.99, False)):
        factor = known(log_of(few, seen, steps_done=30)).memory(few).held[False].log_factor
        assert (factor > 0.05) == moves
