"""The configuration part of a group's summary: settings that runs share, by model where they differ. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from runplan.summary.blocks import Block, Fact
from runplan.summary.total_hours import total_hours
from runplan.units import number_of, short_number, short_time


def configuration(document: Mapping[str, Any]) -> tuple[Block, ...]:
    """The settings that runs share, by model where they differ, and the hours of all.

    Args:
        document: a plan document (`plan.json`).
    """
    trained = [run for run in document["runs"] if run["estimate"]["time_s"]["p50"] is not None]
    said = {name: by_model(trained, value) for name, value in _CONFIGURATION.items()} if trained else {}
    if trained:
        said["Packing"] = _packing([run["config"]["packed_because"] for run in trained], said["Packing"])
    said["Evaluation"] = _evaluation([run for run in document["runs"] if run["cells"]])
    blocks = [Fact(name, value) for name, value in said.items() if value]
    both = ", evaluation included" if trained and any(run["cells"] for run in document["runs"]) else ""
    return (*blocks, *(Fact(f"Total {unit}", total + both) for unit, total in total_hours(document)))


def _evaluation(runs: Sequence[Mapping[str, Any]]) -> str:
    """On how many GPUs models are evaluated; empty where all do with one, as usual, or with none."""

    def gpus(run: Mapping[str, Any]) -> int:
        return max(cell["resources"]["gpus"] or 0 for cell in run["cells"])

    if max(map(gpus, runs), default=0) <= 1:
        return ""
    return f"{by_model(runs, lambda run: number_of(gpus(run), 'GPU'))}, over which the model is spread"


def _rungs(run: Mapping[str, Any]) -> str:
    """What the job does then: `batch 8 × 2, then 4 × 4`; a run kept from an older plan has no rungs.

    Empty on a machine without GPUs.
    """
    if not run["resources"]["gpus"]:
        return ""
    own = run["config"]["activation_checkpointing"]
    steps = [
        f"{rung['batch_size']} × {rung['gradient_accumulation_steps']}"
        + " with activation checkpointing" * (rung["activation_checkpointing"] != own)
        for rung in run.get("rungs", ())
    ]
    if steps:
        room = f"; the wall time has {short_time(run['retries_s'])} for that" if run.get("retries_s") else ""
        return f"the job goes on with batch × accumulation {', then '.join(steps)}{room}"
    set_by_user = "batch_size" not in run.get("estimated", ())
    return "the job fails" + "; trainer.max_rungs=2 would let it try smaller batches than yours" * set_by_user


def _adapters(run: Mapping[str, Any]) -> str:
    kind = "DoRA" if run["config"].get("use_dora") else "LoRA"
    if run["config"].get("quantize_base"):
        kind = f"Q{kind} (base in 4 bits)"
    if "lora.alpha" in run.get("estimated", ()):
        return f"{kind} with alpha 2 × rank"
    alpha = run["config"].get("lora_alpha")
    return kind if alpha is None else f"{kind} with alpha {short_number(alpha)}"


def _learning_rate(run: Mapping[str, Any]) -> str:
    rate, schedule = run["config"].get("lr"), run["config"].get("lr_scheduler")
    return "" if rate is None else f"{short_number(rate)} {'constant' if schedule in {None, 'none'} else schedule}"


def _packing(reasons: Sequence[str | None], said: str) -> str:
    """Whether rows are packed and why; where runs differ in the figures alone, those of one."""
    if len(set(reasons)) == 1:
        return reasons[0] or said
    example = next((reason.partition(": ")[2] for reason in reasons if reason), "")
    return f"{said}; for example {example}" if example and said in {"on", "off"} else said


def checkpoint(run: Mapping[str, Any]) -> str:
    """The base model's whole name, `-Instruct` included; a run kept from an older plan may have its short one alone."""
    return str(run.get("base_model", run["model"]))


_CONFIGURATION: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "Base model": checkpoint,
    "Recipe": lambda run: (
        f"{run['recipe']} ({number_of(run['resources']['gpus'], 'GPU') if run['resources']['gpus'] else 'CPU'})"
    ),
    "Adapters": _adapters,
    "Learning rate": _learning_rate,
    "Epochs": lambda run: run["config"]["epochs"],
    "Batch size": lambda run: run["config"]["batch_size"],
    "Effective batch size": lambda run: (
        run["config"]["batch_size"] * run["config"]["gradient_accumulation_steps"] * (run["resources"]["gpus"] or 1)
    ),
    "Out of GPU memory": _rungs,
    "Warm-up": lambda run: f"{run['config']['num_warmup_steps']} of {run['steps']['total']} steps",
    "Max sequence length": lambda run: run["config"]["max_seq_len"],
    "Packing": lambda run: "on" if run["config"]["packed"] else "off",
    "Wall time asked": lambda run: run["resources"]["time"],
}


def by_model(runs: Iterable[Mapping[str, Any]], value: Callable[[Mapping[str, Any]], Any]) -> str:
    """A setting of all runs: `4` where they agree, else by model: `4 (1B), 2 (3B)`; what has commas by semicolons."""
    models: dict[str, dict[str, None]] = {}
    for run in runs:
        models.setdefault(run["model"], {})[str(value(run))] = None
    distinct = {tuple(values) for values in models.values()}
    between, within = ("; ", "; ") if any("," in value for values in distinct for value in values) else (", ", "/")
    if len(distinct) == 1:
        return between.join(distinct.pop())
    return between.join(f"{within.join(values)} ({model})" for model, values in models.items())
