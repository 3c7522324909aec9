"""Weight files by their headers: which tensors a safetensors shard has, and whether all of its bytes are there.

The format (https://github.com/huggingface/safetensors#format): 8 bytes of little-endian header length, a JSON header
of `{tensor: {dtype, shape, data_offsets}}`, then the tensors' bytes and nothing else. Only the header is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runplan.read.regular import open_regular

_LARGEST_HEADER = 100_000_000  # bytes; the safetensors library refuses longer ones
_LFS_POINTER = b"version https://git-lfs"
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_BYTES |= {"U64": 8, "U32": 4, "U16": 2, "F8_E4M3": 1, "F8_E5M2": 1}


class WeightsError(Exception):
    """A weight file is not whole; the message says how."""

    def __init__(self, detail: str, *, pointer: bool = False) -> None:
        super().__init__(detail)
        self.pointer = pointer
        """Whether it is a Git LFS pointer that stands for the file."""


@dataclass(frozen=True)
class Tensor:
    """A tensor as the header tells it."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is what Git LFS leaves when the real file was not pulled.

    Raises:
        OSError: the file cannot be read.
    """
    with open_regular(path) as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER


def read_shard(path: Path) -> dict[str, Tensor]:
    """The tensors of a whole safetensors file.

    Raises:
        WeightsError: the file is cut short, too long, no safetensors file, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            size = path.stat().st_size
            start = file.read(24)
            if start.startswith(_LFS_POINTER):
                raise WeightsError(f"{path.name} is a Git LFS pointer, not the weights", pointer=True)
            length = int.from_bytes(start[:8], "little")
            if len(start) < 8 or length < 2:
                raise WeightsError(f"{path.name} has {size} bytes and no safetensors header")
            if 8 + length > size:
                if length > _LARGEST_HEADER:
                    raise WeightsError(f"{path.name} is no safetensors file")
                raise WeightsError(f"{path.name} is cut short: its header has {length} bytes, the file {size}")
            file.seek(8)
            text = file.read(min(length, _LARGEST_HEADER))
    except OSError as error:
        raise WeightsError(f"{path.name} cannot be read: {error.strerror or error}") from error
    return _checked(path.name, _parsed(path.name, text), size - 8 - length)


def _parsed(name: str, text: bytes) -> Mapping[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise WeightsError(f"{name} is no safetensors file: its header is not JSON") from None
    if not isinstance(header, dict):
        raise WeightsError(f"{name} is no safetensors file: its header is a JSON {type(header).__name__}")
    return header


def _checked(name: str, header: Mapping[str, Any], data_bytes: int) -> dict[str, Tensor]:
    """Every tensor where it should be, and the bytes that the header promises."""
    tensors, end = {}, 0
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        try:
            tensor = Tensor(str(entry["dtype"]), tuple(int(n) for n in entry["shape"]))
            first, last = (int(n) for n in entry["data_offsets"])
        except (KeyError, TypeError, ValueError):
            raise WeightsError(f"{name}: the header's entry of {key} has no dtype, shape and data_offsets") from None
        each = _BYTES.get(tensor.dtype)
        if each is not None and last - first != tensor.size * each:
            raise WeightsError(f"{name}: {key} needs {tensor.size * each} bytes, its offsets hold {last - first}")
        tensors[key], end = tensor, max(end, last)
    if data_bytes < end:
        raise WeightsError(f"{name} is cut short: {data_bytes:,} of {end:,} bytes of weights are there")
    if data_bytes > end:
        raise WeightsError(f"{name} has {data_bytes:,} bytes of weights, its header promises {end:,}")
    return tensors
