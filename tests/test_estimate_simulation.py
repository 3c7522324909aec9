"""The closed form against torchtune's own model, loss and optimizer, run on fake tensors that only have sizes.

Two optimizer steps run on no data at all; every storage is counted when it appears and when it goes. Packed rows run
without a mask, as flex attention holds none. What a processor does otherwise than a GPU cannot be simulated here:
dropout, compiled losses, dense masks. Of compiled blocks the partition is made for real, on small ones.
"""

import dataclasses

import pytest
from estimate_cases import ADAPTER, LLAMA2_7B, LLAMA_1B, LLAMA_3B, LLAMA_8B, QWEN_05B, workload
from simulated_allocator import recipe

from runplan.estimate import memory

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*cpp extensions.*"),
]

ATTENTION = dataclasses.replace(ADAPTER, attn_modules=("q_proj", "v_proj"), apply_to_mlp=False)
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
    "3B checkpointed": ({"architecture": layers(LLAMA_3B, 12), "activation_checkpointing": True}, 2, 512, 1),
    "8B adapted output": (
        {"architecture": layers(LLAMA_8B, 4), "adapter": dataclasses.replace(ADAPTER, apply_to_output=True)}, 1, 512, 1
    ),
    "Qwen 0.5B": ({"architecture": layers(QWEN_05B, 8)}, 2, 512, 1),
    "Qwen 0.5B packed, checkpointed": (
        {"architecture": layers(QWEN_05B, 8), "packed": True, "activation_checkpointing": True}, 2, 1024, 1
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
    workspace = memory.WORKSPACE_DEFAULT_MIB / 1024
    computed = memory.allocated_gib(w, batch, tokens, accumulation) - workspace
    assert computed == pytest.approx(simulated / 2**30, rel=1e-3), case


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("adapter", [ADAPTER, ATTENTION], ids=["all targets", "attention only"])
def test_compiled_blocks_keep_what_the_partitioner_keeps(torch, adapter):
    from torchtune.models import llama3_2

    small = dataclasses.replace(
        LLAMA_1B, hidden_size=256, num_attention_heads=8, num_key_value_heads=2, head_dim=32, intermediate_size=896
    )
    block = llama3_2.lora_llama3_2(
        list(adapter.attn_modules), adapter.apply_to_mlp, vocab_size=32, num_layers=1, num_heads=8, num_kv_heads=2,
        embed_dim=256, max_seq_len=64, intermediate_dim=896, lora_rank=adapter.rank, lora_alpha=1.0,
    ).layers[0].to(torch.bfloat16)  # fmt: skip
    for name, parameter in block.named_parameters():
        parameter.requires_grad_("lora" in name)
    given = torch.randn(1, 64, 256, dtype=torch.bfloat16, requires_grad=True)
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    block.compile(backend="aot_eager_decomp_partition")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        block(given)
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*block.parameters(), *block.buffers())}
    held = sum(size for place, (size, _) in kept.items() if place not in weights)
    assert held / 64 == pytest.approx(memory.compiled_layer_bytes(small, adapter, "bf16", packed=False), rel=0.01)
