"""The closed form against torchtune's own model, loss and optimizer, run on fake tensors that only have sizes.

Two optimizer steps run on no data at all; every storage is counted when it appears and when it goes. Packed rows run
without a mask, as flex attention holds none. What a processor does otherwise than a GPU cannot be simulated here:
dropout, compiled losses, dense masks. Of compiled blocks the partition is made for real, on small ones.
"""

import dataclasses
import weakref

import pytest
from estimate_cases import ADAPTER, LLAMA2_7B, LLAMA_1B, LLAMA_3B, LLAMA_8B, QWEN_05B, workload

from runplan.estimate import memory, nf4

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
    from torchao.dtypes import nf4tensor
    from torchtune.models.llama3_1._position_embeddings import Llama3ScaledRoPE
    from torchtune.modules.low_precision import FrozenNF4Linear

    # The scaling compares numbers, which fake tensors do not have; it changes no size.
    patch = pytest.MonkeyPatch()
    patch.setattr(Llama3ScaledRoPE, "apply_scaling", lambda _self, freqs, *_args: freqs)
    patch.setattr(FrozenNF4Linear, "__init__", quantised_linear)
    patch.setattr(nf4tensor, "CHUNK_SIZE", 1 << 40)  # making a weight in one go takes more memory, and no time
    yield torch
    patch.undo()


def quantised_linear(self, inner, outer, bias):
    """FrozenNF4Linear's own start, but for swapping two tensors, which fake ones do not allow."""
    import torch
    from torchao.dtypes.nf4tensor import to_nf4

    torch.nn.Linear.__init__(self, inner, outer, bias=bias)
    self.weight = torch.nn.Parameter(to_nf4(self.weight.detach()), requires_grad=False)


@pytest.mark.parametrize("case", CASES)
def test_closed_form_agrees_with_the_simulated_recipe(torch, case):
    changes, batch, tokens, accumulation = CASES[case]
    w = workload(**changes)
    simulated = simulate(torch, w, batch, tokens, accumulation)
    workspace = memory.WORKSPACE_DEFAULT_MIB / 1024
    computed = memory.allocated_gib(w, batch, tokens, accumulation) - workspace
    assert computed == pytest.approx(simulated / 2**30, rel=5e-3 if "QLoRA" in case else 1e-3), case


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
    unpacked = 2 * nf4.elements(memory.quantised_shapes(small, adapter))
    expected = 64 * memory.compiled_layer_bytes(small, adapter, "bf16", packed=False) + unpacked
    assert held == pytest.approx(expected, rel=0.01)


def parts(tensor):
    """The plain tensors a quantised one consists of; else the tensor itself."""
    if hasattr(tensor, "__tensor_flatten__"):
        return [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]
    return [tensor]


def test_loading_takes_what_the_closed_form_says(torch, monkeypatch):
    """Weight by weight, each copied to the device and quantised there."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torchao.dtypes import nf4tensor

    monkeypatch.setattr(nf4tensor, "CHUNK_SIZE", 1024**2)
    for element, dtype in ((2, torch.bfloat16), (4, torch.float32)):
        with FakeTensorMode(allow_non_fake_inputs=True), counter(torch) as count:
            held = nf4tensor.to_nf4(torch.empty(8192, 2048, dtype=dtype))
            assert count.now == nf4.stored_bytes([(2048, 8192)], element)
            count.peak = before = count.now
            held.copy_(torch.empty(8192, 2048, dtype=dtype))
            assert count.peak - before == pytest.approx(nf4.making_bytes([(2048, 8192)], element), rel=1e-3)
            count.peak = before = count.now
            held.to(dtype)
            assert count.peak - before == pytest.approx(nf4.unpacking_bytes([(2048, 8192)], element), rel=1e-3)


def build(w):
    from torchtune.models import llama2, llama3_1, llama3_2, qwen2

    a, adapter = w.architecture, w.adapter
    builders = {
        "llama2": llama2.lora_llama2,
        "llama3_1": llama3_1.lora_llama3_1,
        "llama3_2": llama3_2.lora_llama3_2,
        "qwen2_5": qwen2.lora_qwen2,
    }
    tied = {"tie_word_embeddings": a.tie_word_embeddings} if a.family in {"llama3_2", "qwen2_5"} else {}
    return builders[a.family](
        list(adapter.attn_modules),
        adapter.apply_to_mlp,
        adapter.apply_to_output,
        vocab_size=a.vocab_size,
        num_layers=a.num_hidden_layers,
        num_heads=a.num_attention_heads,
        num_kv_heads=a.num_key_value_heads,
        embed_dim=a.hidden_size,
        max_seq_len=a.max_position_embeddings,
        intermediate_dim=a.intermediate_size,
        lora_rank=adapter.rank,
        lora_alpha=2 * adapter.rank,
        use_dora=adapter.use_dora,
        quantize_base=adapter.quantize_base,
        **tied,
    )


def simulate(torch, w, batch, tokens, accumulation):
    """Bytes alive at the peak of the second optimizer step, as the single-device recipe runs it."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torchtune import modules, training
    from torchtune.modules.loss import CEWithChunkedOutputLoss
    from torchtune.modules.peft import get_adapter_params, set_trainable_params

    dtype = torch.bfloat16 if w.dtype == "bf16" else torch.float32
    with FakeTensorMode(allow_non_fake_inputs=True), counter(torch) as count:
        with training.set_default_dtype(dtype):
            model = build(w)
        set_trainable_params(model, get_adapter_params(model))
        if w.activation_checkpointing:
            training.set_activation_checkpointing(model, auto_wrap_policy={modules.TransformerSelfAttentionLayer})
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=False)
        loss_fn = torch.nn.CrossEntropyLoss()
        if w.loss_chunks:
            loss_fn = CEWithChunkedOutputLoss(w.loss_chunks)
            model.set_num_output_chunks(w.loss_chunks)
        ignored = torch.full((batch, 1), -100)
        # The first step makes the optimizer's state; it may be short.
        for length in (16, tokens):
            count.peak = count.now
            for _ in range(accumulation):
                one_pass(torch, model, loss_fn, ignored, (batch, length, w.packed))
            peak = count.peak
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return peak


def one_pass(torch, model, loss_fn, ignored, shape):
    batch, tokens, packed = shape
    inputs = torch.zeros(batch, tokens, dtype=torch.long)
    labels = torch.zeros(batch, tokens, dtype=torch.long)
    positions = {"input_pos": torch.zeros(batch, tokens, dtype=torch.long)} if packed else {}
    logits = model(inputs, **positions)
    labels = torch.hstack((labels[..., 1:], ignored))
    if not isinstance(logits, list):
        labels = labels.reshape(-1)
        logits = logits.reshape(-1, logits.size(-1))
    loss = loss_fn(logits, labels)
    del logits
    loss.backward()


def counter(torch):
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.weak import WeakIdKeyDictionary
    from torchao.dtypes.nf4tensor import NF4Tensor

    class Counter(TorchDispatchMode):
        """Bytes of all storages alive, in the allocator's blocks of 512."""

        def __init__(self):
            super().__init__()
            self.now = self.peak = 0
            self.alive = WeakIdKeyDictionary()

        def free(self, size):
            self.now -= size

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if NF4Tensor in types:
                return NotImplemented  # which sends its parts through here
            out = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(out):
                if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage()) not in self.alive:
                    size = -(-storage.nbytes() // 512) * 512
                    self.alive[storage] = True
                    weakref.finalize(storage, self.free, size)
                    self.now += size
                    self.peak = max(self.peak, self.now)
            return out

    return Counter()
