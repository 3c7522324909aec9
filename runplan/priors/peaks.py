"""GPU memory that a log reports: the block after model init, and the peaks of training.

torchtune counted GB of 1e9 bytes up to 0.2 and GiB from 0.3 on (its get_memory_stats). The init block is printed before
the first batch and is never the peak of training; `gpu_resources` of the first versions is what was allocated at that
moment, not a peak.
"""

from __future__ import annotations

import itertools
import re

from runplan.priors.record import MemoryGib
from runplan.priors.spoken import Word, last_place
from runplan.units import GB_PER_GIB, MIB_PER_GIB

_INIT = re.compile(rb" peak memory (alloc|reserved|active)\w*: *([\d.]+) *(GiB|GB)")
_INIT_DICT = re.compile(rb"Memory Stats after model init:+[^{]{0,80}\{([^}]{0,300})(?:\}|$)")
_PEAK = re.compile(rb"peak_memory_(alloc|active|reserved)['\"]?:? *([\d.]+(?:e[+-]?\d+)?)")
_NUMBER = rb"(\d++\.?+\d*+(?:e[+-]?\d++)?)"
_PEAKS = {
    kind: re.compile(rb"peak_memory_%b['\"]?:? *%b" % (name, _NUMBER))
    for kind, name in (("allocated", b"alloc"), ("active", b"active"), ("reserved", b"reserved"))
}
_PLAIN = rb"(\d++\.?+\d*+)"
_LINE = re.compile(
    rb"peak_memory_(?:active:%b peak_memory_alloc:%b peak_memory_reserved:%b(?!e)|([^\r\n]*+))" % ((_PLAIN,) * 3)
)
_SAID, _STATS = Word(b"peak_memory_", 3), Word(b"Memory Stats after", 0)
_LIGER = re.compile(rb"total_peak_memory_(allocated|reserved)_MB'?: *([\d.]+)")
_AXOLOTL = re.compile(
    rb"memory usage after (?:model load|adapters): ([\d.]+)GB \(\+([\d.]+)GB cache|"
    rb"memory usage after (?:model load|adapters): ([\d.]+)GB \(\+([\d.]+)GB"
)
# Axolotl's keys changed with its versions; Gaudi's trainer divides by 2**30 as well. ms-swift's `memory(GiB)` is what
# torch held of the process's GPU (`max_memory_reserved`).
_LOSS_LINE = re.compile(rb"\{'(?:loss|train_runtime)':[^{}]{0,2000}")
_IN_LINE = re.compile(
    rb"'(?:memory/(?:max|device)_(?:mem_)?(active|allocated|reserved) ?\(gib\)|(max_memory_allocated|memory) ?\(gi?b\))"
    rb"': '?(\d+(?:\.\d+)?)",
    re.IGNORECASE,
)
_RECIPES = re.compile(rb"(?:Max CUDA memory (allocated|reserved) was|(Peak active) CUDA memory was) ([\d.]+) GB")
_OTHERS = re.compile(rb"(?:MaxMemAllocated=|(Peak reserved memory) = )(\d+(?:\.\d+)?) ?GB")
"""DeepSpeed's timer and Unsloth's notebooks; both divide by 2**30."""
_NAMES = {
    b"alloc": "allocated",
    b"allocated": "allocated",
    b"active": "active",
    b"reserved": "reserved",
    b"Peak active": "active",
    b"max_memory_allocated": "allocated",
    b"memory": "reserved",
}
_LOG_NAME = re.compile(rb"log_(1\d{9})\.txt")
_MICRO, _NANO = 6, 9
"""Decimals of bytes counted in GB; of fewer a number may have been rounded."""
_MOST_NUMBERS = 30
_BEFORE_TRAINING = b"Sampler are initialized"
_HEAD_BYTES = 1 << 16
_BLOCK_BYTES = 512
"""What torch's allocator rounds every size up to, so that each sum is a multiple of it."""
_GIB_SINCE_S = 1_725_148_800
"""1 September 2024: nightly builds counted GiB from the end of August, release 0.3 followed in September."""


def init_memory(data: bytes) -> MemoryGib | None:
    """What was held after loading the model, in GiB, from the last such block."""
    found: dict[str, float] = {}
    start = max(data.rfind(b" model init"), 0)
    for match in _INIT.finditer(data, start, start + 4096):
        if data.rfind(b"init", 0, match.start()) < 0 and data.rfind(b"nstantiat", 0, match.start()) < 0:
            break  # of the end of a text whose start was not kept
        found.setdefault(_NAMES[match[1]], _gib(match[2], gigabytes=match[3] == b"GB"))
    if not found and (block := _INIT_DICT.search(data, max(start - 24, 0))):
        for kind, number in _PEAK.findall(block[1]):
            found.setdefault(_NAMES[kind], _gib(number, gigabytes=True))
    if not found and b"memory usage after" in data:
        for match in _AXOLOTL.finditer(data):
            allocated, cache = (match[1], match[2]) if match[1] else (match[3], match[4])
            found = {"allocated": float(allocated), "reserved": round(float(allocated) + float(cache), 6)}
    return MemoryGib(**found) if found else None


def _gib(number: bytes, *, gigabytes: bool) -> float:
    try:
        value = float(number)
    except ValueError:
        return 0.0
    return value * GB_PER_GIB if gigabytes else value


def counts_gigabytes(data: bytes, file_name: str = "") -> bool | None:
    """Whether `peak_memory_*` values are GB of 1e9 bytes, as in torchtune before 0.3; None: the log does not tell.

    Told by the unit of the init block, by the logger's name (`utils.logging` became `utils._logging` in 0.3), by the
    unit in which a number is whole blocks of torch's allocator, or by the time in the name of the DiskLogger file.
    """
    at = data.find(b" peak memory a")
    block = _INIT.search(data, at, at + 4096) if at >= 0 else None
    if block:
        return block[3] == b"GB"
    if b"torchtune.utils._logging" in data:
        return False
    if b"torchtune.utils.logging" in data:
        return True
    if data.find(b"peak_memory_") >= 0 and (told := _whole_blocks(data)) is not None:
        return told
    named = _LOG_NAME.search(data) or _LOG_NAME.search(file_name.encode("utf-8", "replace"))
    return int(named[1]) < _GIB_SINCE_S if named else None


def _whole_blocks(data: bytes) -> bool | None:
    """Whether the first number printed in full is whole blocks in GB (True) or in GiB (False); None: in neither.

    >>> _whole_blocks(b"peak_memory_active:15.145601024"), _whole_blocks(b"peak_memory_active:104.0546875")
    (True, False)
    >>> _whole_blocks(b"peak_memory_active 18.77768")  # rounded, as W&B does
    """
    for match in itertools.islice(_PEAK.finditer(data), _MOST_NUMBERS):
        value, decimals = float(match[2]), len(match[2].partition(b".")[2])
        if decimals >= _MICRO and not (value * 2**30 / _BLOCK_BYTES) % 1:
            return False
        if _MICRO <= decimals <= _NANO and not round(value * 1e9) % _BLOCK_BYTES:
            return True
    return None


def peak_memory(data: bytes, *, gigabytes: bool | None = None) -> MemoryGib | None:
    """The highest peaks that training logged, in GiB by kind; None when only the init block is there.

    Each logged value is the peak since the one before, so the run's is the largest; a W&B summary repeats the last.

    Args:
        data: the text of the log.
        gigabytes: what `counts_gigabytes` says of it; unknown means GiB, as all versions since September 2024 have it.
    """
    found: dict[str, float] = {}
    if last_place(data, _SAID) >= 0:
        rest = _INIT_DICT.sub(b"", data) if last_place(data, _STATS) >= 0 else data
        rest = rest[max(rest.find(_BEFORE_TRAINING, 0, _HEAD_BYTES), 0) :]
        factor = GB_PER_GIB if gigabytes else 1.0
        for kind, numbers in _said(rest).items():
            # A run says thousands of numbers, few of them different.
            found[kind] = max(map(float, set(numbers)), default=0.0) * factor
    found = {kind: value for kind, value in found.items() if value > 0}
    return MemoryGib(**found) if found else None


def _said(data: bytes) -> dict[str, list[bytes]]:
    """All numbers by kind. torchtune's logger says the three kinds in one order, so most are found in one search."""
    lines = _LINE.findall(data)
    others = b"\n".join([_SAID.text + rest for _, _, _, rest in lines if rest])
    found = {kind: pattern.findall(others) for kind, pattern in _PEAKS.items()}
    for i, kind in enumerate(("active", "allocated", "reserved")):
        found[kind] += [line[i] for line in lines if line[i]]
    return found


def peak_memory_of_callbacks(data: bytes) -> MemoryGib | None:
    """The highest peaks that a callback of HF Trainer or llama-recipes' summary says, in GiB by kind."""
    found: dict[str, float] = {}
    if data.rfind(b"_MB") >= 0:
        for kind_, number in _LIGER.findall(data):
            kind = _NAMES[kind_]
            found[kind] = max(found.get(kind, 0.0), _gib(number, gigabytes=False) / MIB_PER_GIB)
    if data.rfind(b"memory/") >= 0 or data.rfind(b"max_memory_allocated (") >= 0 or data.rfind(b"memory(GiB)") >= 0:
        # Of a run, thousands of lines; what an evaluation before the first step took is no peak of training.
        for line in _LOSS_LINE.findall(data):
            for key, alone, number in _IN_LINE.findall(line):
                kind = _NAMES[key.lower() or alone]
                found[kind] = max(found.get(kind, 0.0), _gib(number, gigabytes=False))
    if data.rfind(b"MaxMemAllocated=") >= 0 or data.rfind(b"Peak reserved memory =") >= 0:
        for reserved, number in _OTHERS.findall(data):
            kind = "reserved" if reserved else "allocated"
            found[kind] = max(found.get(kind, 0.0), _gib(number, gigabytes=False))
    if data.rfind(b" CUDA memory ") >= 0:
        for kind_, active, number in _RECIPES.findall(data):
            kind = _NAMES[kind_ or active]
            found[kind] = max(found.get(kind, 0.0), _gib(number, gigabytes=False))
    found = {kind: value for kind, value in found.items() if value > 0}
    return MemoryGib(**found) if found else None
