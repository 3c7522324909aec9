"""Plans for tests: a whole group, sized by hand, without Hydra, disk or an estimator."""

from __future__ import annotations

import itertools
from copy import deepcopy
from functools import cache
from typing import TYPE_CHECKING, Any

import factories
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from runplan.config import Config, Model
from runplan.errors import Problem
from runplan.estimate.workload import Interval, Sizing
from runplan.facts import Architecture, DatasetFacts, ModelFacts, Split, Status
from runplan.files.document import document_csv, document_text, plan_document
from runplan.files.provenance import hydra_files
from runplan.files.setup_file import setup_finetune
from runplan.jobs.rungs import plan_rungs
from runplan.naming import control_key, control_names, run_names
from runplan.paths import TEMPLATES_DIR
from runplan.plan import Cell, Check, Composed, Design, Plan, PlannedRun, Recipe, Request, RunType
from runplan.recipe import choose_recipe
from runplan.summary.readme import design_type, readme
from runplan.trainers.known import trainer_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MODELS = {
    "1B": ("Llama-3.2-1B-Instruct", 1.0, 2048),
    "3B": ("Llama-3.2-3B-Instruct", 2.5, 3072),
    "8B": ("Llama-3.1-8B-Instruct", 6.0, 4096),
    "1B-base": ("Llama-3.2-1B", 1.0, 2048),
}
ESTIMATED = frozenset({"batch_size", "gradient_accumulation_steps", "lora.alpha", "resources.time", "resources.mem"})


@cache
def _config() -> Config:
    config = factories.make_config(dataset__path="/data/words_8L_80P_10000.json")
    config.packed, config.dataset.file = True, "words_8L_80P_10000.json"
    return config


def make_config() -> Config:
    """What conf/ says, with data and models in fixed places."""
    config = deepcopy(_config())
    config.model = make_model("1B")
    return config


def make_model(name: str) -> Model:
    model = deepcopy(_config().model)
    full_name, _, model.hidden_size = MODELS.get(name, (name, 1.0, 2048))
    model.name, model.full_name, model.folder = name, full_name, full_name
    model.repo_id, model.path = f"meta-llama/{full_name}", f"/models/{full_name}"
    return model


def set_key(config: Config, key: str, value: Any) -> None:
    if key == "model":
        config.model = make_model(value)
        return
    *groups, last = key.split(".")
    node: Any = config
    for group in groups:
        node = getattr(node, group)
    if isinstance(node, dict):
        node[last] = value
    else:
        setattr(node, last, value)


@cache
def _tree() -> dict[str, Any]:
    tree = dict(factories.conf_file("runplan"))
    groups = factories.chosen_groups({})
    del tree["defaults"]
    del tree["hydra"]
    return {group: factories.option(group, name) for group, name in groups.items()} | tree


def make_tree(config: Config, factors: Mapping[str, Any]) -> dict[str, Any]:
    """A tree as Hydra composes it, marks unresolved."""
    tree = deepcopy(_tree())
    tree["model"] |= {"name": config.model.name, "full_name": config.model.full_name, "folder": config.model.folder}
    for key, value in factors.items():
        *groups, last = key.split(".")
        if key == "model":
            continue
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = getattr(value, "value", value)
    return tree


def make_composed(
    factors: Mapping[str, Any], *, extra: Mapping[str, Any] | None = None, choices: Sequence[str] = ()
) -> Composed:
    config = make_config()
    for key, value in {**factors, **(extra or {})}.items():
        if key not in choices:
            set_key(config, key, value)
    return Composed(
        config=config,
        estimated=ESTIMATED,
        overrides=tuple(f"{key}={value}" for key, value in {**(extra or {}), **factors}.items()),
        factors=dict(factors),
        choices={"model": config.model.name, "lora": "default", **{key: factors[key] for key in choices}},
        tree=make_tree(config, {**factors, **(extra or {})}),
    )


def cross(factors: Mapping[str, Sequence[Any]], **more: Any) -> list[Composed]:
    return [
        make_composed(dict(zip(factors, levels, strict=True)), **more)
        for levels in itertools.product(*factors.values())
    ]


def make_sizing(scale: float, batch_size: int = 4, **changed: Any) -> Sizing:
    values: dict[str, Any] = {
        "batch_size": batch_size,
        "gradient_accumulation_steps": 16 // batch_size,
        "largest_batch_size": batch_size,
        "steps_per_epoch": 500,
        "steps_total": 500,
        "allocated_gib": 9.87654321 * scale,
        "peak_memory_gib": Interval(11.1 * scale, 12.3 * scale),
        "needed_memory_gib": Interval(10.4 * scale, 11.2 * scale),
        "it_per_s": 1.2345678 / scale,
        "tokens_per_s": 40000 / scale,
        "time_s": Interval(600.0 * scale, 900.0 * scale),
        "source": "priors",
        "n_priors": 3,
        "evidence": ("outputs/old/slurm-1.out: Llama-3.2-1B, batch 4, 4.34 it/s on a100-80",),
    }
    return Sizing(**(values | changed))


def make_request(name: str, time_s: int = 1800) -> Request:
    return Request(job_name=name, time_s=time_s, mem_gib=32, cpus_per_task=4, gpus=1, constraint="gpu80")


def make_cell(name: str, epoch: int | None) -> Cell:
    label = "capitalization" if epoch is None else f"capitalization_epoch{epoch}"
    return Cell(
        task="capitalization",
        function="capitalization",
        script="/home/ada/tasks/capitalization/inspect.py",
        epoch=epoch,
        dir=f"eval/{label}",
        time_s=Interval(60.0, 100.0),
        request=make_request(f"{name}-{label}", 300),
        samples=1000,
    )


def make_run(composed: Composed, name: str, kind: RunType, sizing: Sizing | None) -> PlannedRun:
    config = deepcopy(composed.config)
    facts = ModelFacts(config.model.path or "", Status.ok, make_architecture(config.model.name), size_bytes=2 * 10**9)
    data = DatasetFacts(
        config.dataset.path or "", Status.ok, splits={"train": Split("train", 8000), "test": Split("test", 1000)}
    )
    token = f"rp-{name}"
    if sizing is None:
        return PlannedRun(
            name, kind, config, composed, facts, data, (make_cell(name, None),),
            gpu_hours=Interval(60 / 3600, 100 / 3600), token=token,
        )  # fmt: skip
    cells = tuple(make_cell(name, epoch) for epoch in range(config.epochs) if config.evaluation.enabled)
    recipe = choose_recipe(config)
    assert isinstance(recipe, Recipe), recipe
    config = trainer_of(config).complete_defaults(config, facts.architecture)
    config.batch_size = sizing.batch_size
    config.gradient_accumulation_steps = sizing.gradient_accumulation_steps
    config.lora.alpha = 2.0 * config.lora.rank
    config.optimizer.num_warmup_steps = 50
    config.trainer.run_val_every_n_steps = 50
    config.resources.time, config.resources.mem, config.resources.cpus_per_task = "00:30:00", "32G", 4
    return PlannedRun(
        name, kind, config, composed, facts, data, cells,
        padded_tokens=(96.1, 100.2, 103.5, 106.4, 108.8, 110.9, 112.7),
        recipe=recipe, rungs=plan_rungs(config, composed, recipe),
        sizing=sizing, request=make_request(name), token=token,
        gpu_hours=Interval((sizing.time_s.p50 + 60) / 3600, (sizing.time_s.p95 + 100) / 3600),
    )  # fmt: skip


def make_architecture(name: str) -> Architecture:
    return Architecture("llama3_2", MODELS.get(name, ("", 1.0, 2048))[2], 16, 32, 8, 64, 8192, 128256, 131072)


CHECKS = (
    Check("model", "1B", "/models/Llama-3.2-1B-Instruct", Status.ok, "1 shard, 2.3 GiB, tokenizer"),
    Check(
        "model", "3B", "/models/Llama-3.2-3B-Instruct", Status.missing, "no such folder",
        "hf download meta-llama/Llama-3.2-3B-Instruct --local-dir /models/Llama-3.2-3B-Instruct",
    ),
    Check("dataset", "capitalization", "/data/words_8L_80P_10000.json", Status.ok, "8000 train, 1000 validation"),
    Check("cluster", "SLURM", "", Status.unchecked, "sinfo did not answer", ""),
)  # fmt: skip


def make_plan(
    factors: Mapping[str, Sequence[Any]] | None = None,
    *,
    directory: str = "/out/ranks",
    group: str = "ranks",
    controls: bool = True,
    sizes: Mapping[str, Any] | None = None,
    **more: Any,
) -> Plan:
    """A group of the given factors (two models and two ranks by default), as planning makes it."""
    factors = {"model": ["1B", "3B"], "lora.rank": [4, 64]} if factors is None else factors
    composed = cross(factors, **more)
    runs = [
        make_run(
            one, name, RunType.fine_tuned, make_sizing(MODELS.get(one.config.model.name, ("", 1.0))[1], **sizes or {})
        )
        for one, name in zip(composed, run_names(composed), strict=True)
    ]
    if controls:
        distinct = list({control_key(one): one for one in reversed(composed)}.values())[::-1]
        names = control_names(distinct, [run.name for run in runs])
        runs += [make_run(one, name, RunType.control, None) for one, name in zip(distinct, names, strict=True)]
    varied = {key: tuple(levels) for key, levels in factors.items() if len(levels) > 1}
    return Plan(
        group=group,
        directory=directory,
        command=" ".join(f"{key}={','.join(map(str, levels))}" for key, levels in factors.items()),
        design=Design(design_type(varied), varied),
        runs=tuple(runs),
        checks=CHECKS,
        risks=(
            Problem(
                "p95 of the time is 26 min, the limit 25 min", "resources.time", "resources.time=00:30:00", "3B_rank64"
            ),
        ),
        gpu_hours=Interval(1.5, 2.0),
    )


def plan_templates() -> Environment:
    """The templates, as `render.py` reads them but for its filters."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES_DIR),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )


def make_files(plan: Plan) -> dict[str, str]:
    """Every file of a group; those that other modules write are stand-ins that hold what they depend on."""
    files = {}
    for run in plan.runs:
        inside = hydra_files(plan, run)
        if run.sizing:
            inside["setup_finetune.yaml"] = setup_finetune(plan, run)
            inside["finetune.yaml"] = f"batch_size: {run.config.batch_size}\n"
            inside["finetune.slurm"] = f"#!/bin/bash\n# {run.sizing.time_s.p95}\n"
        for cell in run.cells:
            inside[f"{cell.dir}/eval.yaml"] = f"epoch: {cell.epoch}\n"
            inside[f"{cell.dir}/cell.slurm"] = "#!/bin/bash\n"
        files |= {f"{run.name}/{path}": text for path, text in inside.items()}
    files["README.md"] = readme(plan, plan_templates())
    files["plan.json"] = document_text(plan_document(plan))
    files["plan.csv"] = document_csv(plan_document(plan))
    files["submit_all.sh"] = "#!/bin/bash\n" + "".join(f"# {run.name}\n" for run in plan.runs)
    return files
