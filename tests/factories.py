"""Configurations and planned runs for tests: from the real conf/ files, without Hydra, every number overridable."""

from __future__ import annotations

from functools import cache, reduce
from typing import Any

import yaml
from omegaconf import OmegaConf

from runplan.config import Config
from runplan.estimate.workload import Interval, Sizing
from runplan.facts import Architecture, DatasetFacts, ModelFacts, Split, Status
from runplan.files.render import environment
from runplan.paths import CONF_DIR, TEMPLATES_DIR
from runplan.plan import Composed, Design, Plan, PlannedRun, Request, RunType
from runplan.recipe import choose_recipe
from runplan.resolvers import mark_of, register
from runplan.trainers.known import trainer_of

# What planning fills in where conf/ has a mark.
ESTIMATED = {
    "batch_size": 4,
    "gradient_accumulation_steps": 4,
    "optimizer.num_warmup_steps": 10,
    "trainer.run_val_every_n_steps": 10,
}


@cache
def conf_file(name: str) -> dict[str, Any]:
    """A file of conf/ as plain data; not to be changed."""
    return yaml.safe_load((CONF_DIR / f"{name}.yaml").read_text())


def option(group: str, name: str) -> dict[str, Any]:
    """One option of a group, with those of the same group that its defaults list names."""
    data = dict(conf_file(f"{group}/{name}"))
    merged: dict[str, Any] = {}
    for parent in data.pop("defaults", ["_self_"]):
        if isinstance(parent, str):  # else it overrides another group
            merged |= data if parent == "_self_" else option(group, parent)
    return merged


def chosen_groups(asked: dict[str, Any]) -> dict[str, str]:
    """Group → option: what was asked for, else what another chosen option overrides it with, else the default."""
    listed = {k: v for item in conf_file("runplan")["defaults"][2:] for k, v in item.items() if "override" not in k}
    chosen = {group: asked.get(group, name) for group, name in listed.items()}
    for group, name in dict(chosen).items():
        for parent in conf_file(f"{group}/{name}").get("defaults", []):
            for key, value in parent.items() if isinstance(parent, dict) else ():
                other = key.removeprefix("override /").partition("@")[0]
                chosen[other] = asked.get(other, value)
    return chosen


def make_config(**overrides: Any) -> Config:
    """A typed configuration; `model="3B"` picks an option, `lora__rank=4` sets a key."""
    tree = dict(conf_file("runplan"))
    del tree["hydra"], tree["defaults"]
    for group, name in chosen_groups(overrides).items():
        overrides.pop(group, None)
        tree[group] = option(group, name)
    tree["dataset"]["file"] = None
    values = {key.replace("__", "."): value for key, value in overrides.items()}
    register()
    merged = OmegaConf.merge(OmegaConf.structured(Config), _without_marks(tree))
    alpha = {"lora.alpha": 2.0 * values.get("lora.rank", merged.lora.rank)}
    texts = {key: value for key, value in values.items() if isinstance(value, str) and "$" in value}
    for key, value in (ESTIMATED | alpha | values).items():
        if key not in texts:
            OmegaConf.update(merged, key, value)
    config = OmegaConf.to_object(merged)
    for key, value in texts.items():  # OmegaConf would take them for interpolations
        *parents, last = key.split(".")
        setattr(reduce(getattr, parents, config), last, value)
    return config


def _without_marks(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_marks(item) for key, item in value.items()}
    return None if mark_of(value) else value


def make_architecture(config: Config) -> Architecture:
    """The architecture that conf/model describes."""
    names = Architecture.__dataclass_fields__
    return Architecture(**{name: getattr(config.model, name) for name in names})


def make_run(
    config: Config | None = None,
    *,
    name: str = "1B_rank8",
    model: ModelFacts | None = None,
    dataset: DatasetFacts | None = None,
    estimated: frozenset[str] = frozenset(ESTIMATED),
) -> PlannedRun:
    """A fine-tuned run, complete and sized; its recipe is chosen as planning chooses it."""
    config = config or make_config()
    if model is None:
        folder = f"/models/{config.model.folder}"
        architecture, shards = make_architecture(config), ("model.safetensors",)
        model = ModelFacts(folder, Status.ok, architecture, shards=shards, size_bytes=2 * 10**9)
    if dataset is None:
        splits = {role: Split(role, 800) for role in ("train", "validation", "test")}
        kind = config.dataset.type.value
        dataset = DatasetFacts("/data/words.json", Status.ok, 10**5, kind, splits, {role: role for role in splits})
    config = trainer_of(config).complete_defaults(config, model.architecture)
    recipe = choose_recipe(config)
    assert not hasattr(recipe, "what"), recipe
    composed = Composed(config, estimated, ("model=1B", "lora.rank=8"), {"lora.rank": 8}, {"model": "1B"}, {})
    return PlannedRun(
        name=name,
        type=RunType.fine_tuned,
        config=config,
        composed=composed,
        model=model,
        dataset=dataset,
        cells=(),
        recipe=recipe,
        sizing=make_sizing(config),
        request=Request(name, 3600, 32, 4, config.resources.gpus),
        gpu_hours=Interval(0.5, 1.0),
        token="0123456789abcdef",
    )


def make_sizing(config: Config) -> Sizing:
    """A plausible estimate."""
    return Sizing(
        batch_size=config.batch_size or 1,
        gradient_accumulation_steps=config.gradient_accumulation_steps or 1,
        largest_batch_size=16,
        steps_per_epoch=50,
        steps_total=50 * config.epochs,
        allocated_gib=8.0,
        peak_memory_gib=Interval(9.0, 10.0),
        needed_memory_gib=Interval(9.0, 10.0),
        it_per_s=2.0,
        tokens_per_s=8000.0,
        time_s=Interval(600.0, 900.0),
        source="physics",
    )


def make_plan(*runs: PlannedRun, group: str = "words") -> Plan:
    """A group of runs."""
    design = Design("single run", {})
    return Plan(group, f"/groups/{group}", "model=1B", design, runs or (make_run(),), (), (), Interval(0.5, 1.0))


def make_templates() -> Any:
    """The templates as planning uses them."""
    return environment(TEMPLATES_DIR)
