import dataclasses
import math

import pytest
from estimate_cases import A100 as GPU
from estimate_cases import LLAMA_1B, STEP, workload
from hypothesis import given
from hypothesis import strategies as st

from runplan.catalogue import gpus
from runplan.estimate.logs import settings
from runplan.estimate.speed.gpu_constants import peak_flops, prior
from runplan.estimate.speed.processor import NEW_PRODUCT_S, attention_s, batch_s, cores, update_s
from runplan.estimate.speed.roofline import micro_batch_s, step_s
from runplan.estimate.speed.step import planned_step
from runplan.estimate.speed.work import work
from runplan.facts import Architecture, Lengths
from runplan.paths import CONF_DIR

CPU = gpus([CONF_DIR])["cpu"]
TINY = Architecture("llama", 64, 2, 4, 2, 16, 256, 512, 131072, 500000.0, 32.0, 1e-5, tie_word_embeddings=True)


def step(**changes):
    values = {"architecture": TINY, "gpu": CPU, "dtype": "fp32", "packed": False, "batch": 4, "tokens": 128.0}
    values |= changes
    return dataclasses.replace(STEP, **{"span": values["tokens"] / 2, **values})


def done(one, *, forward_only=False):
    mode = (one.checkpointing, one.packed, forward_only)
    return work(one.architecture, one.adapter, one.dtype, mode, one.batch * one.tokens, one.span)


def seconds(one):
    return step_s(one, prior(one.gpu))


def test_what_stands_for_a_processor_without_an_entry_has_the_figures_of_the_entry():
    assert settings.CPU == CPU


def on(n):
    return dataclasses.replace(CPU, cores=n)


@given(st.integers(1, 64), st.integers(8, 2048), st.integers(1, 16), st.sampled_from(["fp32", "bf16"]))
def test_steps_take_longer_with_every_kind_of_work(batch, tokens, n, dtype):
    one = step(batch=batch, tokens=float(tokens), dtype=dtype, gpu=on(n))
    here = seconds(one)
    for more in (
        {"batch": batch + 1},
        {"tokens": tokens + 1.0, "span": (tokens + 1) / 2},
        {"accumulation": 2},
        {"checkpointing": True},
        {"adapter": dataclasses.replace(one.adapter, rank=2 * one.adapter.rank)},
        {"architecture": dataclasses.replace(TINY, num_hidden_layers=3)},
    ):
        assert seconds(dataclasses.replace(one, **more)) >= here, more


@pytest.mark.parametrize("n", [2, 4, 16])
def test_more_cores_help_long_batches_and_never_by_more_than_their_number(n):
    long = step(batch=64, tokens=512.0)
    assert 1.3 < seconds(long) / seconds(dataclasses.replace(long, gpu=on(n))) < n
    # One short row is launches of small tensors, which one core computes.
    short = step(batch=1, tokens=16.0)
    assert seconds(dataclasses.replace(short, gpu=on(n))) / seconds(short) == pytest.approx(1.0, abs=0.1)


def test_a_processor_of_unknown_cores_has_one():
    assert cores(CPU) == cores(on(1)) == 1
    assert seconds(step()) == seconds(step(gpu=on(1)))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_no_estimate_beats_the_peak(dtype):
    one = step(architecture=LLAMA_1B, batch=8, tokens=512.0, dtype=dtype)
    share = done(one).flop / batch_s(one, done(one), prior(CPU)) / peak_flops(CPU, dtype)
    assert 0.1 < share < 1


@pytest.mark.parametrize(
    ("heads", "channels", "batch", "tokens", "dtype", "timed_ms"),
    [
        (8, 16, 8, 128, "fp32", 3.87),
        (8, 16, 2, 512, "fp32", 11.57),
        (8, 64, 2, 512, "fp32", 31.6),
        (4, 128, 2, 512, "fp32", 27.4),
        (4, 128, 1, 1024, "fp32", 36.0),
        (8, 16, 8, 128, "bf16", 19.4),
        (8, 64, 2, 512, "bf16", 21.4),
        (8, 64, 1, 1024, "bf16", 25.3),
        (4, 128, 1, 1024, "bf16", 16.3),
        (32, 16, 16, 64, "bf16", 110.0),
        (32, 16, 4, 128, "bf16", 43.8),
        (32, 16, 8, 256, "bf16", 130.7),
        (4, 16, 32, 512, "bf16", 168.1),
    ],
)
def test_attention_is_that_of_its_kernels_timed_alone(heads, channels, batch, tokens, dtype, timed_ms):
    # Forward and backward on one core, torch 2.13 with AVX-512 and AMX; the numbers are those of whole steps.
    one_layer = dataclasses.replace(
        TINY, hidden_size=heads * channels, num_hidden_layers=1, num_attention_heads=heads, head_dim=channels
    )
    one = step(architecture=one_layer, batch=batch, tokens=float(tokens), dtype=dtype)
    assert 1e3 * attention_s(one) == pytest.approx(timed_ms, rel=0.3)


def test_a_mask_costs_what_lies_beyond_the_diagonal():
    long = step(batch=1, tokens=2048.0)
    masked = dataclasses.replace(long, span=long.tokens)
    assert 1.4 < attention_s(masked) / attention_s(long) < 2
    assert attention_s(dataclasses.replace(long, packed=True)) == attention_s(masked)
    assert seconds(masked) > seconds(long) + attention_s(masked) - attention_s(long)  # the mask is read, too
    short = step(batch=1, tokens=256.0)  # within one block of keys all are computed anyway
    assert attention_s(dataclasses.replace(short, span=short.tokens)) == attention_s(short)


def test_validation_is_the_forward_pass_alone():
    one = step()
    both, forward = (micro_batch_s(one, prior(CPU), forward_only=only) for only in (False, True))
    assert 0.25 < forward / both < 0.6


def test_seconds_follow_the_constants():
    one, constants = step(batch=16), prior(CPU)
    half = -math.log(2)
    twice = constants._replace(
        flops=constants.flops + half, bandwidth=constants.bandwidth + half, layer_s=constants.layer_s - half
    )
    assert batch_s(one, done(one), twice) == pytest.approx(2 * batch_s(one, done(one), constants))


def test_new_lengths_cost_compiling_under_bf16_alone():
    even, half, varied = (step(dtype="bf16", varied=each) for each in (0.0, 0.5, 1.0))
    # Five shapes of layers and head with two products each, five of adapters with three.
    assert seconds(varied) - seconds(even) == pytest.approx((5 * 2 + 5 * 3) * NEW_PRODUCT_S, rel=0.01)
    assert seconds(varied) - seconds(half) == pytest.approx(seconds(half) - seconds(even))
    assert seconds(dataclasses.replace(varied, accumulation=3)) > 3 * 25 * NEW_PRODUCT_S
    assert seconds(step(varied=1.0)) == seconds(step())
    few, many = (Lengths(tuple((50 + i, 30) for i in range(n))) for n in (10, 300))
    w = workload(gpu=CPU, packed=False, lengths=few, effective_batch_size=4)
    low, high = (planned_step(dataclasses.replace(w, lengths=some), 1, 1).varied for some in (few, many))
    assert low == pytest.approx(10 / 300, rel=0.01)  # each once, then they are kept
    assert high > 0.9
    for other in ({"packed": True}, {"dtype": "fp32"}, {"gpu": GPU}):
        assert planned_step(dataclasses.replace(w, lengths=many, **other), 1, 1).varied == 0


def test_bf16_slows_kernels_and_not_the_hooks_of_checkpointing():
    short = {"batch": 1, "tokens": 16.0}
    added = {
        dtype: seconds(step(**short, dtype=dtype, checkpointing=True)) - seconds(step(**short, dtype=dtype))
        for dtype in ("fp32", "bf16")
    }
    slowed = seconds(step(**short, dtype="bf16")) / seconds(step(**short))
    assert 1 < added["bf16"] / added["fp32"] < slowed


def test_weights_that_caches_do_not_hold_are_read_for_every_batch():
    large = dataclasses.replace(TINY, hidden_size=512, num_hidden_layers=8, num_attention_heads=32)
    for architecture, least in ((TINY, 0.0), (large, 0.1)):
        one = step(architecture=architecture, batch=1, tokens=16.0)
        work_done = done(one)
        without = work_done._replace(bytes=work_done.bytes - work_done.weight_bytes, weight_bytes=0.0)
        constants = prior(CPU)
        share = 1 - batch_s(one, without, constants) / batch_s(one, work_done, constants)
        assert least < share < least + 0.15


def test_the_optimizer_passes_over_all_that_is_trained_once_a_step():
    one = step()
    doubled = dataclasses.replace(one, adapter=dataclasses.replace(one.adapter, rank=2 * one.adapter.rank))
    assert update_s(doubled, prior(CPU)) == pytest.approx(2 * update_s(one, prior(CPU)))
    assert update_s(dataclasses.replace(one, accumulation=8), prior(CPU)) == update_s(one, prior(CPU))
