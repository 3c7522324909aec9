"""runplan/estimate/memory/ran_out.py: batches that ran out of GPU memory are not taken again."""

import dataclasses

import pytest
from estimate_cases import A100, GPUS, H100, LLAMA_3B, LLAMA_8B, MODELS, QWEN_15B, workload
from hypothesis import given
from hypothesis import strategies as st
from test_estimate_calibrated import LOG

from runplan.estimate import calibrated
from runplan.estimate.calibration import calibrate
from runplan.estimate.memory.ran_out import batches_that_ran_out, least
from runplan.estimate.workload import Adapter

BROKE = dataclasses.replace(
    LOG, path="broke.out", packed=True, batch_size=8, state="oom", s_per_step=None, startup_s=None, first_step_s=None
)
PACKED = workload(packed=True, effective_batch_size=64)
NOTHING = calibrate([], GPUS, MODELS)


def known(*logs):
    return calibrate(logs, GPUS, MODELS)


def test_a_batch_that_ran_out_is_not_chosen_again():
    before, after = (calibrated.size(PACKED, learnt) for learnt in (NOTHING, known(BROKE)))
    assert before.batch_size >= 8 > after.batch_size == 4
    assert after.largest_batch_size == 7
    assert after.gradient_accumulation_steps == 16
    assert "broke.out: batch 8 ran out of memory on a100-80; batch 4 is below that" in after.evidence


@pytest.mark.parametrize(
    "recipe", ["full_finetune_distributed", "FullFinetuneRecipeSingleDevice", "lora_dpo_distributed"]
)
def test_what_another_kind_of_training_needed_says_nothing(recipe):
    seen = dataclasses.replace(BROKE, recipe=recipe, process_peak_gib=70.0)
    more = dataclasses.replace(seen, state="host_oom", max_rss_gib=400.0)
    after, before = (calibrated.size(PACKED, learnt) for learnt in (known(seen, more), NOTHING))
    assert after.batch_size == before.batch_size
    assert (after.needed_memory_gib, after.peak_memory_gib) == (before.needed_memory_gib, before.peak_memory_gib)
    assert known(seen, more).host_memory_gib(PACKED) == NOTHING.host_memory_gib(PACKED)
    adapters = dataclasses.replace(seen, recipe="LoRAFinetuneValRecipeDistributed")
    assert calibrated.size(PACKED, known(adapters)).batch_size < 8


def test_earlier_attempts_in_a_log_count_too():
    log = dataclasses.replace(LOG, packed=True, batch_size=4, gradient_accumulation_steps=4, oom_batch_sizes=(16, 8))
    assert {one.batch for one in batches_that_ran_out([log], MODELS, GPUS)} == {8, 16}
    assert calibrated.size(PACKED, known(log)).batch_size == 4


@given(st.integers(1, 40), st.sampled_from([4, 8, 16]))
def test_no_chosen_batch_ever_reaches_one_that_ran_out(batch, rank):
    log = dataclasses.replace(BROKE, batch_size=batch, lora_rank=rank)
    w = dataclasses.replace(PACKED, adapter=dataclasses.replace(PACKED.adapter, rank=16))
    plan = calibrated.size(w, known(log))
    assert plan.batch_size < batch or (batch, plan.batch_size, plan.largest_batch_size) == (1, 1, 0)


def test_a_last_rung_that_recomputes_activations_made_room():
    log = dataclasses.replace(LOG, packed=True, batch_size=2, gradient_accumulation_steps=8, oom_batch_sizes=(4, 2))
    recomputed = batches_that_ran_out([dataclasses.replace(log, activation_checkpointing=True)], MODELS, GPUS)
    assert {(one.batch, one.checkpointing) for one in recomputed} == {(4, False), (2, False)}
    always = batches_that_ran_out([dataclasses.replace(log, batch_size=1, activation_checkpointing=True)], MODELS, GPUS)
    assert {(one.batch, one.checkpointing) for one in always} == {(4, True), (2, True)}
    # It got through with 2 at last, whatever made room; nothing that is still planned is known to run out with 2.
    assert {one.batch for one in batches_that_ran_out([log], MODELS, GPUS)} == {4}


def test_a_batch_set_by_the_user_is_said_to_run_out_again():
    plan = calibrated.size(dataclasses.replace(PACKED, batch_size=8, effective_batch_size=8), known(BROKE))
    assert plan.batch_size == 8
    assert plan.peak_memory_gib.p50 >= A100.memory_gib
    assert plan.peak_memory_gib.p95 > A100.memory_gib
    assert any("batch 8 is expected to do so, too" in line for line in plan.evidence)


@pytest.mark.parametrize(
    "changes",
    [
        {"gpu": dataclasses.replace(H100, memory_gib=93.0)},
        {"architecture": QWEN_15B},
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
    one = batches_that_ran_out([BROKE], MODELS, GPUS)
    assert least(PACKED, 2, one) is not None
    assert least(dataclasses.replace(PACKED, **changes), 2, one) is None


def test_what_needs_more_is():
    one = batches_that_ran_out([BROKE], MODELS, GPUS)
    for changes in ({"max_seq_len": 4096}, {"adapter": dataclasses.replace(PACKED.adapter, rank=64)}):
        assert least(dataclasses.replace(PACKED, **changes), 1, one) is not None
    kept = batches_that_ran_out([dataclasses.replace(BROKE, gradient_accumulation_steps=4)], MODELS, GPUS)
    assert least(PACKED, 2, kept) is not None
    assert least(PACKED, 1, kept) is None


def test_rows_of_another_dataset_may_be_shorter():
    log = dataclasses.replace(BROKE, packed=False, dataset="/data/words.json")
    one = batches_that_ran_out([log], MODELS, GPUS)
    assert least(workload(dataset="words.json"), 1, one) is not None
    assert least(workload(dataset="essays.json"), 1, one) is None
    assert least(workload(dataset="words.json", max_seq_len=64), 1, one) is None
    assert least(workload(), 1, one) is not None  # nothing says that its rows are shorter


def test_of_unknown_models_and_gpus_nothing_is_known():
    strange = dataclasses.replace(BROKE, model="gpt2", params_b=None), dataclasses.replace(BROKE, gpu=None)
    assert batches_that_ran_out([*strange, LOG, dataclasses.replace(BROKE, batch_size=None)], MODELS, GPUS) == ()


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


A100_40 = dataclasses.replace(A100, name="a100-40", memory_gib=39.5)
V100 = dataclasses.replace(A100, name="v100-32", memory_gib=31.7)


@pytest.mark.parametrize("gpu", [A100_40, H100, dataclasses.replace(H100, memory_gib=79.5)])
def test_what_ran_out_on_a_larger_gpu_runs_out_on_a_smaller_one(gpu):
    w = dataclasses.replace(PACKED, gpu=gpu)
    log = dataclasses.replace(BROKE, batch_size=2)
    plan = calibrated.size(w, calibrate([log], GPUS, MODELS))
    assert plan.batch_size == 1
    assert any("batch 2 ran out of memory on a100-80" in line for line in plan.evidence)
    small = dataclasses.replace(log, gpu="a100-40")
    assert least(PACKED, 4, batches_that_ran_out([small], MODELS, {**GPUS, "a100-40": A100_40})) is None


def test_what_ran_out_with_a_smaller_model_of_the_family_runs_out_with_a_larger_one():
    def least_of(planned, logged):
        w = dataclasses.replace(PACKED, architecture=planned)
        return least(w, 4, batches_that_ran_out([BROKE], {LOG.model: logged}, GPUS))

    assert least_of(LLAMA_3B, MODELS["1B"]) is not None
    assert least_of(MODELS["1B"], LLAMA_3B) is None
    assert least_of(QWEN_15B, MODELS["1B"]) is None
    assert least_of(LLAMA_8B, MODELS["1B"]) is None  # another family: not all that takes memory is compared


def test_a_log_that_leaves_its_gpu_s_memory_open_bounds_the_smallest_it_may_have_run_on():
    known_gpus = {**GPUS, "a100-40": A100_40}
    (one,) = batches_that_ran_out([dataclasses.replace(BROKE, gpu="a100")], MODELS, known_gpus)
    assert one.gpu == A100_40
    assert least(PACKED, 4, [one]) is None
    assert least(dataclasses.replace(PACKED, gpu=A100_40), 4, [one]) is one
    assert batches_that_ran_out([dataclasses.replace(BROKE, gpu="mystery")], MODELS, known_gpus) == ()


def test_a_dense_mask_of_an_old_gpu_says_nothing_about_one_without():
    old = batches_that_ran_out([dataclasses.replace(BROKE, gpu="v100-32")], MODELS, {**GPUS, "v100-32": V100})
    newer = dataclasses.replace(PACKED, gpu=dataclasses.replace(A100, name="l4-24", memory_gib=22.0))
    assert least(newer, 4, old) is None
    assert least(dataclasses.replace(PACKED, gpu=V100), 4, old) is not None
