"""torchtune's distributed LoRA recipe on fake tensors: one of several GPUs, its weights sharded by FSDP.

No process talks to another: PyTorch's fake process group has every size and sends nothing. Streams do not exist on a
processor; what a GPU allocates on FSDP's own stream (`Program` replays tell it by its size) is counted all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from allocator.ledger import Ledger, Trace, recorder
from allocator.offloaded import handling
from allocator.recipe import build, fake_torchtune, loss_of, run

from runplan.estimate.workload import Workload


def traced(
    w: Workload,
    batch: int,
    lengths: Sequence[int],
    accumulation: int = 1,
    validation: Sequence[int] = (),
    *,
    keeps_root: bool = False,
) -> Trace:
    """Events of one optimizer step for each of `lengths` on the first of the workload's GPUs.

    Args:
        w: what is trained; its own batch and accumulation are not looked at.
        batch: sequences of a batch.
        lengths: tokens that the sequences of each step are padded to.
        accumulation: batches of a step.
        validation: tokens of batches that are validated in the end, each with events of its own.
        keeps_root: whether embedding and output stay gathered through the loss, as torch up to 2.7 has it.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torchtune import modules, training
    from torchtune.modules.peft import get_adapter_params, set_trainable_params

    record = recorder()
    with _group(w.gpus) as mesh, fake_torchtune(), FakeTensorMode(allow_non_fake_inputs=True), record, _resized(record):
        dtype = torch.bfloat16 if w.dtype == "bf16" else torch.float32
        with training.set_default_dtype(dtype), torch.device("meta"):
            model = build(w)
        set_trainable_params(model, get_adapter_params(model))
        if w.activation_checkpointing:
            training.set_activation_checkpointing(model, auto_wrap_policy={modules.TransformerSelfAttentionLayer})
        layers = partial(training.get_shard_conditions, names_to_match=None)
        training.shard_model(model, shard_conditions=[layers], cpu_offload=False, dp_mesh=mesh)
        model.to_empty(device="cpu")
        for module in model.modules():
            if hasattr(module, "rope_init"):
                module.rope_init()
        _settle(model)
        if keeps_root:
            model.set_reshard_after_forward(False, recurse=False)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=False)
        loss_fn = loss_of(w, model)
        with handling(model, w.activation_offloading) as forward:
            parts = model, loss_fn, torch.full((batch, 1), -100), forward
            run(record, (*parts, optimizer), (batch, lengths, validation), w.packed, accumulation)
        return [list(events) for events in record.trace]


def _settle(model: Any) -> None:
    """Give quantised weights what `to_empty` leaves behind: their levels and the mean of their scales."""
    import torch
    from torchao.dtypes.nf4tensor import NF4Tensor

    for parameter in model.parameters():
        local = getattr(parameter, "_local_tensor", None)
        if isinstance(local, NF4Tensor):
            local.nf4, local.scaler_mean = (torch.empty_like(it, device="cpu") for it in (local.nf4, local.scaler_mean))


@contextmanager
def _group(gpus: int) -> Iterator[Any]:
    """A mesh of as many processes, of which this is the first and the others do not exist."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=gpus)
    try:
        yield dist.device_mesh.init_device_mesh("cpu", (gpus,))
    finally:
        dist.destroy_process_group()


@contextmanager
def _resized(record: Ledger) -> Iterator[None]:
    """Note the storages of gathered weights, which FSDP empties and fills without making new ones."""
    from unittest.mock import patch

    from torch.distributed.fsdp._fully_shard import _fsdp_param

    def allocate(tensor: Any) -> None:
        storage, size = tensor.untyped_storage(), tensor.numel() * tensor.itemsize
        if storage.size() != size:
            storage.resize_(size)
            record.known[storage] = record.came(size)

    def free(tensor: Any) -> None:
        storage = tensor.untyped_storage()
        if storage.size():
            storage.resize_(0)
            if (number := record.known.pop(storage, None)) is not None:
                record.went(number)

    with patch.object(_fsdp_param, "alloc_storage", allocate), patch.object(_fsdp_param, "free_storage", free):
        yield
