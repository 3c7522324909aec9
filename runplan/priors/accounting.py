"""What SLURM's accounting knows of finished jobs: state, elapsed time, host memory, GPU."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

from runplan.priors.slurm_words import STATES, tres_fields
from runplan.priors.threads import StepCpus, step_cpus
from runplan.units import used_memory_gib

_TIMEOUT_S = 20
_MAX_JOBS = 6000
"""Job numbers in one argument, of which Linux takes 128 KiB."""
_FORMAT = "JobID,State,ElapsedRaw,MaxRSS,AllocTRES,NCPUS,NTasks"


def has_accounting() -> bool:
    """Whether this machine has SLURM's `sacct`."""
    return shutil.which("sacct") is not None


def read_accounting(jobs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Fields of each job that `sacct` knows, from one call; empty without accounting or when it hangs.

    Of more jobs than one command line holds, the last ones named are asked for.
    """
    if not jobs:
        return {}
    import subprocess  # noqa: PLC0415 - 7 ms that most calls save

    command = ["sacct", "--noheader", "--parsable2", f"--format={_FORMAT}", "--jobs", ",".join(jobs[-_MAX_JOBS:])]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return parse_sacct(done.stdout.decode("utf-8", "replace")) if done.returncode == 0 else {}


def parse_sacct(text: str) -> dict[str, dict[str, Any]]:
    """Job → fields: `state`, `elapsed_s` and `tres_fields` of the job's line, `max_rss_gib` and `cpus` of its steps."""
    jobs: dict[str, dict[str, Any]] = {}
    cpus: dict[str, list[StepCpus]] = {}
    for line in text.splitlines():
        cells = line.split("|")
        if len(cells) != len(_FORMAT.split(",")):
            continue
        name, state, elapsed, rss, tres, given, tasks = cells
        job, _, step = name.partition(".")
        fields = jobs.setdefault(job, {})
        if (memory := used_memory_gib(rss)) is not None:
            fields["max_rss_gib"] = max(memory, fields.get("max_rss_gib", 0.0))
        if step:
            cpus.setdefault(job, []).append((step, given, tasks))
            continue
        if (known := STATES.get(state.split(" ")[0])) is not None:
            fields["state"] = known
        if elapsed.isdigit():
            fields["elapsed_s"] = float(elapsed)
        fields |= tres_fields(tres)
    for job, steps in cpus.items():
        if each := step_cpus(steps):
            jobs[job]["cpus"] = each
    return jobs
