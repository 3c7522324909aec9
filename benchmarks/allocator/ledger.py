"""Every request for memory of what runs on fake tensors, in order: storages as they appear and as they go."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

FLASH_ROWS = 128
"""Flash attention's backward pass works on so many rows at once and rounds the sequence up to them."""


class Event(NamedTuple):
    """A storage that appears (`size` bytes) or goes (0)."""

    storage: int
    size: int


Trace = list[list[Event]]
"""Events of building the model and optimizer, then of each optimizer step."""


class Ledger:
    """Numbers every storage when it appears, and notes when it goes."""

    def __init__(self) -> None:
        from torch.utils.weak import WeakIdKeyDictionary

        super().__init__()
        self.trace: Trace = [[]]
        self.known = WeakIdKeyDictionary()
        self.gone: set[int] = set()
        self.count = 0
        self.sum: tuple[int, int, int] | None = None
        """A sum that may take the place of its first addend: their numbers, and where it is in the trace."""
        self.same: dict[int, int] = {}

    def came(self, size: int) -> int:
        """The number of a new storage."""
        self.sum = None
        self.count += 1
        self.trace[-1].append(Event(self.count, size))
        return self.count

    def went(self, storage: int) -> None:
        """It is gone; once, whoever says so."""
        if storage in self.gone:
            return
        self.gone.add(storage)
        if self.sum and storage == self.sum[1]:  # the sum took its place, which may be another's already
            new, old, at = self.sum
            del self.trace[-1][at]
            self.same[new], self.sum = self.same.pop(old, old), None
            return
        self.trace[-1].append(Event(self.same.pop(storage, storage), 0))

    def note(self, tensor: Any) -> None:
        """Count a tensor's storage, of one on many devices this device's, unless it is known or on none."""
        from torch.distributed.tensor import DTensor

        if isinstance(tensor, DTensor):
            tensor = tensor._local_tensor  # noqa: SLF001 - `to_local` does more than to look
        if hasattr(tensor, "__tensor_flatten__"):  # 4 bits have no storage, but their parts
            for name in tensor.__tensor_flatten__()[0]:
                self.note(getattr(tensor, name))
            return
        if tensor.device.type == "meta":
            return
        storage = tensor.untyped_storage()
        if storage.nbytes() and storage not in self.known:
            self.known[storage] = number = self.came(storage.nbytes())
            weakref.finalize(storage, self.went, number)

    def add(self, old: Any, new: Any) -> None:
        """Autograd adds to a gradient that nobody else holds in place, but not to fake tensors: noted as if it did."""
        before, number = (self.known.get(one.untyped_storage()) for one in (old, new))
        if before is None or number is None:
            return
        if self.trace[-1][-1] == Event(number, new.untyped_storage().nbytes()):
            self.sum = number, before, len(self.trace[-1]) - 1

    def attend(self, shape: Sequence[int]) -> None:
        """Flash attention's backward pass sums the gradient of q and row products in fp32, beside what it returns."""
        batch, heads, tokens, width = shape
        rows = 4 * batch * heads * -(-tokens // FLASH_ROWS) * FLASH_ROWS
        for number in [self.came(rows), self.came(rows * width)]:
            self.went(number)


def recorder() -> Any:
    """A dispatch mode that notes every storage when it appears and when it goes (`.trace`)."""
    import torch
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torchao.dtypes.nf4tensor import NF4Tensor

    class Recorder(Ledger, TorchDispatchMode):
        """Events of all storages."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if NF4Tensor in types:
                return NotImplemented  # which sends its parts through here
            out = func(*args, **(kwargs or {}))
            name = func.name()
            for tensor in tree_leaves(out):
                if isinstance(tensor, Tensor):
                    self.note(tensor)
            if "scaled_dot_product" in name and "backward" in name and (kwargs or {}).get("attn_mask") is None:
                self.attend(args[1].shape)
            backward = torch._C._current_graph_task_id() >= 0  # noqa: SLF001 - nothing else says that it runs
            if name == "aten::add.Tensor" and backward and not torch.is_grad_enabled() and out.shape == args[0].shape:
                self.add(args[0], out)
            return out

    return Recorder()
