import dataclasses

import pytest
from estimate_cases import ADAPTER, LLAMA_1B, LLAMA_8B, workload
from hypothesis import given
from hypothesis import strategies as st

from runplan.estimate import allocator, memory
from runplan.facts import Lengths
from runplan.priors.record import MemoryGib, PriorRun

EVEN, UNEVEN = Lengths(((500, 1000),)), Lengths(((100, 900), (1000, 100)))


def lost(lengths, tokens=1000, batch=8, full=False, **changes):
    w = workload(architecture=LLAMA_8B, activation_checkpointing=True, lengths=lengths, **changes)
    _, freed = memory.allocated_parts_gib(w, batch, tokens, 1)
    return allocator.usually_lost_gib(w, batch, tokens, freed, full=full) / freed


def test_rows_of_one_length_and_packs_lose_little():
    assert lost(EVEN) == pytest.approx(0.17)
    assert lost(UNEVEN, packed=True) == pytest.approx(0.17)
    assert lost(EVEN, gpus=8) == pytest.approx(0.30)
    assert lost(Lengths(())) == pytest.approx(0.17)


def test_uneven_rows_lose_blocks_of_logits():
    # milabench, 8B in batches of 8: 1.1 times what comes and goes on one H100, 1.8 times on eight H200.
    assert lost(UNEVEN) == pytest.approx(1.1, abs=0.1)
    assert lost(UNEVEN, gpus=8) == pytest.approx(1.8, abs=0.2)


@given(st.integers(100, 4000), st.integers(1, 64), st.sampled_from([1, 2, 8]))
def test_a_full_gpu_keeps_less(tokens, batch, gpus):
    lengths = Lengths(((100, 10), (tokens, 1)))
    assert lost(lengths, tokens, batch, full=True, gpus=gpus) <= lost(lengths, tokens, batch, gpus=gpus) + 1e-9
    assert lost(EVEN, tokens, batch, full=True, gpus=gpus) == lost(EVEN, tokens, batch, gpus=gpus)


@given(st.integers(100, 1000), st.integers(1, 1000))
def test_the_more_lengths_differ_the_more_is_lost(shorter, longer):
    near, far = (Lengths(((100, 10), (100 + more, 1))) for more in sorted((shorter, shorter + longer)))
    assert lost(near) <= lost(far) + 1e-9


def logged(reserved, packed=True, **changes):
    run = PriorRun(
        "log",
        lora_rank=8,
        lora_targets=(*ADAPTER.attn_modules, "mlp"),
        batch_size=4,
        max_seq_len=2048,
        packed=packed,
        dtype="bf16",
        activation_checkpointing=False,
        gpu="a100-80",
        num_gpus=1,
        peak_memory_gib=MemoryGib(allocated=20.0, reserved=reserved),
    )
    return allocator.lost_over_usual(dataclasses.replace(run, **changes), LLAMA_1B, "bf16")


def test_logs_are_read_in_units_of_what_is_usual():
    stays = memory.footprint(LLAMA_1B, ADAPTER, "bf16", (False, True, False, False), 8, 1, "a100-80").fixed / 2**30
    usual = 20.0 + 0.01 * stays + 0.17 * (20.0 - stays)
    assert logged(usual) == pytest.approx(1.0)
    assert logged(usual + 0.17 * (20.0 - stays)) == pytest.approx(2.0)
    assert 0.2 < logged(usual, packed=False) < logged(usual)
    assert logged(usual, num_gpus=4) < logged(usual)


@pytest.mark.parametrize("peak", [None, MemoryGib(allocated=20.0), MemoryGib(allocated=20.0, reserved=19.0)])
def test_logs_that_do_not_tell_count_for_nothing(peak):
    assert logged(21.0, peak_memory_gib=peak) == 0.0
    assert logged(60.0) == 0.0
