"""Evaluation cells: one per (task function, saved epoch) of a fine-tuned run, one per task function of a base model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from runplan.config import EvaluateEpochs
from runplan.errors import Problem
from runplan.estimate.evaluation import memory
from runplan.estimate.evaluation.cell_time import CellTime, Evaluation, cell_time
from runplan.estimate.memory.outside_torch import context_gib
from runplan.facts import Lengths, Status
from runplan.jobs.requests import evaluation_request
from runplan.plan import Cell
from runplan.task_data import reads_rows, seen_data
from runplan.units import GIB, number_of
from runplan.verify.feasible import MOST_GPUS_PER_NODE
from runplan.workloads import first_rows, gpu_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runplan.config import Config
    from runplan.estimate.calibration import Calibration
    from runplan.facts import DatasetFacts, TaskFacts
    from runplan.plan import PlannedRun
    from runplan.slurm.cluster import Partition

DATA_PARAMETERS = frozenset({"dataset_path", "data_path", "split", "input_column", "output_column"})
"""Of what a task function may take, what says something about the run's dataset."""
UNKNOWN_SAMPLES = 1000
"""Samples that are counted when nothing says how many a task has."""
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
    partition: Partition | None,
    *,
    tuned: bool,
) -> tuple[Cell, ...]:
    """The evaluation cells of one run.

    Args:
        run: the run, its config complete.
        task: its Inspect file.
        lengths: tokens of the test rows; None when they are not known, then the dearest case counts.
        calibration: what earlier runs taught.
        limit_s: the longest time that may be asked for, in seconds.
        partition: what SLURM says of it; None where it says nothing.
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
        longest = counted.longest if counted and counted.rows else config.max_seq_len
        gpus = _gpus(run, longest, partition)
        cell = Cell(
            task=label,
            function=function,
            script=task.path,
            epoch=None,
            dir=f"eval/{label}",
            time_s=said.time_s,
            request=evaluation_request(config, run.name, said.time_s.p95, mem_gib, limit_s, gpus),
            prompt_tokens=longest,
            samples=_samples(counted, config.evaluation.limit),
            args=args,
            takes_data=_takes_data(known, function),
            samples_source=source,
            time_logs=said.logs,
            time_evidence=said.evidence,
        )
        made += [_at_epoch(cell, epoch) for epoch in evaluated_epochs(config, tuned=tuned)]
    return tuple(made)


def _at_epoch(cell: Cell, epoch: int | None) -> Cell:
    return cell if epoch is None else replace(cell, epoch=epoch, dir=f"{cell.dir}_epoch{epoch}")


def evaluation_risks(run: PlannedRun, partition: Partition | None) -> list[Problem]:
    """What may go wrong with the evaluations of a run, on what SLURM says of its partition."""
    return [*_no_control(run), *_too_large(run, partition), *unknown_samples(run.cells)]


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


def _gpus(run: PlannedRun, prompt_tokens: int, partition: Partition | None) -> int:
    """GPUs of an evaluation: those that were asked for, else as few as hold the model and one answer."""
    config, architecture = run.config, run.model.architecture
    if architecture is None:
        return 0
    if config.evaluation.gpus is not None:
        return config.evaluation.gpus
    needed = memory.fewest_gpus(architecture, gpu_of(config.resources), prompt_tokens, config.evaluation.max_tokens)
    return max(1, min(needed, _node_gpus(run, partition)))


def _node_gpus(run: PlannedRun, partition: Partition | None) -> int:
    """Most GPUs that a node has: as configured, as SLURM says, else as nodes usually do."""
    resources, there = run.config.resources, partition.gpus_per_node if partition else 0
    return resources.gpus_per_node or there or max(MOST_GPUS_PER_NODE, resources.gpus)


def _too_large(run: PlannedRun, partition: Partition | None) -> list[Problem]:
    """A risk where the model, or a batch of answers beside it, does not fit on the GPUs of an evaluation."""
    cell = max(run.cells, key=lambda cell: cell.prompt_tokens, default=None)
    architecture, evaluation = run.model.architecture, run.config.evaluation
    if cell is None or architecture is None or not cell.request.gpus:
        return []
    gpu, gpus = gpu_of(run.config.resources), cell.request.gpus
    tokens = cell.prompt_tokens, evaluation.max_tokens
    fits = memory.largest_batch(architecture, gpu, gpus, *tokens)
    if evaluation.batch_size <= fits:
        return []
    batch = evaluation.batch_size if fits else 1
    weights = memory.weights_gib(architecture, gpus)
    needed = weights + memory.answers_gib(architecture, *tokens, batch, gpus) + context_gib(gpu.name)
    there = "one GPU" if gpus == 1 else f"each of {gpus} GPUs"
    what = (
        f"an evaluation needs about {needed:.1f} GiB on {there}, {weights:.1f} GiB of it for weights and the rest for "
        f"{number_of(batch, 'answer')} at a time; {gpu.name} has {gpu.memory_gib:.1f} GiB: it will run out of memory"
    )
    enough = memory.fewest_gpus(architecture, gpu, *tokens, evaluation.batch_size)
    more = enough if gpus < enough <= _node_gpus(run, partition) else 0
    return [Problem(what, "evaluation, resources", f"choose {_smaller(fits, more)}")]


def _smaller(fits: int, more: int) -> str:
    """What would fit: fewer answers at a time, more GPUs (0 where no number of them does), or others."""
    fixes = [f"evaluation.batch_size={fits}"] if fits else []
    fixes += [f"evaluation.gpus={more}"] if more else []
    if not fits:
        fixes += ["resources= with a larger GPU", "evaluation=none and evaluate elsewhere"]
    return " or ".join(fixes)


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
    return cell_time(evaluation, calibration), HOST_MEMORY_BASE_GIB + 2 * architecture.params * memory.BYTES_EACH / GIB
