"""How many processes trained, as launchers and trainers say it, or as ranks show by all saying the same."""

from __future__ import annotations

import re
from collections import Counter

from runplan.priors.letters import LINE_PREFIX

# accelerate's state and its launcher's remark, DeepSpeed's and Axolotl's configuration, LLaMA-Factory.
_SAID = (
    (b"Num processes: ", re.compile(rb"\bNum processes: (\d{1,5})\b")),
    (b"num_processes` was set", re.compile(rb"`--num_processes` was set to a value of `(\d{1,5})`")),
    (b"world_size", re.compile(rb"print\] +world_size[ .]+(\d{1,5})\b|\"world_size\": (\d{1,5})\b")),
    (b", world size: ", re.compile(rb"Process rank: -?\d+, world size: (\d{1,5}),")),
)
_RANK = re.compile(rb"Process rank: (-?\d{1,5}), device: [\w:]{1,20}, n_gpu: (\d{1,3}),?\s+distributed training: (\w+)")
_SEVERAL = b"Setting OMP_NUM_THREADS environment variable for each process"
"""What torchrun says where it starts more than one."""
_WROTE = re.compile(rb"\[rank(\d{1,4})\]:")
_PROCESS = re.compile(rb"Sending process (\d+) closing signal|\(pid: (\d+)\)")
_LOADING = re.compile(rb"Loading checkpoint shards: {1,3}0%\|")
_BEGINNING = re.compile(LINE_PREFIX + rb"(?:[\d:,./ -]{8,24})?")
_LEAST_BYTES = 12


def process_count(head: bytes) -> int | None:
    """Processes that a text's start tells of, each with a GPU of its own; None where it does not tell.

    >>> process_count(b"Process rank: 0, world size: 8, device: cuda:0, distributed training: True")
    8
    """
    for sign, pattern in _SAID:
        if head.find(sign) >= 0 and (match := pattern.search(head)):
            return int(match[match.lastindex or 1])
    if head.find(b"Process rank: ") >= 0 and (count := _named_ranks(head)) is not None:
        return count
    return _loading_ranks(head) if head.find(_SEVERAL) >= 0 else None


def failed_processes(end: bytes) -> int | None:
    r"""Processes of a failed launch: ranks that wrote, where torchrun names as many that failed or were stopped.

    >>> failed_processes(b"[rank0]: E\n[rank1]: E\nSending process 7 closing signal SIGTERM\nfailed (pid: 6)")
    2
    """
    if end.find(b"closing signal") < 0:
        return None
    ranks = {int(rank) for rank in _WROTE.findall(end)}
    processes = {first or second for first, second in _PROCESS.findall(end)}
    return len(ranks) if len(ranks) > 1 and max(ranks) + 1 == len(ranks) == len(processes) else None


def _named_ranks(head: bytes) -> int | None:
    """Of the line that HF's examples and LLaMA-Factory print by each rank, where every rank did so once."""
    found = _RANK.findall(head)
    if found and found[0][2] == b"False":
        return int(found[0][1])
    ranks = sorted(int(rank) for rank, _, _ in found)
    return len(ranks) if len(ranks) > 1 and ranks == list(range(len(ranks))) else None


def _loading_ranks(head: bytes) -> int | None:
    """Of several ranks that load the same checkpoint: as many bars begin as there are copies of some other line."""
    bars = len(_LOADING.findall(head))
    lines = Counter(_said(line) for line in head.splitlines() if b"%|" not in line and b"***" not in line)
    copied = any(number == bars and len(line) >= _LEAST_BYTES for line, number in lines.items())
    return bars if bars > 1 and copied else None


def _said(line: bytes) -> bytes:
    match = _BEGINNING.match(line)
    return line[match.end() if match else 0 :].strip()
