"""Where a run's model, data and task are looked for: what the user set, else the convention.

By convention a task lives in `tasks/<task>/`: `inspect.py` is its evaluation, `input/` holds its data. Both are looked
for there, then in `site.data_dir`. Paths come back absolute and are never resolved, so that links stay as users know
them. Only `exists` looks at the disk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from runplan.config import Config
from runplan.errors import Problem
from runplan.facts import LengthKey, Place
from runplan.paths import TASKS_DIR, absolute

Exists = Callable[[str], bool]

READS_OTHERWISE = ("trl",)
"""Trainers that read other files of a model folder than torchtune does."""
ROLES = ("train", "validation", "test")
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
_USUAL = ("input", "output", "messages", "text", *ROLES)


def unset_variables(config: Config, exists: Exists = os.path.exists) -> Iterator[Problem]:
    """Paths with `$NAME` where the environment has no such variable: they would be folders of that very name."""
    given = bool(config.dataset.path or config.dataset.source)
    paths = {
        "site.output_root": config.site.output_root,
        "site.venv": config.site.venv,
        "site.models_dir": None if config.model.path else config.site.models_dir,
        "model.path": config.model.path,
        "site.data_dir": None if given else config.site.data_dir,
        "site.tasks_dir": None if given else config.site.tasks_dir,
        "dataset.path": config.dataset.path,
        "dataset.source": config.dataset.source,
        "dataset.word_list": config.dataset.word_list,
        "evaluation.script": config.evaluation.script,
    }
    for key, path in paths.items():
        left = _VARIABLE.search(os.path.expandvars(path)) if path and "$" in path else None
        if path and left and not exists(path):
            fix = f"export {left[1]}=…, or write the path out"
            yield Problem(f"{path}: there is no environment variable {left[1]}", key, fix)


def model_path(config: Config, cwd: Path) -> Path:
    """The model's folder: `model.path`, else `site.models_dir`/`model.folder`."""
    if config.model.path:
        return absolute(config.model.path, cwd)
    return absolute(config.site.models_dir, cwd) / (config.model.folder or config.model.full_name)


def dataset_paths(config: Config, cwd: Path) -> tuple[Path, ...]:
    """Where the data file is looked for, in order; empty when none of `dataset.path`, `source` and `file` is set."""
    if config.dataset.path:
        return (absolute(config.dataset.path, cwd),)
    if config.dataset.source:
        return (_splits_of(absolute(config.dataset.source, cwd), config),)
    if not config.dataset.file:
        return ()
    tasks, data = absolute(config.site.tasks_dir, cwd), absolute(config.site.data_dir, cwd)
    names = dict.fromkeys(
        [
            config.dataset.name,
            *([config.dataset.task] if config.dataset.task else []),
            *([config.evaluation.name] if config.evaluation.enabled else []),
        ]
    )
    return (
        *(tasks / name / "input" / config.dataset.file for name in names),
        data / config.dataset.file,
        *(data / name / config.dataset.file for name in names),
    )


def _splits_of(source: Path, config: Config) -> Path:
    """Beside a file of rows, named like it and after what decides its splits: `rows_80P_seed14.json`."""
    fraction, seed = config.dataset.train_fraction, config.dataset.seed
    parts = [source.stem, f"{round(fraction * 100)}P" if fraction is not None else "", f"seed{seed or 0}"]
    return source.with_name("_".join(part for part in parts if part) + ".json")


def dataset_path(config: Config, cwd: Path, exists: Exists = os.path.exists) -> Path | None:
    """The data file: the first of `dataset_paths` that exists, else the first; None when nothing names it."""
    return _first(dataset_paths(config, cwd), exists)


def task_paths(config: Config, cwd: Path) -> tuple[Path, ...]:
    """Where the Inspect file is looked for, in order; the last is the one that runplan carries."""
    if config.evaluation.script:
        return (absolute(config.evaluation.script, cwd),)
    name = config.evaluation.name
    folders = (absolute(config.site.tasks_dir, cwd), absolute(config.site.data_dir, cwd), TASKS_DIR)
    return tuple(folder / name / "inspect.py" for folder in folders)


def task_path(config: Config, cwd: Path, exists: Exists = os.path.exists) -> Path | None:
    """The Inspect file; None when nothing is evaluated."""
    return _first(task_paths(config, cwd), exists) if config.evaluation.enabled else None


def dataset_key(config: Config, cwd: Path, exists: Exists = os.path.exists) -> str:
    """Key of the data in `Facts.datasets`: its path; with the names of splits and columns where they are not the usual.

    One file can be read in several ways within a sweep (`dataset.train_split=small,large`), and each has its facts.
    """
    dataset, path = config.dataset, dataset_path(config, cwd, exists)
    names = [getattr(dataset, f"{name}_column") for name in ("input", "output", "messages", "text")]
    names += [getattr(dataset, f"{role}_split") for role in ROLES]
    usual = [dataset.type.value, *names] == ["instruct", *_USUAL]
    return f"{path or ''}" if usual else f"{path or ''} as {dataset.type.value} {', '.join(names)}"


def model_key(config: Config, cwd: Path) -> str:
    """Key of the model in `Facts.models`: its folder; with the trainer where it is not torchtune, which reads more."""
    path = str(model_path(config, cwd))
    return f"{path} for {config.trainer.name}" if config.trainer.name in READS_OTHERWISE else path


def place_of(config: Config, cwd: Path, exists: Exists = os.path.exists) -> Place:
    """The keys of one run's things in `Facts`."""
    model, dataset = model_key(config, cwd), dataset_key(config, cwd, exists)
    script = task_path(config, cwd, exists)
    lengths = {
        role: LengthKey(
            dataset=dataset,
            model=model,
            type=config.dataset.type.value,
            split=role,
            system_prompt=config.system_prompt,
            prompt=config.prompt,
            train_on_input=config.dataset.train_on_input,
            trainer=config.trainer.name,
        )
        for role in ROLES
    }
    return Place(model, dataset, None if script is None else str(script), lengths)


def _first(paths: Sequence[Path], exists: Exists) -> Path | None:
    return next((path for path in paths if exists(str(path))), paths[0] if paths else None)
