"""From composed runs to a written group: reads the world, makes the plan, shows it, writes it."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runplan.action_keys import plan_command, without_actions
from runplan.config import EvaluateEpochs, Via
from runplan.errors import ConfigError, PlanError, Problem, StoreError
from runplan.facts import Status
from runplan.pasting import has_control
from runplan.paths import TEMPLATES_DIR, absolute, cache_dir, conf_dirs, user_template_dirs
from runplan.progress import phase
from runplan.summary.readiness import not_ready

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment

    from runplan.config import Config
    from runplan.plan import Composed, Plan
    from runplan.planning import World

MOST_CELLS = 100_000
"""Evaluations of a group: each is a directory, and a job."""
LONGEST_NAME = 255
"""Bytes of a file's name on Linux file systems (NAME_MAX)."""
GROUP_KEYS = (
    "group.name", "site.output_root", "preview", "overwrite", "verify.strict", "submit.via",
    "budget.gpu_hours", "priors.paths", "priors.gpu", "naming",
)  # fmt: skip


@dataclass(frozen=True)
class GroupPlace:
    """Where a group is written, and the command that names the same place again."""

    name: str
    directory: Path
    command: str


def plan_group(
    composed: Sequence[Composed],
    command: str,
    experiment: str | None,
    *,
    show: Sequence[str] = (),
    directory: str | None = None,
    summary: bool = True,
) -> int:
    """Plan, show and write a group; returns the exit code.

    Args:
        composed: the runs, in sweep order.
        command: the override line as the user typed it.
        experiment: name of the chosen experiment, the default name of the group.
        directory: the group's directory, where `hydra.sweep.dir` names it; else below `site.output_root`.
        show: files of the group whose texts are printed instead of the summary; only for a preview.
        summary: whether a group that is written is shown, too; False says only where it went.

    Raises:
        RunplanError: anything the user has to solve.
    """
    config = composed[0].config
    plan = make_group(composed, command, experiment, directory, may_create=not config.preview)
    if config.preview:
        preview(plan, config, show)
        if config.verify.strict and not plan.ready:
            raise not_ready(plan, written=False)
        return 0
    if (config.group.name, experiment, directory) != (None, None, None):
        return _write(plan, config, summary=summary)
    from runplan.files.unnamed_group import claim, released_if_empty  # noqa: PLC0415 - start-up time

    while not claim(Path(plan.directory)):
        plan = make_group(composed, command, experiment, directory, may_create=True)
    with released_if_empty(Path(plan.directory)):
        return _write(plan, config, summary=summary)


def make_group(
    composed: Sequence[Composed],
    command: str,
    experiment: str | None,
    directory: str | None = None,
    *,
    may_create: bool,
) -> Plan:
    """The plan of a group; prints warnings. Arguments as for `plan_group`.

    Raises:
        RunplanError: anything the user has to solve.
    """
    config = composed[0].config
    _check_constant(composed)
    for item in composed:
        if item.config.site.venv:  # a job starts in its run's directory, not where it was planned
            item.config.site.venv = str(absolute(item.config.site.venv, Path.cwd()))
    place = _place(config, command, experiment, directory)
    shown, plain = _as_known([without_actions(item) for item in composed], plan_command(place.command), place.directory)
    from runplan.origins import with_origins  # noqa: PLC0415 - start-up time
    from runplan.planning import make_plan  # noqa: PLC0415 - jinja2 and estimators load while nothing failed yet

    with with_origins(shown):
        world, warnings = read_world(shown, Path.cwd(), may_create=may_create)
        with phase("planning {} runs", len(shown)):
            plan = make_plan(place.name, str(place.directory), plain, shown, world)
    for warning in (*warnings, *_disk_warning(plan, world)):
        print(f"warning: {warning}", file=sys.stderr)  # noqa: T201 - the screen is this module's business
    return plan


def _as_known(composed: list[Composed], command: str, directory: Path) -> tuple[list[Composed], str]:
    """The sweep and its command, in the order of the existing group if there is one that can be read."""
    from runplan.files.plan_shape import wrong_part  # noqa: PLC0415 - start-up time
    from runplan.files.store import read_document  # noqa: PLC0415 - same
    from runplan.sweep.same_order import in_known_order  # noqa: PLC0415 - same

    document = None
    with contextlib.suppress(StoreError, OSError):  # said where the group is compared and written
        document = read_document(directory)
    if document is None or wrong_part(document):
        return composed, command
    return in_known_order(composed, command, document)


def read_world(composed: Sequence[Composed], cwd: Path, *, may_create: bool) -> tuple[World, tuple[str, ...]]:
    """Everything planning needs to know, and warnings about what was read."""
    from runplan.catalogue import gpus, models  # noqa: PLC0415 - start-up time
    from runplan.planning import World  # noqa: PLC0415
    from runplan.priors.evaluated import seen_tasks  # noqa: PLC0415
    from runplan.priors.files import is_pattern  # noqa: PLC0415
    from runplan.priors.read import read_priors  # noqa: PLC0415
    from runplan.read.gather import gather_facts  # noqa: PLC0415
    from runplan.slurm.commands import read_cluster, would_take  # noqa: PLC0415
    from runplan.suggest import did_you_mean, listed  # noqa: PLC0415

    config = composed[0].config
    known = gpus(conf_dirs())
    if config.priors.gpu is not None and config.priors.gpu not in known:
        fix = did_you_mean(config.priors.gpu, known, f"choose among {listed(known)}")
        raise ConfigError([Problem(f"no GPU type is called {config.priors.gpu}", "priors.gpu", fix)])
    facts = gather_facts(composed, cwd, cache_dir(), may_create=may_create)
    default_paths = frozenset({"outputs", config.site.output_root, *filter(is_pattern, config.site.priors)})
    read = read_priors(config.priors.paths, config.priors.gpu, cache_dir(), cwd, optional=default_paths)
    cluster = read_cluster()
    asks = would_take if cluster is not None and cluster.partitions else None
    tasks = {
        key: replace(task, seen=seen_tasks(read.cells, task.path, task.tasks)) for key, task in facts.tasks.items()
    }
    facts = replace(facts, tasks=tasks)
    world = World(facts, cluster, read.runs, known, models(conf_dirs()), asks, read.cells)
    return world, tuple(read.warnings)


def _disk_warning(plan: Plan, world: World) -> tuple[str, ...]:
    """The free space where it is too little; not part of the plan, whose files hold nothing that changes by itself."""
    from runplan.verify.needs import size_text  # noqa: PLC0415 - start-up time

    free = world.facts.disk.free_bytes
    lacking = [check for check in plan.checks if check.kind == "disk" and check.status is Status.invalid]
    return tuple(
        f"{check.path}, where {size_text(free)} are free: {check.detail}" for check in lacking if free is not None
    )


def _check_constant(composed: Sequence[Composed]) -> None:
    """Keys that belong to the whole group cannot differ between its runs."""
    problems = []
    for key in GROUP_KEYS:
        levels = {repr(_value(item.config, key)) for item in composed}
        if len(levels) > 1:
            what = f"{key} belongs to the whole group but is swept over {', '.join(sorted(levels))}"
            problems.append(Problem(what, key, "plan one group for each value"))
    if problems:
        raise ConfigError(problems)
    cells = sum(item.config.epochs if _every_epoch(item.config) else 1 for item in composed)
    if cells > MOST_CELLS:
        what = f"the sweep has {cells:,} epochs to evaluate, at most {MOST_CELLS:,} are planned at once"
        fix = "evaluation.epochs=last evaluates the last of each run, or sweep in parts"
        raise ConfigError([Problem(what, "epochs, evaluation.epochs", fix)])


def _every_epoch(config: Config) -> bool:
    return config.train and config.evaluation.enabled and config.evaluation.epochs is EvaluateEpochs.all


def _value(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _place(config: Config, command: str, experiment: str | None, directory: str | None = None) -> GroupPlace:
    name = config.group.name
    if directory is not None:
        whole = absolute(directory, Path.cwd())
        if name not in {None, whole.name}:
            what = f"group.name is {name}, but the directory that hydra.sweep.dir names is {whole.name}"
            raise ConfigError([Problem(what, "group.name", f"drop one, or set hydra.sweep.dir={directory}/{name}")])
        name = whole.name
    elif name is None:
        from runplan.files.unnamed_group import name_of_now  # noqa: PLC0415 - start-up time

        name = experiment or name_of_now(absolute(config.site.output_root, Path.cwd()))
        command = f"{command} group.name={name}".strip()
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise ConfigError([Problem(f"{name!r} cannot name a directory", "group.name", "use a name without slashes")])
    if has_control(name):
        what = f"{name!r} holds characters that cannot be seen, such as a newline or a tab"
        raise ConfigError([Problem(what, "group.name", "use letters, digits and blanks")])
    if len(os.fsencode(name)) > LONGEST_NAME:
        what = f"the name has {len(os.fsencode(name))} bytes, file systems take {LONGEST_NAME}: {name[:20]}…"
        raise ConfigError([Problem(what, "group.name", "use a shorter name")])
    if directory is None:
        whole = absolute(config.site.output_root, Path.cwd()) / name
    return GroupPlace(name, whole, command)


def _templates() -> Environment:
    from runplan.files.compiled import CompiledTemplates  # noqa: PLC0415 - start-up time
    from runplan.files.render import environment  # noqa: PLC0415

    return environment(TEMPLATES_DIR, CompiledTemplates(cache_dir() / "templates"), *user_template_dirs())


def preview(plan: Plan, config: Config, show: Sequence[str] = ()) -> None:
    """Print the summary and what writing would change or refuse, or only the texts of some files; write nothing.

    Raises:
        StoreError: writing would be refused.
    """
    from runplan.files.render import group_files  # noqa: PLC0415 - start-up time
    from runplan.files.store import compare_group  # noqa: PLC0415
    from runplan.summary.screen import print_summary  # noqa: PLC0415 - rich loads only to print
    from runplan.summary.show import chosen, shown  # noqa: PLC0415 - rarely asked

    templates = _templates()
    with phase("making the files of {} runs", len(plan.runs)):
        files = group_files(plan, templates)
        result = compare_group(plan, files, overwrite=config.overwrite, templates=templates)
    if not show:
        print_summary(plan, result)
        return
    text = shown(result.texts, chosen([*result.texts], show, plan.directory))
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))  # what would be written, whatever the screen


def _write(plan: Plan, config: Config, *, summary: bool) -> int:
    from runplan.files.render import group_files  # noqa: PLC0415 - start-up time
    from runplan.files.store import write_group  # noqa: PLC0415
    from runplan.summary.screen import print_summary  # noqa: PLC0415

    templates = _templates()
    with phase("describing {} runs", len(plan.runs)):
        files = group_files(plan, templates)
    result = write_group(plan, files, overwrite=config.overwrite, templates=templates)
    if summary:
        print_summary(plan, result)
    else:
        print(f"\n{'Written to' if result.written else 'Nothing changed in'} {plan.directory}")  # noqa: T201
    submits = config.submit.via is not Via.none
    if not plan.ready and (config.verify.strict or submits):
        raise not_ready(plan, written=True)
    return _submit(plan, config.submit.via.value) if submits else 0


def _submit(plan: Plan, via: str) -> int:
    """Submit what was written and nothing else, so that a preview shows exactly what will be submitted."""
    from runplan.submit.command import Wish, submit_group  # noqa: PLC0415 - most plans are not submitted at once

    return submit_group(Wish(Path(plan.directory), via))


def resolve_mark(key: str, composed: Composed) -> Any:
    """The value runplan works out for one key of one run, as `--cfg job --resolve` shows it.

    Raises:
        PlanError: the run cannot be planned.
    """
    from runplan.planning import make_plan  # noqa: PLC0415

    world, _ = read_world([composed], Path.cwd(), may_create=False)
    run = make_plan("preview", str(Path.cwd()), "", [composed], world).runs[0]
    value = _value(run.config, key)
    if value is None:
        raise PlanError([Problem(f"{key} has no value for {run.name}", key, f"set {key}=…")], 1)
    return getattr(value, "value", value)
