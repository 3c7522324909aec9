"""How a run ended, and the line that says so."""

from __future__ import annotations

import re
from typing import NamedTuple

from runplan.priors.letters import LINE_PREFIX, tidy


class Ending(NamedTuple):
    """A state of `PriorRun.state` and its reason."""

    state: str
    reason: str | None = None


GPU_OOM_SIGNS = (
    b"CUDA out of memory",
    b"HIP out of memory",
    b"XPU out of memory",
    b"MPS backend out of memory",
    b"CUDA error: out of memory",
    b"HIP error: out of memory",
    b"OutOfMemoryError",
    b"CUBLAS_STATUS_ALLOC_FAILED",
    b"cudaErrorMemoryAllocation",
    b"Failed to CUDA calloc",
)
"""What a trainer prints when a GPU has no memory left."""
_OTHER_OOM_SIGNS = (b" out of memory. Tried to allocate", b"OUT_OF_DEVICE_MEMORY")
"""The same of accelerators that are no GPUs, and of drivers below torch."""
LAST_BYTES = 512 * 1024
"""Of a log's end in which its ending is looked for."""

# `State: …` is how seff says it, which some sites print behind each job.
# In the order in which they explain each other: ranks that hang after an OOM are cancelled or run into the time limit,
# and a killed job's traceback follows from the kill.
_SIGNS: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("oom", (*GPU_OOM_SIGNS, *_OTHER_OOM_SIGNS)),
    (
        "host_oom",
        (
            b"oom_kill event",
            b"oom-kill event",
            b"Some of your processes may have been killed by the cgroup out-of-memory handler",
            b": Out Of Memory",
            b"OUT_OF_MEMORY",
            b"State: OUT_OF_MEMORY (exit code",
            b"Exceeded job memory limit",
            b"DefaultCPUAllocator: can't allocate memory",
            b"DefaultCPUAllocator: not enough memory",
            b"memory limit, being killed",
            b"MemoryError",
        ),
    ),
    ("timeout", (b"DUE TO TIME LIMIT", b"State: TIMEOUT (exit code")),
    ("preempted", (b"DUE TO PREEMPTION", b"DUE TO JOB REQUEUE", b"State: PREEMPTED (exit code")),
    (
        "node_fail",
        (
            *(b"DUE TO NODE FAILURE", b"due to node failure", b"error: Node failure on"),
            b"State: NODE_FAIL (exit code",
        ),
    ),
    (
        "cancelled",
        (
            b" CANCELLED AT ",
            b"State: CANCELLED (exit code",
            b"KeyboardInterrupt",
            b"got signal: 15",
            b"death signal, shutting down workers",
            b"process received SIG",
            b"Terminated",
        ),
    ),
    (
        "failed",
        (
            b"Traceback (most recent call last)",
            b'", line ',
            b"ChildFailedError",
            b"Segmentation fault",
            b"Watchdog caught collective operation timeout",
            b"terminate called after throwing",
            b"(core dumped)",
            b" Killed ",
            b"srun: error:",
            b"slurmstepd: error:",
            b"command not found",
            # An exception that was caught and told.
            *(b"raining failed", b"rror during training", b"rror in training", b"rror training"),
        ),
    ),
)
# Words that others may print, too: they count where SLURM says them.
_SLURM_SIGNS = frozenset(
    {
        *(b"oom_kill event", b"oom-kill event", b": Out Of Memory", b"OUT_OF_MEMORY", b"Exceeded job memory limit"),
        *(b"DUE TO TIME LIMIT", b"DUE TO PREEMPTION", b"DUE TO JOB REQUEUE", b"DUE TO NODE FAILURE", b" CANCELLED AT "),
        *(b"Terminated", b" Killed "),
    }
)
_LETTERS = (b"e", b"E", b"n")
"""Every sign has one of them, and bars, which are most of a running log's end, have none."""
_SLURM_WORDS = ("slurm", "srun:", "***", "error:")
_DAEMON = b"slurmstepd: error:"
"""Which may stand behind a bar."""
_LAUNCHERS = (b"ChildFailedError", b"CalledProcessError")
"""What only tells that another process failed."""
_KILLED = {"host_oom", "timeout", "preempted", "node_fail", "cancelled"}
_BEFORE_DRAW = 4096
_EXCEPTION = re.compile(
    rb"^[ \t]*" + LINE_PREFIX + rb"([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)\b[^\r\n]*)", re.MULTILINE
)
_TOLD = re.compile(rb"^" + LINE_PREFIX + rb"([A-Z]\w{1,40}(?:Error|Exception): [^\r\n]+)", re.MULTILINE)
_LAST_WORDS = 3000
"""At a text's end, in which an exception's own line tells a failure without its traceback."""
_FAULTS = (b"Watchdog caught collective operation timeout", b"Memory access fault by GPU", b"terminate called after")
"""What a process says before such a signal ends it, in a text in which no exception is named."""
_SIGNAL = re.compile(rb"Signal \d+ \(SIG[A-Z0-9]+\) received by PID \d+")


def ending(data: bytes, last_draw: int, *, finished: bool) -> Ending:
    """How the text says a run ended: `unknown` when it says nothing; completion is the caller's to see.

    Args:
        data: the text of the last attempt.
        last_draw: where the last progress bar stands in it; 0 without one.
        finished: whether all steps were done and saved; faults before that did not end it.
    """
    start = max(last_draw - (0 if finished else _BEFORE_DRAW), len(data) - LAST_BYTES, 0)
    text = data[start:]
    if not any(text.find(letter) >= 0 for letter in _LETTERS):
        return Ending("unknown")
    for state, signs in _SIGNS:
        for sign in signs:
            at = text.find(sign)
            while at >= 0:
                reason = _reason(text, at, state)
                if sign not in _SLURM_SIGNS or any(word in reason for word in _SLURM_WORDS):
                    return Ending(state, reason)
                at = text.find(sign, at + len(sign))
    near = max(last_draw, len(data) - _LAST_WORDS)
    if not finished and data.find(b": ", near) >= 0 and (match := _TOLD.search(data, near)):
        return Ending("failed", _reason(data, match.start(1), "failed"))
    return Ending("unknown")


def is_kill(state: str) -> bool:
    """Whether the state says by itself that a job ran here, training or not."""
    return state in _KILLED or state == "oom"


def _reason(text: bytes, at: int, state: str) -> str:
    """The line around a sign; of a traceback the exception's own line."""
    if state == "failed":
        at = _cause(text, at)
    start = max(text.rfind(b"\n", 0, at), text.rfind(b"\r", 0, at)) + 1
    end = min((place for place in (text.find(b"\n", at), text.find(b"\r", at)) if place >= 0), default=len(text))
    start = max(start, at - 300, text.rfind(_DAEMON, start, at + 1))
    line = tidy(text[start : min(end, start + 600)]).decode("utf-8", "replace")
    return " ".join("".join(char if char.isprintable() else " " for char in line).split())


def _cause(text: bytes, at: int) -> int:
    """Where the last exception is named; that of a process of its own, not that of the launcher which only tells."""
    found = list(_EXCEPTION.finditer(text, at))
    own = [match.start() for match in found if all(name not in match[1] for name in _LAUNCHERS)]
    if own:
        return own[-1]
    signal = _SIGNAL.search(text, at)
    faults = [place for place in map(text.find, _FAULTS) if place >= 0] if signal else []
    if faults:
        return min(faults)
    return signal.start() if signal else found[-1].start() if found else at
