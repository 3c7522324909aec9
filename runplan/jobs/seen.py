"""What was seen of a group at one moment: its ledger, its jobs' records, what SLURM says. Pure; `look.py` looks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from runplan.jobs.attempts import Ledger, Record
from runplan.jobs.observe import Ending, Observed, SlurmJobs
from runplan.priors.ending import ending
from runplan.slurm.queue import SlurmJob

ATTEMPT_SIGNS = (b"with resolved config", b": not enough GPU memory for ")
"""What every attempt of torchtune prints first, and what a job script says before it tries again."""
_AGAIN = b"once more with "
_BAR_SIGNS = (b"%|", b"it/s]", b"s/it]")
_LINE_BYTES = 600
_COLOUR = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]")
_OURS = ("finetune.slurm: ", "cell.slurm: ")
"""How job scripts begin what they say."""
_ITS_LAST = re.compile(r"^finetune\.slurm: \S+ ended with exit code \d+$")
"""What they say last of a trainer that failed."""
_SLURM = "slurmstepd"
_BASH = re.compile(r"\S*: line \d+: +\d+ (?P<what>[A-Z][A-Za-z]+(?: [a-z]+)*(?: \(core dumped\))?) .*")
"""What bash says of a program that a signal ended: `slurm_script: line 101: 31475 Killed "$@"`."""
_KILLED = "Killed"
_GROUP = "Exception Group Traceback"
_IN_GROUP = re.compile(
    rb"^[ \t]*\|[ \t|]*([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)(?:: [^\r\n]*)?)\r?$", re.MULTILINE
)
"""An exception's own line inside a group of them, as tasks that ran at the same time leave it (Inspect's do)."""


class SlurmAnswer(Enum):
    """What came of asking SLURM."""

    answered = "answered"
    silent = "silent"
    """`squeue` is there and did not answer."""
    absent = "absent"
    """There is no `squeue` on PATH."""
    not_asked = "not asked"
    """No job of the group is SLURM's."""


@dataclass(frozen=True)
class JobSeen:
    """What one job left in its directory. Of logs only the ends are read."""

    there: bool = True
    """Whether its directory is."""
    unread: str = ""
    """Why its records could not be read; empty if they could."""
    records: tuple[Record, ...] = ()
    log: str | None = None
    """Path of the log of the job that counts."""
    tail: bytes = b""
    """Its end."""
    written_at: float | None = None
    """When it was last written, in seconds since the epoch."""
    disk_log: bytes = b""
    """End of what DiskLogger wrote since the job began."""
    gpu_metrics: bytes = b""
    """End of what `nvidia-smi` sampled beside the job."""


@dataclass(frozen=True)
class Sight:
    """A group as it was seen at one moment."""

    at: datetime
    """Aware."""
    ledger: Ledger
    known: SlurmJobs
    slurm: SlurmAnswer
    jobs: Mapping[str, JobSeen] = field(default_factory=dict)
    """By token; so is `observed`."""
    observed: Mapping[str, Observed] = field(default_factory=dict)
    copy: str = ""
    """A note on a group that is a copy of another, ledger included; empty where it is none."""
    free_bytes: int | None = None
    """Room on the group's disk; quotas are not seen."""
    collected_at: datetime | None = None
    """When results were last collected; None where they never were."""


def log_name(job_id: str, slurm: SlurmJob | None) -> str | None:
    """The file name of a job's log; None for a task of an array of which SLURM no longer tells its own number."""
    number = slurm.raw_id if slurm is not None and slurm.raw_id else job_id
    return None if "_" in number or "/" in number or "\0" in number else f"slurm-{number}.out"


def of_last_attempt(tail: bytes) -> bytes:
    """The part of a log's end that the last attempt wrote: a job that tries again goes on in the same log."""
    start = 0
    for sign in ATTEMPT_SIGNS:
        at = tail.rfind(sign)
        line_end = tail.find(b"\n", at)
        if at < 0 or (sign is ATTEMPT_SIGNS[1] and _AGAIN not in tail[at : line_end if line_end >= 0 else None]):
            continue  # the script's last word of a job that has nothing more to try
        start = max(start, tail.rfind(b"\n", 0, at) + 1)
    return tail[start:]


def ending_of(tail: bytes) -> Ending | None:
    """How a log's end says that its job ended badly: the state where it names one, and the line that says why.

    Where no known sign is found, the last line that is no progress bar is given: our own scripts and Python's
    `sys.exit` leave their last words there. None for a log without words.
    """
    text = of_last_attempt(tail)
    found = ending(text, max(text.rfind(b"|Loss:"), 0), finished=False)
    if found.reason:
        return Ending(found.state, _whole(found.reason, text))
    line = last_words(text)
    if told := _ITS_LAST.search(line):  # the trainer's own words stand before
        line = last_words(text[: text.rfind(told[0].encode())].rpartition(b"\n")[0]) or line
    return Ending(found.state, line if line.startswith(_OURS) else f"last line of its log: {line}") if line else None


def _whole(reason: str, text: bytes) -> str:
    """A reason without the bar that SLURM or bash wrote behind, and with the next line where it ends in a colon."""
    start = reason.find(_SLURM)
    if start > 0:
        return reason[start:]
    if bash := _BASH.search(reason):
        end = (
            "Killed (signal 9): by hand, or for lack of memory on the node" if bash["what"] == _KILLED else bash["what"]
        )
        return f"its program ended: {end}"
    if _GROUP in reason and (inside := _IN_GROUP.findall(text, max(text.rfind(_GROUP.encode()), 0))):
        return last_words(inside[-1])
    if not reason.endswith(":"):
        return reason
    rest = text[text.rfind(reason.encode()) + len(reason.encode()) :] if reason.encode() in text else b""
    lines = rest[: 4 * _LINE_BYTES].decode("utf-8", "replace").split("\n")
    return " ".join([reason, *[line for line in (" ".join(line.split()) for line in lines) if line][:1]])


def last_words(text: bytes) -> str:
    """The last line that is neither blank, a ruler, nor a progress bar, without its colours; empty without one."""
    for line in reversed(_COLOUR.sub(b"", text[-(1 << 14) :]).replace(b"\r", b"\n").split(b"\n")):
        if line.strip(b" \t-=_") and not any(sign in line for sign in _BAR_SIGNS):
            words = line[-_LINE_BYTES:].decode("utf-8", "replace")
            words = " ".join("".join(char if char.isprintable() else " " for char in words).split())
            if words:
                return words
    return ""
