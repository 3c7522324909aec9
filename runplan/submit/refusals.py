"""What `sbatch` says when it does not name a job: refused for good, no room now, or nobody knows. Pure."""

from __future__ import annotations

import re
from enum import Enum


class Verdict(Enum):
    """What became of a call that named no job."""

    refused = "refused"
    """There is no job, and asking the same again is useless."""
    full = "full"
    """There is no job because the user has as many as may be in the queue."""
    unknown = "unknown"
    """There may be a job: SLURM did not answer to the end."""


_FULL = re.compile(r"\b(?:Assoc|QOS)\w*Submit\w*Limit\b|temporarily unable to accept job|MaxJobCount")
"""Names of the limits on jobs in the queue, as SLURM's `job_state_reason` has them."""
_POLICY = "Job violates accounting/QOS policy"
_LIMIT = re.compile(r"\b(?:Assoc|QOS)\w*Limit\w*\b")
_PROGRAM = re.compile(r"^sbatch: (?:(?:error|fatal): )?(?:Batch job submission failed: )?")
_LOST = (
    "unable to contact", "socket timed out", "timed out", "zero bytes", "connection", "communication", "broken pipe",
    "unexpected message", "resource temporarily unavailable", "invalid authentication", "protocol",
)  # fmt: skip
"""SLURM's words for an answer that did not come, or came cut short."""
_DECIDED = re.compile(r"^sbatch: (?:error: |fatal: |unrecognized option|invalid option|option )", re.MULTILINE)
"""What sbatch itself says when it had an answer, or did not ask at all: an option or the script is wrong."""
_FAILED = "Batch job submission failed: "
_ADVICE = 'Try "sbatch --help"'


def verdict(said: str) -> Verdict:
    """What the output of a failed `sbatch` means; what is not known to be a refusal is none."""
    lower = said.lower()
    if _FULL.search(said) or (_POLICY in said and not _LIMIT.search(said)):
        return Verdict.full
    if any(words in lower for words in _LOST):
        return Verdict.unknown
    return Verdict.refused if _DECIDED.search(said) else Verdict.unknown


def is_array_too_large(said: str) -> bool:
    """Whether SLURM refuses an array for its number of tasks (`MaxArraySize`); it takes each job by itself."""
    return "invalid job array specification" in said.lower()


def reason(said: str) -> str:
    """Why, from `sbatch`'s output: the limit that it names, else SLURM's answer, else all of `sbatch`'s complaint."""
    limit = _LIMIT.search(said)
    if limit:
        return limit[0]
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith(_ADVICE)]
    if lines and _FAILED not in lines[-1]:  # one complaint may take several lines
        first = next((at for at, line in enumerate(lines) if _DECIDED.match(line)), len(lines) - 1)
        lines = [" ".join(_PROGRAM.sub("", line) for line in lines[first:])]
    return _PROGRAM.sub("", lines[-1])[:300] if lines else "sbatch said nothing"
