"""runplan/estimate/crowded.py: batches that ran out of GPU memory are not taken again."""

import dataclasses

import pytest
from estimate_cases import A100, GPUS, H100, LLAMA_3B, MODELS, workload
from hypothesis import given
from hypothesis import strategies as st
from test_estimate_calibrated import LOG

from runplan.estimate import calibrated
from runplan.estimate.crowded import crowded, least
from runplan.estimate.workload import Adapter

BROKE = dataclasses.replace(
    LOG, path="broke.out", packed=True, batch_size=8, state="oom", s_per_step=None, startup_s=None, first_step_s=None
)
PACKED = workload(packed=True, effective_batch_size=64)
NOTHING = calibrated.calibrate([], GPUS, MODELS)


def known(*logs):
    return calibrated.calibrate(logs, GPUS, MODELS)


def test_a_batch_that_ran_out_is_not_chosen_again():
    before, after = (calibrated.size(PACKED, learnt) for learnt in (NOTHING, known(BROKE)))
    assert before.batch_size >= 8 > after.batch_size == 4
    assert after.largest_batch_size == 7
    assert after.gradient_accumulation_steps == 16
    assert "broke.out: batch 8 ran out of memory on a100-80; batch 4 is below that" in after.evidence


def test_earlier_attempts_in_a_log_count_too():
    log = dataclasses.replace(LOG, packed=True, batch_size=4, gradient_accumulation_steps=4, oom_batch_sizes=(16, 8))
    assert {one.batch for one in crowded([log], MODELS, GPUS)} == {8, 16}
    assert calibrated.size(PACKED, known(log)).batch_size == 4


@given(st.integers(1, 40), st.sampled_from([4, 8, 16]))
def test_no_chosen_batch_ever_reaches_one_that_ran_out(batch, rank):
    log = dataclasses.replace(BROKE, batch_size=batch, lora_rank=rank)
    w = dataclasses.replace(PACKED, adapter=dataclasses.replace(PACKED.adapter, rank=16))
    plan = calibrated.size(w, known(log))
    assert plan.batch_size < batch or (batch, plan.batch_size, plan.largest_batch_size) == (1, 1, 0)


def test_a_last_rung_that_recomputes_activations_made_room():
    log = dataclasses.replace(LOG, packed=True, batch_size=2, gradient_accumulation_steps=8, oom_batch_sizes=(4, 2))
    recomputed = crowded([dataclasses.replace(log, activation_checkpointing=True)], MODELS, GPUS)
    assert {(one.batch, one.checkpointing) for one in recomputed} == {(4, False), (2, False)}
    always = crowded([dataclasses.replace(log, batch_size=1, activation_checkpointing=True)], MODELS, GPUS)
    assert {(one.batch, one.checkpointing) for one in always} == {(4, True), (2, True)}
    # It got through with 2 at last, whatever made room; nothing that is still planned is known to run out with 2.
    assert {one.batch for one in crowded([log], MODELS, GPUS)} == {4}


def test_a_batch_set_by_the_user_is_said_to_run_out_again():
    plan = calibrated.size(dataclasses.replace(PACKED, batch_size=8, effective_batch_size=8), known(BROKE))
    assert plan.batch_size == 8
    assert plan.peak_memory_gib.p50 >= A100.memory_gib
    assert plan.peak_memory_gib.p95 > A100.memory_gib
    assert any("batch 8 is expected to do so, too" in line for line in plan.evidence)


@pytest.mark.parametrize(
    "changes",
    [
        {"gpu": H100},
        {"architecture": LLAMA_3B},
        {"packed": False},
        {"max_seq_len": 1024},
        {"adapter": Adapter(4, ("q_proj", "v_proj", "output_proj"), apply_to_mlp=True)},
        {"adapter": Adapter(8, ("q_proj", "v_proj"), apply_to_mlp=True)},
        {"activation_checkpointing": True},
        {"compile": True},
        {"gpus": 2},
        {"dtype": "fp32"},
    ],
)
def test_what_may_need_less_is_not_held_to_it(changes):
    one = crowded([BROKE], MODELS, GPUS)
    assert least(PACKED, 2, one) is not None
    assert least(dataclasses.replace(PACKED, **changes), 2, one) is None


def test_what_needs_more_is():
    one = crowded([BROKE], MODELS, GPUS)
    for changes in ({"max_seq_len": 4096}, {"adapter": dataclasses.replace(PACKED.adapter, rank=64)}):
        assert least(dataclasses.replace(PACKED, **changes), 1, one) is not None
    kept = crowded([dataclasses.replace(BROKE, gradient_accumulation_steps=4)], MODELS, GPUS)
    assert least(PACKED, 2, kept) is not None
    assert least(PACKED, 1, kept) is None


def test_rows_of_another_dataset_may_be_shorter():
    log = dataclasses.replace(BROKE, packed=False, dataset="/data/words.json")
    one = crowded([log], MODELS, GPUS)
    assert least(workload(dataset="words.json"), 1, one) is not None
    assert least(workload(dataset="essays.json"), 1, one) is None
    assert least(workload(dataset="words.json", max_seq_len=64), 1, one) is None
    assert least(workload(), 1, one) is not None  # nothing says that its rows are shorter


def test_of_unknown_models_and_gpus_nothing_is_known():
    strange = dataclasses.replace(BROKE, model="gpt2", params_b=None), dataclasses.replace(BROKE, gpu=None)
    assert crowded([*strange, LOG, dataclasses.replace(BROKE, batch_size=None)], MODELS, GPUS) == ()


def test_running_out_of_memory_says_that_the_allocator_loses_more():
    """A bound from below moves what the formulas leave open, for other shapes too, and only upwards."""
    w = dataclasses.replace(PACKED, batch_size=4, max_seq_len=1024)
    runs_out = calibrated.largest_batch(PACKED, NOTHING)
    usual = calibrated.peak(w, NOTHING, 4, 1)
    tight = calibrated.peak(w, known(dataclasses.replace(BROKE, batch_size=runs_out - 1)), 4, 1)
    roomy = calibrated.peak(w, known(dataclasses.replace(BROKE, batch_size=2 * runs_out)), 4, 1)
    assert tight.p50 > 1.005 * usual.p50
    assert roomy == usual


def test_running_out_of_little_memory_is_named_as_odd_but_not_repeated():
    plan = calibrated.size(PACKED, known(dataclasses.replace(BROKE, batch_size=2)))
    assert plan.batch_size == 1
    (line,) = [line for line in plan.evidence if "left out" in line]
    assert line.startswith("broke.out: its memory left out, batch 2 ran out with ")
    assert "something else was on the GPU" in line
    other = dataclasses.replace(PACKED, batch_size=4, max_seq_len=1024)
    assert calibrated.peak(other, known(dataclasses.replace(BROKE, batch_size=2)), 4, 1) == calibrated.peak(
        other, NOTHING, 4, 1
    )


def test_a_log_of_one_rung_after_another_teaches_speed_and_the_bound():
    log = dataclasses.replace(
        LOG, packed=True, batch_size=4, gradient_accumulation_steps=4, oom_batch_sizes=(8,), s_per_step=6.0
    )
    plan = calibrated.size(PACKED, known(log))
    assert (plan.n_priors, plan.batch_size) == (1, 4)
