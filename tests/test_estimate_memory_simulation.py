"""The closed form against torchtune's own model, loss and optimizer, run on fake tensors that only have sizes.

Two optimizer steps run on no data at all; every storage is counted when it appears and when it goes. Packed rows run
without a mask, as flex attention holds none. What a processor does otherwise than a GPU cannot be simulated here:
dropout, compiled losses, dense masks. Of compiled blocks the partition is made for real, on small ones.
"""

import dataclasses
from pathlib import Path

import pytest
from estimate_cases import ADAPTER, LLAMA2_7B, LLAMA_1B, LLAMA_3B, LLAMA_8B, MISTRAL_7B, QWEN_05B, workload
from simulated_allocator import ledger, recipe, sharded

import runplan
from runplan.estimate.memory import activations, closed_form, nf4, torchtune_step
from runplan.estimate.memory.weights import quantised_shapes
from runplan.estimate.workload import LOSS_CHUNKS

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*cpp extensions.*"),
]

ATTENTION = dataclasses.replace(ADAPTER, attn_modules=("q_proj", "v_proj"), apply_to_mlp=False)
QUANTISED = dataclasses.replace(ADAPTER, quantize_base=True)
EVERYTHING = dataclasses.replace(ADAPTER, attn_modules=("q_proj", "k_proj", "v_proj", "output_proj"))


def layers(architecture, n):
    return dataclasses.replace(architecture, num_hidden_layers=n)


CASES = {
    "1B rank 64": ({"adapter": dataclasses.replace(ADAPTER, rank=64)}, 1, 2048, 1),
    "1B accumulated, several sequences": ({}, 4, 256, 2),
    "1B attention only": ({"architecture": layers(LLAMA_1B, 4), "adapter": ATTENTION}, 2, 512, 1),
    "1B all targets, packed": ({"architecture": layers(LLAMA_1B, 4), "adapter": EVERYTHING, "packed": True}, 2, 512, 1),
    "1B fp32": ({"architecture": layers(LLAMA_1B, 4), "dtype": "fp32"}, 2, 512, 1),
    "1B plain cross-entropy": ({"architecture": layers(LLAMA_1B, 4), "loss_chunks": 0}, 1, 512, 1),
    "1B DoRA": (
        {"architecture": layers(LLAMA_1B, 4), "adapter": dataclasses.replace(ADAPTER, use_dora=True)}, 1, 1024, 1
    ),
    "8B DoRA on the head, plain cross-entropy": (
        {
            "architecture": layers(LLAMA_8B, 2), "dtype": "fp32", "loss_chunks": 0,
            "adapter": dataclasses.replace(ADAPTER, use_dora=True, apply_to_output=True),
        },
        1, 4096, 1,
    ),
    "8B DoRA, checkpointed": (
        {
            "architecture": layers(LLAMA_8B, 2),
            "adapter": dataclasses.replace(ADAPTER, use_dora=True), "activation_checkpointing": True,
        }, 1, 512, 1
    ),
    "3B checkpointed": ({"architecture": layers(LLAMA_3B, 12), "activation_checkpointing": True}, 2, 512, 1),
    "8B adapted output": (
        {"architecture": layers(LLAMA_8B, 4), "adapter": dataclasses.replace(ADAPTER, apply_to_output=True)}, 1, 512, 1
    ),
    "Mistral 7B packed": ({"architecture": layers(MISTRAL_7B, 3), "packed": True}, 2, 1024, 1),
    "Mistral 7B QLoRA, checkpointed": (
        {"architecture": layers(MISTRAL_7B, 3), "adapter": QUANTISED, "activation_checkpointing": True}, 1, 512, 1
    ),
    "Qwen 0.5B": ({"architecture": layers(QWEN_05B, 8)}, 2, 512, 1),
    "Qwen 0.5B packed, checkpointed": (
        {"architecture": layers(QWEN_05B, 8), "packed": True, "activation_checkpointing": True}, 2, 1024, 1
    ),
    "1B QLoRA, rank 64, little memory for logits": (
        {
            "architecture": layers(LLAMA_1B, 4),
            "adapter": dataclasses.replace(QUANTISED, rank=64), "activation_checkpointing": True,
        }, 1, 64, 1
    ),
    "1B QLoRA, DoRA": (
        {"architecture": layers(LLAMA_1B, 2), "adapter": dataclasses.replace(QUANTISED, use_dora=True)}, 1, 128, 1
    ),
    "1B QLoRA, fp32": ({"architecture": layers(LLAMA_1B, 2), "adapter": QUANTISED, "dtype": "fp32"}, 1, 256, 1),
    "8B QLoRA checkpointed": (
        {"architecture": layers(LLAMA_8B, 4), "adapter": QUANTISED, "activation_checkpointing": True}, 1, 512, 2
    ),
    "8B QLoRA, attention only": (
        {
            "architecture": layers(LLAMA_8B, 2),
            "adapter": dataclasses.replace(ATTENTION, quantize_base=True), "activation_checkpointing": True,
        }, 1, 512, 1
    ),
    "8B QLoRA, long": ({"architecture": layers(LLAMA_8B, 2), "adapter": QUANTISED}, 2, 1024, 1),
    "Llama 2 7B QLoRA": ({"architecture": layers(LLAMA2_7B, 2), "adapter": QUANTISED}, 1, 1024, 1),
    "Qwen 0.5B QLoRA of attention, packed": (
        {
            "architecture": layers(QWEN_05B, 3),
            "adapter": dataclasses.replace(ATTENTION, quantize_base=True), "packed": True,
        }, 2, 512, 1
    ),
    "Llama 2 7B checkpointed, peak in backward": (
        {"architecture": layers(LLAMA2_7B, 8), "activation_checkpointing": True}, 1, 512, 1
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def torch():
    pytest.importorskip("torchtune")
    import torch

    return torch


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("torch")
def test_closed_form_agrees_with_the_simulated_recipe(case):
    changes, batch, tokens, accumulation = CASES[case]
    w = workload(**changes)
    # The first step makes the optimizer's state; it may be short.
    simulated = recipe.peak_bytes(recipe.traced(w, batch, (16, tokens), accumulation))
    workspace = torchtune_step.WORKSPACE_DEFAULT_MIB / 1024
    computed = closed_form.allocated_gib(w, batch, tokens, accumulation) - workspace
    assert computed == pytest.approx(simulated / 2**30, rel=5e-3 if "QLoRA" in case or "DoRA" in case else 1e-3), case


@pytest.mark.usefixtures("torch")
def test_the_loss_that_plans_name_takes_as_many_pieces_as_is_counted():
    from torchtune.modules.loss import CEWithChunkedOutputLoss

    lines = (Path(runplan.__file__).parents[1] / "templates/torchtune/finetune.yaml.j2").read_text().splitlines()
    named = lines.index("loss:") + 1
    assert lines[named].strip() == f"_component_: torchtune.modules.loss.{CEWithChunkedOutputLoss.__name__}"
    assert not lines[named + 1].startswith(" ")  # nothing said of it: as it ships
    assert CEWithChunkedOutputLoss().num_output_chunks == LOSS_CHUNKS


@pytest.mark.parametrize("keeps_root", [True, False])
@pytest.mark.parametrize(("batch", "tokens"), [(1, 256), (16, 990)])
@pytest.mark.usefixtures("torch")
def test_sharded_weights_are_gathered_as_the_closed_form_says(batch, tokens, keeps_root):
    w = workload(architecture=layers(LLAMA_8B, 4), activation_checkpointing=True, gpus=4)
    simulated = recipe.peak_bytes(sharded.traced(w, batch, (tokens, tokens, tokens), keeps_root=keeps_root))
    parts = closed_form.footprint_for(w)
    computed = parts.peak_bytes(batch, tokens) - torchtune_step.workspace_bytes(w.gpu.name)
    computed += keeps_root * parts.kept_bytes(batch, tokens)
    assert computed == pytest.approx(simulated, rel=0.01)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("adapter", [ADAPTER, ATTENTION, QUANTISED], ids=["all targets", "attention only", "QLoRA"])
def test_compiled_blocks_keep_what_the_partitioner_keeps(torch, adapter):
    from torchtune import training
    from torchtune.models import llama3_2

    small = dataclasses.replace(
        LLAMA_1B, hidden_size=256, num_attention_heads=4, num_key_value_heads=2, head_dim=64, intermediate_size=896
    )
    with training.set_default_dtype(torch.bfloat16):
        block = llama3_2.lora_llama3_2(
            list(adapter.attn_modules), adapter.apply_to_mlp, vocab_size=32, num_layers=1, num_heads=4, num_kv_heads=2,
            embed_dim=256, max_seq_len=64, intermediate_dim=896, lora_rank=adapter.rank, lora_alpha=1.0,
            quantize_base=adapter.quantize_base,
        ).layers[0]  # fmt: skip
    for name, parameter in block.named_parameters():
        parameter.requires_grad_("lora" in name)
    given = torch.randn(1, 64, 256, dtype=torch.bfloat16, requires_grad=True)
    kept = {}

    def keep(tensor):
        for part in parts(tensor):
            kept[part.untyped_storage().data_ptr()] = (part.untyped_storage().nbytes(), part)
        return tensor

    block.compile(backend="aot_eager_decomp_partition")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        block(given)
    weights = {
        part.untyped_storage().data_ptr() for it in (*block.parameters(), *block.buffers()) for part in parts(it)
    }
    held = sum(size for place, (size, _) in kept.items() if place not in weights)
    unpacked = 2 * nf4.elements(quantised_shapes(small, adapter))
    expected = 64 * activations.compiled_layer_bytes(small, adapter, "bf16", packed=False) + unpacked
    assert held == pytest.approx(expected, rel=0.01)


def parts(tensor):
    """The plain tensors a quantised one consists of; else the tensor itself."""
    if hasattr(tensor, "__tensor_flatten__"):
        return [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]
    return [tensor]


def test_loading_takes_what_the_closed_form_says(torch):
    """Weight by weight, each copied to the device and quantised there."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torchao.dtypes import nf4tensor

    size = 8192 * 2048
    for element, dtype in ((2, torch.bfloat16), (4, torch.float32)):
        with FakeTensorMode(allow_non_fake_inputs=True), ledger.recorder() as record:
            held = nf4tensor.to_nf4(torch.empty(8192, 2048, dtype=dtype))
            source = torch.empty(8192, 2048, dtype=dtype)
            record.trace.append([])
            held.copy_(source)
            made = recipe.peak_bytes(record.trace)
            record.trace.append([])
            held.to(dtype)
            unpacked = recipe.peak_bytes(record.trace)
        shapes, kept = [(2048, 8192)], element * size
        rest = nf4.stored_bytes(shapes, element)
        assert made - rest == pytest.approx(nf4.making_bytes(shapes, element), rel=1e-3)
        assert unpacked - rest - kept == pytest.approx(nf4.unpacking_bytes(shapes, element), rel=1e-3)
