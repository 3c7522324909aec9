"""Weights in 4 bits: their bytes, what unpacking and loading them takes, and what cannot be held so."""

import dataclasses

import pytest
from estimate_cases import A100, ADAPTER, GPUS, LLAMA_1B, LLAMA_3B, LLAMA_8B, MODELS, QWEN_05B, QWEN_15B, workload
from hypothesis import given
from hypothesis import strategies as st
from test_estimate_calibrated import LOG

from runplan.estimate import calibrated
from runplan.estimate.calibration import calibrate
from runplan.estimate.memory import closed_form, host, nf4
from runplan.estimate.memory.ran_out import batches_that_ran_out, least
from runplan.estimate.memory.weights import quantised_shapes
from runplan.estimate.speed.observation import observe
from runplan.estimate.speed.posterior import fit
from runplan.estimate.speed.roofline import step_s
from runplan.estimate.speed.step import planned_step
from runplan.estimate.speed.work import unpacked_part
from runplan.priors.record import MemoryGib

QUANTISED = dataclasses.replace(ADAPTER, quantize_base=True)
QLORA_LOG = dataclasses.replace(LOG, path="qlora.out", quantize_base=True)
KINDS = (dataclasses.replace(LOG, quantize_base=False), QLORA_LOG)


def test_a_number_takes_half_a_byte_and_its_share_of_scales():
    n = 4096 * 14336
    assert nf4.stored_bytes([(4096, 14336)], 2) == n // 2 + n // 64 + 2 * n // 16384 + 1024


def test_llama_quantises_every_linear_layer_and_qwen_those_with_adapters():
    assert len(quantised_shapes(LLAMA_1B, QUANTISED)) == 7
    assert len(quantised_shapes(QWEN_05B, QUANTISED)) == 6
    attention = dataclasses.replace(QUANTISED, attn_modules=("q_proj",), apply_to_mlp=False)
    assert len(quantised_shapes(LLAMA_1B, attention)) == 7
    assert quantised_shapes(QWEN_05B, attention) == ((896, 896),)
    assert quantised_shapes(LLAMA_1B, ADAPTER) == ()


@pytest.mark.parametrize(
    ("architecture", "gpus", "why"),
    [
        (LLAMA_8B, 8, ""),
        (QWEN_05B, 1, ""),
        (QWEN_05B, 2, "49 groups of 16384, which 2 GPUs cannot share evenly"),
        (LLAMA_1B, 3, "which 3 GPUs cannot share evenly"),
        (dataclasses.replace(LLAMA_1B, hidden_size=64, head_dim=2, intermediate_size=64), 1, "a multiple of 16384"),
    ],
)
def test_groups_of_scales_must_be_whole_on_every_gpu(architecture, gpus, why):
    said = nf4.problem(quantised_shapes(architecture, QUANTISED), gpus)
    assert why in said
    assert bool(said) == bool(why)


@given(
    st.sampled_from([LLAMA_1B, LLAMA_3B, LLAMA_8B, QWEN_15B]), st.integers(1, 16), st.integers(16, 4096), st.booleans()
)
def test_four_bits_save_memory_but_where_compiled_layers_keep_them_unpacked(a, batch, length, checkpointing):
    def gib(adapter, *, compiled):
        w = workload(architecture=a, adapter=adapter, activation_checkpointing=checkpointing, compile=compiled)
        return closed_form.allocated_gib(w, batch, length)

    assert gib(QUANTISED, compiled=False) < gib(ADAPTER, compiled=False)
    assert (gib(QUANTISED, compiled=True) < gib(ADAPTER, compiled=True)) == checkpointing


@given(st.sampled_from([LLAMA_1B, LLAMA_8B]), st.integers(1, 32), st.integers(16, 4096), st.booleans(), st.booleans())
def test_unpacking_costs_time_in_every_pass(a, batch, length, checkpointing, compiled):
    def seconds(adapter):
        w = workload(architecture=a, adapter=adapter, activation_checkpointing=checkpointing, compile=compiled)
        step = dataclasses.replace(planned_step(w, batch, 1), tokens=float(length), span=length / 2)
        return step_s(step, fit([], A100).constants(A100)), unpacked_part(step)

    (plain, none), (quantised, part) = seconds(ADAPTER), seconds(QUANTISED)
    assert none == 0 < part < 1
    assert plain < quantised


def test_the_host_holds_whole_weights():
    whole, four = (
        host.host_memory_gib(LLAMA_8B, adapter, "bf16", save_adapter_only=False) for adapter in (ADAPTER, QUANTISED)
    )
    assert whole == four


def test_a_log_of_qlora_is_taken_as_one():
    seen = observe(QLORA_LOG, MODELS, GPUS, A100)
    assert seen.step.adapter.quantize_base
    assert not observe(LOG, MODELS, GPUS, A100).step.adapter.quantize_base


def test_the_other_kind_of_log_teaches_less():
    asked = workload(packed=True)
    step = planned_step(asked, 16, 1)
    seen = [observe(dataclasses.replace(log, packed=True, s_per_step=3.0), MODELS, GPUS, A100) for log in KINDS]
    own, other = (fit([one], A100).log_step_s(step)[1] for one in seen)
    assert own < other
    quantised = dataclasses.replace(asked, adapter=QUANTISED)
    said = calibrated.size(quantised, calibrate([LOG], GPUS, MODELS))
    assert any("without QLoRA's weights in 4 bits" in line for line in said.evidence)
    assert any("QLoRA, no log has weights in 4 bits" in line for line in said.evidence)
    assert said.extrapolated


def test_a_peak_below_the_whole_weights_is_no_contradiction_in_four_bits():
    for log in KINDS:
        small = dataclasses.replace(log, model="3B", peak_memory_gib=MemoryGib(3.0, None, 3.2))
        learnt = calibrate([small], GPUS, MODELS)
        said = calibrated.size(workload(architecture=LLAMA_3B), learnt).evidence
        assert any("of the weights alone" in line for line in said) != log.quantize_base


@pytest.mark.parametrize(
    ("log", "adapter", "known"),
    [(QLORA_LOG, ADAPTER, True), (LOG, QUANTISED, False), (QLORA_LOG, QUANTISED, True), (LOG, ADAPTER, True)],
)
def test_what_ran_out_in_four_bits_runs_out_whole_but_not_the_reverse(log, adapter, known):
    broke = dataclasses.replace(log, packed=True, batch_size=8, state="oom", s_per_step=None)
    ran_out_too = batches_that_ran_out([broke], MODELS, GPUS)
    assert (least(workload(packed=True, adapter=adapter), 1, ran_out_too) is not None) == known
