"""Which training program runs: what each recipe needs, as data, and the choice made from it.

`recipe=auto` takes the first row of `CAPABILITIES` whose needs are met. A wish that no row meets is a problem that
names what would work; nothing the user set is changed to make a row fit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from runplan.config import Config, Dtype
from runplan.errors import Problem
from runplan.paths import absolute
from runplan.plan import Recipe
from runplan.trainers.builders import OF_TRL

AUTO = "auto"
CUSTOM_OF = "torchtune"
"""The trainer whose recipes are programs that users write themselves."""


@dataclass(frozen=True)
class Capability:
    """What one recipe of one trainer can do."""

    trainer: str
    versions: tuple[str, ...]
    name: str
    devices: tuple[str, ...]
    distributed: bool = False
    validation: bool = False
    quantised_base: bool = False
    """Frozen weights in 4 bits (`lora.quantize_base`)."""
    max_gpus: int | None = None
    """None = all GPUs of one node."""
    shipped: str | None = None
    """File of `runplan/recipes/` that the run carries along; None for the trainer's own recipes."""


# Read in torchtune 0.6.1's recipes: none of them validates (`dataset_val` is ignored without a word), the distributed
# one starts NCCL and so needs CUDA, and its docstring says "a single node (1 to 8 GPUs)".
_TORCHTUNE = Capability("torchtune", ("0.6.1",), "lora_finetune_single_device", devices=("cuda",), quantised_base=True)
_ONE = replace(_TORCHTUNE, devices=("cuda", "cpu"), max_gpus=1)
_MANY = replace(_TORCHTUNE, name="lora_finetune_distributed", distributed=True)


def _validating(row: Capability) -> Capability:
    name = f"{row.name}_val"
    return replace(row, name=name, validation=True, shipped=f"{name}.py")


# Read in TRL 1.16.0: one program for everything; several GPUs are DDP by torchrun, which it needs CUDA for here, since
# nobody trains on several processors. It runs on the GPUs of one node, as its jobs ask for one.
_TRL = (
    Capability("trl", ("1.16.0",), "sft", devices=("cuda", "cpu"), max_gpus=1, shipped="sft.py"),
    Capability("trl", ("1.16.0",), "sft", devices=("cuda",), distributed=True, shipped="sft.py"),
)

CAPABILITIES = (
    *(_ONE, _MANY, _validating(_ONE), _validating(_MANY)),
    *_TRL,
    *(replace(row, validation=True) for row in _TRL),
)


def choose_recipe(config: Config, is_file: Callable[[str], bool] = os.path.isfile) -> Recipe | Problem:
    """The recipe that does what the configuration asks, or why none does and what would.

    A custom recipe is taken as it is; what cannot be known of it or done with it `Recipe.note` says.
    """
    impossible = _number_format(config) or _gpu_count(config)
    if impossible:
        return impossible
    if config.recipe.custom is not None and config.trainer.name == CUSTOM_OF:
        return _custom(config, config.recipe.custom, is_file)
    if config.recipe.custom is not None:
        what = f"recipe.custom={config.recipe.custom} is a recipe of {CUSTOM_OF}, and trainer={config.trainer.name}"
        return Problem(what, "recipe.custom", f"use trainer={CUSTOM_OF}, or recipe.custom=null")
    rows = [row for row in CAPABILITIES if row.trainer == config.trainer.name]
    if not rows:
        return _unknown("trainer", config.trainer.name, [row.trainer for row in CAPABILITIES], "trainer")
    rows = [row for row in rows if config.trainer.version in row.versions]
    if not rows:
        known = [v for row in CAPABILITIES if row.trainer == config.trainer.name for v in row.versions]
        return _unknown(f"{config.trainer.name} version", config.trainer.version, known, "trainer.version")
    return _from_table(config, rows)


def _from_table(config: Config, rows: list[Capability]) -> Recipe | Problem:
    wanted = [row for row in rows if config.recipe.name in {AUTO, row.name}]
    if not wanted:
        elsewhere = next((row.trainer for row in CAPABILITIES if row.name == config.recipe.name), None)
        if elsewhere is not None:
            what = f"recipe {config.recipe.name} is one of {elsewhere}, and trainer={config.trainer.name}"
            return Problem(what, "recipe", f"use recipe=auto, or trainer={elsewhere}")
        return _unknown("recipe", config.recipe.name, [AUTO, *(row.name for row in rows)], "recipe")
    for row in wanted:
        if not unmet(row, config):
            return _corrupting_save(config, row) or Recipe(row.name, row.distributed, row.validation, row.shipped)
    name = config.recipe.name
    if name == AUTO or all(row.name == name for row in rows):
        return Problem(
            f"no recipe of {config.trainer.name} {config.trainer.version} does what is asked: "
            + _in_the_way(config, wanted),
            "recipe",
            _way_out(config, rows),
        )
    works = [row.name for row in rows if not unmet(row, config)]
    fix = f"recipe={works[0]} (or recipe=auto) does it" if works else "recipe=auto says what else is in the way"
    nearest = min(wanted, key=lambda row: len(unmet(row, config)))  # a name may stand for several rows
    if nearest.validation != config.validation:
        fix += f"; or set validation={str(nearest.validation).lower()}"
    return Problem(f"recipe {name} " + "; ".join(unmet(nearest, config)), "recipe", fix)


def _in_the_way(config: Config, rows: Sequence[Capability]) -> str:
    """What every row of one name lacks; where each lacks something else, the first of each."""
    found = []
    for name in dict.fromkeys(row.name for row in rows):
        lacks = [unmet(row, config) for row in rows if row.name == name]
        always = [reason for reason in lacks[0] if all(reason in others for others in lacks)]
        found += [f"{name} {reason}" for reason in always[:1] or dict.fromkeys(others[0] for others in lacks)]
    return "; ".join(found)


def _way_out(config: Config, rows: Sequence[Capability]) -> str:
    """What to do where no recipe of a trainer does what is asked."""
    if config.lora.quantize_base and not any(row.quantised_base for row in rows):
        able = next(row.trainer for row in CAPABILITIES if row.quantised_base)
        other = "" if config.model.family in OF_TRL else f", or trainer={able}, which has them"
        return f"use lora.quantize_base=false{other}"
    return "set resources.gpus=1 to train on the CPU, or trainer.device=cuda"


def unmet(row: Capability, config: Config) -> list[str]:
    """Why a recipe cannot do what the configuration asks; empty when it can."""
    reasons = []
    gpus = config.resources.gpus
    if row.max_gpus is not None and gpus > row.max_gpus:
        reasons.append(f"runs on {row.max_gpus} GPU, resources.gpus={gpus}")
    if config.trainer.device not in row.devices:
        reasons.append(f"needs trainer.device={' or '.join(row.devices)}, not {config.trainer.device}")
    if config.validation and not row.validation:
        reasons.append("has no validation during training, validation=true asks for it")
    if config.lora.quantize_base and not row.quantised_base:
        reasons.append("has no frozen weights in 4 bits, lora.quantize_base=true asks for them")
    if row.validation and not config.validation:
        reasons.append("validates during training, validation=false asks for none")
    return reasons


def _custom(config: Config, custom: str, is_file: Callable[[str], bool]) -> Recipe | Problem:
    if config.recipe.name != AUTO:
        return Problem(
            f"recipe={config.recipe.name} and recipe.custom={custom} are two different recipes",
            "recipe",
            "keep one of them",
        )
    name = custom
    if custom.endswith(".py") or "/" in custom:
        file = absolute(custom, Path.cwd())
        if not is_file(str(file)):
            return Problem(f"the recipe {custom} is not there ({file})", "recipe.custom", "correct the path")
        if file.suffix != ".py" or "." in file.stem:
            what = f"torchtune imports a recipe by its file name, and {file.name} is no module's name"
            return Problem(what, "recipe.custom", "rename it to something like my_recipe.py")
        name = str(file)
    note = f"{custom} is started as it is: no smaller batch when out of GPU memory, no continuing of a saved epoch"
    if config.validation:
        note += "; whether it validates during training cannot be seen, it is given dataset_val and its settings"
    return Recipe(name, distributed=config.resources.gpus > 1, validation=config.validation, custom=True, note=note)


def _number_format(config: Config) -> Problem | None:
    """A GPU without bf16 has it emulated by torch, many times slower, and nothing says why the run crawls."""
    gpu = config.resources
    if config.dtype is Dtype.bf16 and config.trainer.device == "cuda" and not gpu.supports_bf16:
        return Problem(
            f"dtype=bf16, but {gpu.gpu} has no bf16 units (compute capability below 8.0)",
            "dtype",
            "use dtype=fp32 (twice the memory), or a GPU with bf16 such as resources=a100-40; torchtune has no fp16",
        )
    return None


def _gpu_count(config: Config) -> Problem | None:
    gpus, per_node = config.resources.gpus, config.resources.gpus_per_node
    if gpus < 1:
        return Problem(f"resources.gpus={gpus}, a training job needs at least 1", "resources.gpus", "resources.gpus=1")
    if per_node is not None and gpus > per_node:
        return Problem(
            f"{gpus} GPUs a job, a node has {per_node}, and the recipes run on one node",
            "resources.gpus",
            f"resources.gpus={per_node} or fewer",
        )
    return None


def _corrupting_save(config: Config, row: Capability) -> Problem | None:
    """On a CPU, 0.6.1's recipe merges the adapters into the live weights whenever it saves (`.cpu()` copies nothing).

    Our recipes put the weights back; the trainer's own would train on with adapters that count twice.
    """
    if row.shipped or config.trainer.device != "cpu" or config.epochs < 2 or config.trainer.save_adapter_weights_only:
        return None
    if config.lora.quantize_base and not config.lora.apply_to_output:
        return None  # weights in 4 bits are unpacked into new ones when they are saved
    return Problem(
        f"{row.name} on the CPU adds the adapters to the base weights at the end of each of {config.epochs} epochs, "
        "and trains on from there",
        "trainer.device",
        "use trainer.save_adapter_weights_only=true, epochs=1, or validation=true (whose recipe does not)",
    )


def _unknown(kind: str, value: str, known: list[str], where: str) -> Problem:
    near = get_close_matches(value, known, n=1)
    choices = ", ".join(dict.fromkeys(known))
    return Problem(
        f"runplan does not know the {kind} {value!r}; it knows {choices}",
        where,
        f"did you mean {near[0]}?" if near else f"use {known[0]}",
    )
