"""Evaluation cells: one per (task function, saved epoch) of a fine-tuned run, one per task function of a base model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from runplan.config import EvaluateEpochs
from runplan.errors import Problem
from runplan.estimate.evaluation.cell_time import CellTime, Evaluation, cell_time
from runplan.facts import Lengths, Status
from runplan.jobs.requests import evaluation_request
from runplan.plan import Cell
from runplan.task_data import reads_rows, seen_data
from runplan.units import GIB
from runplan.workloads import first_rows, gpu_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runplan.config import Config
    from runplan.estimate.calibration import Calibration
    from runplan.facts import DatasetFacts, TaskFacts
    from runplan.plan import PlannedRun

DATA_PARAMETERS = frozenset({"dataset_path", "data_path", "split", "input_column", "output_column"})
"""Of what a task function may take, what says something about the run's dataset."""
UNKNOWN_SAMPLES = 1000
"""Samples that are counted when nothing says how many a task has."""
BYTES_EACH = 2
"""Of a weight in the 16 bits that evaluation loads."""
HOST_MEMORY_BASE_GIB = 8.0  # Python, torch and Inspect with a small dataset hold 3-4 GiB; twice that is safe


def evaluated_epochs(config: Config, *, tuned: bool) -> tuple[int | None, ...]:
    """Saved epochs that get a cell, counted from 0; (None,) for a model as it is."""
    if not tuned:
        return (None,)
    if config.evaluation.epochs is EvaluateEpochs.last:
        return (config.epochs - 1,)
    return tuple(range(config.epochs))


def task_functions(config: Config, task: TaskFacts | None) -> tuple[str, ...]:
    """Names of the `@task` functions to run: those asked for, else the one named like the task, else the first."""
    if config.evaluation.tasks:
        return tuple(config.evaluation.tasks)
    if task is None or not task.tasks or config.evaluation.name in task.tasks:
        return (config.evaluation.name,)
    return task.tasks[:1]


def takes_data(config: Config, task: TaskFacts | None) -> bool:
    """Whether some task function takes anything of the run's dataset; True where the signature is not known."""
    known = task if task and task.status is Status.ok else None
    return any(_takes_data(known, function) for function in task_functions(config, known))


def _takes_data(task: TaskFacts | None, function: str) -> bool:
    parameters = task.parameters.get(function) if task else None
    return parameters is None or "**" in parameters or not DATA_PARAMETERS.isdisjoint(parameters)


def task_labels(config: Config, functions: tuple[str, ...]) -> tuple[str, ...]:
    """What cells are called: the evaluation's name, or the functions' when there are several."""
    return (config.evaluation.name,) if len(functions) == 1 else functions


def task_arguments(
    config: Config, task: TaskFacts | None, function: str, dataset: DatasetFacts | None
) -> dict[str, Any]:
    """Arguments for a task function: what the user gave, and of our own those its signature takes."""
    parameters = task.parameters.get(function, ()) if task else ()
    path = dataset.path if dataset else None
    offered = {
        "dataset_path": path,
        "data_path": path,
        "split": dataset.fields.get("test", config.dataset.test_split) if dataset else config.dataset.test_split,
        "input_column": config.dataset.input_column,
        "output_column": config.dataset.output_column,
        "system_prompt": config.system_prompt,
        "prompt": config.prompt,
    }
    ours = {key: value for key, value in offered.items() if key in parameters and value is not None}
    return ours | dict(config.evaluation.args)


def plan_cells(
    run: PlannedRun,
    task: TaskFacts,
    lengths: Lengths | None,
    calibration: Calibration,
    limit_s: int | None,
    *,
    tuned: bool,
) -> tuple[Cell, ...]:
    """The evaluation cells of one run.

    Args:
        run: the run, its config complete.
        task: its Inspect file.
        lengths: tokens of the test rows; None when they are not known, then the dearest case counts.
        calibration: what earlier runs taught.
        limit_s: the partition's time limit, in seconds.
        tuned: whether saved epochs are evaluated, or the model as it is.
    """
    config = run.config
    known = task if task.status is Status.ok else None
    functions = task_functions(config, known)
    made: list[Cell] = []
    for function, label in zip(functions, task_labels(config, functions), strict=True):
        counted, source = _counted(run, known, function, lengths)
        args = task_arguments(config, known, function, run.dataset)
        said, mem_gib = _size(run, counted, calibration, (function, task.path, args, tuned))
        cell = Cell(
            task=label,
            function=function,
            script=task.path,
            epoch=None,
            dir=f"eval/{label}",
            time_s=said.time_s,
            request=evaluation_request(config, run.name, said.time_s.p95, mem_gib, limit_s),
            samples=_samples(counted, config.evaluation.limit),
            args=args,
            takes_data=_takes_data(known, function),
            samples_source=source,
            time_logs=said.logs,
            time_evidence=said.evidence,
        )
        epochs = evaluated_epochs(config, tuned=tuned)
        made += [
            cell if epoch is None else replace(cell, epoch=epoch, dir=f"{cell.dir}_epoch{epoch}") for epoch in epochs
        ]
    return tuple(made)


def evaluation_risks(run: PlannedRun) -> list[Problem]:
    """What may go wrong with the evaluations of a run."""
    return [*_no_control(run), *_too_large(run), *unknown_samples(run.cells)]


def _no_control(run: PlannedRun) -> list[Problem]:
    """What the user asked for in vain; controls are on by default, so that a word of them is a wish."""
    config = run.config
    named = any(line.partition("=")[0].lstrip("+") == "controls" for line in run.composed.overrides)
    if not (named and config.controls and config.train) or config.evaluation.enabled:
        return []
    what = (
        "controls=true plans no control: that is an evaluation of the base model, and evaluation=none evaluates nothing"
    )
    return [Problem(what, "controls, evaluation", "choose an evaluation=, or drop controls=true")]


def _too_large(run: PlannedRun) -> list[Problem]:
    """A certain risk where one GPU does not even hold the weights, which are loaded whole and in 16 bits."""
    architecture, resources = run.model.architecture, run.config.resources
    if not run.cells or architecture is None or not run.cells[0].request.gpus:
        return []
    weights_gib = architecture.params * BYTES_EACH / GIB
    if weights_gib <= resources.gpu_memory_gib:
        return []
    return [
        Problem(
            f"an evaluation loads {weights_gib:.1f} GiB of weights into one GPU, {resources.gpu} has "
            f"{resources.gpu_memory_gib:.1f} GiB: it will run out of memory",
            "evaluation, resources",
            "choose resources= with a larger GPU, or evaluation=none and evaluate elsewhere",
        )
    ]


def unknown_samples(cells: Iterable[Cell]) -> list[Problem]:
    """A risk for each task that brings its own data where nobody knows how many samples those have."""
    names = dict.fromkeys(cell.task for cell in cells if cell.samples_source and cell.samples is None)
    return [
        Problem(
            f"task {name} brings its own data, and how many samples they have is not known: time is for "
            f"{UNKNOWN_SAMPLES} of the longest prompts",
            "evaluation",
            "set evaluation.limit, or name the folder of an earlier log of it in priors.paths",
        )
        for name in names
    ]


def _counted(
    run: PlannedRun, task: TaskFacts | None, function: str, lengths: Lengths | None
) -> tuple[Lengths | None, str]:
    """Tokens of the samples that a task function evaluates, None where they are not known; of its own data the source.

    Rows of the run's dataset say nothing of a task that brings its own.
    """
    config = run.config
    if task is None or reads_rows(config, task, function, run.dataset):
        return lengths, ""
    seen = seen_data(config, task, function)
    if seen is None:
        return None, "evaluation.limit" if config.evaluation.limit else "not known"
    tokens = min(round(seen.prompt_tokens or config.max_seq_len), config.max_seq_len)
    return Lengths(((max(1, tokens), seen.samples),)), f"an earlier log: {seen.path}"


def _samples(lengths: Lengths | None, limit: int | None) -> int | None:
    return min(limit or lengths.rows, lengths.rows) if lengths else limit


def _size(
    run: PlannedRun,
    lengths: Lengths | None,
    calibration: Calibration,
    task: tuple[str, str, Mapping[str, Any], bool],
) -> tuple[CellTime, float]:
    """Time of one cell, and the CPU memory it needs in GiB; `task`: function, file, arguments, whether tuned."""
    config, architecture = run.config, run.model.architecture
    if architecture is None:
        raise ValueError(f"{run.name} has no architecture")
    limit = config.evaluation.limit
    function, script, args, tuned = task
    evaluation = Evaluation(
        architecture,
        gpu_of(config.resources),
        first_rows(lengths, limit)
        if lengths and lengths.rows
        else Lengths(((config.max_seq_len, limit or UNKNOWN_SAMPLES),)),
        config.evaluation.max_tokens,
        config.evaluation.batch_size,
        function,
        "/".join(PurePath(script).parts[-2:]),
        tuned,
        args,
    )
    return cell_time(evaluation, calibration), HOST_MEMORY_BASE_GIB + 2 * architecture.params * BYTES_EACH / GIB
