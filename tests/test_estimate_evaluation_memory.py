"""Memory of an evaluation: laws, and figures that can be worked out by hand."""

import pytest
from estimate_cases import A100, H100, LLAMA2_7B, LLAMA_1B, LLAMA_8B, QWEN_05B
from hypothesis import given
from hypothesis import strategies as st

from runplan.estimate.evaluation import memory
from runplan.estimate.workload import Gpu
from runplan.units import GIB

GPUS = (A100, H100, Gpu("t4-16", 14.56, 320.0, 65.0, 8.1, supports_bf16=False))
models = st.sampled_from((LLAMA_1B, LLAMA_8B, LLAMA2_7B, QWEN_05B))
tokens = st.integers(1, 8192)


def test_an_answer_keeps_keys_and_values_of_every_token():
    a = LLAMA_8B
    one, two = (memory.answers_gib(a, 100, answer, 4) for answer in (0, 1000))
    assert two - one == pytest.approx(32 * 2 * 1024 * 2 * 4 * 1000 / GIB)


@given(models, tokens, tokens, st.integers(1, 256), st.integers(1, 8))
def test_more_of_anything_takes_no_less_and_more_gpus_take_no_more_each(a, prompt, answer, batch, gpus):
    least = memory.answers_gib(a, prompt, answer, batch, gpus)
    assert least <= memory.answers_gib(a, prompt + 1, answer, batch, gpus)
    assert least <= memory.answers_gib(a, prompt, answer + 1, batch, gpus)
    assert least <= memory.answers_gib(a, prompt, answer, batch + 1, gpus)
    assert memory.answers_gib(a, prompt, answer, batch, gpus + 1) <= least
    assert memory.weights_gib(a, gpus + 2) <= memory.weights_gib(a, gpus + 1)


@given(models, st.sampled_from(GPUS), tokens, tokens, st.integers(1, 64))
def test_the_fewest_gpus_are_enough_and_one_less_is_not(a, gpu, prompt, answer, batch):
    gpus = memory.fewest_gpus(a, gpu, prompt, answer, batch)
    if gpus == memory.MOST_GPUS:
        return
    assert memory.largest_batch(a, gpu, gpus, prompt, answer) >= batch / 2
    assert memory.answers_gib(a, prompt, answer, batch, gpus) <= memory.room_gib(a, gpu, gpus)
    if gpus > 1:
        assert memory.answers_gib(a, prompt, answer, batch, gpus - 1) > memory.room_gib(a, gpu, gpus - 1)


@given(models, st.sampled_from(GPUS), tokens, tokens)
def test_the_largest_batch_fits_and_twice_that_does_not(a, gpu, prompt, answer):
    largest, room = memory.largest_batch(a, gpu, 1, prompt, answer), memory.room_gib(a, gpu, 1)
    assert largest == 0 or memory.answers_gib(a, prompt, answer, largest) <= room
    assert memory.answers_gib(a, prompt, answer, max(1, 2 * largest)) > room
