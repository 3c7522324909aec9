"""Measured runs as cases: what was to be estimated, what an earlier log of it tells, and what came out."""

from __future__ import annotations

import csv
import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gpu.grid import Point, workload
from gpu.shapes import WIDE, shapes

from runplan.catalogue import gpus
from runplan.estimate import memory
from runplan.estimate.workload import Adapter, Gpu, Workload
from runplan.facts import Architecture, Lengths
from runplan.paths import CONF_DIR
from runplan.priors.read import read_priors
from runplan.priors.record import MemoryGib, PriorRun

DATA = Path(__file__).parents[1] / "tests/data"
MEASURED_SETS = ("gpu_runs", "cpu_runs")
"""Folders of tests/data that benchmarks/gpu/measure.py filled: table.csv and runs/."""
GPUS: dict[str, Gpu] = gpus([CONF_DIR]) | {"mi355x": Gpu("mi355x", 288.0, 8000.0, 2500.0, 157.0)}
SHAPES: dict[str, Architecture] = shapes()
_WITH_MLP = ("q_proj", "v_proj", "output_proj")


@dataclass(frozen=True)
class Case:
    """One measured run."""

    name: str
    fleet: str
    """Where its history is: runs of one fleet follow each other."""
    workload: Workload
    prior: PriorRun
    """What an earlier run's log tells a later plan."""
    measured: Mapping[str, float]
    """By quantity: allocated, reserved, process (GiB), s/step, wall (s)."""
    state: str = "ok"


def cases() -> list[Case]:
    """All measured runs at hand, in the order in which they ran; published ones last."""
    return [*(case for name in MEASURED_SETS for case in measured_cases(DATA / name)), *published_cases()]


def measured_cases(folder: Path) -> list[Case]:
    """Runs of benchmarks/gpu/measure.py, their logs read as a user's are."""
    table = folder / "table.csv"
    if not table.exists():
        return []
    with tempfile.TemporaryDirectory() as cache:
        logs = read_priors([str(folder / "runs")], None, Path(cache), folder).runs
    by_name = {Path(run.path).relative_to(folder / "runs").parts[0]: run for run in logs}
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [_measured_case(row, by_name[row["run"]]) for row in rows if row["state"] in {"ok", "oom"}]


def point_of(row: Mapping[str, str]) -> Point:
    """The settings of a row of the table."""
    values: dict[str, object] = {}
    for item in dataclasses.fields(Point):
        kind = type(item.default) if item.default is not dataclasses.MISSING else str
        text = row[item.name]
        values[item.name] = text == "True" if kind is bool else kind(text)
    return Point(**values)  # type: ignore[arg-type]


def _measured_case(row: Mapping[str, str], log: PriorRun) -> Case:
    point = point_of(row)
    gpu = GPUS[row["gpu"]]
    columns = {"allocated": "allocated_gib", "reserved": "reserved_gib", "s/step": "s_per_step", "wall": "wall_s"}
    # Where nvidia-smi does not tell processes apart, the GPU ran nothing else.
    columns["process"] = "process_gib" if row["process_gib"] else "device_gib"
    found = {name: float(row[column]) for name, column in columns.items() if row[column] and row["state"] == "ok"}
    if "wall" in found and log.wall_s and log.startup_s is None:
        # A job notes its whole seconds in jobs.jsonl; these runs were no jobs, so the table stands for that.
        log = replace(log, startup_s=max(0.0, round(found["wall"]) - log.wall_s), wall_s=float(round(found["wall"])))
    return Case(row["run"], gpu.name, workload(point, SHAPES[point.model], gpu), log, found, row["state"])


def log_names() -> dict[str, Architecture]:
    """Architectures by the names that logs use."""
    return {**SHAPES, str(WIDE["folder"]): SHAPES[str(WIDE["name"])], "Llama-2-7B": LLAMA2_7B}


LLAMA2_7B = Architecture("llama2", 4096, 32, 32, 32, 128, 11008, 32000, 4096)
_START = Workload(
    "torchtune",
    "0.6.1",
    SHAPES["8B"],
    Adapter(8, _WITH_MLP, apply_to_mlp=True),
    GPUS["a100-80"],
    1,
    Lengths(((2048, 1000),)),
    2048,
    packed=True,
    dtype="bf16",
    activation_checkpointing=True,
    compile=False,
    epochs=1,
    effective_batch_size=2,
    batch_size=2,
    gradient_accumulation_steps=1,
)
_RANK_16 = Adapter(16, _WITH_MLP, apply_to_mlp=True)
_SMALL = replace(_START, architecture=SHAPES["qwen2.5-0.5B"], adapter=_RANK_16, gpu=GPUS["mi355x"])
_LLAMA2 = replace(
    _START,
    architecture=LLAMA2_7B,
    adapter=Adapter(8, ("q_proj", "v_proj"), apply_to_mlp=False),
    gpu=GPUS["rtx4090-24"],
    batch_size=4,
    effective_batch_size=4,
)
STATED = (
    # (columns that pick the row of published_runs.csv, model, workload, what its memory column is)
    (("third-party README", "MI355X", "1", ""), "qwen2.5-0.5B", _SMALL, "allocated"),
    (("third-party README", "MI355X", "8", ""), "qwen2.5-0.5B", replace(_SMALL, gpus=8), "allocated"),
    (
        ("torchtune README", "A100", "1", "4096"),
        "3B",
        replace(
            _START,
            architecture=SHAPES["3B"],
            adapter=_RANK_16,
            lengths=Lengths(((4096, 1000),)),
            max_seq_len=4096,
            compile=True,
            activation_offloading=True,
        ),
        "allocated",
    ),
    (
        ("torchtune README", "RTX 4090", "1", "2048"),
        "8B",
        replace(_START, gpu=GPUS["rtx4090-24"], compile=True),
        "",
    ),
    (("torchtune README", "RTX 4090", "1", "2048"), "Llama-2-7B", _LLAMA2, ""),
)
"""LoRA rows of torchtune whose configuration is stated, or follows from the named config of the named version."""
_FULL_NAMES = {"qwen2.5-0.5B": "Qwen2.5-0.5B", "3B": "Llama-3.2-3B", "8B": "Llama-3.1-8B"}
_RESERVED = {"1": 6.2773, "8": 5.6484}
"""GiB that the third-party README states beside its peak (in the notes of its rows)."""


def published_cases() -> list[Case]:
    """Rows of tests/data/published_runs.csv that state all that an estimate needs."""
    with (DATA / "published_runs.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["framework"] == "torchtune" and row["method"] == "lora"]
    return [_published(rows, *stated) for stated in STATED]


def _published(
    rows: list[dict[str, str]], where: tuple[str, str, str, str], model: str, w: Workload, kind: str
) -> Case:
    source, gpu, count, length = where
    name = _FULL_NAMES.get(model, model)
    row = next(
        row
        for row in rows
        if (row["source"], row["gpu"], row["num_gpus"], row["model"]) == (source, gpu, count, name)
        and row["seq_len"] == (length or row["seq_len"])
    )
    tokens = (w.batch_size or 1) * w.max_seq_len
    measured = {"s/step": tokens / float(row["tokens_per_s"])}
    if kind:
        measured[kind] = float(row["peak_mem_gib"])
    if source.startswith("third"):
        measured["reserved"] = _RESERVED[count]
    w = replace(w, model_name=model)
    return Case(f"{name}_{gpu}_x{count}", f"published {w.gpu.name}", w, _log_of(w, measured, name), measured)


def _log_of(w: Workload, measured: Mapping[str, float], name: str) -> PriorRun:
    """The record that a log of such a run makes."""
    return PriorRun(
        name,
        trainer="torchtune",
        model=name if name == "Llama-2-7B" else w.model_name,
        params_b=w.architecture.params / 1e9,
        lora_rank=w.adapter.rank,
        lora_targets=(*w.adapter.attn_modules, *(("mlp",) if w.adapter.apply_to_mlp else ())),
        batch_size=w.batch_size,
        gradient_accumulation_steps=1,
        max_seq_len=w.max_seq_len,
        packed=True,
        dtype=w.dtype,
        activation_checkpointing=w.activation_checkpointing,
        compile=w.compile,
        gpu=w.gpu.name,
        num_gpus=w.gpus,
        steps_done=1000,
        s_per_step=measured["s/step"],
        peak_memory_gib=MemoryGib(measured.get("allocated"), None, measured.get("reserved")),
        init_memory_gib=MemoryGib(memory.weight_bytes(w.architecture, w.adapter) / 2**30),
    )
