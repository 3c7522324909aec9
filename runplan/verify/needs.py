"""What the runs need, thing by thing: there or not, whole or not, and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from runplan.config import Config, DatasetType, Dtype, MetricLogger
from runplan.environment import key_of
from runplan.errors import Problem
from runplan.estimate.memory.weights import adapter_params
from runplan.estimate.workload import Adapter
from runplan.facts import DatasetFacts, Facts, Finding, ModelFacts, Place, Status, TaskFacts
from runplan.paths import TASKS_DIR
from runplan.plan import Check, Composed
from runplan.suggest import lacking_split
from runplan.trainers.known import trainer_of
from runplan.units import GIB
from runplan.verify.environment import environment_check, evaluation_need, trainer_need

_BYTES = {Dtype.bf16: 2, Dtype.fp32: 4}


def check_things(composed: Sequence[Composed], facts: Facts) -> tuple[Check, ...]:
    """One row for every distinct model, dataset, evaluation, trainer and output disk, in the order of the sweep."""
    pairs = list(zip(composed, facts.places, strict=True))
    models: dict[str, Config] = {}
    datasets: dict[str, Config] = {}
    scripts: dict[str, Config] = {}
    trainers: dict[tuple[str, str, str], Config] = {}
    for one, place in pairs:
        config = one.config
        models.setdefault(place.model, config)
        datasets.setdefault(place.dataset, config)
        trainers.setdefault((config.trainer.name, config.trainer.version, key_of(config.site)), config)
        if place.script is not None:
            scripts.setdefault(place.script, config)
    wandb = any(one.config.train and one.config.trainer.metric_logger is MetricLogger.wandb for one in composed)
    seen = [_model_check(facts.models[key], config) for key, config in models.items()]
    return (
        *dict.fromkeys(seen),  # several trainers may say the same of one folder
        *(_dataset_check(key, facts, config) for key, config in datasets.items()),
        *(_task_check(facts.tasks[key], config) for key, config in scripts.items()),
        *dict.fromkeys(_jobs_check(facts, config, wandb=wandb) for config in trainers.values()),
        *_evaluation_checks([one.config for one in composed], facts),
        _disk_check(pairs, facts),
    )


def check_run(config: Config, facts: Facts, place: Place, run: str = "", directory: str = "") -> list[Problem]:
    """What makes one run impossible because of the data, the task or a path; a thing that is missing does not.

    Args:
        config: of the run.
        facts: of the sweep.
        place: keys of the run's things in `facts`.
        run: name of the run, which the problems then carry.
        directory: of the group, absolute.
    """
    problems = list(_data_problems(config, facts.datasets[place.dataset]))
    problems += _turn_problems(config, facts.datasets[place.dataset])
    if config.train:
        problems += trainer_of(config).path_problems(facts.datasets[place.dataset].path, directory)
    if place.script is not None:
        problems += _task_problems(config, facts.tasks[place.script])
        problems += _test_problems(config, facts.datasets[place.dataset], facts.tasks[place.script])
    return [Problem(problem.what, problem.where, problem.fix, run) for problem in problems]


def size_text(size_bytes: float) -> str:
    """Bytes as people say them: `655 kB`, `12.3 MB`, `2.3 GiB`."""
    if size_bytes < 1e6:
        return f"{size_bytes / 1e3:.0f} kB"
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes < GIB else f"{size_bytes / GIB:.1f} GiB"


def checkpoint_bytes(config: Config, model: ModelFacts) -> int | None:
    """Bytes that a run's checkpoints take in the end; None when the model's size is not known.

    TRL keeps the adapters of every epoch and, of the last, adapters and AdamW's two moments to resume from, all in
    fp32. torchtune 0.6.1 saves at each epoch's end the adapters twice (its own format and PEFT's) and, unless
    `trainer.save_adapter_weights_only`, the merged model; before the last epoch also adapters and AdamW's two moments
    to resume from, which the next such save replaces.
    """
    if model.architecture is None:
        return None
    each = _BYTES[config.dtype or Dtype.bf16]
    lora = config.lora
    kind = Adapter(lora.rank, tuple(lora.attn_modules), lora.apply_to_mlp, lora.apply_to_output, lora.use_dora)
    if config.trainer.name == "trl":
        return adapter_params(model.architecture, kind) * _BYTES[Dtype.fp32] * (config.epochs + 3)
    adapter = adapter_params(model.architecture, kind) * each
    merged = 0 if config.trainer.save_adapter_weights_only else model.architecture.params * each
    return config.epochs * (merged + 2 * adapter) + (3 * adapter if config.epochs > 1 else 0)


def _model_check(model: ModelFacts, config: Config) -> Check:
    n = len(model.shards)
    fine = f"{n} shard{'s' if n != 1 else ''}, {size_text(model.size_bytes)}, {model.dtype or 'dtype unknown'}"
    whole = model.params is not None or model.status in {Status.ok, Status.unchecked}
    return _check("model", config.model.full_name, model.path, model.status, fine if whole else "", model.findings)


def _dataset_check(key: str, facts: Facts, config: Config) -> Check:
    dataset = facts.datasets[key]
    rows = " / ".join(f"{split.rows} {role}" for role, split in dataset.splits.items())
    found = [lengths for asked, lengths in facts.lengths.items() if asked.dataset == key]
    parts = [rows] if rows else []
    if found:
        about = "" if all(lengths.measured for lengths in found) else "about "
        parts.append(f"longest {about}{max(lengths.longest for lengths in found)} tokens")
    parts += [size_text(dataset.size_bytes)] if dataset.size_bytes else []
    fine = "" if dataset.status is Status.invalid else ", ".join(parts)
    return _check("dataset", config.dataset.name, dataset.path, dataset.status, fine, dataset.findings)


def _task_check(task: TaskFacts, config: Config) -> Check:
    fine = f"task{'s' if len(task.tasks) > 1 else ''} {', '.join(task.tasks)}" if task.status is Status.ok else ""
    if fine and task.path.startswith(f"{TASKS_DIR}/"):
        fine += f"; runplan's own, since {config.site.tasks_dir}/{config.evaluation.name}/inspect.py is not there"
    return _check("evaluation", config.evaluation.name, task.path, task.status, fine, task.findings)


def _jobs_check(facts: Facts, config: Config, *, wandb: bool) -> Check:
    """The trainer where jobs look for it: in what they activate, else here."""
    activated = facts.environments.get(key_of(config.site))
    if activated is None:
        return _findable(_trainer_check(facts, config, wandb=wandb), facts)
    install = trainer_of(config).install.format(version=config.trainer.version)
    return environment_check(trainer_need(config, install, wandb=wandb), activated)


def _evaluation_checks(configs: Sequence[Config], facts: Facts) -> Iterator[Check]:
    """The evaluation library in each environment that cells activate."""
    for key, activated in facts.environments.items():
        need = evaluation_need([config for config in configs if key_of(config.site) == key])
        if need is not None:
            yield environment_check(need, activated)


def _trainer_check(facts: Facts, config: Config, *, wandb: bool) -> Check:
    """A version that is seen here is the job's only where the job has no environment of its own."""
    name, wanted, site = config.trainer.name, config.trainer.version, config.site
    here = facts.trainers.get(name, facts.trainer)
    seen, install = here.version, f"pip install {trainer_of(config).install.format(version=wanted)}"
    own = next((f"{key}={value}" for key, value in (("conda_env", site.conda_env), ("venv", site.venv)) if value), None)
    if own is not None:
        return Check("trainer", name, "", Status.unchecked, f"{wanted} is expected in the jobs' site.{own}")
    if seen is None:
        jobs = "site.modules may bring it" if site.modules else "jobs have this one, as the site names no other"
        detail = f"{wanted} is expected, but not installed in this environment; {jobs}"
        fix = install if site.modules else f"{install} # before you submit, or set site.venv or site.conda_env"
        return Check("trainer", name, "", Status.unchecked, detail, fix)
    if seen != wanted:
        detail = f"{seen} is installed here, trainer.version is {wanted}"
        fix = f"{install}, or set trainer.version={seen}"
        return Check("trainer", name, "", Status.unchecked, detail, fix)
    if wandb and not here.wandb:
        detail = f"version {seen}, without wandb, which trainer.metric_logger=wandb needs"
        return Check("trainer", name, "", Status.missing, detail, "pip install wandb")
    return Check("trainer", name, "", Status.ok, f"version {seen}")


def _findable(check: Check, facts: Facts) -> Check:
    """A trainer that is installed here, where jobs that inherit this environment would not find its program."""
    program = facts.trainers.get(check.name, facts.trainer).program
    if check.status is not Status.ok or not program:
        return check
    detail = f"{check.detail}, but its program {program} is not on PATH, where jobs look for it"
    fix = "activate the environment before you submit, or set site.venv or site.conda_env to it"
    return replace(check, status=Status.unchecked, detail=detail, fix=fix)


def _disk_check(pairs: Sequence[tuple[Composed, Place]], facts: Facts) -> Check:
    """Forecast of all checkpoints, and of what an attempt that no longer counts leaves: at most as much as its run.

    How much is free is no part of it: plans must repeat byte for byte.
    """
    training = [(one.config, facts.models[place.model]) for one, place in pairs if one.config.train]
    sizes = [checkpoint_bytes(config, model) for config, model in training]
    known, free, path = [size for size in sizes if size is not None], facts.disk.free_bytes, facts.disk.path
    total = sum(known)
    runs = f"{len(known)} run{'s' if len(known) != 1 else ''}"
    detail = f"checkpoints of {runs} need about {size_text(total)}" if known else "no checkpoints to write"
    again = f"; a run that is trained again keeps up to {size_text(max(known))} more in attempts/" if known else ""
    if len(known) < len(sizes):
        detail += f"; {len(sizes) - len(known)} of unknown model size not counted"
    if free is None:
        return Check("disk", "output", path, Status.unchecked, f"{detail}; free space could not be seen{again}")
    if total <= free:
        return Check("disk", "output", path, Status.ok, detail + again)
    fix = "choose another site.output_root, or fewer epochs"
    if any(not config.trainer.save_adapter_weights_only for config, _ in training):
        fix += ", or trainer.save_adapter_weights_only=true"
    return Check("disk", "output", path, Status.invalid, f"{detail}, more than is free{again}", fix)


def _check(kind: str, name: str, path: str, status: Status, fine: str, findings: Sequence[Finding]) -> Check:
    """The row of a thing: what is wrong, what it is like, what is worth knowing; and how to mend what is wrong."""
    bad = [finding for finding in findings if finding.status in {Status.missing, Status.invalid}]
    notes = [] if bad else [finding.detail for finding in findings]
    detail = "; ".join(part for part in (*(finding.detail for finding in bad), fine, *notes) if part)
    return Check(kind, name, path, status, detail, "; ".join(dict.fromkeys(each.fix for each in bad if each.fix)))


def _data_problems(config: Config, dataset: DatasetFacts) -> Iterable[Problem]:
    if dataset.status in {Status.invalid, Status.unchecked}:
        for finding in dataset.findings:
            if finding.status is dataset.status:
                fix = finding.fix or "mend the file, or name another with dataset.path"
                yield Problem(f"{dataset.path}: {finding.detail}", "dataset.path", fix)
        return
    if not dataset.splits or not config.train:
        return
    keys, path = ", ".join(dataset.fields.values()), config.dataset.path or dataset.path
    splits = f"its splits are {keys}" if keys else "it is one list, without splits"
    for role, wanted in (("train", True), ("validation", config.validation)):
        key = getattr(config.dataset, f"{role}_split")
        off = ", or validation=false" if role == "validation" else ""
        if wanted and role in dataset.splits and not dataset.rows(role):
            fix = f"give it some, name another with dataset.{role}_split={off}"
            yield Problem(f"{dataset.path}: {role} has no rows", f"dataset.{role}_split", fix)
        if wanted and role not in dataset.splits:
            yield Problem(
                f"{dataset.path} has no {role} split {key!r}; {splits}",
                f"dataset.{role}_split",
                f"{lacking_split(role, path, len(dataset.fields))}{off}",
            )
    asked = config.dataset.train_rows
    if asked is not None and asked > dataset.rows("train"):
        yield Problem(
            f"{asked} training rows were asked for, {dataset.path} has {dataset.rows('train')}",
            "dataset.train_rows",
            f"use at most {dataset.rows('train')}",
        )


def _turn_problems(config: Config, dataset: DatasetFacts) -> Iterable[Problem]:
    """Conversations at which torchtune would stop, if they are of a split that is trained or validated with."""
    if not config.train or config.trainer.name != "torchtune":
        return
    used = {"train": config.dataset.train_rows, **({"validation": None} if config.validation else {})}
    for bad in dataset.bad_turns:
        beyond = bad.first >= (used.get(bad.role) or bad.first + 1)
        if bad.role in used and not beyond and not (bad.without_prompt and config.system_prompt):
            row = f"{bad.role} row {bad.first} (from 0)"
            who = (
                f"{row} {bad.fault}"
                if bad.rows == 1
                else (f"{bad.rows} of {dataset.rows(bad.role)} {bad.role} rows, first {row}, each {bad.fault}")
            )
            fix = "mend such rows, or leave them out, or use trainer=trl"
            yield Problem(f"{dataset.path}: {who}: torchtune would stop there", "dataset.path", fix)


def _test_problems(config: Config, dataset: DatasetFacts, task: TaskFacts) -> Iterable[Problem]:
    """Only a task that takes a split or a column asks for the test rows; others bring their own data."""
    takes_split = any("split" in names for names in task.parameters.values())
    if takes_split and dataset.splits and not dataset.rows("test") and "split" not in config.evaluation.args:
        split = f"{'rows in its' if 'test' in dataset.splits else 'test'} split {config.dataset.test_split!r}"
        yield Problem(
            f"{dataset.path} has no {split}, which {config.evaluation.name} evaluates",
            "dataset.test_split",
            f"{lacking_split('test', config.dataset.path or dataset.path, len(dataset.fields))}, "
            "evaluate another with +evaluation.args.split=, or use evaluation=none",
        )
    reads_columns = any("input_column" in names for names in task.parameters.values())
    kind = config.dataset.type
    if (
        reads_columns
        and kind is not DatasetType.instruct
        and not {"input_column", "data_path"} & {*config.evaluation.args}
    ):
        yield Problem(
            f"{dataset.path} has {kind.value} rows, while {config.evaluation.name} reads the columns of instruct rows",
            "evaluation",
            "use evaluation=none, or evaluation=script evaluation.script=FILE with a task for such rows",
        )


def _task_problems(config: Config, task: TaskFacts) -> Iterable[Problem]:
    chosen = config.evaluation.tasks or (
        [config.evaluation.name] if config.evaluation.name in task.tasks else task.tasks
    )
    for name in chosen:
        takes = task.parameters.get(name)
        if takes is None or "**" in takes:
            continue
        for argument in config.evaluation.args:
            if argument not in takes:
                yield Problem(
                    f"task {name} of {task.path} takes no argument {argument!r}; it takes {', '.join(takes) or 'none'}",
                    f"evaluation.args.{argument}",
                    "correct evaluation.args",
                )
