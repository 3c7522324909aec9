"""benchmarks/gpu: the grid, the made models, what is seen of a run, and two runs of the real trainer."""

import csv
import dataclasses
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runplan.catalogue import gpus
from runplan.paths import CONF_DIR
from runplan.priors.read import read_priors

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "benchmarks/gpu"
H200 = gpus([CONF_DIR])["h200-141"]


@pytest.fixture(name="script")
def _script(monkeypatch):
    """Imports a module of benchmarks/gpu, for one test."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def load(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    yield load
    for path in SCRIPTS.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_every_point_has_a_name_of_its_own_and_can_be_estimated(script):
    grid, shapes = script("grid"), script("shapes").shapes()
    points = [grid.made_whole(point, shapes[point.model], H200) for point in grid.gpu_grid()]
    assert len({point.name for point in points}) == len(points)
    cpu = [point.name for point in grid.cpu_grid()]
    assert len(set(cpu)) == len(cpu)
    assert all(10 <= point.steps <= 300 for point in points if not point.edge)


def test_settings_are_drawn_at_random_and_each_once(script):
    draw, shapes = script("draw"), script("shapes").shapes()
    for gpu in (H200, gpus([CONF_DIR])["cpu"]):
        points = draw.draw(12, 3, gpu, shapes)
        assert len({point.name for point in points}) == 12
        assert points == draw.draw(12, 3, gpu, shapes) != draw.draw(12, 4, gpu, shapes)
        assert {point.packed for point in points} == {point.checkpointing for point in points} == {True, False}


def test_the_edge_is_where_the_estimate_has_it(script):
    grid, shapes = script("grid"), script("shapes").shapes()
    for point in [point for point in grid.gpu_grid() if point.edge == "103%"]:
        batches = {
            edge: grid.made_whole(dataclasses.replace(point, edge=edge), shapes[point.model], H200).batch
            for edge in ("safe", "97%", "103%")
        }
        assert batches["safe"] < batches["97%"] < batches["103%"]


def test_rows_fill_all_steps_and_have_the_length_that_is_planned(script, tmp_path):
    grid = script("grid")
    for point in grid.cpu_grid():
        lengths = grid.row_tokens(point)
        if not point.packed:
            assert lengths.rows == point.batch * point.accumulation * point.steps
        assert lengths.longest <= point.tokens
        even = point.rows == grid.EVEN and not point.packed
        assert (len(lengths.counts) == 1) == even
    point = grid.cpu_grid()[0]
    path = grid.write_rows(tmp_path, point)
    assert grid.write_rows(tmp_path, point) == path
    assert path.stem == "even_128"


@pytest.mark.parametrize("model", ["1B", "3B", "8B", "qwen2.5-0.5B", "qwen2.5-1.5B", "tiny", "tiny-wide"])
def test_a_made_model_has_the_parameters_of_the_real_one(script, model):
    checkpoints, shape = script("checkpoints"), script("shapes").shapes()[model]
    named = dict(checkpoints.tensors(shape))
    assert sum(checkpoints._numbers(dims) for dims in named.values()) == shape.params
    shards = checkpoints._shards(shape)
    assert [name for shard in shards for name in shard] == list(named)
    sizes = [sum(2 * checkpoints._numbers(dims) for dims in shard.values()) for shard in shards]
    assert max(sizes) <= checkpoints.SHARD_BYTES


TRAINER = """
import sys, time
print("Loading", flush=True)
sys.stderr.write("  0%|          | 0/6 [00:00<?, ?it/s]")
sys.stderr.flush()
for n in range(1, 7):
    time.sleep(0.3 if n == 1 else 0.05)
    sys.stderr.write(f"\\r1|{n}|Loss: 2.5:  16%|#6        | {n}/6 [00:00<00:01, 3.0it/s]")
    sys.stderr.flush()
print("Checkpoint saved in 1.25 seconds.")
"""


def watched(script, folder, program, limit_s=20.0):
    return script("watched").watch([sys.executable, "-c", program], folder, dict(os.environ), limit_s)


def test_a_run_is_timed_by_what_it_says(script, tmp_path):
    seen = watched(script, tmp_path, TRAINER)
    assert (seen.state, seen.reason, len(seen.steps_s), seen.checkpoint_s) == ("ok", "", 6, 1.25)
    assert 0.25 < seen.first_step_s < 1.0
    mean, median = seen.steady_s()
    assert 0.04 < median <= mean * 1.5
    assert seen.bar_s < seen.steps_s[0] < seen.wall_s
    assert seen.max_rss_gib > 0
    assert "Loss: 2.5" in (tmp_path / "train.out").read_text()


@pytest.mark.parametrize(
    ("program", "state", "reason"),
    [
        ("raise SystemExit('torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB')", "oom", "Tried"),
        ("raise SystemExit('KeyError: x')", "failed", "KeyError: x"),
        ("import time; print('so far', flush=True); time.sleep(60)", "timeout", "so far"),
    ],
)
def test_how_a_run_ended(script, tmp_path, program, state, reason):
    seen = watched(script, tmp_path, program, limit_s=3.0)
    assert seen.state == state
    assert reason in seen.reason
    assert seen.steady_s() == (None, None)
    assert seen.first_step_s is None


NVIDIA_SMI = """#!/bin/sh
case "$*" in
  *compute-apps*) for used in 700 9000 8000; do echo "4242, $used"; sleep 0.05; done; echo "4242, [N/A]" ;;
  *loop-ms*)
    echo "timestamp, index, name, utilization.gpu [%], memory.used [MiB], memory.total [MiB], power.draw [W]"
    for used in 1400 9700 8700; do echo "t, 0, NVIDIA H200, 50 %, $used MiB, 143771 MiB, 300 W"; sleep 0.05; done ;;
  *) echo 500 ;;
esac
"""


def test_gpu_memory_is_the_highest_sample_of_the_process_and_of_the_gpu_above_before(script, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nvidia-smi").write_text(NVIDIA_SMI)
    (tmp_path / "bin/nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    seen = watched(script, tmp_path, TRAINER)
    assert seen.process_gib == pytest.approx(9000 / 1024)
    assert seen.device_gib == pytest.approx(9200 / 1024)
    (log,) = read_priors([str(tmp_path / "train.out")], None, tmp_path / "cache", tmp_path).runs
    assert (log.gpu, log.process_peak_gib) == ("h200-141", pytest.approx(9700 / 1024))


def test_peaks_are_the_highest_logged(script):
    module = script("watched")
    log = "Step 1 | loss:2.5 peak_memory_active:3.5 peak_memory_alloc:3.25 peak_memory_reserved:4.0\nStep 2 | "
    log += "loss:2.4 peak_memory_active:3.75 peak_memory_alloc:3.5 peak_memory_reserved:4.0"
    assert module.peaks(log) == {"active": 3.75, "alloc": 3.5, "reserved": 4.0}
    assert module.peaks("Step 1 | loss:2.5") == {}
    block = "Memory stats after model init:\n\tGPU peak memory active: 2.33 GiB\n\tGPU peak memory alloc: 2.32 GiB"
    assert module.after_init(block) == 2.32


def test_collected_logs_keep_the_peak_and_no_path(script):
    collect = script("collect")
    samples = ["timestamp, index, name, u, memory.used [MiB]", *(f"t, 0, GPU, 5 %, {n} MiB" for n in range(500))]
    samples += ["t, 0, GPU, 5 %, 9000 MiB", *samples[1:200], "t, 0, GP"]
    thinned = collect.thin("\n".join(samples)).splitlines()
    assert len(thinned) < 60
    assert any("9000 MiB" in line for line in thinned)
    cleaned = collect.clean("/home/me/run/a.yaml /usr/lib/v/site-packages/x.py:3", ["/home/me/run", "/"])
    assert cleaned == "__RUN__/a.yaml __RUN__/site-packages/x.py:3"


@pytest.mark.trainer
def test_two_points_on_the_cpu(tmp_path):
    pytest.importorskip("torchtune", reason="torchtune is not installed in this environment")
    only = ["--only", "^tiny_b4_t128_r8_fp32$|^tiny_b8_t256_r8_packed_fp32$"]
    command = [sys.executable, str(SCRIPTS / "measure.py"), "--device", "cpu", "--models", "tiny", *only]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "runplan/_hydra")])
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}

    def measure():
        return subprocess.run(
            [*command, "--steps", "12", "--minutes", "5", "--out", str(tmp_path / "out")],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    done = measure()
    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "out/table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["state"]) for row in rows] == [
        ("tiny_b4_t128_r8_fp32", "ok"),
        ("tiny_b8_t256_r8_packed_fp32", "ok"),
    ]
    for row in rows:
        assert 0 < float(row["s_per_step"]) < float(row["wall_s"])
        assert 0 < float(row["startup_s"]) < float(row["wall_s"])
        assert float(row["plan_s_p50"]) > 0
        gpu_only = ("allocated_gib", "active_gib", "reserved_gib", "process_gib", "device_gib", "gpu_name")
        assert not any(row[column] for column in gpu_only)
    logs = read_priors([str(tmp_path / "out/runs")], None, tmp_path / "cache", tmp_path).runs
    assert {(run.model, run.batch_size, run.packed, run.gpu) for run in logs} == {
        ("Tiny-Llama-3.2", 4, False, "cpu"),
        ("Tiny-Llama-3.2", 8, True, "cpu"),
    }
    again = measure()
    assert "2 of 2 runs done" in again.stdout
    assert len((tmp_path / "out/table.csv").read_text().splitlines()) == 3
