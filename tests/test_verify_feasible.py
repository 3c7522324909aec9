"""Whether a sized run can work: memory, rows, steps, time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.estimate import calibrated
from runplan.estimate.calibration import calibrate
from runplan.estimate.workload import Adapter, Gpu, Interval, Sizing, Workload
from runplan.facts import Architecture, Lengths
from runplan.verify import feasible
from runplan.workloads import Sized

A100 = Gpu("a100-80", 79.15, 2039, 312, 19.5)
T4 = Gpu("t4-16", 14.6, 320, 65, 8.1, supports_bf16=False)
LLAMA = Architecture("llama3_2", 2048, 16, 32, 8, 64, 8192, 128256, 131072, tie_word_embeddings=True)
WORKLOAD = Workload(
    "torchtune", "0.6.1", LLAMA, Adapter(8, ("q_proj",), apply_to_mlp=True), A100, 1, Lengths(((100, 1000),)),
    2048, packed=False, dtype="bf16", activation_checkpointing=False, compile=False, epochs=1, effective_batch_size=16,
)  # fmt: skip
SIZING = Sizing(
    16, 1, 16, 62, 62, 10.0, Interval(11.0, 12.0), Interval(11.0, 12.0), 2.0, 1000.0, Interval(600, 900), "physics"
)


def sized(workload=WORKLOAD, warmup=6, minimum=50, **changes):
    config = SimpleNamespace(
        optimizer=SimpleNamespace(num_warmup_steps=warmup, lr_scheduler="cosine"),
        estimator=SimpleNamespace(minimum_steps=minimum),
        resources=SimpleNamespace(gpus_per_node=None),
    )
    return Sized(config, workload, replace(SIZING, **changes))


NEEDS = partial(calibrated.needed_p95, calibrate([], {}, {}))


def check_memory(one, gpus=None, needs=NEEDS):
    return feasible.check_memory(one, gpus or {}, needs)


def test_a_batch_that_fits_is_fine():
    assert check_memory(sized()) == feasible.FINE


def test_nothing_fits_names_both_numbers_and_a_gpu_that_would():
    nothing = sized(batch_size=1, largest_batch_size=0, needed_memory_gib=Interval(90, 95))
    found = check_memory(nothing, {"h200-141": Gpu("h200-141", 139.8, 4800, 989, 67)})
    assert "90.0 GiB" in found.problem.what
    assert "79.2 GiB" in found.problem.what or "79.1 GiB" in found.problem.what
    assert "resources=h200-141" in found.problem.fix
    assert "activation_checkpointing=true" in found.problem.fix


def test_weights_in_four_bits_are_advised_where_they_fit():
    large = Architecture("llama3_1", 4096, 32, 32, 8, 128, 14336, 128256, 131072)
    whole = replace(WORKLOAD, architecture=large, gpu=T4, activation_checkpointing=True)
    peak = {"batch_size": 1, "largest_batch_size": 0, "needed_memory_gib": Interval(16.5, 17.5)}
    advice = check_memory(sized(whole, **peak)).problem.fix
    assert "lora.quantize_base=true (QLoRA, weights in 4 bits: 7.0 GiB)" in advice
    for other in (
        replace(whole, trainer="hf"),
        replace(whole, adapter=replace(whole.adapter, quantize_base=True)),
        replace(whole, gpu=replace(T4, memory_gib=6.0)),
        replace(whole, gpus=3),
    ):
        assert "QLoRA" not in check_memory(sized(other, **peak)).problem.fix


def test_a_batch_the_user_set_is_a_risk_between_p50_and_p95_and_impossible_above():
    asked = replace(WORKLOAD, batch_size=32)
    between = check_memory(sized(asked, batch_size=32, needed_memory_gib=Interval(75, 85)))
    above = check_memory(sized(asked, batch_size=32, needed_memory_gib=Interval(80, 90)))
    assert between.problem is None
    assert "risk" in between.risk.what
    assert above.problem is not None
    assert "batch_size=16 (the largest that fits)" in above.problem.fix


@pytest.mark.parametrize(
    ("needs_gib", "said"),
    [
        ({2: 85.0, 4: 70.0, 8: 60.0}, "resources.gpus=4 (weights are sharded over GPUs)"),
        ({2: 79.0}, "resources.gpus=2 (weights are sharded over GPUs)"),
        ({2: 200.0, 4: 150.0, 8: 100.0}, "use a smaller model: no GPU that runplan knows is large enough"),
    ],
)
def test_more_gpus_are_advised_only_where_they_help(monkeypatch, needs_gib, said):
    monkeypatch.setattr(feasible, "_weights_gib", lambda _: 90.0)
    saving = replace(WORKLOAD, activation_checkpointing=True, trainer_version="0.6.1")
    one = sized(saving, batch_size=1, largest_batch_size=0, needed_memory_gib=Interval(100, 110))
    found = check_memory(one, needs=lambda w, *_: needs_gib[w.gpus] if w.gpus > 1 else 100.0)
    assert said in found.problem.fix
    trl = replace(one, workload=replace(saving, trainer="trl"))
    assert "resources.gpus" not in check_memory(trl, needs=lambda *_: 100.0).problem.fix


def test_where_no_single_gpu_is_enough_several_of_another_kind_are_named():
    large = replace(LLAMA, hidden_size=8192, num_hidden_layers=80, intermediate_size=28672, tie_word_embeddings=False)
    on_t4 = replace(WORKLOAD, architecture=large, gpu=T4, dtype="fp32", activation_checkpointing=True)
    one = sized(on_t4, batch_size=1, largest_batch_size=0, needed_memory_gib=Interval(260, 270))
    one.config.dtype = None
    found = check_memory(one, {"t4-16": T4, "a100-80": A100})
    assert "try resources=a100-80 resources.gpus=2 (" in found.problem.fix
    one.config.dtype = "fp32"
    assert "resources.gpus=8" in check_memory(one, {"t4-16": T4, "a100-80": A100}).problem.fix


def test_recomputing_activations_is_advised_only_where_that_is_enough():
    one = sized(batch_size=1, largest_batch_size=0, needed_memory_gib=Interval(90, 95))
    for needed, advised in ((79.0, True), (80.0, False)):
        fix = check_memory(one, needs=lambda w, *_, n=needed: n if w.activation_checkpointing else 95.0).problem.fix
        assert ("activation_checkpointing=true" in fix) == advised


def test_a_lower_rank_is_advised_only_where_that_is_enough():
    high = replace(WORKLOAD, adapter=replace(WORKLOAD.adapter, rank=4096))
    one = sized(high, batch_size=1, largest_batch_size=0, needed_memory_gib=Interval(90, 95))
    for needed, advised in ((79.0, True), (80.0, False)):
        fix = check_memory(one, needs=lambda w, *_, n=needed: n if w.adapter.rank == 64 else 95.0).problem.fix
        assert ("lora.rank=64" in fix) == advised
    usual = replace(high, adapter=replace(high.adapter, rank=64))
    assert "lora.rank" not in check_memory(replace(one, workload=usual), needs=lambda *_: 1.0).problem.fix


def test_fewer_rows_than_a_step_is_impossible():
    few = replace(WORKLOAD, lengths=Lengths(((100, 10),)))
    found = feasible.check_rows(sized(few, steps_per_epoch=0, steps_total=0))
    assert "10 training rows" in found.problem.what
    assert "16" in found.problem.what


@pytest.mark.parametrize(
    ("counts", "measured", "said"),
    [
        (((100, 5), (2048, 3)), True, None),
        (((100, 5), (2049, 1)), True, "1 of 6 training rows is longer than 2048 tokens, the longest has 2049"),
        (((3000, 1), (4000, 2)), False, "3 of 3 training rows are longer than 2048 tokens, the longest has about 4000"),
    ],
)
def test_rows_that_lose_their_end_are_said(counts, measured, said):
    risk = feasible.check_cut(replace(sized(), rows=Lengths(counts, measured))).risk
    assert (risk and risk.what.partition(":")[0]) == said
    assert risk is None or f"max_seq_len={counts[-1][0]} " in risk.fix


def test_warm_up_longer_than_training_and_too_few_steps_are_risks():
    assert "warm-up" in feasible.check_steps(sized(steps_total=60, warmup=100)).risk.what
    assert "only 49 optimizer steps" in feasible.check_steps(sized(steps_total=49)).risk.what
    assert feasible.check_steps(sized(steps_total=50)) == feasible.FINE


@pytest.mark.parametrize(("limit_s", "outcome"), [(None, "fine"), (900, "fine"), (700, "risk"), (500, "problem")])
def test_the_partitions_limit(limit_s, outcome):
    found = feasible.check_time(sized(), limit_s, "partition gpu")
    assert (found.problem is not None, found.risk is not None) == (outcome == "problem", outcome == "risk")


def test_a_wall_time_the_user_set_is_kept_and_its_risk_said():
    found = feasible.check_asked_time(sized(), 700)
    assert "resources.time=00:11:40" in found.risk.what
    assert feasible.check_asked_time(sized(), 900) == feasible.FINE


@given(st.floats(1, 1e6), st.floats(1.01, 5), st.floats(0.1, 10))
def test_exceedance_is_a_probability_with_the_right_quantiles(p50, ratio, part):
    p95 = p50 * ratio
    assert feasible.exceedance(p50, p95, p50) == pytest.approx(0.5)
    assert feasible.exceedance(p50, p95, p95) == pytest.approx(0.05)
    assert 0 <= feasible.exceedance(p50, p95, p50 * part) <= 1


def test_weights_that_do_not_fit_are_not_answered_with_shorter_sequences():
    huge = replace(WORKLOAD, gpu=T4, architecture=replace(LLAMA, num_hidden_layers=400))
    found = check_memory(sized(huge, batch_size=1, needed_memory_gib=Interval(50, 55)), {"a100-80": A100})
    assert "max_seq_len" not in found.problem.fix
    assert "resources=a100-80" in found.problem.fix


def test_gpus_of_another_maker_or_without_the_dtype_are_no_answer():
    nothing = sized(batch_size=1, largest_batch_size=0, needed_memory_gib=Interval(90, 95))
    h200, amd = Gpu("h200-141", 139.8, 4800, 989, 67), Gpu("mi300x-192", 191.7, 5300, 1307, 163)
    old = replace(h200, name="rtx9000-128", memory_gib=128.0, supports_bf16=False)
    fix = check_memory(nothing, {gpu.name: gpu for gpu in (h200, amd, old)}).problem.fix
    assert "resources=h200-141" in fix
    assert "mi300x" not in fix
    assert "rtx9000" not in fix


@pytest.mark.parametrize(
    ("asked", "risky"), [(None, False), ("0", False), ("16G", False), ("15G", True), ("4000M", True)]
)
def test_host_memory_that_is_set_too_low_is_said(asked, risky):
    found = feasible.check_asked_memory(asked, 15.2)
    assert found.problem is None
    assert (found.risk is not None) == risky
    if found.risk:
        assert f"resources.mem={asked} is set, training needs about 15 GiB of host memory" in found.risk.what


@pytest.mark.parametrize(
    ("window", "most", "trainer", "said"),
    [
        (4096, 8192, "torchtune", "2 of 12 training rows are longer than the 4096 tokens that this model looks back"),
        (6000, 8192, "torchtune", "1 of 12 training rows is longer than the 6000 tokens"),
        (8192, 16384, "torchtune", None),  # no row is so long
        (4096, 4096, "torchtune", None),  # rows are cut
        (4096, 8192, "trl", None),  # which attends as the model does
        (None, 8192, "torchtune", None),
    ],
)
def test_rows_longer_than_a_sliding_window_are_a_risk_where_the_trainer_ignores_it(window, most, trainer, said):
    model = replace(LLAMA, family="mistral", sliding_window=window)
    w = replace(WORKLOAD, architecture=model, max_seq_len=most, trainer=trainer)
    rows = Lengths(((100, 10), (5000, 1), (7000, 1)))
    risk = feasible.check_window(replace(sized(w), rows=rows)).risk
    assert (risk is None) == (said is None)
    if risk:
        assert said in risk.what
        assert f"max_seq_len={window}" in risk.fix
    assert feasible.check_window(sized(w)) == feasible.FINE
