"""One group, one command: its runs differ in everything the trainer can do, and the written job scripts train them all.

Each value of each setting is there at least once, most pairs of values, too; every start of the trainer costs seconds.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from runplan.capitalization import generated_words
from runplan.cli import main
from runplan.estimate.steps import padded_between

pytestmark = pytest.mark.trainer

ROWS = {"train": 60, "validation": 10, "test": 10}
VARIANTS = {
    "lora.rank": (4, 64, 8, 2),
    "dataset.type": ("instruct", "chat", "text", "instruct"),
    "dtype": ("fp32", "bf16", "fp32", "bf16"),
    "batch_size": (2, 1, 4, 2),
    "gradient_accumulation_steps": (2, 1, 1, 3),
    "packed": ("false", "true", "false", "true"),
    "epochs": (2, 2, 1, 3),
    "validation": ("true", "true", "false", "false"),
    "trainer.save_adapter_weights_only": ("false", "true", "false", "true"),
    "trainer.metric_logger": ("disk", "wandb", "none", "disk"),
    "dataset.train_on_input": ("false", "true", "false", "true"),
    "system_prompt": ("Be brief.", "''", "''", "'a'"),
    "seed": (1, 2, 3, 4),
}
WANDB = """
import json, pathlib
from unittest.mock import MagicMock
run, config = None, MagicMock()
def init(**kwargs):
    global run
    run = MagicMock()
    log({"init": kwargs})
def log(what):
    with pathlib.Path("logs/said.jsonl").open("a") as file:
        file.write(json.dumps(what, default=float) + "\\n")
define_metric = save = finish = MagicMock()
"""


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """The group, trained."""
    place = tmp_path_factory.mktemp("a'; echo x $(y) é")
    (place / "rows.json").write_text(json.dumps(data()))
    stub = tmp_path_factory.mktemp("stub")
    (stub / "wandb.py").write_text(WANDB)  # the real one starts a service
    words = ["model=tiny", "resources=cpu", "dataset=json", "dataset.path=rows.json", "evaluation=none"]
    words += ["max_seq_len=128", "group.name=g", "priors.paths=[]"]
    words += [f"{key}={','.join(map(str, levels))}" for key, levels in VARIANTS.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main([*words, f"sweep.zip=[[{','.join(VARIANTS)}]]"]) == 0
    group = place / "outputs" / "g"
    written = {run["name"]: [path.name for path in (group / run["name"]).iterdir()] for run in runs_of(group)}
    (place / "written.json").write_text(json.dumps(written))
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(train, [group / run["name"] for run in runs_of(group)], [stub] * 4))
    assert [each.returncode for each in done] == [0] * len(done), "\n".join(each.stdout[-1500:] for each in done)
    return group


def data():
    words = generated_words(8, sum(ROWS.values()), seed=1)
    rows = [{"input": word, "output": word.capitalize(), "text": f"{word} it is"} for word in words]
    for row in rows:
        asked = {"role": "user", "content": row["input"]}
        row["messages"] = [asked, {"role": "assistant", "content": row["output"]}] * 2
    starts = {"train": 0, "validation": 60, "test": 70}
    return {role: rows[start : start + ROWS[role]] for role, start in starts.items()}


def runs_of(group):
    return json.loads((group / "plan.json").read_text())["runs"]


def train(directory, packages):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
    environment["PYTHONPATH"] = str(packages)
    return subprocess.run(
        ["bash", directory / "finetune.slurm"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(params=VARIANTS["lora.rank"], ids="rank{}".format)
def run(request, group):
    """A run's entry in the plan, its directory, and the complete settings of its variant."""
    (entry,) = (run for run in runs_of(group) if run["config"]["lora_rank"] == request.param)
    i = VARIANTS["lora.rank"].index(request.param)
    return entry, group / entry["name"], {key: levels[i] for key, levels in VARIANTS.items()}


def logged(directory, settings):
    """(Step, name → number) of what the metric logger was given, wherever it wrote it."""
    kind = settings["trainer.metric_logger"]
    if kind == "wandb":
        first, *said = map(json.loads, (directory / "logs/said.jsonl").read_text().splitlines())
        assert first["init"] | {"id": None} == first["init"] | {"id": None, "mode": "offline", "name": directory.name}
        return [(line.pop("global_step"), line) for line in said]
    names = "logs/log_*.txt" if kind == "disk" else "slurm-*.out"
    (file,) = directory.glob(names)
    lines = [line for line in file.read_text().splitlines() if "Step" in line]
    found = [re.search(r"Step (\d+) \| ((?:\w+:[-+.\w]+ )+)$", f"{line.rstrip()} ") for line in lines]
    assert kind == "none" or all(match and match.start() == 0 for match in found)
    return [(int(match[1]), dict(re.findall(r"(\w+):(\S+)", match[2]))) for match in found if match]


def test_every_planned_step_is_done_and_logged(run):
    entry, directory, settings = run
    trained = [(step, values) for step, values in logged(directory, settings) if "loss" in values]
    assert [step for step, _ in trained] == [*range(1, entry["steps"]["total"] + 1)]
    assert all(0 < float(values["loss"]) < 20 for _, values in trained)


def test_validation_is_logged_beside_training(run):
    _, directory, settings = run
    validated = [(step, values) for step, values in logged(directory, settings) if "val_loss" in values]
    every = yaml.safe_load((directory / "finetune.yaml").read_text()).get("run_val_every_n_steps")
    assert bool(validated) == bool(every) == (settings["validation"] == "true")
    assert [step for step, _ in validated] == [every * (i + 1) for i in range(len(validated))]


def test_each_epoch_leaves_what_was_asked_for(run):
    from safetensors import safe_open

    _, directory, settings = run
    saved = {path.name for path in (directory / "artifacts").glob("epoch_*")}
    assert saved == {f"epoch_{i}" for i in range(settings["epochs"])}
    for epoch in (directory / "artifacts").glob("epoch_*"):
        assert json.loads((epoch / "adapter_config.json").read_text())["r"] == settings["lora.rank"]
        whole = sorted(epoch.glob("model-*.safetensors"))
        assert bool(whole) == (settings["trainer.save_adapter_weights_only"] == "false")
        for file in (*whole, epoch / "adapter_model.safetensors"):
            with safe_open(file, "pt") as weights:
                kinds = {str(weights.get_tensor(name).dtype) for name in weights.keys()}  # noqa: SIM118 - no mapping
            assert kinds == {{"bf16": "torch.bfloat16", "fp32": "torch.float32"}[settings["dtype"]]}


def test_the_log_is_a_prior_that_says_what_was_planned(run, capsys):
    entry, directory, settings = run
    capsys.readouterr()
    assert main(["priors", str(directory), "--json"]) == 0
    (prior,) = json.loads(capsys.readouterr().out)
    keys = ("lora_rank", "batch_size", "gradient_accumulation_steps", "packed", "epochs", "max_seq_len")
    assert {key: prior[key] for key in keys} == {key: entry["config"][key] for key in keys}
    assert (prior["state"], prior["dtype"]) == ("completed", settings["dtype"])
    assert prior["steps_done"] == prior["steps_total"] == entry["steps"]["total"]
    assert len(prior["checkpoint_s"]) == settings["epochs"]
    rows = settings["batch_size"] * settings["gradient_accumulation_steps"]
    planned = entry["estimate"]["tokens_per_s"] / entry["estimate"]["it_per_s"] / rows
    assert len(prior["padded_tokens"]) == 7
    if prior["packed"]:
        assert max(prior["padded_tokens"]) <= 1.01 * planned
    else:
        assert padded_between(prior["padded_tokens"], prior["batch_size"]) == pytest.approx(planned, rel=0.02)


def test_nothing_is_left_behind(run):
    _, directory, _ = run
    left = {path.name for path in directory.iterdir() if not path.name.startswith("slurm-")}
    written = json.loads((directory.parents[2] / "written.json").read_text())[directory.name]
    assert left - {*written} <= {"artifacts", "logs", "jobs.jsonl", "__pycache__"}
