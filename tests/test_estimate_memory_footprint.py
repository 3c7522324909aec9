"""runplan/estimate/memory/footprint.py: moments of a step on one of several GPUs."""

import dataclasses

from estimate_cases import LLAMA_8B, workload
from hypothesis import given
from hypothesis import strategies as st

from runplan.estimate.memory import allocator, closed_form

SHARDED = workload(architecture=LLAMA_8B, gpus=4, activation_checkpointing=True)
PARTS = closed_form.footprint_for(SHARDED)
ROWS = st.integers(1, 64), st.integers(16, 4096)


def test_one_gpu_gathers_nothing():
    parts = closed_form.footprint_for(dataclasses.replace(SHARDED, gpus=1))
    assert (parts.root, parts.block, parts.kept_bytes(8, 512)) == (0.0, 0.0, 0.0)
    assert parts.held_bytes(8, 512, 0.5) == 0.5 * (parts.peak_bytes(8, 512) - parts.fixed)


def test_little_to_train_on_leaves_gathered_weights_as_the_peak():
    # Embedding and output of 8B, 2 x 1.05 GB, and a block of 0.44, each as it arrives and as it is used.
    tiny = PARTS.peak_bytes(1, 64) - PARTS.fixed
    assert PARTS.root == 2 * (2 * LLAMA_8B.vocab_size + 1) * LLAMA_8B.hidden_size  # and the final norm
    assert 2 * (PARTS.root + PARTS.block) <= tiny < 1.01 * 2 * (PARTS.root + PARTS.block)
    assert PARTS.kept_bytes(1, 64) == 0.0
    assert PARTS.kept_bytes(16, 1000) == PARTS.root


@given(*ROWS)
def test_what_is_held_grows_with_the_batch(batch, tokens):
    def total(n):
        return PARTS.peak_bytes(n, tokens) + PARTS.held_bytes(n, tokens, 0.3)

    assert 0 <= PARTS.kept_bytes(batch, tokens) <= PARTS.root
    assert total(batch) <= total(batch + 1)
    assert PARTS.held_bytes(batch, tokens, 0.3) <= PARTS.held_bytes(batch, tokens, 0.4)


def test_the_fullest_of_several_holds_more_than_one():
    factors = [allocator.most_of(gpus) for gpus in (1, 2, 4, 8)]
    assert factors[0] == 1.0
    assert factors == sorted(factors)
    assert 1.3 < factors[2] < factors[3] < 1.7
