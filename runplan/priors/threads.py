"""CPU threads that a process of a training had: what OpenMP was told, else what the job was given for a task."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_OPENMP = b"OMP_NUM_THREADS"
_END = rb"(?=[\s'\",;:)}\]&])"
"""Behind a number that is whole: the last one of a text may be still being written."""
_TOLD = re.compile(
    rb"(?<!\w)OMP_NUM_THREADS(?:( environment variable for each process to be )"
    rb"|['\"]?[ \t]?[=:][ \t]?['\"]?(?:\$\{OMP_NUM_THREADS:-)?)(\d{1,5})" + _END
)
"""A shell's line, an environment that was printed, our job script's default, or torchrun, which sets it to 1."""
_ADVICE = (b"variable ", b"set ", b"setting ", b"use ", b"using ", b"with ")
"""Before what a warning only proposes."""
_ACCELERATE = re.compile(rb"num_cpu_threads_per_process`? was set to `(\d{1,5})`")
_TASK_WORDS = (b"PER_TASK", b"per task", b"per-task", b"per_task", b"SBATCH -c")
_OF_TASK = re.compile(
    rb"^#SBATCH[^\r\n]*[ \t]-c[ =]?(\d{1,5})(?=\s)"
    rb"|(?:SLURM_CPUS_PER_TASK|\b[Cc][Pp][Uu]s?[ _-]per[ _-]task)['\"]?(?:[ \t]?[=:][ \t]?|[ \t])['\"]?(\d{1,5})"
    + _END,
    re.MULTILINE,
)
_DIRECTIVE = b"#SBATCH"
_JOB_WORD = b"NumCPUs="
_JOB = re.compile(rb"\b(NumNodes|NumCPUs|NumTasks|CPUs/Task)=(\d{1,6})(?=[\s-])")
_JOB_BYTES = 400
"""In which `scontrol` names them, one behind the other."""


def threads_in_text(text: bytes) -> int | None:
    r"""Threads of each process by a log's first lines or a job script, None where they do not say.

    >>> threads_in_text(b"#SBATCH --cpus-per-task=8\nexport OMP_NUM_THREADS=4\n")
    4
    >>> threads_in_text(b"NumNodes=1 NumCPUs=16 NumTasks=1 CPUs/Task=8 ReqB:S:C:T=0:0:*:*")
    8
    """
    if not (b"THREADS" in text or b"CPU" in text or b"cpu" in text or b"SBATCH" in text):
        return None  # as nearly every log
    return _of_openmp(text) or _of_job(text) or _of_task(text)


def _of_openmp(text: bytes) -> int | None:
    at = text.find(_OPENMP)
    for match in _TOLD.finditer(text, at) if at >= 0 else ():
        before = text[max(0, match.start() - 10) : match.start()].lower()
        if match[1] or not (before.endswith(_ADVICE) or _is_comment(text, match.start())):
            return int(match[2])
    default = _ACCELERATE.search(text) if text.find(b"threads_per_process") >= 0 else None
    return int(default[1]) if default else None


def _is_comment(text: bytes, at: int) -> bool:
    line = text[text.rfind(b"\n", 0, at) + 1 : at].lstrip()
    return line.startswith(b"#") and not line.startswith(_DIRECTIVE)


def _of_job(text: bytes) -> int | None:
    at = text.find(_JOB_WORD)
    if at < 0:
        return None
    return task_cpus(job_numbers(text[max(0, at - _JOB_BYTES) : at + _JOB_BYTES]))


def job_numbers(text: bytes) -> dict[str, int]:
    """Numbers of nodes, tasks and CPUs as `scontrol` shows them of one job."""
    return {name.decode(): int(number) for name, number in _JOB.findall(text)}


def task_cpus(job: Mapping[str, int]) -> int | None:
    """CPUs of a task by `scontrol`'s numbers: those it was given, else all of the only task.

    >>> task_cpus({"NumNodes": 1, "NumCPUs": 4, "NumTasks": 1, "CPUs/Task": 1})
    4
    """
    if (each := job.get("CPUs/Task", 1)) > 1:
        return each
    alone = job.get("NumTasks") == 1 or (job.get("NumTasks") is None and job.get("NumCPUs") == 1)
    return job.get("NumCPUs") if alone and job.get("NumNodes", 1) == 1 else None


StepCpus = tuple[str, str, str]
"""Name of a step, its CPUs and its tasks, as `sacct` prints them; empty where it does not."""


def step_cpus(steps: Sequence[StepCpus]) -> int | None:
    """CPUs of one task by what `sacct` says of a job's steps; None where that is open, or steps differ.

    What `srun` started did the work where there is such a step, else the batch script itself, which is one task. A
    step's CPUs belong to its tasks in equal parts.

    >>> step_cpus([("batch", "8", "1"), ("extern", "8", "1")]), step_cpus([("batch", "8", "1"), ("0", "8", "4")])
    (8, 2)
    """
    started = [step for step in steps if step[0].isdigit()]
    each = {_share(cpus, tasks) for _, cpus, tasks in started}
    if not started:
        each = {_share(cpus, tasks or "1") for name, cpus, tasks in steps if name == "batch"}
    return each.pop() if len(each) == 1 else None


def _share(cpus: str, tasks: str) -> int | None:
    if not (cpus.isdecimal() and tasks.isdecimal()) or int(tasks) < 1 or int(cpus) % int(tasks):
        return None
    return int(cpus) // int(tasks) or None


def _of_task(text: bytes) -> int | None:
    if all(text.find(word) < 0 for word in _TASK_WORDS):
        return None
    found = (int(match[1] or match[2]) for match in _OF_TASK.finditer(text) if not _is_comment(text, match.start()))
    return next(found, None)
