"""What SLURM's words mean for why a job waits. Pure.

The words are those of `squeue` (slurm.schedmd.com/job_reason_codes.html); some of them go on after a comma.
"""

from __future__ import annotations

import re

_WAITS = {
    "Dependency": "waiting for the training",
    "DependencyNeverSatisfied": "its training failed, so it never begins",
    "Resources": "waiting for free resources",
    "Priority": "behind jobs of higher priority",
    "JobHeldUser": "held by its user: scontrol release",
    "JobHeldAdmin": "held by an administrator",
    "job requeued in held state": "held after a requeue: scontrol release",
    "launch failed requeued held": "held, since its node could not start it: scontrol release tries again",
    "JobHoldMaxRequeue": "held, since it was requeued too often: scontrol release",
    "BeginTime": "begins later, as was asked or after a requeue",
    "ReqNodeNotAvail": "the nodes it needs are not available",
    "NodeDown": "the nodes it needs are not available",
    "PartitionDown": "its partition is closed for now",
    "PartitionInactive": "its partition is closed for now",
    "PartitionTimeLimit": "asks for more time than its partition allows",
    "PartitionNodeLimit": "asks for other nodes than its partition has free or allows",
    "JobArrayTaskLimit": "behind other tasks of its array",
    "BadConstraints": "no node is as its constraint asks: scancel it, plan with another resources.constraint",
    "Licenses": "waiting for a license",
    "Reservation": "waiting for its reservation",
}
_LIMIT = re.compile(r"(?:Assoc|QOS)(?P<what>\w+)")
_NEVER = re.compile(r"Per(?:Job|Node)(?:Limit)?$|^Min\w+")
_BUDGET = re.compile(r"^Grp\w*(?:Minutes|Billing)")


_LACKS = re.compile(r"ModuleNotFoundError|ImportError|command not found| on PATH: ")
_NOT_FOUND = 127
"""Exit code of a job that found no program to run."""


def lacks_something(reason: str, exit_code: int | None) -> bool:
    """Whether a job failed because its environment has not what it needs: tried again, it fails the same way."""
    return exit_code == _NOT_FOUND or _LACKS.search(reason) is not None


_COMES_AGAIN = re.compile(
    r"\b(?:(?:Key|Value|Type|Index|Attribute|Assertion|Name|Syntax|NotImplemented|UnboundLocal|ZeroDivision|Lookup"
    r"|FileNotFound|IsADirectory|NotADirectory|Permission|UnicodeDecode|UnicodeEncode|JSONDecode|ConfigComposition"
    r"|DatasetGeneration(?:Cast)?|DatasetNotFound|DataFilesNotFound|EmptyDataset|Cast|Instantiation)Error"
    r"|ArrowInvalid|SafetensorError|PrerequisiteError)\b"
)


def comes_again(reason: str) -> str:
    """The kind of error of a job that failed on its data or settings, and fails again on the same; else nothing.

    >>> comes_again("ValueError: row 7 has no answer"), comes_again("ConnectionError: timed out")
    ('ValueError', '')
    """
    if _LACKS.search(reason):
        return ""
    found = _COMES_AGAIN.search(reason)
    return found[0] if found else ""


def is_held(reason: str) -> bool:
    """Whether a job begins when somebody releases it, whatever time SLURM gives."""
    return waiting_for(reason).startswith("held")


def waiting_for(reason: str) -> str:
    """Why a job waits, in words; SLURM's own word stays where there is more to it, or where nobody knows it."""
    word, _, more = reason.partition(",")
    if word in _WAITS:
        return f"{_WAITS[word]} ({more.strip()})" if more.strip() else _WAITS[word]
    limit = _LIMIT.fullmatch(word)
    if limit is None:
        return reason
    if _NEVER.search(limit["what"]):
        return f"its account or QOS allows no job such a request ({word}): scancel it, plan with another"
    if _BUDGET.search(limit["what"]):
        return f"its account has used up what it may use, or would with this job ({word})"
    return f"its account or QOS has as much as it may at a time ({word}): begins when others end"
