"""The pure middle: from composed runs, facts, cluster and earlier runs to one plan of the whole group.

Every run is planned even when others cannot be: all problems are collected and raised once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import PurePath

from runplan.config import Config, EstimatorName
from runplan.errors import PlanError, Problem
from runplan.estimate import calibrated, rules
from runplan.estimate.calibration import Calibration, calibrate
from runplan.estimate.intervals import total
from runplan.estimate.steps import padded_lengths
from runplan.estimate.workload import Gpu, Interval, Sizing, Workload
from runplan.evaluations import evaluation_risks, plan_cells, takes_data
from runplan.facts import Architecture, Facts, Lengths, ModelFacts, Place, Status
from runplan.jobs.requests import asked_time_s, fill_request, gpu_hours, training_request
from runplan.jobs.rungs import plan_rungs, room_s
from runplan.naming import control_key, control_names, run_names, shared_control
from runplan.plan import Cell, Composed, Plan, PlannedRun, Request, RunType
from runplan.priors.evaluated import PriorCell
from runplan.priors.record import PriorRun
from runplan.recipe import choose_recipe
from runplan.slurm.cluster import Cluster, Partition
from runplan.summary.design import design_of
from runplan.trainers.known import trainer_of
from runplan.verify import feasible
from runplan.verify.group import declared_limit_s, verify_group
from runplan.verify.group_checks import group_risks, merge_risks
from runplan.verify.needs import check_run, check_things
from runplan.workloads import Sized, decide_packing, fill_sizes, first_rows, make_workload

TOKEN_CHARACTERS = 12


@dataclass(frozen=True)
class World:
    """Everything a plan is made from besides the runs: facts, cluster, earlier runs, known GPUs and models."""

    facts: Facts
    cluster: Cluster | None
    priors: Sequence[PriorRun]
    gpus: Mapping[str, Gpu]
    models: Mapping[str, Architecture]
    would_take: Callable[[Request], tuple[bool | None, str]] | None = None
    """Whether SLURM would take a request, and what it said; None where it cannot be asked."""
    cells: Sequence[PriorCell] = ()
    """Earlier evaluations."""


@dataclass(frozen=True)
class _Planned:
    """One run on its way: planned, or the problems why not."""

    run: PlannedRun | None
    problems: tuple[Problem, ...] = ()
    risks: tuple[Problem, ...] = ()
    request: Request | None = None
    """Of a run that cannot be planned but is sized: what else is wrong with it is said at once."""


def make_plan(group: str, directory: str, command: str, composed: Sequence[Composed], world: World) -> Plan:
    """The plan of a whole group.

    Args:
        group: name of the group.
        directory: absolute path of the group.
        command: the override line that makes this plan again.
        composed: the runs as Hydra composed them, in sweep order.
        world: what is known about this machine and its past.

    Raises:
        PlanError: at least one run is impossible; carries the problems of all runs.
    """
    world = replace(world, facts=_with_trainers_view(composed, world.facts))
    calibration = calibrate(world.priors, world.gpus, _known_models(composed, world))
    calibration = replace(calibration, cells=tuple(world.cells))
    planner = _Planner(group, directory, world, calibration)
    names = run_names(composed)
    places = world.facts.places
    planned = [planner.plan_run(*each) for each in zip(composed, names, places, strict=True)]
    planned += planner.plan_controls(composed, names, places)
    runs = tuple(item.run for item in planned if item.run is not None)
    things, requests = check_things(composed, world.facts), _requests(planned)
    configs = {name: item.config for name, item in zip(names, composed, strict=True)}
    configs |= {run.name: run.config for run in runs}
    checks, problems, closed = verify_group(things, requests, configs, command, world.cluster, world.would_take)
    problems = [problem for item in planned for problem in item.problems] + problems
    if problems:
        raise PlanError(problems, len(planned))
    hours = total([run.gpu_hours for run in runs])
    design = design_of(composed)
    risks = closed + merge_risks([risk for item in planned for risk in item.risks], runs)
    risks += group_risks(runs, design.factors, hours, composed[0].config.budget.gpu_hours)
    return Plan(
        group=group,
        directory=directory,
        command=command,
        design=design,
        runs=runs,
        checks=checks,
        risks=tuple(risks),
        gpu_hours=hours,
    )


def _known_models(composed: Sequence[Composed], world: World) -> dict[str, Architecture]:
    """Architectures by name, those of this sweep's own model folders first: logs name them, too."""
    own: dict[str, Architecture] = {}
    for item, place in zip(composed, world.facts.places, strict=True):
        architecture = world.facts.models[place.model].architecture
        if architecture is not None:
            folder = world.facts.models[place.model].path
            own |= dict.fromkeys((item.config.model.name, PurePath(folder).name), architecture)
    return {**world.models, **own}


def _with_trainers_view(composed: Sequence[Composed], facts: Facts) -> Facts:
    """Facts in which each model carries what its trainer thinks of it."""
    models = dict(facts.models)
    trainers = {place.model: trainer_of(one.config) for one, place in zip(composed, facts.places, strict=True)}
    for key, model in facts.models.items():
        found = trainers[key].model_findings(model) if key in trainers else ()
        if found:
            status = Status.invalid if model.status is Status.ok else model.status
            models[key] = replace(model, status=status, findings=(*model.findings, *found))
    return replace(facts, models=models)


def _requests(planned: Sequence[_Planned]) -> list[Request]:
    """All requests of a group: of trainings, of those that cannot be planned, too, then of evaluations."""
    runs = [item.run for item in planned if item.run is not None]
    trained = [item.run.request if item.run else item.request for item in planned]
    return [request for request in trained if request] + [cell.request for run in runs for cell in run.cells]


class _Planner:
    """Plans one run after another with what they share: facts, calibration and the partition's limits."""

    def __init__(self, group: str, directory: str, world: World, calibration: Calibration) -> None:
        self.group = group
        self.directory = directory
        self.world = world
        self.calibration = calibration
        self._sizing = lru_cache(maxsize=None)(self._estimate)  # runs that differ in their seed alone have one size

    def plan_run(self, composed: Composed, name: str, place: Place) -> _Planned:
        """One combination of the sweep: trained and evaluated, or (`train=false`) only evaluated."""
        config = composed.config
        model = self.world.facts.models[place.model]
        if model.architecture is None:
            return _Planned(None, (_unknown_architecture(model, name),))
        data = check_run(config, self.world.facts, place, name, self.directory)
        if not config.train:
            return _Planned(None, tuple(data)) if data else self._evaluated(composed, name, place, RunType.eval_only)
        recipe = choose_recipe(config)
        sized = self._size(config, model.architecture, place)
        found = [recipe, *trainer_of(config).setting_problems(config, model.architecture)]
        problems = [replace(problem, run=name) for problem in found if isinstance(problem, Problem)] + data
        if isinstance(sized, Problem) or self._is_broken(place):
            # what a broken dataset would lead to (no rows, no steps) says nothing that `data` does not
            lacking = [replace(sized, run=name)] if isinstance(sized, Problem) and not self._is_broken(place) else []
            return _Planned(None, tuple(problems + lacking))
        limit_s = self._limit_s(config)
        host_gib = self.calibration.host_memory_gib(sized.workload)[0]
        impossible, risks = self._judged(config, sized, host_gib, limit_s)
        problems += [replace(problem, run=name) for problem in impossible]
        if problems or isinstance(recipe, Problem):
            fill_request(sized.config, sized.sizing.time_s.p95, host_gib, limit_s)
            return _Planned(None, tuple(problems), request=training_request(sized.config, name))
        rungs = plan_rungs(sized.config, composed, recipe)
        more_s = 0.0 if config.resources.time else room_s(rungs, sized.sizing, config.resources.gpu_memory_gib)
        fill_request(sized.config, sized.sizing.time_s.p95 + more_s, host_gib, limit_s)
        run = self._trained(self._bare(composed, name, place, RunType.fine_tuned, sized.config), sized, place)
        if recipe.note:
            risks.append(Problem(recipe.note, "recipe"))
        risks += evaluation_risks(run, self._partition(config))
        run = replace(run, recipe=recipe, time_limit_s=limit_s, rungs=rungs, retries_s=more_s)
        return _Planned(run, risks=tuple(replace(risk, run=name) for risk in risks))

    def _judged(
        self, config: Config, sized: Sized, host_gib: float, limit_s: int | None
    ) -> tuple[list[Problem], list[Problem]]:
        """(what makes a sized run impossible, what it risks)."""
        partition = f"partition {config.resources.partition or '(default)'}"
        checks = (
            lambda it: feasible.check_memory(it, self.world.gpus, partial(calibrated.needed_p95, self.calibration)),
            *feasible.OF_ROWS,
            feasible.check_steps,
            lambda it: feasible.check_time(it, limit_s, partition),
            lambda it: feasible.check_asked_time(it, asked_time_s(config.resources)),
            lambda _: feasible.check_asked_memory(config.resources.mem, host_gib),
        )
        return feasible.judge(sized, checks)

    def plan_controls(
        self, composed: Sequence[Composed], names: Sequence[str], places: Sequence[Place]
    ) -> list[_Planned]:
        """Each distinct (base model × evaluation) once, whatever else varies."""
        wanted: dict[object, tuple[Composed, Place]] = {}
        for item, place in zip(composed, places, strict=True):
            if item.config.controls and item.config.train and item.config.evaluation.enabled:
                own = takes_data(item.config, self.world.facts.tasks.get(place.script or ""))
                key = control_key(item, takes_data=own)
                first, known = wanted.get(key, (item, place))
                wanted[key] = shared_control(first, item), known
        control_of = control_names([item for item, _ in wanted.values()], taken=names)
        return [
            self._evaluated(item, name, place, RunType.control)
            for (item, place), name in zip(wanted.values(), control_of, strict=True)
            if self.world.facts.models[place.model].architecture is not None  # else its fine-tuned runs have said so
        ]

    def _size(self, config: Config, architecture: Architecture, place: Place) -> Sized | Problem:
        config = trainer_of(config).complete_defaults(config, architecture)
        train = self._lengths(place, "train")
        if train is None:
            dataset = self.world.facts.datasets[place.dataset]
            detail = "; ".join(finding.detail for finding in dataset.findings)
            fix = next((finding.fix for finding in dataset.findings if finding.fix), "set dataset.path")
            return Problem(f"dataset {dataset.path or config.dataset.name}: {detail or 'no rows'}", "dataset", fix)
        validation = self._lengths(place, "validation")
        workload = make_workload(config, architecture, train, validation, place.dataset)
        workload, reason = decide_packing(config, workload)
        sizing = self._sizing(workload, config.estimator.name)
        if isinstance(sizing, Problem):
            return sizing
        rows = first_rows(train, config.dataset.train_rows)
        return Sized(fill_sizes(config, workload, sizing), workload, sizing, reason, rows)

    def _estimate(self, workload: Workload, estimator: EstimatorName) -> Sizing | Problem:
        by_rules = estimator is EstimatorName.rules
        return rules.size(workload, self.world.priors) if by_rules else calibrated.size(workload, self.calibration)

    def _is_broken(self, place: Place) -> bool:
        return self.world.facts.datasets[place.dataset].status is Status.invalid

    def _lengths(self, place: Place, role: str) -> Lengths | None:
        return self.world.facts.lengths.get(place.lengths[role])

    def _partition(self, config: Config) -> Partition | None:
        return self.world.cluster.partition(config.resources.partition) if self.world.cluster else None

    def _limit_s(self, config: Config) -> int | None:
        """The shorter of what SLURM says about the partition and what the config says, in seconds."""
        known = self._partition(config)
        limits = [known.time_limit_s if known else None, declared_limit_s(config)]
        return min((limit for limit in limits if limit is not None), default=None)

    def _trained(self, run: PlannedRun, sized: Sized, place: Place) -> PlannedRun:
        request = training_request(run.config, run.name)
        run = replace(
            run, sizing=sized.sizing, request=request, packed_reason=sized.packed_reason,
            padded_tokens=padded_lengths(sized.workload.lengths),
        )  # fmt: skip
        run = replace(run, cells=self._cells(run, place, tuned=True))
        return replace(run, gpu_hours=total([gpu_hours(sized.sizing.time_s, request), *_cell_hours(run)]))

    def _evaluated(self, composed: Composed, name: str, place: Place, kind: RunType) -> _Planned:
        run = self._bare(composed, name, place, kind, composed.config)
        run = replace(run, cells=self._cells(run, place, tuned=False))
        run = replace(run, gpu_hours=total(_cell_hours(run)))
        risks = evaluation_risks(run, self._partition(run.config))
        return _Planned(run, risks=tuple(replace(risk, run=name) for risk in risks))

    def _bare(self, composed: Composed, name: str, place: Place, kind: RunType, config: Config) -> PlannedRun:
        identity = f"{self.directory}\0{name}".encode()
        return PlannedRun(
            name=name,
            type=kind,
            config=config,
            composed=composed,
            model=self.world.facts.models[place.model],
            dataset=self.world.facts.datasets[place.dataset],
            cells=(),
            token=hashlib.sha256(identity).hexdigest()[:TOKEN_CHARACTERS],
        )

    def _cells(self, run: PlannedRun, place: Place, *, tuned: bool) -> tuple[Cell, ...]:
        if place.script is None:
            return ()
        task, lengths = self.world.facts.tasks[place.script], self._lengths(place, "test")
        limits = self._limit_s(run.config), self._partition(run.config)
        return plan_cells(run, task, lengths, self.calibration, *limits, tuned=tuned)


def _cell_hours(run: PlannedRun) -> list[Interval]:
    return [gpu_hours(cell.time_s, cell.request) for cell in run.cells]


def _unknown_architecture(model: ModelFacts, run: str) -> Problem:
    detail = "; ".join(finding.detail for finding in model.findings) or "nothing says its architecture"
    fix = next((finding.fix for finding in model.findings if finding.fix), "set model.path=FOLDER with a config.json")
    return Problem(f"model {model.path}: {detail}", "model.path", fix, run)
