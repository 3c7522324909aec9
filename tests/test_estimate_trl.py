"""TRL's closed form and roofline: against the real model, adapters and loss, on fake tensors that only have sizes.

Two optimizer steps run on no data (benchmarks/allocator/fine_tuner.py); every storage is counted when it appears and
when it goes. Several GPUs cannot be simulated here.
"""

import dataclasses

import pytest
from estimate_cases import (
    ADAPTER,
    GPUS,
    LLAMA_1B,
    LLAMA_3B,
    LLAMA_8B,
    MISTRAL_7B,
    MODELS,
    QWEN3,
    QWEN_05B,
    QWEN_15B,
    ROWS,
    workload,
)
from hypothesis import given
from hypothesis import strategies as st
from simulated_allocator import fine_tuner, recipe

from runplan.estimate import calibrated
from runplan.estimate.calibration import calibrate
from runplan.estimate.memory import closed_form, torchtune_step
from runplan.estimate.memory.weights import adapter_params
from runplan.estimate.speed import gpu_constants, roofline, trl_kernels, work
from runplan.estimate.speed.step import planned_step
from runplan.estimate.steps import best_fit_rows, optimizer_steps, packed_rows
from runplan.facts import Lengths
from runplan.priors.record import MemoryGib, PriorRun

ATTENTION = dataclasses.replace(ADAPTER, attn_modules=("q_proj", "v_proj"), apply_to_mlp=False)
EVERYTHING = dataclasses.replace(ADAPTER, attn_modules=("q_proj", "k_proj", "v_proj", "output_proj"))
RANK_64 = dataclasses.replace(EVERYTHING, rank=64)
MLP = dataclasses.replace(ADAPTER, attn_modules=())
ONE = dataclasses.replace(ATTENTION, attn_modules=("v_proj",))
QWEN3_WIDE = dataclasses.replace(
    QWEN3, hidden_size=5120, num_hidden_layers=2, num_attention_heads=64, intermediate_size=25600,
    tie_word_embeddings=False,
)  # fmt: skip
RECOMPUTED = {"activation_checkpointing": True}


def layers(architecture, n):
    return dataclasses.replace(architecture, num_hidden_layers=n)


def trl(**changes):
    return workload(trainer="trl", trainer_version="1.16.0", **changes)


CASES = {
    "1B as TRL ships it": ({"architecture": layers(LLAMA_1B, 4), **RECOMPUTED}, 4, 1024, 2),
    "1B kept, one row, rank 64": ({"architecture": layers(LLAMA_1B, 4), "adapter": RANK_64}, 1, 2048, 1),
    "1B kept, rows differ": ({"architecture": layers(LLAMA_1B, 4)}, 4, 512, 2),
    "3B attention only": ({"architecture": layers(LLAMA_3B, 4), "adapter": ATTENTION}, 2, 512, 1),
    "3B fp32": ({"architecture": layers(LLAMA_3B, 3), "dtype": "fp32", "adapter": EVERYTHING}, 2, 512, 1),
    "8B MLP only": ({"architecture": layers(LLAMA_8B, 3), "adapter": MLP}, 8, 256, 1),
    "8B fp32 recomputed": ({"architecture": layers(LLAMA_8B, 3), "dtype": "fp32", **RECOMPUTED}, 1, 4096, 1),
    "Mistral 7B v0.1 at its window, one row": (
        {"architecture": dataclasses.replace(MISTRAL_7B, num_hidden_layers=3, sliding_window=4096)},
        1,
        4096,
        1,
    ),
    "Mistral 7B v0.1 below its window": (
        {"architecture": dataclasses.replace(MISTRAL_7B, num_hidden_layers=3, sliding_window=4096)},
        1,
        4095,
        1,
    ),
    "Mistral Nemo, heads narrower than the model": (
        {"architecture": dataclasses.replace(MISTRAL_7B, num_hidden_layers=2, hidden_size=5120), **RECOMPUTED},
        2,
        512,
        1,
    ),
    "Qwen 1.5B recomputed": ({"architecture": layers(QWEN_15B, 4), **RECOMPUTED}, 8, 512, 1),
    "Qwen 0.5B packed": ({"architecture": layers(QWEN_05B, 6), "packed": True}, 2, 1024, 1),
    "Qwen3 0.6B recomputed": ({"architecture": layers(QWEN3, 4), **RECOMPUTED}, 8, 512, 2),
    "Qwen3 0.6B kept, v alone": ({"architecture": layers(QWEN3, 3), "adapter": ONE}, 4, 1024, 1),
    "Qwen3 32B fp32": ({"architecture": QWEN3_WIDE, "dtype": "fp32", "adapter": EVERYTHING}, 2, 512, 1),
}


@pytest.mark.trl
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_closed_form_agrees_with_the_simulated_step(case):
    changes, batch, tokens, accumulation = CASES[case]
    w = trl(**changes)
    simulated = recipe.peak_bytes(fine_tuner.traced(w, batch, (16, tokens), accumulation))
    computed = closed_form.allocated_gib(w, batch, tokens, accumulation) - torchtune_step.WORKSPACE_DEFAULT_MIB / 1024
    assert computed == pytest.approx(simulated / 2**30, rel=0.01), case


@pytest.mark.trl
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("model", "adapter", "dtype"),
    [(LLAMA_1B, ADAPTER, "bf16"), (LLAMA_1B, ATTENTION, "fp32"), (QWEN3, ATTENTION, "bf16"), (QWEN3, ADAPTER, "fp32")],
)
def test_kernels_and_their_traffic_are_those_of_one_more_layer(model, adapter, dtype):
    def moved(n):
        w = trl(architecture=layers(model, n), adapter=adapter, dtype=dtype)
        watching = counter()
        fine_tuner.traced(w, 1, (1024,), watching=watching)
        return watching.totals

    less, more = moved(2), moved(3)
    counted, traffic = ([b - a for a, b in zip(less[at::2], more[at::2], strict=True)] for at in (0, 1))
    expected = trl_kernels.layer_traffic(model, adapter, dtype)
    assert [each / 1024 for each in traffic] == pytest.approx(expected, rel=0.02)
    forward, backward = trl_kernels.layer_launches(model, adapter, dtype)
    assert counted[1] / counted[0] == pytest.approx(1.4 * backward / forward, rel=0.01)


def counter():
    """A dispatch mode that counts kernels and bytes of elementwise ones (`.totals`), forward and backward."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    looks = (
        *("prim.", "view", "expand", "transpose", "aten.t.", "slice", "select", "squeeze"),
        *("detach", "empty", "alias", "split", "reshape"),
    )
    products = ("aten.mm", "aten.bmm", "scaled_dot")

    class Counter(TorchDispatchMode):
        """What kernels move, from when a pass has started until it has ended."""

        totals, at = (0, 0, 0, 0), None

        def started(self, which):
            self.at = {"forward": 0, "backward": 2}.get(which)

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            made = [one for one in tree_leaves(out) if isinstance(one, torch.Tensor)]
            given = {id(one): one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)}
            self.add(str(func), [*given.values(), *made])
            return out

        def add(self, name, tensors):
            if self.at is None or not tensors or any(look in name for look in looks):
                return
            totals = list(self.totals)
            totals[self.at] += 1
            if not any(product in name for product in products):
                totals[self.at + 1] += sum(one.numel() * one.element_size() for one in tensors)
            self.totals = tuple(totals)

    return Counter()


SMOLLM = dataclasses.replace(
    LLAMA_1B, num_hidden_layers=24, num_key_value_heads=32, vocab_size=49152, max_position_embeddings=8192
)
LOGITS = 14
"""Bytes of logits a token and entry of the vocabulary before TRL 1.16, and wherever the head is not fused."""


@pytest.mark.parametrize(
    ("architecture", "batch", "tokens", "measured_gib"),
    [(QWEN_15B, 1, 2048, 7.237), (QWEN_15B, 1, 2048, 7.229), (QWEN_15B, 2, 1024, 7.232), (SMOLLM, 1, 2048, 4.86)],
)
def test_transformers_and_peft_on_a_gpu_take_what_was_measured(architecture, batch, tokens, measured_gib):
    """Plain transformers with all logits, rank 32 on attention, 16 bits, recomputed, on a T4: allocated by torch.

    Source: fitcheck-llm 0.3.1, data/measurements/t4-phase3-2026-09-16.json and t4-sweep-2026-09-15.json.
    """
    adapter = dataclasses.replace(EVERYTHING, rank=32, apply_to_mlp=False)
    form = closed_form.form_of("trl")(architecture, adapter, "bf16", (True, False, False, False), 0, 1, "t4-16")
    in_loss = form.fixed + batch * tokens * (form.peaks[0].per_token + LOGITS * architecture.vocab_size)
    assert in_loss / 2**30 == pytest.approx(measured_gib, rel=0.01)


def test_every_gpu_holds_the_whole_model_and_a_bucket_for_gradients():
    one, two = (closed_form.allocated_parts_gib(trl(gpus=gpus), 1, 2048)[0] for gpus in (1, 2))
    assert two - one == pytest.approx(4 * adapter_params(LLAMA_1B, ADAPTER) / 2**30)
    sharded = closed_form.allocated_parts_gib(workload(gpus=2), 1, 2048)[0]
    assert sharded < one


@given(batch=st.integers(1, 16), tokens=st.integers(64, 4096), dropout=st.sampled_from([0.0, 0.1]), saves=st.booleans())
def test_memory_grows_with_batch_and_length_and_recomputing_saves(batch, tokens, dropout, saves):
    adapter = dataclasses.replace(ADAPTER, dropout=dropout)
    w = trl(adapter=adapter, activation_checkpointing=saves)
    here = closed_form.allocated_gib(w, batch, tokens)
    assert closed_form.allocated_gib(w, batch + 1, tokens) > here
    assert closed_form.allocated_gib(w, batch, tokens + 1) > here
    assert closed_form.allocated_gib(trl(adapter=adapter, activation_checkpointing=True), batch, tokens) <= here
    assert closed_form.allocated_gib(trl(activation_checkpointing=saves), batch, tokens) <= here


@given(rows=st.integers(1, 500), batch=st.integers(1, 9), gpus=st.integers(1, 4), accumulation=st.integers(1, 5))
def test_trl_trains_on_every_row(rows, batch, gpus, accumulation):
    counted = optimizer_steps(rows, batch, gpus, accumulation, trainer="trl")
    assert counted.batches_per_epoch * batch * gpus >= rows > (counted.batches_per_epoch - 1) * batch * gpus
    assert counted.per_epoch * accumulation >= counted.batches_per_epoch > (counted.per_epoch - 1) * accumulation
    assert optimizer_steps(rows, batch, gpus, accumulation, 1, trainer="trl").per_epoch == 1
    assert optimizer_steps(rows, batch, gpus, accumulation).per_epoch <= counted.per_epoch


def test_best_fit_packs_no_worse_than_in_the_order_of_the_file():
    assert -(-ROWS.tokens // 2048) <= best_fit_rows(ROWS, 2048) <= packed_rows(ROWS, 2048)
    assert best_fit_rows(Lengths(((1500, 10), (500, 10))), 2048) == 10
    assert best_fit_rows(Lengths(((10, 3),)), 2048) == 1


def test_a_mask_makes_every_token_look_at_all_others():
    assert planned_step(trl(), 1, 1).span == planned_step(trl(), 1, 1).tokens / 2
    several, packed = planned_step(trl(), 4, 1), planned_step(trl(packed=True), 4, 1)
    assert several.span == several.tokens
    assert packed.span == 4 * packed.tokens
    assert packed.tokens <= 2048


def test_a_step_of_trl_costs_more_to_launch_and_less_in_the_head():
    tune, other = planned_step(workload(), 1, 1), planned_step(trl(), 1, 1)
    short = [dataclasses.replace(step, tokens=16.0, span=8.0) for step in (tune, other)]
    prior = gpu_constants.prior(tune.gpu)
    assert roofline.step_s(short[1], prior) > 1.1 * roofline.step_s(short[0], prior)
    assert trl_kernels.head_traffic(LLAMA_1B, "bf16")[0] < work._head_traffic(LLAMA_1B, 2)[0] / 5


def test_logs_of_trl_teach_trl_its_memory_and_start_up_and_torchtune_neither():
    w = trl(activation_checkpointing=True, packed=True, batch_size=4)
    held = closed_form.allocated_gib(w, 4, 2048)
    log = PriorRun(
        "trl.out",
        trainer="trl",
        trainer_version="1.16.0",
        model="1B",
        lora_rank=8,
        lora_targets=("q_proj", "v_proj", "output_proj", "mlp"),
        batch_size=4,
        max_seq_len=2048,
        packed=True,
        dtype="bf16",
        activation_checkpointing=True,
        gpu="a100-80",
        startup_s=60.0,
        peak_memory_gib=MemoryGib(held, held, 1.6 * held),
    )
    nothing, learnt = (calibrate(logs, GPUS, MODELS) for logs in ([], [log]))
    before, after = (calibrated.size(w, one) for one in (nothing, learnt))
    assert after.parts_s["startup"] > 1.5 * before.parts_s["startup"]
    assert after.peak_memory_gib.p50 > 1.05 * before.peak_memory_gib.p50
    assert after.allocated_gib == pytest.approx(before.allocated_gib)
    ours = workload(activation_checkpointing=True, packed=True, batch_size=4)
    assert calibrated.size(ours, learnt).parts_s == calibrated.size(ours, nothing).parts_s
    assert calibrated.size(ours, learnt).peak_memory_gib == calibrated.size(ours, nothing).peak_memory_gib
