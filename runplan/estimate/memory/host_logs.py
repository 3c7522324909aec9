"""What logs say about host memory: runs that need no more than what is planned, and what they used or died of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from runplan.estimate.logs.settings import adapter_of, match_model
from runplan.estimate.memory.host import host_memory_gib
from runplan.estimate.memory.tried import is_no_larger
from runplan.estimate.workload import Workload
from runplan.facts import Architecture
from runplan.priors.record import PriorRun
from runplan.units import slurm_memory

ABOVE_USED = 1.15
"""Asked for over what SLURM saw in use: it looks every 30 s, and runs differ."""
ABOVE_KILLED = 1.5
"""Asked for over what was too little, as `runplan submit` asks when it tries again."""


class HostSeen(NamedTuple):
    """The least host memory that a log lets one ask for."""

    run: PriorRun
    architecture: Architecture
    had_gib: float
    """What it used, or what was too little for it."""
    needed_gib: float

    def described(self) -> str:
        """The line of evidence about it."""
        what = "were too little" if self.run.state == "host_oom" else "were used"
        asked = slurm_memory(self.needed_gib)
        return f"{self.run.path}: {self.had_gib:.1f} GiB of host memory {what}; --mem is at least {asked}"


def host_seen(priors: Iterable[PriorRun], models: Mapping[str, Architecture]) -> tuple[HostSeen, ...]:
    """The log that asks for most of every kind of run, of those that tell."""
    most: dict[object, HostSeen] = {}
    for run in priors:
        killed = run.state == "host_oom"
        had = max(run.max_rss_gib or 0.0, (run.asked_mem_gib or 0.0) if killed else 0.0)
        matched = match_model(run, models) if had else None
        if matched is None or not matched[1]:
            continue
        kind = (matched[0], run.trainer, run.dtype, run.num_gpus, run.save_adapter_weights_only)
        one = HostSeen(run, matched[0], had, (ABOVE_KILLED if killed else ABOVE_USED) * had)
        known = most.get(kind)
        if known is None or (one.needed_gib, run.path) > (known.needed_gib, known.run.path):
            most[kind] = one
    return tuple(most.values())


def most_host_memory(w: Workload, seen: Iterable[HostSeen]) -> HostSeen | None:
    """The log that asks for most host memory, of runs that need no more than a workload; None where none tells.

    What the model is larger is added as the formula has it.
    """
    found = [one._replace(needed_gib=one.needed_gib + _more_gib(w, one)) for one in seen if _needs_no_more(one, w)]
    return max(found, key=lambda one: (one.needed_gib, one.run.path), default=None)


def formula_gib(w: Workload) -> float:
    """Host memory of a workload without logs, in GiB."""
    return host_memory_gib(w.architecture, w.adapter, w.dtype, w.save_adapter_weights_only, w.gpus, w.trainer)


def _more_gib(w: Workload, one: HostSeen) -> float:
    saves, gpus = bool(one.run.save_adapter_weights_only), one.run.num_gpus or 1
    its = host_memory_gib(one.architecture, adapter_of(one.run), w.dtype, saves, gpus, w.trainer)
    return max(0.0, formula_gib(w) - its)


def _needs_no_more(one: HostSeen, w: Workload) -> bool:
    run = one.run
    return (
        (run.trainer or "torchtune") == w.trainer
        and is_no_larger(one.architecture, w.architecture)
        and (run.dtype or w.dtype) == w.dtype
        and (run.num_gpus or 1) <= w.gpus
        and bool(run.save_adapter_weights_only) >= w.save_adapter_weights_only
    )
