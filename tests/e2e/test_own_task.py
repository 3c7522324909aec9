"""A task that a user made, from the command line to the score: nothing here knows that it is not capitalization."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tiny_base import taught_base

from runplan.capitalization import generated_words
from runplan.cli import main

pytestmark = [pytest.mark.trainer, pytest.mark.evaluation]

TASK = '''
import json
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes, match

@task
def kinds(dataset_path, split, input_column, output_column):
    """It takes no system prompt: the job gives it to the model."""
    with open(dataset_path) as file:
        rows = json.load(file)[split]
    samples = [Sample(input=row[input_column], target=row[output_column]) for row in rows]
    return Task(dataset=samples, scorer=[match("exact", ignore_case=False), includes()])

@task
def broken(split):
    raise ValueError(f"cannot make {split}")
'''
SETTINGS = ["model=tiny", "resources=cpu", "priors.paths=[]", "dataset=json", "dataset.input_column=word"]
SETTINGS += ["dataset.output_column=kind", "dataset.path=tasks/kinds/input/rows.json", "lora.rank=64"]
SETTINGS += ["optimizer.lr=3e-3", "batch_size=4", "epochs=4", "evaluation.epochs=last", "system_prompt='Which kind?'"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Where the user works, planned."""
    place = tmp_path_factory.mktemp("my lab")
    rows = [{"word": word, "kind": "vowel" if word[0] in "aeiou" else "other"} for word in generated_words(8, 300, 1)]
    (place / "tasks/kinds/input").mkdir(parents=True)
    (place / "tasks/kinds/inspect.py").write_text(TASK)
    splits = {"train": rows[:200], "validation": rows[200:240], "test": rows[240:]}
    (place / "tasks/kinds/input/rows.json").write_text(json.dumps(splits))
    base = taught_base(tmp_path_factory.getbasetemp().parent / "taught")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main([*SETTINGS, f"model.path={base}", "group.name=g"]) == 0
        broken = ["train=false", "evaluation.tasks=[broken]", "group.name=broken"]
        assert main([*SETTINGS, f"model.path={base}", *broken]) == 0
    return place


def bash(script):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
    return subprocess.run(
        ["bash", script], env=environment, stdout=-1, stderr=-2, text=True, timeout=300, check=False
    )  # fmt: skip


def scores(script):
    done = bash(script)
    assert done.returncode == 0, done.stdout
    (log,) = (script.parent / "logs").glob("*.json")
    results = json.loads(log.read_text())["results"]["scores"]
    return {score["name"]: score["metrics"]["accuracy"]["value"] for score in results}


def test_it_is_learnt_and_measured(lab):
    group = lab / "outputs" / "g"
    done = bash(group / "tiny_rank64" / "finetune.slurm")
    assert done.returncode == 0, done.stdout[-2000:]
    cells = [group / "tiny_rank64/eval/kinds_epoch3/cell.slurm", group / "tiny_base/eval/kinds/cell.slurm"]
    with ThreadPoolExecutor(2) as pool:
        tuned, control = pool.map(scores, cells)
    assert control == {"match": 0.0, "includes": 0.0}
    assert tuned["match"] > 0.8
    assert tuned["includes"] >= tuned["match"]


def test_a_task_that_raises_is_a_failed_job(lab):
    directory = lab / "outputs/broken/tiny_base/eval/kinds"
    done = bash(directory / "cell.slurm")
    assert done.returncode != 0
    assert "cannot make test" in done.stdout
    assert json.loads((directory / "jobs.jsonl").read_text().splitlines()[-1])["exit_code"] == done.returncode
