"""GPU memory as `nvidia-smi dmon` and `dcgmi dmon` print it: a table by blanks, its header repeated.

Both call MB what are MiB: NVML counts bytes, which they divide by 2**20 (dmon's `fb`, DCGM's field 252, `FBUSD`).
"""

from __future__ import annotations

import re
from typing import Any

from runplan.priors.slurm_words import likely_job
from runplan.units import MIB_PER_GIB

_USED = ("fb", "fbusd")
_ENTITY = "entity"
_UNITS = frozenset({"mb", "mib"})
_NUMBER = re.compile(r"\d{1,8}(?:\.\d{1,6})?")
_JOB = re.compile(r"(?<!\d)(\d{4,12}(?:_\d{1,9})?)(?!\d)")
_BUSY_MIB = 1024
"""Of a GPU that holds less nothing was trained on it."""


def is_recording(name: str) -> bool:
    """Whether a file's name says that it is such a table.

    >>> is_recording("gpu_dmon.txt"), is_recording("gpu.txt")
    (True, False)
    """
    return "dmon" in name or "dcgm" in name


def records_job(name: str, log_name: str) -> bool:
    """Whether a recording may be that of a log's job: where both names hold a job number, it is the same.

    >>> records_job("dmon.txt", "slurm-4711.out"), records_job("dmon_4712.txt", "slurm-4711.out")
    (True, False)
    """
    job, named = likely_job(log_name), _JOB.findall(name)
    return job is None or not named or job in named


def recording_fields(text: bytes) -> dict[str, Any]:
    r"""Highest memory in use on one GPU, in GiB, and on how many GPUs there was any; empty without that column.

    >>> recording_fields(b"# gpu     fb   bar1\n# Idx     MB     MB\n    0   2048      4\n    1      4      1\n")
    {'process_peak_gib': 2.0, 'sampled_gpus': 1}
    """
    columns: list[str] = []
    peaks: dict[str, float] = {}
    for line in text.decode("utf-8", "replace").splitlines():
        words = line.replace(",", " ").split()
        if line.lstrip().startswith("#"):
            names = line.replace(",", " ").replace("#", " ", 1).lower().split()
            if "gpu" in names or names[:1] == [_ENTITY]:
                columns = names
            elif columns and not _in_mib(columns, names):
                columns = []
            continue
        if columns[:1] == [_ENTITY] and words[:1] and words[0].startswith("GPU"):
            words = ["".join(words[:2]), *words[2:]]
        if columns and len(words) == len(columns) and (sample := _sample(columns, words)) is not None:
            gpu, used = sample
            peaks[gpu] = max(used, peaks.get(gpu, 0.0))
    busy = [peak for peak in peaks.values() if peak >= _BUSY_MIB]
    return {"process_peak_gib": max(busy) / MIB_PER_GIB, "sampled_gpus": len(busy)} if busy else {}


def _in_mib(columns: list[str], units: list[str]) -> bool:
    """Whether the line below a header says that memory is told in MB, where it says something."""
    at = next((i for i, name in enumerate(columns) if name in _USED), None)
    return at is None or len(units) != len(columns) or units[at] in _UNITS


def _sample(columns: list[str], words: list[str]) -> tuple[str, float] | None:
    cells = dict(zip(columns, words, strict=True))
    gpu, used = cells.get(_ENTITY) or cells.get("gpu"), cells.get("fb") or cells.get("fbusd")
    return (gpu, float(used)) if gpu and used and _NUMBER.fullmatch(used) else None
