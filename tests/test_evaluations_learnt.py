"""Plan, evaluate, plan again: what cells took is what the next plan expects."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runplan.cli import main

CPU = ["model=tiny", "model.create=true", "resources=cpu", "batch_size=4", "dataset.create=true"]
CPU += ["dataset.n_words=2000", "epochs=2", "evaluation.batch_size=1"]
BEGUN = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _lab(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))  # no SLURM of this machine's
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def planned(name, *words):
    """The cells of a plan by run and directory."""
    assert main([*CPU, f"group.name={name}", *words]) == 0
    document = json.loads(Path(f"outputs/{name}/plan.json").read_text())
    return {(run["name"], cell["dir"]): cell for run in document["runs"] for cell in run["cells"]}


def evaluate(folder, cell, *, startup_s=60, seconds=840, tokens=32):
    """What a job leaves that evaluated a cell, as long as said."""
    label = {"token": "t", "job_id": "local-1", "kind": "cell"}
    started, ended = BEGUN + timedelta(seconds=startup_s), BEGUN + timedelta(seconds=startup_s + seconds)
    notes = [{"event": "started", **label, "time": f"{BEGUN:%Y-%m-%dT%H:%M:%SZ}"}]
    notes += [{"event": "ended", **label, "exit_code": 0, "seconds": startup_s + seconds,
               "time": f"{ended:%Y-%m-%dT%H:%M:%SZ}"}]  # fmt: skip
    (folder / "jobs.jsonl").write_text("".join(f"{json.dumps(note)}\n" for note in notes))
    samples = cell["samples"]
    usage = {"hf/local": {"input_tokens": 30 * samples, "output_tokens": tokens * samples}}
    log = {
        "version": 2, "status": "success",
        "eval": {"task": cell["function"], "task_file": cell["script"], "model": "hf/local", "task_id": str(folder),
                 "dataset": {"samples": samples},
                 "model_generate_config": {"max_tokens": 32, "max_connections": 1}},
        "results": {"total_samples": samples, "completed_samples": samples},
        "stats": {"started_at": started.isoformat(), "completed_at": ended.isoformat(), "model_usage": usage},
        "samples": [],
    }  # fmt: skip
    (folder / "logs").mkdir()
    (folder / "logs/2026-01-31_x.json").write_text(json.dumps(log))


def test_the_second_plan_expects_what_the_first_took():
    first = planned("first")
    assert len(first) == 3
    assert {(cell["time_source"], cell["time_logs"]) for cell in first.values()} == {("physics", 0)}
    assert "Time to evaluate" not in Path("outputs/first/README.md").read_text()
    for (run, place), cell in first.items():
        evaluate(Path("outputs/first", run, place), cell)
    second = planned("second")
    assert second.keys() == first.keys()
    for name, cell in second.items():
        before, after = first[name]["time_s"], cell["time_s"]
        assert abs(after["p50"] - 900) < 0.15 * 900 < abs(before["p50"] - 900)
        assert 900 < after["p95"] < 1.4 * after["p50"]
        assert (cell["time_source"], cell["time_logs"]) == ("priors", 3)
        assert first[name]["resources"]["time"] < cell["resources"]["time"] == "00:20:00"
        script = Path("outputs/second", name[0], name[1], "cell.slurm").read_text()
        assert re.search(r"--time=(\S+)", script)[1] == "00:20:00"
    readme = Path("outputs/second/README.md").read_text()
    for run, number, tuned in (("tiny_rank8", 2, "fine-tuned"), ("tiny_base", 1, "not fine-tuned")):
        said = f"3 logs of earlier evaluations ({number} of this task, model and GPU, {tuned})"
        assert f"Time to evaluate capitalization ({run}): {said}." in readme


def test_evaluations_of_other_folders_are_not_looked_at():
    first = planned("first")
    for (run, place), cell in first.items():
        evaluate(Path("outputs/first", run, place), cell)
    assert {cell["time_logs"] for cell in planned("second", "priors.paths=[]").values()} == {0}


def test_the_verb_counts_them(capsys):
    (name, cell), *_ = planned("first").items()
    evaluate(Path("outputs/first", *name), cell)
    capsys.readouterr()
    assert main(["priors"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("; 1 evaluation log (1 with a time)")
