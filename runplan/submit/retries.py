"""How a job that ended badly is retried: with more memory or time, learnt from how far it came. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runplan.jobs.observe import JobState, Observed
from runplan.submit.due import Retry
from runplan.units import parse_memory_gib, parse_slurm_time, round_up_time_s, short_time, slurm_time

if TYPE_CHECKING:
    from runplan.files.written import Job

MORE = 1.5
"""Factor on memory that was too little, and on a time limit of which nothing was learnt."""
MARGIN = 1.2
"""Factor on a time that was learnt from one attempt: nodes differ."""
OPTION_MEM = "--mem"
OPTION_TIME = "--time"


@dataclass(frozen=True)
class Done:
    """How far an attempt came."""

    steps: int | None = None
    """Optimizer steps, by its log; those of epochs that it continued count, too."""
    earlier_steps: int = 0
    """Of these, what earlier attempts did."""
    saved_epochs: int = 0
    """Epochs that the next attempt need not train again."""


@dataclass(frozen=True)
class Limits:
    """What the partition allows; None where that is not known."""

    time_s: int | None = None
    memory_gib: float | None = None


def plan_retry(
    job: Job, seen: Observed, options: Sequence[str], done: Done = Done(), limits: Limits = Limits()
) -> Retry:
    """How a job is tried again after it ended as it did.

    Args:
        job: the job.
        seen: how its last attempt ended.
        options: what that attempt had been given beyond its script; it is kept.
        done: how far it came.
        limits: of the partition.
    """
    given = dict(word.partition("=")[::2] for word in options)
    if seen.state is JobState.host_oom:
        more = _more_memory(job.resources, given, seen.max_rss_gib, limits.memory_gib)
    elif seen.state is JobState.timeout:
        more = _more_time(job, given, seen, done, limits.time_s)
    else:
        more = Retry()
    words = given | dict(word.partition("=")[::2] for word in more.options)
    return Retry(tuple(f"{key}={value}" if value else key for key, value in words.items()), more.note, more.impossible)


def _more_memory(
    resources: Mapping[str, Any], given: Mapping[str, str], used_gib: float | None, largest_gib: float | None
) -> Retry:
    asked_text = given.get(OPTION_MEM) or resources.get("mem")
    asked = parse_memory_gib(asked_text) if asked_text else None
    known = [value for value in (asked, used_gib) if value]
    if not known:
        return Retry(impossible="was out of memory, and nobody knows how much it had: set resources.mem and plan again")
    wanted = math.ceil(MORE * max(known))
    had = f"{asked_text} were too little" if asked_text else "it was out of memory"
    if largest_gib is None or wanted <= largest_gib:
        return Retry((f"{OPTION_MEM}={wanted}G",), f"{had}: asks for {wanted}G")
    most = math.floor(largest_gib)
    if asked is not None and asked >= most:
        return Retry(impossible=f"{had}, and no node of its partition has more than {most}G")
    return Retry((f"{OPTION_MEM}={most}G",), f"{had}: asks for {most}G, all that a node has")


def _more_time(job: Job, given: Mapping[str, str], seen: Observed, done: Done, limit_s: int | None) -> Retry:
    asked_text = given.get(OPTION_TIME) or job.resources["time"]
    asked = parse_slurm_time(asked_text) or 0
    if seen.slurm is not None and seen.slurm.limit_s:  # its script was edited, or somebody changed the job's limit
        asked = seen.slurm.limit_s
        asked_text = slurm_time(asked)
    needed, learnt = _time_needed_s(job, seen, done, asked)
    wanted = round_up_time_s(needed)
    said = f"{asked_text} were too short; {learnt}"
    if limit_s is None or wanted <= limit_s:
        return Retry((f"{OPTION_TIME}={slurm_time(wanted)}",), f"{said}: asks for {slurm_time(wanted)}")
    allowed = slurm_time(limit_s)
    if asked >= limit_s and not done.saved_epochs:
        fix = "use fewer epochs or rows, more GPUs, or a partition that allows more"
        return Retry(
            impossible=f"{said}, which needs about {short_time(needed)}; the partition allows {allowed}: {fix}"
        )
    note = f"{said}, which needs about {short_time(needed)}: asks for {allowed}, all that the partition allows"
    return Retry((f"{OPTION_TIME}={allowed}",), note)


def _time_needed_s(job: Job, seen: Observed, done: Done, asked_s: int) -> tuple[float, str]:
    """Seconds that the next attempt needs, and what that was learnt from."""
    steps = job.entry["steps"] if job.kind == "train" else {}
    total, per_epoch = steps.get("total"), steps.get("per_epoch") or 0
    spent = seen.seconds or asked_s
    own = (done.steps or 0) - done.earlier_steps
    if not total or own <= 0:
        return MORE * asked_s, "how far it came is not known"
    left = max(total - done.saved_epochs * per_epoch, 1)
    needed = MARGIN * spent / own * left
    if done.saved_epochs:
        return needed, f"{own} of {total} steps in {short_time(spent)}, epochs saved: {done.saved_epochs}"
    return max(needed, asked_s + 1), f"{own} of {total} steps in {short_time(spent)}"
