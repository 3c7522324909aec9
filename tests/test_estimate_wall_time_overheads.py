from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.estimate.memory.weights import adapted_params
from runplan.estimate.wall_time.overheads import checkpoint_parts_s, merge_s
from runplan.estimate.workload import Adapter
from runplan.facts import Architecture

LLAMA_1B = Architecture("llama3_2", 2048, 16, 32, 8, 64, 8192, 128256, 131072, tie_word_embeddings=True)
ADAPTER = Adapter(16, ("q_proj", "v_proj", "output_proj"), apply_to_mlp=True)
ranks = st.sampled_from([4, 8, 16, 64, 256])


def test_what_adapters_sit_on_is_counted():
    block = 2048 * 2048 * 2 + 2048 * 512 + 3 * 2048 * 8192
    assert adapted_params(LLAMA_1B, ADAPTER) == 16 * block
    assert adapted_params(LLAMA_1B, replace(ADAPTER, apply_to_output=True)) == 16 * block + 2048 * 128256
    assert adapted_params(LLAMA_1B, Adapter(4, (), apply_to_mlp=False)) == 0


def test_a_published_save_with_one_thread_is_met():
    assert sum(checkpoint_parts_s(LLAMA_1B, ADAPTER, "bf16", adapter_only=False, gpu="a100-80", threads=1)) == (
        pytest.approx(33.0, rel=0.15)
    )


@given(ranks, st.sampled_from([1, 2, 4, 16]))
def test_merging_takes_longer_with_the_rank_and_less_with_threads_on_old_processors_alone(rank, threads):
    adapter, twice = replace(ADAPTER, rank=rank), replace(ADAPTER, rank=2 * rank)
    old = [merge_s(LLAMA_1B, one, "bf16", "a100-80", threads) for one in (adapter, twice)]
    assert old[0] < old[1] < 2 * old[0]
    assert merge_s(LLAMA_1B, adapter, "bf16", "a100-80", 2 * threads) < old[0]
    quick = {merge_s(LLAMA_1B, one, "bf16", "h100-80", threads) for one in (adapter, twice)}
    assert quick == {merge_s(LLAMA_1B, adapter, "fp32", "a100-80", threads)}
    assert quick.pop() < old[0]


@given(ranks)
def test_adapters_alone_are_saved_without_merging(rank):
    adapter = replace(ADAPTER, rank=rank)
    alone, merged = (checkpoint_parts_s(LLAMA_1B, adapter, "bf16", adapter_only=only) for only in (True, False))
    assert alone[0] == merged[0]
    assert alone[1] < 0.2 * merged[1]
