"""What this machine has: GPUs, cores, memory; and its processes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

from runplan.attempts import Record
from runplan.submit.lanes import Machine

GIB = 2**30
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


def is_alive(job_id: str, records: Iterable[Record] = ()) -> bool | None:
    """Whether the process of a job `local-<pid>` is there; None for other jobs, and for those of another machine.

    A pid that went to another program does not count: what runs a job's script is a bash.

    Args:
        job_id: the job.
        records: what the job wrote, which says where it began.
    """
    kind, _, pid = job_id.partition("-")
    if kind != "local" or not pid.isdigit():
        return None
    hosts = [record.more.get("host") for record in records if (record.event, record.job_id) == ("started", job_id)]
    if hosts and hosts[-1] not in {None, socket.gethostname()}:
        return None  # several machines see the same directory, and each counts its processes
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return state != "Z" and any(word.endswith(b".slurm") for word in command)
