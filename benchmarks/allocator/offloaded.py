"""torchtune's offloading of activations on fake tensors: what waits in host memory is on no device.

Streams and events order work and decide nothing about memory, but for tensors that a stream still uses, which torch
gives back a moment later (`record_stream`); that moment is not simulated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any


class _Stream:
    """One that is never waited for."""

    def wait_stream(self, _other: Any) -> None: ...

    def wait_event(self, _event: Any) -> None: ...

    def record_event(self) -> None: ...


@contextmanager
def to_meta() -> Iterator[None]:
    """Let `OffloadActivations` send tensors to `meta` instead of to the host, and fetch them from there."""
    from unittest.mock import patch

    import torch
    from torchao.dtypes import nf4tensor

    to, empty_like, copy = torch.Tensor.to, torch.empty_like, torch.Tensor.copy_

    def fetch(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        return empty_like(tensor, device="cpu") if args[:1] == ("cuda",) else to(tensor, *args, **kwargs)

    def leave(tensor: Any, *args: Any, pin_memory: bool = False, **kwargs: Any) -> Any:
        return empty_like(tensor, *args, **kwargs | ({"device": "meta"} if pin_memory else {}))

    def send(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        return tensor if tensor.device.type == "meta" else copy(tensor, *args, **kwargs)

    with ExitStack() as patches:
        for where, name, what in (
            (torch.cuda, "default_stream", _Stream),
            (torch.cuda, "Stream", _Stream),
            (torch.cuda, "stream", lambda _stream: nullcontext()),
            (torch, "empty_like", leave),
            (torch.Tensor, "to", fetch),
            (torch.Tensor, "copy_", send),
            (torch.Tensor, "record_stream", lambda *_: None),
        ):
            patches.enter_context(patch.object(where, name, what))
        functions = nf4tensor.NF4_TORCH_FUNCTIONS
        patches.enter_context(patch.dict(functions, {fetch: functions[to]}))
        yield


@contextmanager
def handling(model: Any, wanted: bool) -> Iterator[Any]:
    """What the recipes run the model's forward pass in."""
    from torchtune.training import get_act_offloading_ctx_manager

    with to_meta() if wanted else nullcontext():
        yield get_act_offloading_ctx_manager(model, wanted)
