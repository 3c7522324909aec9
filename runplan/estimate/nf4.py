"""Bytes of weights in NF4 (torchao 0.13's `NF4Tensor`): stored, while they are unpacked, while they are made.

Blocks of 64 numbers share a scale, 256 scales a factor (QLoRA's double quantisation). `element` is the bytes of a
number of the trainer's format; tensors count in the 512 bytes that torch's allocator hands out.
"""

from __future__ import annotations

from collections.abc import Iterable

Shape = tuple[int, int]
BLOCK, SCALES = 64, 256
GROUP = BLOCK * SCALES
"""A weight's numbers must be a multiple of this (`double_quantize_scalers` asserts it)."""
_CHUNK = 1024**2
"""Numbers that are rounded at once (`CHUNK_SIZE`), each against 16 levels."""
_LEVELS = 16
_ALLOCATION = 512


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


def _allocated(size: int) -> int:
    return -(-size // _ALLOCATION) * _ALLOCATION
