"""Bytes of weights in NF4 (torchao 0.13's `NF4Tensor`): stored, while they are unpacked, while they are made.

Blocks of 64 numbers share a scale, 256 scales a factor (QLoRA's double quantisation). `element` is the bytes of a
number of the trainer's format; tensors count in the 512 bytes that torch's allocator hands out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runplan.estimate.workload import Adapter
from runplan.facts import Architecture

Shape = tuple[int, int]
BLOCK, SCALES = 64, 256
GROUP = BLOCK * SCALES
"""A weight's numbers must be a multiple of this (`double_quantize_scalers` asserts it)."""
_CHUNK = 1024**2
"""Numbers that are rounded at once (`CHUNK_SIZE`), each against 16 levels."""
_LEVELS = 16
_ALLOCATION = 512


def problem(shapes: Iterable[Shape], gpus: int) -> str:
    """Why weights of these shapes cannot be held in NF4, on one GPU or sharded over several; empty when they can."""
    for inner, outer in shapes:
        if inner * outer % GROUP:
            return f"weights of {outer} x {inner} numbers, NF4 needs a multiple of {GROUP} ({SCALES} blocks of {BLOCK})"
        if outer % gpus or inner * outer // GROUP % gpus:
            return (
                f"weights of {outer} x {inner} numbers have {inner * outer // GROUP} groups of {GROUP}, "
                f"which {gpus} GPUs cannot share evenly"
            )
    return ""


def elements(shapes: Iterable[Shape]) -> int:
    """Numbers of all weights together."""
    return sum(inner * outer for inner, outer in shapes)


def stored_bytes(shapes: Iterable[Shape], element: int) -> int:
    """Bytes of weights at rest: half a byte a number, an int8 scale a block, a factor 256 scales, mean and levels."""
    return sum(
        _allocated(n // 2) + _allocated(n // BLOCK) + _allocated(element * n // GROUP) + 2 * _ALLOCATION
        for n in (inner * outer for inner, outer in shapes)
    )


def unpacking_bytes(shapes: Iterable[Shape], element: int) -> float:
    """Most bytes that one weight takes while eager kernels unpack it, the unpacked weight included.

    `get_original_weight`: both halves as int64, looked up, scaled, and stacked.
    """
    return max((inner * outer * (8 + 3 * element + element / BLOCK) for inner, outer in shapes), default=0.0)


def traffic(element: int) -> float:
    """Bytes that 13 eager kernels read and write to unpack one number (`get_original_weight`, torchao 0.13).

    Two halves shifted and masked (2), as int64 (9), looked up (8 and one number), their scales spread (one
    number), multiplied (three), and stacked (two).
    """
    return 19.0 + 7.0 * element


def making_bytes(shapes: Iterable[Shape], element: int) -> float:
    """Most bytes that one weight takes on the device while it is loaded, beside what is stored in the end.

    The weight itself, scaled, rounded (a byte each), its scales, and the distances of a chunk's numbers to all levels,
    twice.
    """
    return max(
        (
            n * (2 * element + 1 + (element + 1) / BLOCK) + 2 * _LEVELS * element * min(n, _CHUNK)
            for n in (inner * outer for inner, outer in shapes)
        ),
        default=0.0,
    )


def kept_bytes(block: float, layers: int, checkpointing: bool, compiled: bool) -> tuple[float, float]:
    """Unpacked weights (of a block: `block`) that compiled QLoRA keeps for backward: inside a block, and throughout.

    torch's partitioner keeps every unpacked weight of a compiled block (torch 2.13, blocks of torchtune); so without
    checkpointing compiled QLoRA needs more than LoRA.
    """
    if not compiled:
        return 0.0, 0.0
    return (block, 0.0) if checkpointing else (block * layers, block * layers)


def largest_bytes(adapter: Adapter, element: int, shapes: tuple[tuple[Shape, ...], tuple[Shape, ...]]) -> float:
    """Most bytes while a weight is unpacked; `shapes` of the quantised and of the adapted layers of a block.

    With DoRA the identity that goes through the adapter, and the product's weight, are there, too.
    """
    quantised, adapted = shapes
    most = unpacking_bytes(quantised, element)
    if not adapter.use_dora:
        return most
    return max(most, *(unpacking_bytes([(i, o)], element) + element * i * (i + o) for i, o in adapted))


def moments(
    a: Architecture,
    adapter: Adapter,
    element: int,
    shapes: tuple[tuple[Shape, ...], tuple[Shape, ...]],
    blocks: Sequence[tuple[float, float]],
    mode: tuple[float, bool, bool],
) -> tuple[tuple[float, float], ...]:
    """When the largest weight is unpacked in backward of a block, and when it is loaded.

    Bytes and bytes a token, beside what is always there. What is alive inside the block is what simulated steps have
    there (tests/test_estimate_memory_simulation.py).

    Args:
        a: the model.
        adapter: adapters of the run.
        element: bytes of a number.
        shapes: of the quantised and of the adapted layers of a block.
        blocks: bytes that gradients and gathered weights take in backward of a block, and bytes a token that it and
            the ones before keep; of the last block, others, and the first.
        mode: bytes that are not there yet when weights are loaded; activation checkpointing; compiled blocks, which
            have unpacked weights among what they keep.
    """
    quantised = shapes[0]
    if not quantised:
        return ()
    missing, checkpointing, compiled = mode
    loading = (making_bytes(quantised, element) - missing, 0.0)
    if compiled:
        return (loading,)
    d, f = a.hidden_size, a.intermediate_size
    # At the last layer: attention's output, the block's middle, its input or (recomputed) the gradient of its output;
    # and what no adapter keeps, the MLP's input and product.
    alive = 3 * d + (0 if adapter.apply_to_mlp else d + f)
    if (f, d) not in quantised:  # Qwen's MLP as it is: backward of attention, when the MLP's products are gone
        alive = -3 * f - 2 * d
    unpacking = largest_bytes(adapter, element, shapes)
    *others, (extra, first) = blocks
    found = [(unpacking + there, held + element * alive) for there, held in others]
    return loading, *found, (unpacking + extra, first + element * (alive if checkpointing else d))


def _allocated(size: int) -> int:
    return -(-size // _ALLOCATION) * _ALLOCATION
