"""The job scripts of a plan: one to train a run, one an evaluation cell, one that submits them all. Pure.

Every job writes a line to `jobs.jsonl` in its own directory before it does anything else, and another when it ends::

    {"event": "started", "token": "…", "job_id": "123", "kind": "train|cell", "cell": "eval/…"|null, "host": …, …}
    {"event": "ended", "token": "…", "job_id": "123", "kind": …, "cell": …, "exit_code": 0, "seconds": 60, "time": "…Z"}

In between, a training writes what it runs, every time it starts the trainer::

    {"event": "attempt", "token": "…", "kind": "train", "cell": null, "job_id": "123", "config": "finetune.rung1.yaml",
     "reason": "start|oom|resume|again", "resumed_epoch": 0, "sha256": "…", "time": "…Z"}

`reason`: the first attempt; the GPU ran out of memory with the configuration before; an earlier job's last whole epoch
is continued; an earlier job left nothing to continue, or another configuration, or RUNPLAN_AGAIN was set.
`resumed_epoch` is the last epoch that is kept (null: from the start), also after `oom`. `sha256` is that of the
configuration: once it changes, the attempt no longer counts (`recipes/resume.py`). What does not is in `attempts/<n>/`.

A training that finds another job at work in its directory, or its run completed by another, gives way, and ends; the
other is the one that counts::

    {"event": "gave_way", "token": "…", "kind": "train", "cell": null, "job_id": "124", "to": "123", "time": "…Z"}

`job_id` is `<array>_<task>` in an array and `local-<pid>` without SLURM. `submit_all.sh` and everything else that
submits share `ledger.jsonl` in the group, under `flock` (exclusive) on that very file (`group_lock.py`)::

    {"event": "intent", "token": "…", "job_id": null, "path": "1B_rank4/finetune.slurm", "time": "…Z"}
    {"event": "submitted", "token": "…", "job_id": "123", "path": "1B_rank4/finetune.slurm", "time": "…Z"}
    {"event": "refused", "token": "…", "job_id": null, "path": …, "reason": "Invalid partition …", "time": "…Z"}

An intent is on disk before `sbatch` is called. An intent without `submitted` is looked up by its token: in the job's
own `jobs.jsonl`, in `squeue` (the comment is `runplan:<token>`), in `sacct` where there is one. Another intent after
`submitted` is another attempt. Intents may have `via` (`sbatch`, `submitit`, `local`), `options` (what is asked beyond
the script: `["--mem=48G"]`), `host` (of `local`) and, for a task of an array, `array` (the token in the array's
comment) and `task`.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from runplan.errors import ConfigError, Problem, RenderError
from runplan.facts import Status
from runplan.files.file_names import CELL_FACTS, CELL_SCRIPT, TRAIN_SCRIPT
from runplan.jobs.cells import cell_facts, cell_token, inspect_options, model_arguments
from runplan.jobs.requests import threads_of
from runplan.naming import relevant_overrides
from runplan.plan import Cell, Check, Plan, PlannedRun, Request
from runplan.priors.ending import GPU_OOM_SIGNS, LAST_BYTES
from runplan.slurm.sbatch import OUTPUT, UNSAFE_IN_OUTPUT, directives, sbatch_options, submitit_parameters
from runplan.trainers.known import trainer_of

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["job_files", "sbatch_options", "submit_all", "submitit_parameters"]

_TOKEN = re.compile(r"[A-Za-z0-9_.-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NEEDED = ("model", "dataset", "evaluation")


def job_files(plan: Plan, run: PlannedRun, templates: Environment) -> dict[str, str]:
    """The job scripts of a run and what its evaluations are, by path relative to the run.

    Raises:
        RenderError: the run's token is empty or not made of letters, digits, `_`, `.` and `-`.
        ConfigError: a request cannot be written as `#SBATCH` lines.
    """
    files = {}
    if run.recipe is not None and run.request is not None:
        job = _job(plan, run, run.request, run.token) | _attempts(run, run.request.gpus)
        name = trainer_of(run.config).name
        files[TRAIN_SCRIPT] = templates.get_template(f"{name}/finetune.slurm.j2").render(job)
    for cell in run.cells:
        facts = cell_facts(run, cell)
        files[f"{cell.dir}/{CELL_FACTS}"] = templates.get_template("inspect/eval.yaml.j2").render(
            about=one_line(_about(plan, run)), facts=facts
        )
        files[f"{cell.dir}/{CELL_SCRIPT}"] = templates.get_template("inspect/cell.slurm.j2").render(
            _job(plan, run, cell.request, cell_token(run.token, cell.dir), cell)
            | {
                "facts": facts,
                "options": inspect_options(facts),
                "settings": json.dumps(
                    {"model": model_arguments(facts), "task": facts["args"], "stop": facts["stop_token"]},
                    sort_keys=True,
                ),
                "to_run": "/".join([".."] * len(PurePosixPath(cell.dir).parts)),
            }
        )
    return files


def submit_all(plan: Plan, templates: Environment) -> str:
    """The script that submits a group with plain `sbatch`; running it again submits only what is not yet submitted."""
    jobs: list[dict[str, str]] = []
    for run in plan.runs:
        trains = run.recipe is not None and run.request is not None
        if trains:
            jobs.append(_entry(run.name, TRAIN_SCRIPT, run.token))
        jobs += [
            _entry(f"{run.name}/{cell.dir}", CELL_SCRIPT, cell_token(run.token, cell.dir))
            | ({"after": run.token, "after_dir": run.name} if trains and cell.epoch is not None else {})
            for cell in run.cells
        ]
    return templates.get_template("group/submit_all.sh.j2").render(
        group=one_line(plan.group),
        command=one_line(plan.command),
        jobs=jobs,
        needs=_needs(plan),
        invalid=[check for check in plan.checks if check.status is Status.invalid and check.kind in _NEEDED],
        unsafe_in_output=UNSAFE_IN_OUTPUT,
    )


def _attempts(run: PlannedRun, gpus: int) -> dict[str, Any]:
    """How training is started, continued from a saved epoch, and started again when the GPU's memory was too small."""
    return trainer_of(run.config).start(run, gpus) | {
        "epochs": run.config.epochs,
        "rungs": run.rungs,
        "padded_tokens": run.padded_tokens,
        "signs": [sign.decode() for sign in GPU_OOM_SIGNS],
        "last_bytes": LAST_BYTES,
    }


def one_line(text: str) -> str:
    r"""Text that fits behind `#` in a script: line breaks and their like appear as `\n`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _about(plan: Plan, run: PlannedRun) -> str:
    overrides = " ".join(relevant_overrides(run.composed, trained=run.sizing is not None))
    return f"Group {plan.group}, run {run.name}" + (f": {overrides}" if overrides else "")


def _job(plan: Plan, run: PlannedRun, request: Request, token: str, cell: Cell | None = None) -> dict[str, Any]:
    if not _TOKEN.fullmatch(token):
        raise RenderError(f"{run.name}: {token!r} cannot identify a job; tokens are letters, digits, `_`, `.` and `-`")
    directory = "/".join([plan.directory, run.name, *([cell.dir] if cell else [])])
    for name in run.config.site.env:
        if not _VARIABLE.fullmatch(name):
            raise ConfigError(
                [Problem(f"{name!r} cannot name an environment variable", "site.env", "rename it", run.name)]
            )
    hostile = any(char in directory for char in UNSAFE_IN_OUTPUT)
    label = {"token": token, "kind": "cell" if cell else "train", "cell": cell.dir if cell else None}
    site = run.config.site
    return {
        "about": one_line(_about(plan, run)),
        "directives": directives(request, token, "/dev/null" if hostile else OUTPUT),
        "script": CELL_SCRIPT if cell else TRAIN_SCRIPT,
        "token": token,
        "directory": directory,
        "label": json.dumps(label)[1:-1],
        "site": site,
        "threads": threads_of(request.cpus_per_task, request.gpus),
    }


def _entry(directory: str, script: str, token: str) -> dict[str, str]:
    return {
        "dir": directory,
        "script": script,
        "token": token,
        "json": json.dumps(f"{directory}/{script}"),
        "after": "",
        "after_dir": "",
    }


def _needs(plan: Plan) -> list[dict[str, str]]:
    """Files without which the jobs cannot run, each once, with the command that gets it where the plan knows one."""
    fixes = {(check.kind, check.path): check for check in plan.checks if check.status is not Status.ok}
    needs: dict[str, dict[str, str]] = {}
    for (kind, path), files in needed_files(plan).items():
        check = fixes.get((kind, path), Check(kind, path, path, Status.unchecked, ""))
        for file in files:
            whole = f"{path}/{file}" if file else path
            needs.setdefault(whole, {"file": whole, "kind": kind, "name": check.name, "fix": check.fix})
    return list(needs.values())


def needed_files(plan: Plan) -> dict[tuple[str, str], tuple[str, ...]]:
    """What the jobs of a plan cannot do without, by kind and path: the files of a folder, or empty text for a file."""
    needs: dict[tuple[str, str], tuple[str, ...]] = {}
    for run in plan.runs:
        needs["model", run.model.path] = ("config.json", *run.model.shards)
        if run.recipe is not None and run.dataset is not None:
            needs["dataset", run.dataset.path] = ("",)
        for cell in run.cells:
            needs["evaluation", cell.script] = ("",)
    return needs
