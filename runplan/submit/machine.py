"""What this machine has: GPUs, cores, memory."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from runplan.submit.lanes import Machine
from runplan.units import GIB

_TIMEOUT_S = 20


def read_machine() -> Machine:
    """The share of this machine that this process may use.

    `CUDA_VISIBLE_DEVICES`, where it is set, says which GPUs.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    return Machine(_gpus(), len(os.sched_getaffinity(0)), min(memory, _cgroup_limit_gib()))


def _gpus() -> tuple[str, ...]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(name.strip() for name in named.split(",") if name.strip() not in {"", "-1", "NoDevFiles"})
    if shutil.which("nvidia-smi") is None:
        return ()
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip().isdigit())


def _cgroup_limit_gib() -> float:
    """What a container or a job of this machine may use; infinite where nothing limits it (cgroup v2, then v1)."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            return int(text) / GIB
    return float("inf")
