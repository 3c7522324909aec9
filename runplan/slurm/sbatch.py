"""One request in SLURM's notations: options, `#SBATCH` lines, submitit's parameters. Pure."""

from __future__ import annotations

import math
import re
import shlex
from typing import Any

from runplan.errors import ConfigError, Problem, SubmitError
from runplan.plan import Request
from runplan.units import MINUTE_S, slurm_time

OUTPUT = "slurm-%j.out"
"""Where a job's output goes, relative to where it is submitted: its own directory."""

UNSAFE_IN_OUTPUT = ("%", "\\")
"""SLURM expands or drops these in the directory of an output file, too, and the job then fails to launch
(measured with 22.05); such a job writes its log itself."""

_SAME_FOR_ALL = ("--job-name", "--output", "--open-mode", "--ntasks")
"""Options that say nothing of what is asked for."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def comment(token: str) -> str:
    """The text by which `squeue -o %k` and `sacct -o Comment` find the job of a token."""
    return f"runplan:{token}"


def option_lines(request: Request, token: str = "", output: str = OUTPUT) -> tuple[tuple[str, ...], ...]:
    """The options of a request as words, an option a line; `extra` comes last and so overrides.

    Raises:
        ConfigError: a value holds a control character, or an extra option has unbalanced quotes.
    """
    values = {
        "job-name": _CONTROL.sub(" ", request.job_name),
        "comment": comment(token) if token else None,
        "nodes": request.nodes,
        "ntasks": 1,
        "cpus-per-task": request.cpus_per_task,
        "gres": _gres(request),
        "mem": None if request.mem_gib is None else f"{request.mem_gib}G",
        "time": slurm_time(request.time_s),
        "partition": request.partition,
        "account": request.account,
        "qos": request.qos,
        "constraint": request.constraint,
        "exclude": request.exclude,
        "output": output,
        "open-mode": "append",  # a requeued job must not wipe the log of its first attempt
    }
    problems = value_problems(request)
    if problems:
        raise ConfigError(problems)
    named = tuple((f"--{key}={value}",) for key, value in values.items() if value is not None)
    named += (("--requeue",),)  # after preemption or a node's failure, whatever the cluster's default: a job goes on
    return named + tuple(tuple(shlex.split(text)) for text in request.extra)


def sbatch_options(request: Request, token: str = "", output: str = OUTPUT) -> tuple[str, ...]:
    """The words that follow `sbatch` for this request; the only source of `#SBATCH` lines.

    Args:
        request: what the job asks for.
        token: identifies the job in SLURM; empty leaves the comment out.
        output: file of the job's output, as `--output` has it.

    Raises:
        ConfigError: see `option_lines`.
    """
    return tuple(word for line in option_lines(request, token, output) for word in line)


def asked_options(request: Request) -> str:
    """What a request asks for, as options of sbatch on one line, without what differs from job to job.

    Raises:
        ConfigError: see `option_lines`.
    """
    lines = option_lines(request)
    return " ".join(" ".join(words) for words in lines if not words[0].startswith(_SAME_FOR_ALL))


def directives(request: Request, token: str, output: str = OUTPUT) -> tuple[str, ...]:
    """The `#SBATCH` lines of a job script."""
    lines = option_lines(request, token, output)
    return tuple("#SBATCH " + " ".join(quote_directive(word) for word in line) for line in lines)


def quote_directive(word: str) -> str:
    r"""A word as `#SBATCH` lines need it: the shell's quotes, but a backslash counts even inside of them.

    Measured with SLURM 22.05: `'a\b'` arrives as `ab`, `'a\\b'` as `a\b`; an unquoted `#` ends the line.
    """
    return shlex.quote(word.replace("\\", "\\\\"))


def submitit_parameters(request: Request, token: str = "") -> dict[str, Any]:
    """The same request for `submitit.AutoExecutor.update_parameters`; whole minutes, rounded up.

    Raises:
        SubmitError: an extra option is a short one (`-p`), which submitit cannot pass on.
    """
    option_lines(request, token)  # the same values are refused
    values: dict[str, Any] = {
        "name": _CONTROL.sub(" ", request.job_name),
        "timeout_min": math.ceil(request.time_s / MINUTE_S),
        "nodes": request.nodes,
        "tasks_per_node": 1,
        "cpus_per_task": request.cpus_per_task,
        "mem_gb": request.mem_gib,
        "slurm_gres": _gres(request),
        "slurm_partition": request.partition,
        "slurm_account": request.account,
        "slurm_qos": request.qos,
        "slurm_constraint": request.constraint,
        "slurm_exclude": request.exclude,
        "slurm_comment": comment(token) if token else None,
    }
    values["slurm_additional_parameters"] = {"requeue": True} | dict(_long_option(text) for text in request.extra)
    return {key: value for key, value in values.items() if value is not None}


_OWN = {
    "--time": "resources.time", "-t": "resources.time", "--mem": "resources.mem", "--gres": "resources.gres",
    "--partition": "resources.partition", "-p": "resources.partition", "--qos": "resources.qos",
    "-q": "resources.qos", "--account": "resources.account", "-A": "resources.account",
    "--constraint": "resources.constraint", "-C": "resources.constraint", "--exclude": "resources.exclude",
    "-x": "resources.exclude", "--cpus-per-task": "resources.cpus_per_task", "-c": "resources.cpus_per_task",
    "--output": "the run's own log", "-o": "the run's own log", "--comment": "the run's own token",
}  # fmt: skip
"""Options that a job has anyway: a second one would win in silence."""


def value_problems(request: Request) -> tuple[Problem, ...]:
    """What in a request cannot be written in a job script at all."""
    named = {
        "resources.partition": request.partition,
        "resources.account": request.account,
        "resources.qos": request.qos,
        "resources.constraint": request.constraint,
        "resources.exclude": request.exclude,
        "resources.gres": request.gres,
    }
    problems = [
        Problem(f"{value!r} holds a line break or another control character", key, "remove it", request.job_name)
        for key, value in [*named.items(), *(("resources.extra_sbatch", text) for text in request.extra)]
        if value is not None and _CONTROL.search(value)
    ]
    for text in request.extra:
        try:
            words = shlex.split(text)
        except ValueError as error:
            problems.append(_bad_extra(request, text, str(error)))
        else:
            if not words or not words[0].startswith("-"):
                problems.append(_bad_extra(request, text, "not an option"))
            elif taken := _OWN.get(words[0].partition("=")[0]):
                what = f"{text!r} would replace what {taken} says"
                problems.append(Problem(what, "resources.extra_sbatch", f"use {taken}", request.job_name))
    return tuple(problems)


def _bad_extra(request: Request, text: str, reason: str) -> Problem:
    fix = "write each option as on sbatch's command line: --mail-type=END"
    return Problem(f"{text!r}: {reason}", "resources.extra_sbatch", fix, request.job_name)


def _gres(request: Request) -> str | None:
    return request.gres or (f"gpu:{request.gpus}" if request.gpus else None)


def _long_option(text: str) -> tuple[str, Any]:
    words = shlex.split(text)
    key, equals, value = words[0].partition("=")
    if not key.startswith("--"):
        raise SubmitError(f"{text!r} in resources.extra_sbatch: submitit takes long options only; write --name=value")
    if len(words) > 1:
        value, equals = " ".join(words[1:]), "="
    return key.removeprefix("--"), value if equals else True
