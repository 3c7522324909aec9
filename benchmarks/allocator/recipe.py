"""torchtune's LoRA recipe on fake tensors, which have sizes and no data: every request for memory, in order.

The model, loss, optimizer and checkpointing are torchtune's own; what a GPU's kernels need beside their results is
added where it is known (flash attention's backward pass). Needs torch and torchtune, no GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from allocator.ledger import Trace, recorder
from allocator.offloaded import handling

from runplan.estimate.workload import Workload

Shapes = tuple[int, Sequence[int], Sequence[int]]


@contextmanager
def fake_torchtune() -> Iterator[None]:
    """Let torchtune build its models of fake tensors.

    RoPE's scaling compares numbers, but changes no size. FrozenNF4Linear swaps two tensors, which fake ones do not
    allow. Weights are quantised in one go, which takes more memory for a moment, and much less time. Dropout is the
    kernel that GPUs have, which keeps a mask of one byte a number.
    """
    from unittest.mock import patch

    import torch
    from torchao.dtypes import nf4tensor
    from torchtune.models.llama3_1._position_embeddings import Llama3ScaledRoPE
    from torchtune.modules.low_precision import FrozenNF4Linear

    with (
        patch.object(Llama3ScaledRoPE, "apply_scaling", lambda _self, freqs, *_args: freqs),
        patch.object(FrozenNF4Linear, "__init__", _quantised_linear),
        patch.object(nf4tensor, "CHUNK_SIZE", 1 << 40),
        patch.object(torch.nn.functional, "dropout", dropout),
    ):
        yield


def dropout(given: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:  # noqa: ARG001 - torch's
    """Dropout by the kernel that GPUs have."""
    import torch

    return torch.native_dropout(given, p, train=True)[0] if training and p else given


def _quantised_linear(self: Any, inner: int, outer: int, bias: bool) -> None:
    import torch
    from torchao.dtypes.nf4tensor import to_nf4

    torch.nn.Linear.__init__(self, inner, outer, bias=bias)
    self.weight = torch.nn.Parameter(to_nf4(self.weight.detach()), requires_grad=False)


def peak_bytes(trace: Trace) -> int:
    """Most bytes alive in the trace's last step, in the allocator's blocks of 512."""
    sizes: dict[int, int] = {}
    now = peak = 0
    for i, events in enumerate(trace):
        peak = now if i == len(trace) - 1 else peak
        for event in events:
            if event.size:
                sizes[event.storage] = -(-event.size // 512) * 512
                now += sizes[event.storage]
            else:
                now -= sizes.pop(event.storage)
            peak = max(peak, now)
    return peak


def traced(
    w: Workload, batch: int, lengths: Sequence[int], accumulation: int = 1, validation: Sequence[int] = ()
) -> Trace:
    """Events of one optimizer step for each of `lengths`, as the single-device recipe runs them.

    Args:
        w: what is trained; its own batch and accumulation are not looked at.
        batch: sequences of a batch.
        lengths: tokens that the sequences of each step are padded to.
        accumulation: batches of a step.
        validation: tokens of batches that are validated in the end, each with events of its own.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torchtune import modules, training
    from torchtune.modules.peft import get_adapter_params, set_trainable_params

    dtype = torch.bfloat16 if w.dtype == "bf16" else torch.float32
    with fake_torchtune(), FakeTensorMode(allow_non_fake_inputs=True), recorder() as record:
        with training.set_default_dtype(dtype):
            model = build(w)
        set_trainable_params(model, get_adapter_params(model))
        if w.activation_checkpointing:
            training.set_activation_checkpointing(model, auto_wrap_policy={modules.TransformerSelfAttentionLayer})
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        loss_fn = loss_of(w, model)
        with handling(model, w.activation_offloading) as forward:
            parts = model, loss_fn, torch.full((batch, 1), -100), forward
            run(record, (*parts, optimizer), (batch, lengths, validation), w.packed, accumulation)
        # What goes when everything ends is not the recipe's.
        return [list(events) for events in record.trace]


def loss_of(w: Workload, model: Any) -> Any:
    """The loss that a recipe trains with; in chunks, the model is told of them, too."""
    import torch
    from torchtune.modules.loss import CEWithChunkedOutputLoss

    if not w.loss_chunks:
        return torch.nn.CrossEntropyLoss()
    model.set_num_output_chunks(w.loss_chunks)
    return CEWithChunkedOutputLoss(w.loss_chunks)


def run(record: Any, parts: tuple[Any, Any, Any, Any, Any], shapes: Shapes, packed: bool, accumulation: int) -> None:
    """Optimizer steps and validation, each with events of its own.

    Args:
        record: what notes the events.
        parts: model, loss, labels that are ignored, what the forward pass runs in, and optimizer.
        shapes: sequences of a batch, tokens of each in the steps, and in the batches that are validated.
        packed: whether sequences are packs.
        accumulation: batches of a step.
    """
    *given, optimizer = parts
    batch, lengths, validation = shapes
    for length in lengths:
        record.trace.append([])
        for _ in range(accumulation):
            one_pass(*given, (batch, length, packed))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    for length in validation:
        record.trace.append([])
        validate(*given, (batch, length))


def build(w: Workload) -> Any:
    """Torchtune's model of an architecture, with adapters."""
    from torchtune.models import llama2, llama3, llama3_1, llama3_2, mistral, qwen2

    a, adapter = w.architecture, w.adapter
    builders = {
        "llama2": llama2.lora_llama2,
        "llama3": llama3.lora_llama3,
        "llama3_1": llama3_1.lora_llama3_1,
        "llama3_3": llama3_1.lora_llama3_1,
        "llama3_2": llama3_2.lora_llama3_2,
        "mistral": mistral.lora_mistral,
        "qwen2_5": qwen2.lora_qwen2,
    }
    tied = {"tie_word_embeddings": a.tie_word_embeddings} if a.tie_word_embeddings or a.family == "qwen2_5" else {}
    # The shape decides, not the name (`runplan.trainers.builders`).
    name = a.family if a.family == "qwen2_5" else "llama3_2" if tied else a.family.replace("llama3_2", "llama3_1")
    return builders[name](
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
        lora_dropout=adapter.dropout,
        use_dora=adapter.use_dora,
        quantize_base=adapter.quantize_base,
        **tied,
    )


def validate(model: Any, loss_fn: Any, ignored: Any, forward: Any, shape: tuple[int, int]) -> None:
    """What the recipes with validation do with a batch of (sequences, tokens of each)."""
    import torch

    model.eval()
    with torch.no_grad():
        _loss(model, loss_fn, ignored, forward, (*shape, False))
    model.train()


def one_pass(model: Any, loss_fn: Any, ignored: Any, forward: Any, shape: tuple[int, int, bool]) -> None:
    """Forward and backward of one batch: (sequences, tokens of each, packed)."""
    loss, _batch = _loss(model, loss_fn, ignored, forward, shape)
    loss.backward()


def _loss(model: Any, loss_fn: Any, ignored: Any, forward: Any, shape: tuple[int, int, bool]) -> tuple[Any, Any]:
    """The loss of a batch, and the batch."""
    import torch

    batch, tokens, packed = shape
    inputs = torch.zeros(batch, tokens, dtype=torch.long)
    labels = torch.zeros(batch, tokens, dtype=torch.long)
    positions = {"input_pos": torch.zeros(batch, tokens, dtype=torch.long)} if packed else {}
    with forward:
        logits = model(inputs, **positions)
    labels = torch.hstack((labels[..., 1:], ignored))
    if not isinstance(logits, list):
        labels = labels.reshape(-1)
        logits = logits.reshape(-1, logits.size(-1))
    return loss_fn(logits, labels), (inputs, labels)
