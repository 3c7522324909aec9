"""Measured runs as cases: what was to be estimated, what an earlier log of it tells, and what came out."""

from __future__ import annotations

import csv
import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gpu.grid import Point, workload
from gpu.shapes import MADE, shapes
from later import SHAPES as LATER_SHAPES
from later import Run as LaterRun
from later import later_runs
from milabench import LLAMA_70B, milabench_runs
from published import log_of
from transformers_runs import SHAPES as TRANSFORMERS_SHAPES
from transformers_runs import transformers_runs

from runplan.catalogue import gpus
from runplan.estimate.memory.weights import weight_bytes
from runplan.estimate.workload import TRL, Adapter, Gpu, Workload
from runplan.facts import Architecture, Lengths
from runplan.paths import CONF_DIR
from runplan.priors.read import read_priors
from runplan.priors.record import MemoryGib, PriorRun

DATA = Path(__file__).parents[1] / "tests/data"
MEASURED_SETS = {
    "gpu_runs": "",
    "cpu_runs_two_cores": "cpu 2 cores",
    "cpu_runs_one_core": "cpu 1 core",
    "cpu_runs_drawn": "cpu drawn",
    "cpu_runs_busy": "cpu busy",
}
"""Folders of tests/data that benchmarks/gpu/measure.py filled (table.csv and runs/), and their fleets where that is not
the GPU. Settings of `cpu drawn` were drawn at random, on two cores, when all constants had been chosen (`--draw`); the
busy ones are of one core that others used, and took up to 1.8 times as long."""
FOUND_LATER = ("cpu drawn", "cpu busy")
FOUND = "found later"
"""Fleets of published runs that were found when all constants had been chosen begin so."""
GPUS: dict[str, Gpu] = gpus([CONF_DIR])
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
    taught: frozenset[str] = frozenset()
    """Quantities of which constants were chosen with this run in sight."""


def cases() -> list[Case]:
    """All measured runs at hand, in the order in which they ran; published ones last."""
    measured = (case for name, fleet in MEASURED_SETS.items() for case in measured_cases(DATA / name, fleet))
    return [*measured, *published_cases(), *milabench_cases(), *transformers_cases(), *later_cases()]


def milabench_cases() -> list[Case]:
    """Runs of torchtune that milabench publishes, in tests/data/more_published_runs.csv."""
    runs = milabench_runs(DATA / "more_published_runs.csv", _START, GPUS)
    return [
        Case(run.name, f"published {run.workload.gpu.name}", run.workload, run.prior, run.measured, taught=run.taught)
        for run in runs
    ]


def later_cases() -> list[Case]:
    """Runs found when every constant had been chosen, as far as they can be compared."""
    return [
        Case(
            run.name,
            f"{FOUND} {run.workload.gpu.name}" + (" transformers" if run.workload.trainer == TRL else ""),
            run.workload,
            run.prior,
            run.measured,
            "ok" if run.s_per_step else "oom",
        )
        for run in older_and_later_runs()
        if run.measured or not run.s_per_step
    ]


def older_and_later_runs() -> list[LaterRun]:
    """The same and those of older recipes, in tests/data/more_published_runs.csv."""
    return later_runs(DATA / "more_published_runs.csv", _START, SHAPES, GPUS)


def transformers_cases() -> list[Case]:
    """Runs of transformers' layers with PEFT's adapters, estimated as TRL's, in tests/data/published_runs.csv."""
    runs = transformers_runs(DATA / "published_runs.csv", _START, GPUS)
    return [
        Case(
            run.name,
            f"published {run.workload.gpu.name} transformers",
            run.workload,
            run.prior,
            {"s/step": run.s_per_step},
        )
        for run in runs
    ]


def measured_cases(folder: Path, fleet: str = "") -> list[Case]:
    """Runs of benchmarks/gpu/measure.py, their logs read as a user's are; of their GPU's fleet, or of the one named."""
    table = folder / "table.csv"
    if not table.exists():
        return []
    with tempfile.TemporaryDirectory() as cache:
        logs = read_priors([str(folder / "runs")], None, Path(cache), folder).runs
    by_name = {Path(run.path).relative_to(folder / "runs").parts[0]: run for run in logs}
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [_measured_case(row, by_name[row["run"]], fleet) for row in rows if row["state"] in {"ok", "oom"}]


def point_of(row: Mapping[str, str]) -> Point:
    """The settings of a row of the table."""
    values: dict[str, object] = {}
    for item in dataclasses.fields(Point):
        kind = type(item.default) if item.default is not dataclasses.MISSING else str
        text = row[item.name]
        values[item.name] = text == "True" if kind is bool else kind(text)
    return Point(**values)  # type: ignore[arg-type]


def _measured_case(row: Mapping[str, str], log: PriorRun, fleet: str) -> Case:
    point = point_of(row)
    gpu = replace(GPUS[row["gpu"]], cores=int(row["cores"] or 0))
    columns = {"allocated": "allocated_gib", "reserved": "reserved_gib", "s/step": "s_per_step", "wall": "wall_s"}
    # Where nvidia-smi does not tell processes apart, the GPU ran nothing else.
    columns["process"] = "process_gib" if row["process_gib"] else "device_gib"
    found = {name: float(row[column]) for name, column in columns.items() if row[column] and row["state"] == "ok"}
    if "wall" in found and log.wall_s and log.startup_s is None:
        # A job notes its whole seconds in jobs.jsonl; these runs were no jobs, so the table stands for that.
        log = replace(log, startup_s=max(0.0, round(found["wall"]) - log.wall_s), wall_s=float(round(found["wall"])))
    taught = frozenset({"s/step"} if gpu.name == "cpu" and fleet not in FOUND_LATER else ())
    return Case(
        row["run"], fleet or gpu.name, workload(point, SHAPES[point.model], gpu), log, found, row["state"], taught
    )


def log_names() -> dict[str, Architecture]:
    """Architectures by the names that logs use."""
    return {
        **TRANSFORMERS_SHAPES,
        **LATER_SHAPES,
        **SHAPES,
        **{str(keys["folder"]): SHAPES[name] for name, keys in MADE.items()},
        "Llama-2-7B": LLAMA2_7B,
        "70B": LLAMA_70B,
    }


LLAMA2_7B = Architecture("llama2", 4096, 32, 32, 32, 128, 11008, 32000, 4096)
_ALPACA = Lengths(((200, 50_000),))
"""Rows of torchtune's default dataset are short; what is packed attends within its row alone."""
_START = Workload(
    "torchtune",
    "0.6.1",
    SHAPES["8B"],
    Adapter(8, _WITH_MLP, apply_to_mlp=True),
    GPUS["a100-80"],
    1,
    _ALPACA,
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
_SMALL = replace(_START, architecture=SHAPES["qwen2.5-0.5B"], adapter=_RANK_16, gpu=GPUS["mi355x-288"])
_LLAMA2 = replace(
    _START,
    architecture=LLAMA2_7B,
    adapter=Adapter(8, ("q_proj", "v_proj"), apply_to_mlp=False),
    gpu=GPUS["rtx4090-24"],
    batch_size=4,
    effective_batch_size=4,
)
# The table of v0.6.1 is that of v0.3.1, when the configuration adapted q and v alone; 30.3 GiB without checkpointing
# and 16.2 GiB with checkpointing and offloading say which rows have what.
_README_8B = replace(
    _START, adapter=Adapter(8, ("q_proj", "v_proj"), apply_to_mlp=False), gpu=GPUS["rtx4090-24"], compile=True
)
_OFFLOADED = {"activation_checkpointing": True, "activation_offloading": True}
# In the configuration of that version: every projection of attention, the MLP, not the output.
_LLAMA2_QLORA = Adapter(8, ("q_proj", "k_proj", "v_proj", "output_proj"), apply_to_mlp=True, quantize_base=True)
_KILO = {"max_seq_len": 1024, "batch_size": 1, "effective_batch_size": 1}
STATED = (
    # (columns that pick the row of published_runs.csv, model, workload, what its memory column is, what it taught)
    (("third-party README", "MI355X", "1", ""), "qwen2.5-0.5B", _SMALL, "allocated", "reserved s/step"),
    (
        ("third-party README", "MI355X", "8", ""),
        "qwen2.5-0.5B",
        replace(_SMALL, gpus=8),
        "allocated",
        "reserved s/step",
    ),
    (
        ("torchtune README", "A100", "1", "4096"),
        "3B",
        replace(
            _START,
            architecture=SHAPES["3B"],
            adapter=_RANK_16,
            max_seq_len=4096,
            compile=True,
            activation_offloading=True,
        ),
        "allocated",
        "allocated",
    ),
    (
        ("torchtune README", "RTX 4090", "1", "2048"),
        "8B",
        replace(_README_8B, **_OFFLOADED),
        "allocated",
        "allocated s/step",
    ),
    (
        # The card is rather an Ada: an RTX A6000 would have to reach 92 % of its peak.
        ("torchtune README", "RTX A6000", "1", "2048"),
        "8B",
        replace(_README_8B, gpu=GPUS["rtx6000ada-48"], activation_checkpointing=False),
        "allocated",
        "",
    ),
    (("torchtune README", "RTX 4090", "1", "2048"), "Llama-2-7B", replace(_LLAMA2, loss_chunks=0), "reserved", ""),
    (
        ("torchtune README", "A100", "1", "4096", "qlora"),
        "3B",
        replace(
            _START,
            architecture=SHAPES["3B"],
            adapter=replace(_RANK_16, quantize_base=True),
            max_seq_len=4096,
            compile=True,
            activation_offloading=True,
        ),
        "allocated",
        "allocated s/step",
    ),
    (
        # With checkpointing and without offloading 7.4 GiB come out; without checkpointing it would be far more.
        ("torchtune README", "RTX 4090", "1", "2048", "qlora"),
        "8B",
        replace(_README_8B, adapter=replace(_README_8B.adapter, quantize_base=True)),
        "allocated",
        "allocated s/step",
    ),
    (
        # Its memory is that of loading: NF4 of that time was made without chunks (9.1 GB reserved as soon as loaded).
        ("torchtune README", "RTX 4090", "1", "2048", "qlora"),
        "Llama-2-7B",
        replace(_LLAMA2, loss_chunks=0, compile=True, adapter=_LLAMA2_QLORA),
        "",
        "",
    ),
    (
        # 8.69 GiB are too little for a run without checkpointing (11.4).
        ("third-party README", "H100 80GB", "1", "1024"),
        "qwen2.5-1.5B-base",
        replace(_START, architecture=SHAPES["qwen2.5-1.5B-base"], adapter=_RANK_16, gpu=GPUS["h100-80"], **_KILO),
        "process",
        "process s/step",
    ),
)
"""Rows of torchtune with adapters whose configuration is stated, follows from the named config of the named version,
or from their memory. What a row taught the estimator, it does not test: its last column.

QLoRA of 405B on eight A100 (44.8 GB, alone in that unit) is not among them: with the batch of the table's note,
2 x 2048, a GPU's part of the weights and the inputs of 126 blocks are 41 GiB, and embedding and output, 8 GiB, must be
gathered beside them (61 GiB come out). With the batch of its configuration, one row of 512 tokens, 44.8 GiB do.
"""
_FULL_NAMES = {
    "qwen2.5-0.5B": "Qwen2.5-0.5B",
    "qwen2.5-1.5B-base": "Qwen2.5-1.5B",
    "3B": "Llama-3.2-3B",
    "8B": "Llama-3.1-8B",
}
_RESERVED = {"1": 6.2773, "8": 5.6484}
"""GiB that the third-party README states beside its peak (in the notes of its rows)."""


def published_cases() -> list[Case]:
    """Rows of tests/data/published_runs.csv that state all that an estimate needs."""
    with (DATA / "published_runs.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["framework"] == "torchtune"]
    return [_published(rows, *stated) for stated in STATED]


def _published(
    rows: list[dict[str, str]], where: tuple[str, ...], model: str, w: Workload, kind: str, taught: str
) -> Case:
    source, gpu, count, length, method = (*where, "lora")[:5]
    name = _FULL_NAMES.get(model, model)
    row = next(
        row
        for row in rows
        if (row["source"], row["gpu"], row["num_gpus"], row["model"]) == (source, gpu, count, name)
        and row["method"] == method
        and row["seq_len"] == (length or row["seq_len"])
    )
    tokens = (w.batch_size or 1) * w.max_seq_len
    speed = float(row["tokens_per_s"]) if row["tokens_per_s"] else tokens * float(row["it_per_s"])
    measured = {"s/step": tokens / speed}
    if kind:
        measured[kind] = float(row["peak_mem_gib"])
    if count in _RESERVED and gpu == "MI355X":
        measured["reserved"] = _RESERVED[count]
    w = replace(w, model_name=model)
    return Case(
        f"{name}_{gpu}_x{count}" + ("_qlora" if w.adapter.quantize_base else ""),
        f"published {w.gpu.name}",
        w,
        log_of(
            name,
            w,
            measured["s/step"],
            1000,
            model=name if name == "Llama-2-7B" else w.model_name,
            peak_memory_gib=MemoryGib(measured.get("allocated"), None, measured.get("reserved")),
            init_memory_gib=MemoryGib(weight_bytes(w.architecture, w.adapter) / 2**30),
        ),
        measured,
        taught=frozenset(taught.split()),
    )
