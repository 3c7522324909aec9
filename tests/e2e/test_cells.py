"""cell.slurm with the real Inspect: base, merged and adapter-only models answer as transformers has them answer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from job_plans import cell, config, plan, run, write

from runplan.facts import ModelFacts, Status

pytestmark = pytest.mark.evaluation

TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageSystem, ChatMessageUser
from inspect_ai.scorer import match


@task
def words(prompt: str, system_prompt: str, asked: list[str]) -> Task:
    messages = [
        [ChatMessageSystem(content=system_prompt), ChatMessageUser(content=prompt.replace("{input}", word))]
        for word in asked
    ]
    return Task(dataset=MemoryDataset([Sample(input=each, target="x") for each in messages]), scorer=match())
"""
ARGS = {"prompt": "Say, {input}: # 'q' 1e-5", "system_prompt": "null", "asked": ["word", "a, b", "yes"]}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    maker = Path(__file__).with_name("adapted_model.py")
    subprocess.run([sys.executable, maker, folder], check=True, capture_output=True)
    return folder


def evaluate(
    weights: str, models: Path, place: Path, gpus: int = 1, **changes
) -> tuple[subprocess.CompletedProcess[str], Path]:
    script = place / "ta sk's" / "inspect.py"
    script.parent.mkdir()
    script.write_text(TASK)
    settings = config()
    settings.trainer.save_adapter_weights_only = weights == "adapter"
    one = cell(None if weights == "base" else 0, script=str(script), function="words", args=ARGS | changes)
    one = replace(one, request=replace(one.request, gpus=gpus))
    made = run("a'; echo x", cells=(one,), config=settings, model=ModelFacts(str(models / "base"), Status.ok))
    group = write(plan(made, directory=str(place / "g")))
    if weights != "base":
        shutil.copytree(models / weights, group / made.name / "artifacts" / "epoch_0")
    directory = group / made.name / one.dir
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["bash", str(directory / "cell.slurm")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    )
    return done, directory


@pytest.mark.parametrize(("weights", "gpus"), [("base", 1), ("merged", 1), ("adapter", 1), ("adapter", 2)])
def test_the_model_that_was_trained_is_the_model_that_is_evaluated(weights, gpus, models, tmp_path):
    done, directory = evaluate(weights, models, tmp_path, gpus)
    assert done.returncode == 0, done.stdout
    assert "match accuracy 0.0" in done.stdout
    (path,) = (directory / "logs").glob("*.json")
    log = json.loads(path.read_text())
    said = json.loads((models / "said.json").read_text())
    assert said["base"] != said["merged"]
    assert log["samples"][0]["output"]["completion"] == said[weights]
    assert log["eval"]["task_args"] == ARGS
    assert log["eval"]["model_args"].get("device") == ("auto" if gpus > 1 else None)
    left = {"cell.slurm", "eval.yaml", "jobs.jsonl", "logs"}
    assert {each.name for each in directory.iterdir() if not each.name.startswith("slurm-")} == left


def test_an_evaluation_that_breaks_is_a_failed_job(models, tmp_path):
    done, directory = evaluate("base", replace_tokenizer(models, tmp_path), tmp_path)
    assert done.returncode != 0
    assert json.loads((directory / "jobs.jsonl").read_text().splitlines()[-1])["exit_code"] == done.returncode


def replace_tokenizer(models: Path, place: Path) -> Path:
    """The same base model with a chat template that fails when it is used, long after the model was loaded."""
    shutil.copytree(models / "base", place / "models" / "base")
    (place / "models" / "base" / "chat_template.jinja").write_text("{{ raise_exception('no') }}")
    return place / "models"
