"""`plan.json` and `plan.csv`: the plan as machines read it.

Schema 1: fields may be added, never renamed. What is unknown or does not apply is null. Estimates are rounded to five
significant digits: enough for a forecast, and the same text from run to run.
"""

from __future__ import annotations

import csv
import io
import json
import math
from enum import Enum
from typing import TYPE_CHECKING, Any

from runplan.jobs.scripts import needed_files
from runplan.naming import concerns_control, relevant_overrides
from runplan.plan import SCHEMA, RunType
from runplan.units import slurm_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runplan.estimate.workload import Interval, Sizing
    from runplan.plan import Cell, Plan, PlannedRun, Request

DIGITS = 5
CSV_CONFIG = ("batch_size", "gradient_accumulation_steps", "epochs", "lr", "lora_rank", "lora_alpha", "max_seq_len")


def plan_document(plan: Plan) -> dict[str, Any]:
    """The plan as plain data, in the order in which `plan.json` shows it."""
    fine_tuned = len(plan.of_type(RunType.fine_tuned))
    needed = needed_files(plan)
    return {
        "schema": SCHEMA,
        "group": plan.group,
        "command": plan.command,
        "naming": plain(plan.runs[0].config.naming) if plan.runs else None,
        "design": {
            "type": plan.design.type,
            "factors": {key: [plain(level) for level in levels] for key, levels in plan.design.factors.items()},
        },
        "runs": [_run(run, plan.design.factors) for run in plan.runs],
        "verified": [
            {
                "kind": check.kind,
                "name": check.name,
                "path": check.path,
                "status": check.status.value,
                "detail": check.detail,
                "fix": check.fix,
                "files": [file for file in needed.get((check.kind, check.path), ()) if file],
            }
            for check in plan.checks
        ],
        "risks": [{"run": risk.run, "what": risk.what, "where": risk.where, "fix": risk.fix} for risk in plan.risks],
        "ready": plan.ready,
        "totals": {
            "runs": len(plan.runs),
            "fine_tuned": fine_tuned,
            "controls": len(plan.of_type(RunType.control)),
            "gpu_hours": interval(plan.gpu_hours),
        },
    }


def document_text(document: Mapping[str, Any]) -> str:
    """A plan document as JSON text, the same from call to call."""
    out = io.StringIO()  # `json.dumps` would hold every word of it as an object of its own at once
    out.writelines(json.JSONEncoder(indent=2, ensure_ascii=False, allow_nan=False).iterencode(document))
    return out.getvalue() + "\n"


def document_csv(document: Mapping[str, Any]) -> str:
    """The runs of a plan document as CSV with a header and plain line feeds."""
    factors = [key for key in document["design"]["factors"] if key != "model"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    own = ["steps", "it_per_s", "tokens_per_s", "time_s_p50", "time_s_p95"]
    memory = ["peak_memory_gib_p50", "peak_memory_gib_p95", "source"]
    config = [key for key in CSV_CONFIG if key not in factors]
    writer.writerow(
        ["name", "type", "model", *factors, *config, *own, *memory, "time", "gpu_hours_p50", "gpu_hours_p95"]
    )
    for run in document["runs"]:
        estimate, hours = run["estimate"], run["gpu_hours"]
        row = [run["name"], run["type"], run["model"], *(run["factors"].get(key) for key in factors)]
        row += [run["config"].get(key) for key in config]
        row += [run["steps"]["total"], estimate["it_per_s"], estimate["tokens_per_s"]]
        row += [*estimate["time_s"].values(), *estimate["peak_memory_gib"].values(), estimate["source"]]
        writer.writerow([*row, run["resources"]["time"], hours["p50"], hours["p95"]])
    return out.getvalue()


def plain(value: Any) -> Any:
    """A value of a config as JSON has it: enums by value, infinities as text."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "items"):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def rounded(value: float | None) -> float | int | None:
    """An estimate with five significant digits; None for what is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def interval(value: Interval | None) -> dict[str, Any]:
    """`{"p50": …, "p95": …}`; nulls for what is not estimated."""
    return {"p50": rounded(value.p50), "p95": rounded(value.p95)} if value else {"p50": None, "p95": None}


def _run(run: PlannedRun, factors: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    sizing = run.sizing
    return {
        "name": run.name,
        "type": run.type.value,
        "dir": run.name,
        "model": run.config.model.name,
        "base_model": run.config.model.full_name,
        "factors": {key: plain(level) for key, level in run.composed.factors.items() if _applies(run, key, factors)},
        "overrides": list(relevant_overrides(run.composed, trained=sizing is not None)),
        "recipe": run.recipe.name if run.recipe else None,
        "trainer": run.config.trainer.name if sizing else None,
        "config": _config(run),
        "estimated": sorted(run.composed.estimated) if sizing else [],
        "steps": {
            "per_epoch": sizing.steps_per_epoch if sizing else None,
            "total": sizing.steps_total if sizing else None,
        },
        "estimate": _estimate(sizing),
        "resources": _resources(run.request),
        "limits": _limits(run),
        "rungs": [
            {
                "file": rung.file,
                "batch_size": rung.batch_size,
                "gradient_accumulation_steps": rung.gradient_accumulation_steps,
                "activation_checkpointing": rung.activation_checkpointing,
            }
            for rung in run.rungs
        ],
        "retries_s": rounded(run.retries_s),
        "gpu_hours": interval(run.gpu_hours),
        "cells": [_cell(cell) for cell in run.cells],
        "token": run.token,
    }


def _applies(run: PlannedRun, key: str, factors: Mapping[str, Sequence[Any]]) -> bool:
    """Whether a swept key says something about this run: of a control only what it measures does."""
    if run.type is RunType.fine_tuned or not (key in factors and concerns_control(key)):
        return key in factors and run.type is RunType.fine_tuned
    return key.partition(".")[0] != "dataset" or any(cell.takes_data for cell in run.cells)


def _config(run: PlannedRun) -> dict[str, Any]:
    config = run.config
    trained = run.sizing is not None
    values = {
        "batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "effective_batch_size": config.effective_batch_size,
        "epochs": config.epochs,
        "lr": config.optimizer.lr,
        "lr_scheduler": config.optimizer.lr_scheduler,
        "num_warmup_steps": config.optimizer.num_warmup_steps,
        "weight_decay": config.optimizer.weight_decay,
        "lora_rank": config.lora.rank,
        "lora_alpha": config.lora.alpha,
        "quantize_base": config.lora.quantize_base,
        "use_dora": config.lora.use_dora,
        "max_seq_len": config.max_seq_len,
        "packed": config.packed,
        "packed_because": run.packed_reason or None,
        "dtype": config.dtype,
        "activation_checkpointing": config.activation_checkpointing,
        "compile": config.compile,
        "seed": config.seed,
        "validation": config.validation,
        "max_steps_per_epoch": config.trainer.max_steps_per_epoch,
    }
    values = {key: plain(value) if trained else None for key, value in values.items()}
    model_path = run.model.path
    data_path = run.dataset.path if run.dataset else config.dataset.path
    shared = {"model_path": model_path, "dataset": data_path, "gpu": config.resources.gpu}
    return values | shared | {"system_prompt": config.system_prompt, "prompt": config.prompt}


def _estimate(sizing: Sizing | None) -> dict[str, Any]:
    return {
        "it_per_s": rounded(sizing.it_per_s) if sizing else None,
        "tokens_per_s": rounded(sizing.tokens_per_s) if sizing else None,
        "time_s": interval(sizing.time_s if sizing else None),
        "peak_memory_gib": interval(sizing.peak_memory_gib if sizing else None),
        "needed_memory_gib": interval(sizing.needed_memory_gib if sizing else None),
        "allocated_gib": rounded(sizing.allocated_gib) if sizing else None,
        "largest_batch_size": sizing.largest_batch_size if sizing else None,
        "source": sizing.source if sizing else None,
        "n_priors": sizing.n_priors if sizing else None,
        "extrapolated": sizing.extrapolated if sizing else None,
        "evidence": list(sizing.evidence) if sizing else [],
        "parts_s": {part: rounded(seconds) for part, seconds in sizing.parts_s.items()} if sizing else {},
    }


def _resources(request: Request | None) -> dict[str, Any]:
    """Everything a job asks for: whoever submits a group has nothing else to go by."""
    return {
        "job_name": request.job_name if request else None,
        "gpus": request.gpus if request else None,
        "nodes": request.nodes if request else None,
        "time": slurm_time(request.time_s) if request else None,
        "mem": f"{request.mem_gib}G" if request and request.mem_gib is not None else None,
        "partition": request.partition if request else None,
        "account": request.account if request else None,
        "constraint": request.constraint if request else None,
        "qos": request.qos if request else None,
        "cpus_per_task": request.cpus_per_task if request else None,
        "gres": request.gres if request else None,
        "exclude": request.exclude if request else None,
        "extra": list(request.extra) if request else [],
    }


def _limits(run: PlannedRun) -> dict[str, Any]:
    """What the run is held against."""
    return {
        "time": slurm_time(run.time_limit_s) if run.time_limit_s is not None else None,
        "gpu_memory_gib": run.config.resources.gpu_memory_gib,
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "task": cell.task,
        "epoch": cell.epoch,
        "dir": cell.dir,
        "time_s": interval(cell.time_s),
        "time_source": "priors" if cell.time_logs else "physics",
        "time_logs": cell.time_logs,
        **({"time_evidence": cell.time_evidence} if cell.time_evidence else {}),
        "resources": _resources(cell.request),
        "function": cell.function,
        "script": cell.script,
        "samples": cell.samples,
        "takes_data": cell.takes_data,
        **({"samples_source": cell.samples_source} if cell.samples_source else {}),
    }
