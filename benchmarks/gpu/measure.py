"""Measure the real recipes: memory by kind and seconds a step over a grid of settings, beside what runplan said before.

On a machine with a CUDA GPU, torch, torchtune 0.6.1, torchao and runplan (no network is used; about 30 GB of disk with
the 8B model, whose 16 GB are written once):

    python benchmarks/gpu/measure.py --minutes 8                       # as many runs as fit, the most telling first
    python benchmarks/gpu/measure.py --minutes 8                       # again: those that are not in the table yet
    python benchmarks/gpu/measure.py --minutes 8 --only 'edge|safe|pc' # the edge of out of memory alone
    python benchmarks/gpu/measure.py --draw 20                         # settings drawn at random, to test what is known
    python benchmarks/gpu/measure.py --list                            # what there is and what is done
    python benchmarks/gpu/measure.py --device cpu --models tiny        # two minutes on any machine, no GPU

Where packages travel as files (12 MB beside an image that has torch, transformers and pandas): `pip download --no-deps`
of torchtune==0.6.1, torchao==0.13.0, torchdata==0.11.0, datasets, dill, multiprocess, kagglehub, kagglesdk, blobfile,
pycryptodomex, omegaconf, hydra-core and submitit, `pip wheel --no-deps antlr4-python3-runtime==4.9.3`; there
`pip install --no-index --no-deps --target SITE *.whl` and `export PYTHONPATH=SITE:.:runplan/_hydra`.

Each point is planned and written by runplan itself (so the product's own finetune.yaml is what is measured) and run by
`tune run` in a process of its own. Kept under `--out` (default `measured/`): `table.csv`, a row a run, and the run
directories under `runs/` with `train.out` (stdout and stderr, as a job's log), finetune.yaml and gpu_metrics.csv, which
is what `runplan priors` reads. Without a GPU the columns of GPU memory stay empty.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from checkpoints import make_model
from draw import draw
from grid import Point, cpu_grid, gpu_grid, made_whole, write_rows
from shapes import MADE, folder_of, shapes
from watched import Trace, after_init, peaks, watch

from runplan.catalogue import gpus
from runplan.estimate.workload import Gpu
from runplan.facts import Architecture
from runplan.paths import CONF_DIR
from runplan.priors.names import gpu_key

RUN_S = 150.0
"""A run is only started with so much time left, or what it needs by estimate, and stopped after three times that."""
SETTINGS = tuple(Point.__dataclass_fields__)
PLANNED = (
    "plan_allocated_gib",
    "plan_peak_p50_gib",
    "plan_peak_p95_gib",
    "plan_s_per_step",
    "plan_s_p50",
    "plan_s_p95",
)
MEASURED = (
    "allocated_gib",
    "active_gib",
    "reserved_gib",
    "init_gib",
    "process_gib",
    "device_gib",
    "max_rss_gib",
    "s_per_step",
    "median_s_per_step",
    "steps_done",
    "startup_s",
    "first_step_s",
    "checkpoint_s",
    "wall_s",
)
COLUMNS = ("run", *SETTINGS, "gpu", "cores", "gpu_name", "torch", "state", *MEASURED, *PLANNED, "reason")


@dataclass(frozen=True)
class Machine:
    """What the runs run on."""

    device: str
    gpu: Gpu
    name: str
    torch: str
    cores: int
    """That compute where no GPU does."""


def machine(device: str, resources: str | None) -> Machine:
    import torch  # noqa: PLC0415 - --help needs none

    known = gpus([CONF_DIR])
    if device == "cpu":
        cores = min(len(os.sched_getaffinity(0)), int(os.environ.get("OMP_NUM_THREADS", "0")) or sys.maxsize)
        return Machine("cpu", replace(known[resources or "cpu"], cores=cores), "", torch.__version__, cores)
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA GPU here; --device cpu --models tiny runs without one")
    name = torch.cuda.get_device_name(0)
    key = resources or gpu_key(name)
    if key not in known:
        raise SystemExit(
            f"{name} is no entry of conf/resources; name one with --resources, of {', '.join(sorted(known))}"
        )
    return Machine("cuda", known[key], name, torch.__version__, 0)


def plan(point: Point, where: Machine, models_dir: Path, out: Path) -> Path:
    """The run directory of a point, written by runplan."""
    words = {
        "model": "tiny" if point.model in MADE else point.model,
        **{f"model.{key}": value for key, value in MADE.get(point.model, {}).items()},
        "lora": "default" if point.mlp else "attention-only",
        "lora.rank": point.rank,
        "batch_size": point.batch,
        "gradient_accumulation_steps": point.accumulation,
        "max_seq_len": point.tokens,
        "packed": point.packed,
        "activation_checkpointing": point.checkpointing,
        "compile": point.compile,
        "dtype": point.dtype,
        "epochs": 1,
        "validation": False,
        "controls": False,
        "evaluation": "none",
        "dataset.path": write_rows(out / "rows", point).resolve(),
        "trainer.device": where.device,
        "trainer.max_steps_per_epoch": point.steps,
        "trainer.save_adapter_weights_only": not point.merged,
        "resources": where.gpu.name,
        "resources.gpu_memory_gib": 1e6,  # or a run beyond the edge would be refused
        "site.models_dir": models_dir.absolute(),
        "site.output_root": (out / "runs").resolve(),
        **({"resources.cpus_per_task": where.cores} if where.cores else {}),
        "priors.paths": "[]",
        "group.name": point.name,
        "overwrite": True,
    }
    command = [sys.executable, "-m", "runplan", "-m", *(f"{key}={value}" for key, value in words.items())]
    done = subprocess.run(command, cwd=out, env=environment(out), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} exited {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return next((out / "runs" / point.name).glob("*/finetune.yaml")).parent


def environment(out: Path, cores: int = 0) -> dict[str, str]:
    """What a job's script sets: nothing is looked up in the network, nothing is kept in the home directory."""
    root = Path(__file__).parents[2]
    paths = [str(root), str(root / "runplan/_hydra"), os.environ.get("PYTHONPATH", ""), "."]
    cache = str((out / "cache").resolve())
    offline = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "PYTHONUNBUFFERED"), "1")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTORCH_")}
    return {
        **kept,
        **offline,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "HF_HOME": cache,
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
        "TRITON_CACHE_DIR": f"{cache}/triton",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": str(cores or os.environ.get("OMP_NUM_THREADS", "4")),
    }


def run(point: Point, folder: Path, where: Machine, out: Path, limit_s: float) -> dict[str, object]:
    """Train, and make a row of what was seen."""
    (folder / "logs").mkdir(exist_ok=True)
    recipe = ["run", "lora_finetune_single_device", "--config", "finetune.yaml"]
    seen = watch([sys.executable, "-m", "torchtune._cli.tune", *recipe], folder, environment(out, where.cores), limit_s)
    shutil.rmtree(folder / "artifacts", ignore_errors=True)
    disk = "".join(path.read_text() for path in (folder / "logs").glob("log_*.txt"))
    identity = {
        "run": point.name,
        **vars(point),
        "gpu": where.gpu.name,
        "cores": where.cores or "",
        "gpu_name": where.name,
    }
    identity["torch"] = where.torch
    return {**identity, **_measured(seen, disk), **_planned(folder), "state": seen.state, "reason": seen.reason}


def _measured(seen: Trace, disk: str) -> dict[str, object]:
    found = peaks(disk)
    mean, median = seen.steady_s()
    return {
        "allocated_gib": found.get("alloc"),
        "active_gib": found.get("active"),
        "reserved_gib": found.get("reserved"),
        "init_gib": after_init(seen.log),
        "process_gib": seen.process_gib,
        "device_gib": seen.device_gib,
        "max_rss_gib": seen.max_rss_gib,
        "s_per_step": mean,
        "median_s_per_step": median,
        "steps_done": len(seen.steps_s),
        "startup_s": seen.bar_s,
        "first_step_s": seen.first_step_s,
        "checkpoint_s": seen.checkpoint_s,
        "wall_s": seen.wall_s,
    }


def _planned(folder: Path) -> dict[str, object]:
    """What runplan expected, without any log."""
    said = json.loads((folder.parent / "plan.json").read_text())["runs"][0]["estimate"]
    peak, time_s = said["peak_memory_gib"], said["time_s"]
    numbers = (said["allocated_gib"], peak["p50"], peak["p95"], 1 / said["it_per_s"], time_s["p50"], time_s["p95"])
    return dict(zip(PLANNED, numbers, strict=True))


def done_rows(table: Path) -> list[dict[str, str]]:
    """The rows that are there; a run that was stopped or broke counts as not done."""
    if not table.exists():
        return []
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    return [row for row in rows if row["state"] in {"ok", "oom"}]


def append(table: Path, row: dict[str, object]) -> None:
    new = not table.exists()
    with table.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})


def say(row: dict[str, object]) -> None:
    """One line: measured against planned."""
    pairs = {"allocated_gib": PLANNED[0], "process_gib": PLANNED[1], "s_per_step": PLANNED[3]}
    told = [
        f"{name} {float(row[name]):.3f} planned {float(row[at]):.3f}" for name, at in pairs.items() if row.get(name)
    ]
    print(
        f"{row['run']:44} {row['state']:8} {float(row['wall_s']):5.0f} s  {'; '.join(told)}  {row['reason']}",
        flush=True,
    )


def chosen(arguments: argparse.Namespace, where: Machine, known: dict[str, Architecture]) -> list[Point]:
    """The grid's points that were asked for."""
    points = cpu_grid() if where.device == "cpu" else gpu_grid()
    points = draw(arguments.draw, arguments.seed, where.gpu, known) if arguments.draw else points
    wanted = set(arguments.models.split(",")) if arguments.models else None
    points = [point for point in points if wanted is None or point.model in wanted]
    points = [point for point in points if not arguments.only or re.search(arguments.only, point.name)]
    whole = [made_whole(point, known[point.model], where.gpu) for point in points][: arguments.limit]
    return [replace(point, steps=arguments.steps) for point in whole] if arguments.steps else whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("measured"))
    parser.add_argument("--models-dir", type=Path, help="where the made models are kept (default: OUT/models)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--resources", help="entry of conf/resources that this GPU is (default: by its name)")
    parser.add_argument("--minutes", type=float, default=8.0, help="no run is started that would not end in time")
    parser.add_argument("--models", help="names of the grid, with commas between")
    parser.add_argument("--only", help="regular expression on the name of a run")
    parser.add_argument("--draw", type=int, help="not the grid, but so many settings drawn at random")
    parser.add_argument("--seed", type=int, default=1, help="of --draw")
    parser.add_argument("--limit", type=int, help="at most so many runs")
    parser.add_argument("--steps", type=int, help="steps of every run (default: as many as take some seconds)")
    parser.add_argument("--list", action="store_true", help="say what there is and what is done, run nothing")
    arguments = parser.parse_args()
    until = time.monotonic() + 60 * arguments.minutes
    where, known = machine(arguments.device, arguments.resources), shapes()
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = arguments.out / "table.csv"
    done = {row["run"] for row in done_rows(table)}
    points = chosen(arguments, where, known)
    left = [point for point in points if point.name not in done]
    print(f"{where.name or 'CPU'}: {len(points) - len(left)} of {len(points)} runs done", flush=True)
    if arguments.list:
        print("\n".join(f"{point.name:44} {'done' if point.name in done else 'to do'}" for point in points))
        return
    measure(left, where, known, arguments, until)


def measure(
    left: list[Point], where: Machine, known: dict[str, Architecture], arguments: argparse.Namespace, until: float
) -> None:
    """Run the points in order until the time is over; a model is made, and its points planned, when it is first due."""
    out, models_dir = arguments.out, arguments.models_dir or arguments.out / "models"
    planned, broken = dict[Point, Path](), 0
    for point in left:
        if point not in planned:
            started = time.monotonic()
            make_model(folder_of(point.model, models_dir), known[point.model])
            ready = [other for other in left if other.model == point.model]
            with ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1) - 1)) as pool:
                planned |= zip(ready, pool.map(lambda p: plan(p, where, models_dir, out), ready), strict=True)
            print(f"{point.model} made and planned in {time.monotonic() - started:.0f} s", flush=True)
        expected = float(_planned(planned[point])[PLANNED[4]])
        expected = max(RUN_S / 3, 1.3 * expected) if where.device == "cuda" else RUN_S / 10
        remaining = until - time.monotonic()
        if expected > remaining:
            print(f"{point.name}: not started, {remaining:.0f} s left", flush=True)
            continue
        row = run(point, planned[point], where, out, min(3 * max(RUN_S, expected), remaining))
        append(out / "table.csv", row)
        say(row)
        broken = broken + 1 if row["state"] == "failed" else 0
        if broken:
            print((planned[point] / "train.out").read_text(errors="replace")[-2000:], flush=True)
        if broken == 3:
            raise SystemExit("three runs in a row failed for another reason than memory")


if __name__ == "__main__":
    main()
