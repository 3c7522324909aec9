"""A step of TRL's SFTTrainer on fake tensors, which have sizes and no data: every request for memory, in order.

Model, adapters, fused output head and loss are transformers', PEFT's and TRL's own. What a GPU does otherwise than a
processor is put in its place: only tokens with a label are scored (each is a copy), the kernel that reads a tile of
logits works in the tile itself, the product that adds to fp32 makes no copies, dropout keeps a mask. Needs torch,
transformers, peft and trl, no GPU.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any
from unittest import mock

from allocator.ledger import Trace, recorder
from allocator.recipe import dropout

from runplan.estimate.workload import Workload


@contextlib.contextmanager
def as_on_a_gpu(batch: int) -> Iterator[None]:
    """Let TRL, transformers and PEFT run on fake tensors as they do on a GPU.

    A mask of rows is looked at, which fake tensors do not have: rows differ wherever there are several.
    """
    with contextlib.ExitStack() as patches:
        patches.enter_context(_without("torchao"))  # PEFT refuses the version that torchtune needs
        import torch
        import transformers.masking_utils
        import trl.kernels.chunked_logprob as loss
        import trl.trainer.utils
        from peft.tuners.tuners_utils import BaseTunerLayer

        for where, name, what in (
            (loss, "_forward_tile", lambda *_a, **_k: None),
            (loss, "_backward_tile", lambda *_a, **_k: None),
            (loss, "_addmm_fp32", lambda *_: None),
            (trl.trainer.utils, "_use_triton", lambda _device: True),
            (transformers.masking_utils, "_ignore_causal_mask_sdpa", partial(_needs_no_mask, batch)),
            (BaseTunerLayer, "_move_adapter_to_device_of_base_layer", lambda *_a, **_k: None),
            (torch.nn.Module, "to", lambda self, *_a, **_k: self),
            (torch.nn.functional, "dropout", dropout),
        ):
            patches.enter_context(mock.patch.object(where, name, what))
        yield


def _needs_no_mask(batch: int, _mask: Any, _asked: int, tokens: int, *rest: Any) -> bool:
    """What transformers' function of the same arguments says of rows of different length; the window is last."""
    window = rest[-1]
    return batch == 1 and (window is None or tokens < window)


@contextlib.contextmanager
def _without(name: str) -> Iterator[None]:
    """Let a module not be found; what is imported meanwhile stays."""
    there = {name: sys.modules[name]} if name in sys.modules else {}
    sys.modules[name] = None  # type: ignore[assignment] - what import takes for "not there"
    try:
        yield
    finally:
        del sys.modules[name]
        sys.modules.update(there)


def build(w: Workload) -> Any:
    """The model of an architecture with adapters, as `SFTTrainer` has it when training starts."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config
    from trl.trainer.utils import add_fused_lm_head

    from runplan.trainers.trl import MLP_MODULES, MODULES

    a, adapter = w.architecture, w.adapter
    names = (
        *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
        *("vocab_size", "max_position_embeddings", "tie_word_embeddings", "head_dim"),
    )
    kinds = {"qwen2_5": Qwen2Config, "qwen3": Qwen3Config, "mistral": MistralConfig}
    kind = kinds.get(a.family, LlamaConfig)
    window = {"sliding_window": a.sliding_window} if a.family == "mistral" else {}
    config = kind(**{name: getattr(a, name) for name in names}, **window, attn_implementation="sdpa")
    base = AutoModelForCausalLM.from_config(config, dtype="bfloat16" if w.dtype == "bf16" else "float32")
    targets = [MODULES[name] for name in adapter.attn_modules] + list(MLP_MODULES if adapter.apply_to_mlp else ())
    adapters = LoraConfig(task_type="CAUSAL_LM", r=adapter.rank, target_modules=targets, lora_dropout=adapter.dropout)
    model = get_peft_model(base, adapters)
    if w.activation_checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    add_fused_lm_head(model.get_base_model(), outputs=("log_probs", "entropy", "is_top1"))
    return model


def traced(
    w: Workload,
    batch: int,
    lengths: Sequence[int],
    accumulation: int = 1,
    validation: Sequence[int] = (),
    watching: Any = None,
) -> Trace:
    """Events of one optimizer step for each of `lengths`, then of batches that are validated.

    Args:
        w: what is trained; its own batch and accumulation are not looked at.
        batch: sequences of a batch.
        lengths: tokens that the sequences of each step are padded to.
        accumulation: batches of a step.
        validation: tokens of batches that are validated in the end, each with events of its own.
        watching: another dispatch mode, whose `started` is told what begins: forward, backward, or neither of them.
    """
    record = recorder()  # which knows torchao's tensors, that PEFT shall not look for
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    with as_on_a_gpu(batch), FakeTensorMode(allow_non_fake_inputs=True), record, _counted_rows():
        with watching or contextlib.nullcontext():
            model = build(w)
            trained = [one for one in model.parameters() if one.requires_grad]
            optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)
            for length in lengths:
                record.trace.append([])
                for _ in range(accumulation):
                    one_pass(model, w, (batch, length), watching)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            for length in validation:
                record.trace.append([])
                validate(model, w, (batch, length))
        return [list(events) for events in record.trace]


def one_pass(model: Any, w: Workload, shape: tuple[int, int], watching: Any = None) -> None:
    """Forward and backward of one batch: (sequences, tokens of each)."""
    said = watching.started if watching else lambda _what: None
    said("forward")
    loss = _loss(model, w, shape)
    said("backward")
    loss.backward()
    said("")


def validate(model: Any, w: Workload, shape: tuple[int, int]) -> None:
    """What `SFTTrainer.prediction_step` does with a batch where no metrics are asked for: its loss, no logits.

    Rows are not packed (`eval_packing`), but where those of training are, the collator makes one sequence of a batch.
    """
    import torch

    model.eval()
    with torch.no_grad():
        _loss(model, w, shape)
    model.train()


def _loss(model: Any, w: Workload, shape: tuple[int, int]) -> Any:
    import torch

    (batch, tokens), packed = shape, w.packed
    rows, length = (1, batch * tokens) if packed else (batch, tokens)
    inputs = {name: torch.zeros(rows, length, dtype=torch.long) for name in ("input_ids", "labels")}
    inputs["position_ids" if packed else "attention_mask"] = torch.zeros(rows, length, dtype=torch.long)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16) if w.dtype == "bf16" else contextlib.nullcontext()
    with autocast:
        out = model(**inputs, use_cache=False, fused_lm_head=True)
    return -out.log_probs.sum() / out.label_mask.sum().clamp(min=1)


def _counted_rows() -> Any:
    """A dispatch mode in which all tokens have a label: what a mask picks is everything, as a copy."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counted(TorchDispatchMode):
        """`tensor[mask]` has a size that nobody knows before it is counted."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.index.Tensor and args[1][0].dtype == torch.bool:
                tensor, mask = args[0], args[1][0]
                places = torch.empty(mask.numel(), mask.dim(), dtype=torch.long)
                picked = torch.empty(mask.numel(), *tensor.shape[mask.dim() :], dtype=tensor.dtype)
                del places
                return picked
            return func(*args, **(kwargs or {}))

    return Counted()
