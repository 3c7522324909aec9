"""resume.py, which finetune.slurm asks what of a run's earlier attempts still counts."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runplan.paths import RECIPES_DIR

PROGRAM = RECIPES_DIR / "resume.py"
CONFIGS = ("finetune.yaml", "finetune.rung1.yaml")
EPOCHS = 3
SAFETENSORS = b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'


def load():
    spec = importlib.util.spec_from_file_location("resume_under_test", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


resume = load()


def archive(content: object) -> bytes:
    """What torch.save writes, as far as anybody looks without torch."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as made:
        made.writestr("recipe_state/data.pkl", pickle.dumps(content, protocol=2))
        made.writestr("recipe_state/data/0", bytes(64))
    return data.getvalue()


STATE = archive(OrderedDict(optimizer={"lr": 1e-4, 0: "exp_avg"}, seed=14, epochs_run=2, total_epochs=3))
WEIGHTS = len(SAFETENSORS).to_bytes(8, "little") + SAFETENSORS + bytes(8)


def save_epoch(run, number, *, merged=True):
    folder = run / "artifacts" / f"epoch_{number}"
    folder.mkdir(parents=True)
    (folder / "adapter_model.pt").write_bytes(archive({"lora": 1}))
    (folder / "adapter_model.safetensors").write_bytes(WEIGHTS)
    if merged:
        (folder / "model-00001-of-00001.safetensors").write_bytes(WEIGHTS)
        index = {"weight_map": {"w": "model-00001-of-00001.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def save_state(run, content=STATE):
    (run / "artifacts" / "recipe_state").mkdir(parents=True, exist_ok=True)
    (run / "artifacts" / "recipe_state" / "recipe_state.pt").write_bytes(content)


def log(run, *events):
    with (run / "jobs.jsonl").open("a") as file:
        for event in events:
            file.write(json.dumps({"kind": "train", "job_id": "1"} | event) + "\n")


def attempt(run, config=CONFIGS[0], **more):
    return {
        "event": "attempt",
        "config": config,
        "sha256": hashlib.sha256((run / config).read_bytes()).hexdigest(),
    } | more


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of three epochs whose first attempt saved two."""
    monkeypatch.chdir(tmp_path)
    for config in CONFIGS:
        (tmp_path / config).write_text(f"# {config}\n")
    for number in range(2):
        save_epoch(tmp_path, number)
    save_state(tmp_path)
    log(tmp_path, {"event": "started"}, attempt(tmp_path))
    return tmp_path


def decide():
    return resume.decide(EPOCHS, CONFIGS)


def test_the_last_saved_epoch_is_continued(run):
    assert decide() == ("resume", "finetune.yaml", 1)
    done = subprocess.run([sys.executable, str(PROGRAM), "3", *CONFIGS], capture_output=True, text=True, check=True)
    assert done.stdout == "resume finetune.yaml 1\n"


def test_an_epoch_that_was_being_written_does_not_count(run):
    """The recipe state is written last: what is beyond it may be half of an epoch."""
    save_epoch(run, 2)
    assert decide() == ("resume", "finetune.yaml", 1)
    save_state(run, archive({"epochs_run": 1}))
    assert decide() == ("resume", "finetune.yaml", 0)


@pytest.mark.parametrize(
    "name", ["adapter_model.pt", "adapter_model.safetensors", "model-00001-of-00001.safetensors", "*index.json"]
)
def test_an_epoch_that_lost_bytes_is_not_continued(run, name):
    (file,) = (run / "artifacts" / "epoch_1").glob(name)
    file.write_bytes(file.read_bytes()[:-3])
    assert decide() == ("start", "finetune.yaml", -1)


def test_a_shard_that_is_gone_is_noticed_and_adapters_alone_are_enough(run):
    (run / "artifacts/epoch_1/model-00001-of-00001.safetensors").unlink()
    assert decide()[0] == "start"
    (run / "artifacts/epoch_1/model.safetensors.index.json").unlink()
    assert decide()[0] == "resume"


@pytest.mark.parametrize("state", [b"", STATE[:-1], archive({"epochs_run": 0}), archive({"epochs_run": 3}), archive(1)])
def test_a_state_that_cannot_be_continued(run, state):
    save_state(run, state)
    assert decide() == ("start", "finetune.yaml", -1)


def test_a_smaller_batch_stays(run):
    log(run, attempt(run, CONFIGS[1]))
    assert decide() == ("resume", "finetune.rung1.yaml", 1)
    (run / "artifacts/recipe_state/recipe_state.pt").unlink()
    assert decide() == ("start", "finetune.rung1.yaml", -1)


def test_another_configuration_makes_what_is_there_worthless(run):
    (run / "finetune.yaml").write_text("batch_size: 1\n")
    assert decide() == ("start", "finetune.yaml", -1)


def test_complete_is_what_ended_well_and_is_still_there(run):
    folder = save_epoch(run, 2, merged=False)
    log(run, {"event": "ended", "exit_code": 1})
    assert decide()[0] == "resume"
    log(run, attempt(run), {"event": "ended", "exit_code": 0, "job_id": "other"})
    assert decide()[0] == "resume"
    log(run, {"event": "ended", "exit_code": 0})
    assert decide() == ("complete", "finetune.yaml", 2)
    log(run, {"event": "started", "job_id": "2"}, {"event": "ended", "exit_code": 0, "job_id": "2"})
    assert decide()[0] == "complete"
    (folder / "adapter_model.pt").unlink()
    assert decide()[0] == "resume"


@pytest.mark.parametrize("text", ["", "{", "[]\n1\nnull\n", '{"event": "attempt", "kind": "train"}\n', "\xff\n"])
def test_damaged_records_mean_to_start(run, text):
    (run / "jobs.jsonl").write_text(text)
    assert decide() == ("start", "finetune.yaml", -1)
    (run / "jobs.jsonl").unlink()
    assert decide() == ("start", "finetune.yaml", -1)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(STATE) - 1), st.integers(0, len(WEIGHTS) - 1))
def test_no_part_of_a_file_passes_for_the_whole(tmp_path, state_bytes, weights_bytes):
    part = tmp_path / "part"
    part.write_bytes(STATE[:state_bytes])
    assert not resume.is_whole_archive(part)
    assert resume.epochs_run(part) == 0
    part.write_bytes(WEIGHTS[:weights_bytes])
    assert not resume.is_whole_safetensors(part)
    part.write_bytes(WEIGHTS)
    assert resume.is_whole_safetensors(part)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_are_answered(tmp_path, data):
    with zipfile.ZipFile(tmp_path / "state.pt", "w") as made:
        made.writestr("x/data.pkl", pickle.dumps("epochs_run", protocol=2)[:-1] + data)
    assert isinstance(resume.epochs_run(tmp_path / "state.pt"), int)


def save_checkpoint(run, epoch, step):
    """What TRL leaves at an epoch's end, and what `sft.py` keeps of it."""
    folder = run / "artifacts" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for name in ("optimizer.pt", "scheduler.pt"):
        (folder / name).write_bytes(archive({"state": 1}))
    (folder / "adapter_model.safetensors").write_bytes(WEIGHTS)
    (folder / "trainer_state.json").write_text(json.dumps({"epoch": epoch, "global_step": step}))
    place = run / "artifacts" / f"epoch_{int(epoch) - 1}"
    place.mkdir()
    (place / "adapter_config.json").write_text("{}")
    (place / "adapter_model.safetensors").write_bytes(WEIGHTS)
    return folder


@pytest.fixture
def trl_run(tmp_path, monkeypatch):
    """A run of three epochs of TRL whose first attempt saved two."""
    monkeypatch.chdir(tmp_path)
    for config in CONFIGS:
        (tmp_path / config).write_text(f"# {config}\n")
    log(tmp_path, {"event": "started"}, attempt(tmp_path))
    save_checkpoint(tmp_path, 1.0, 10)
    save_checkpoint(tmp_path, 2.0, 20)
    return tmp_path


def test_the_newest_whole_checkpoint_of_trl_is_continued(trl_run):
    assert decide() == ("resume", "finetune.yaml", 1)
    (trl_run / "artifacts/checkpoint-20/optimizer.pt").write_bytes(b"PK half")
    assert decide() == ("resume", "finetune.yaml", 0)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("checkpoint-20/trainer_state.json", b'{"epoch": 1.5}'),
        ("checkpoint-20/trainer_state.json", b'{"epoch"'),
        ("checkpoint-20/adapter_model.safetensors", WEIGHTS[:-1]),
        ("checkpoint-20/scheduler.pt", b""),
    ],
)
def test_half_of_a_checkpoint_does_not_count(trl_run, file, content):
    (trl_run / "artifacts" / file).write_bytes(content)
    assert decide() == ("resume", "finetune.yaml", 0)


def test_a_checkpoint_whose_adapters_were_not_kept_is_not_continued(trl_run):
    (trl_run / "artifacts/epoch_1/adapter_model.safetensors").write_bytes(WEIGHTS[:-1])
    assert decide() == ("start", "finetune.yaml", -1)


def test_a_whole_run_of_trl_is_complete(trl_run):
    save_checkpoint(trl_run, 3.0, 30)
    log(trl_run, {"event": "ended", "exit_code": 0})
    assert decide() == ("complete", "finetune.yaml", 2)
