import dataclasses

import pytest
from estimate_cases import ADAPTER, LLAMA_1B, LLAMA_3B, LLAMA_8B, QWEN_15B, workload
from hypothesis import given
from hypothesis import strategies as st

from runplan.estimate.memory import closed_form, host, torchtune_step
from runplan.estimate.memory.weights import adapter_params, weight_bytes
from runplan.estimate.workload import Adapter
from runplan.units import GIB

batches = st.integers(1, 64)
tokens = st.integers(16, 8192)
ranks = st.sampled_from([1, 4, 8, 64, 256])
architectures = st.sampled_from([LLAMA_1B, LLAMA_3B, LLAMA_8B, QWEN_15B])


@given(architectures, batches, tokens, ranks, st.booleans(), st.booleans(), st.integers(1, 8))
def test_memory_grows_with_batch_length_rank_and_targets(a, batch, length, rank, checkpointing, packed, gpus):
    adapter = Adapter(rank, ("q_proj", "v_proj"), apply_to_mlp=False)
    w = workload(architecture=a, adapter=adapter, activation_checkpointing=checkpointing, packed=packed, gpus=gpus)

    def gib(w=w, batch=batch, length=length, accumulation=1):
        return closed_form.allocated_gib(w, batch, length, accumulation)

    here = gib()
    assert here < gib(batch=batch + 1)
    # The loss takes eighths of a sequence, of which the last may be smaller: what divides evenly grows steadily.
    assert gib(length=length // 8 * 8 + 8) < gib(length=length // 8 * 8 + 16)
    assert here < gib(dataclasses.replace(w, adapter=dataclasses.replace(adapter, rank=2 * rank)))
    assert here < gib(dataclasses.replace(w, adapter=dataclasses.replace(adapter, apply_to_mlp=True)))
    assert here < gib(accumulation=2)
    assert here < gib(dataclasses.replace(w, dtype="fp32"))


@given(architectures, batches, st.integers(256, 8192), st.booleans())
def test_checkpointing_and_sharding_never_cost_memory_that_batches_do_not(a, batch, length, packed):
    plain = workload(architecture=a, packed=packed)
    saved = dataclasses.replace(plain, activation_checkpointing=True)
    assert closed_form.allocated_gib(saved, batch, length) < closed_form.allocated_gib(plain, batch, length)
    assert closed_form.allocated_gib(dataclasses.replace(plain, gpus=4), batch, length) < (
        closed_form.allocated_gib(dataclasses.replace(plain, gpus=2), batch, length)
    )


def test_adapters_of_llama_1b_counted_by_hand():
    # 16 layers x rank 8 x (q 2048+2048, v 2048+512, output 2048+2048, MLP 3 x (2048+8192))
    assert adapter_params(LLAMA_1B, ADAPTER) == 16 * 8 * (4096 + 2560 + 4096 + 30720)


def test_rope_tables_are_shared_in_llama_3_1_and_one_a_layer_in_qwen():
    assert torchtune_step.rope_bytes(LLAMA_1B) == 32 * 2**20
    assert torchtune_step.rope_bytes(QWEN_15B) == 28 * 128 * 2**20


def test_what_a_llama_is_called_says_nothing_about_its_rope_tables():
    untied = dataclasses.replace(LLAMA_8B, family="llama3")
    assert torchtune_step.rope_bytes(untied) == 32 * 64 * 2**20
    for change in ({"tie_word_embeddings": True}, {"rope_scaling_factor": 8.0}):  # which another builder makes
        assert torchtune_step.rope_bytes(dataclasses.replace(untied, **change)) == 64 * 2**20


def test_offloading_moves_block_inputs_to_the_host():
    kept = workload(architecture=LLAMA_3B, activation_checkpointing=True)
    moved = dataclasses.replace(kept, activation_offloading=True)
    gone = closed_form.allocated_gib(kept, 2, 4096) - closed_form.allocated_gib(moved, 2, 4096)
    assert 0.8 < gone / (28 * 2 * 3072 * 2 * 4096 / GIB) < 1


def test_dense_masks_of_packed_rows_only_where_flex_attention_is_missing():
    packed = workload(packed=True, max_seq_len=4096)
    old = dataclasses.replace(packed, gpu=dataclasses.replace(packed.gpu, name="v100-32"))
    assert closed_form.allocated_gib(old, 2, 4096) - closed_form.allocated_gib(packed, 2, 4096) == pytest.approx(
        2 * 4096**2 * (1 + 2 * 16) / GIB
    )


@given(architectures, st.booleans())
def test_host_memory_holds_two_copies_of_the_weights_when_merged_weights_are_saved(a, adapters_only):
    weights = weight_bytes(a, ADAPTER) / GIB
    need = host.host_memory_gib(a, ADAPTER, "bf16", adapters_only)
    assert need >= (1 if adapters_only else 2) * weights + 4
    assert need <= host.host_memory_gib(a, ADAPTER, "bf16", save_adapter_only=False)
