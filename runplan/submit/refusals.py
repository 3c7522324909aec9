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
_DECIDED = ("batch job submission failed:", "sbatch: fatal:", "unable to open file", "unrecognized option")
"""What sbatch says when it had an answer, or did not ask at all."""


def verdict(said: str) -> Verdict:
    """What the output of a failed `sbatch` means; what is not known to be a refusal is none."""
    lower = said.lower()
    if _FULL.search(said) or (_POLICY in said and not _LIMIT.search(said)):
        return Verdict.full
    if any(words in lower for words in _LOST):
        return Verdict.unknown
    decided = any(words in lower for words in _DECIDED) or lower.startswith("sbatch: error: invalid")
    return Verdict.refused if decided else Verdict.unknown


def reason(said: str) -> str:
    """Why, from `sbatch`'s output: the limit that it names, else its last line without the program's name."""
    limit = _LIMIT.search(said)
    if limit:
        return limit[0]
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return _PROGRAM.sub("", lines[-1])[:300] if lines else "sbatch said nothing"
