"""finetune.slurm's attempts, run by bash with a trainer that only pretends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from job_plans import config, fake_program, plan, run, write

from runplan.paths import RECIPES_DIR
from runplan.plan import Recipe, Rung
from runplan.priors.ending import GPU_OOM_SIGNS

RUNGS = (Rung("finetune.rung1.yaml", 2, 2, False), Rung("finetune.rung2.yaml", 1, 4, False))  # noqa: FBT003 - a row
CONFIGS = ("finetune.yaml", *(rung.file for rung in RUNGS))
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
TUNE = f"""
echo "$*" >>asked
for word; do case $word in *.yaml) config=$word ;; esac; done
mkdir -p artifacts/recipe_state logs
touch artifacts/torchtune_config.yaml "logs/log_$config.txt"
echo 100 >>gpu_metrics.csv
case " $FAILS " in
  *" $config:oom "*) echo '{OOM}' >&2; exit 1 ;;
  *" $config:"*) fails=" $FAILS"; fails=${{fails##* "$config":}}; exit "${{fails%% *}}" ;;
esac
for n in 0 1; do mkdir -p artifacts/epoch_$n; cp ../whole.zip artifacts/epoch_$n/adapter_model.pt; done
"""


@pytest.fixture
def bin_dir(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    fake_program(folder, "tune", TUNE)
    (folder / "python").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("FAILS", raising=False)
    return folder


@pytest.fixture
def folder(bin_dir, tmp_path):
    return written(tmp_path, rungs=RUNGS)


def written(tmp_path, **more) -> Path:
    settings = config()
    settings.epochs = 2
    made = run("a'; echo x", config=settings, **more)
    group = write(plan(made, directory=str(tmp_path / "g")))
    with zipfile.ZipFile(group / "whole.zip", "w") as archive:
        archive.writestr("x/data.pkl", b"")
    folder = group / made.name
    (folder / "resume.py").write_text((RECIPES_DIR / "resume.py").read_text())
    for name in CONFIGS:
        (folder / name).write_text(f"# {name}\n")
    return folder


def start(folder: Path, fails: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "finetune.slurm"], cwd=folder, env=os.environ | {"FAILS": fails} | environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def attempts(folder: Path) -> list[tuple[str, str, int | None]]:
    events = [json.loads(line) for line in (folder / "jobs.jsonl").read_text().splitlines()]
    return [(each["config"], each["reason"], each["resumed_epoch"]) for each in events if each["event"] == "attempt"]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_each_rung_is_tried_once_and_nothing_of_the_failed_ones_stays(folder):
    done = start(folder, "finetune.yaml:oom finetune.rung1.yaml:oom")
    assert done.returncode == 0, done.stdout
    assert attempts(folder) == [(CONFIGS[0], "start", None), (CONFIGS[1], "oom", None), (CONFIGS[2], "oom", None)]
    assert "not enough GPU memory for finetune.rung1.yaml; the same effective batch once more with" in done.stdout
    left = {"artifacts/torchtune_config.yaml", "gpu_metrics.csv"}
    for n, name in enumerate(CONFIGS[:2], start=1):
        assert files(folder / "attempts" / str(n)) == left | {f"logs/log_{name}.txt"}
    assert files(folder / "logs") == {"log_finetune.rung2.yaml.txt"}
    assert (folder / "gpu_metrics.csv").read_text() == "100\n"


def test_the_last_rung_hands_back_its_exit_code(folder):
    done = start(folder, " ".join(f"{name}:oom" for name in CONFIGS))
    assert done.returncode == 1
    assert len(attempts(folder)) == 3
    assert "not enough GPU memory for finetune.rung2.yaml; nothing else is planned" in done.stdout


@pytest.mark.parametrize("code", ["3", "137"])
def test_other_failures_are_not_tried_again(code, folder):
    assert start(folder, f"finetune.yaml:{code}").returncode == int(code)
    assert attempts(folder) == [("finetune.yaml", "start", None)]


def test_without_rungs_out_of_memory_is_a_failure(bin_dir, tmp_path):
    folder = written(tmp_path)
    assert start(folder, "finetune.yaml:oom").returncode == 1
    assert len(attempts(folder)) == 1


@pytest.mark.parametrize("sign", GPU_OOM_SIGNS, ids=bytes.decode)
def test_what_a_log_reader_takes_for_out_of_memory_the_job_does_too(sign, folder):
    assert f"-e {sign.decode()}" in (folder / "finetune.slurm").read_text().replace("'", "")


@pytest.mark.parametrize("opened", ["by SLURM", "elsewhere"])
def test_only_the_words_of_the_attempt_count(opened, bin_dir, folder):
    """A requeued job adds to its log, in which an earlier attempt ran out of memory."""
    log = folder / "slurm-77.out"
    log.write_text(f"{OOM}\n")
    command = "exec bash finetune.slurm >>slurm-77.out 2>&1" if opened == "by SLURM" else "exec bash finetune.slurm"
    environment = os.environ | {"SLURM_JOB_ID": "77", "FAILS": "finetune.yaml:3"}
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, check=False, capture_output=True)
    assert done.returncode == 3
    assert attempts(folder) == [("finetune.yaml", "start", None)]
    environment["FAILS"] = "finetune.yaml:oom"
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, check=False, capture_output=True)
    assert done.returncode == 0, log.read_text()
    assert attempts(folder)[1:] == [("finetune.yaml", "again", None), ("finetune.rung1.yaml", "oom", None)]


def test_a_job_that_is_told_to_stop_does_not_begin_another_attempt(bin_dir, folder):
    stop = "trap 'echo CUDA out of memory; exit 1' TERM"
    fake_program(bin_dir, "tune", f"{stop}; echo ready; sleep 30 >/dev/null 2>&1 & wait $!")
    with subprocess.Popen(["bash", "finetune.slurm"], cwd=folder, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout.readline() == "ready\n"
        job.send_signal(signal.SIGTERM)
        assert job.wait(20) == 1
    assert len(attempts(folder)) == 1


def test_a_complete_run_stays_as_it_is_unless_asked(folder):
    assert start(folder).returncode == 0
    before = files(folder / "artifacts")
    done = start(folder)
    assert (done.returncode, len(attempts(folder))) == (0, 1)
    first, *_, gave_way, last = map(json.loads, (folder / "jobs.jsonl").read_text().splitlines())
    assert (gave_way["event"], gave_way["job_id"], gave_way["to"]) == ("gave_way", last["job_id"], first["job_id"])
    assert "this run is complete, with finetune.yaml: nothing to do (RUNPLAN_AGAIN=1 trains again)" in done.stdout
    # the variable stays in a requeued job's environment, and must not undo what that very job did
    assert start(folder, RUNPLAN_AGAIN="1", SLURM_RESTART_COUNT="1").returncode == 0
    assert len(attempts(folder)) == 1
    assert start(folder, RUNPLAN_AGAIN="1").returncode == 0
    assert attempts(folder)[1:] == [("finetune.yaml", "again", None)]
    assert files(folder / "attempts/1/artifacts") == before == files(folder / "artifacts")


def test_another_configuration_is_trained_from_the_start(folder):
    start(folder)
    (folder / "finetune.yaml").write_text("batch_size: 1\n")
    assert start(folder).returncode == 0
    assert attempts(folder)[1:] == [("finetune.yaml", "again", None)]
    assert (folder / "attempts/1/artifacts/epoch_1/adapter_model.pt").is_file()


def test_the_batch_that_fitted_is_the_one_a_later_job_begins_with(folder):
    assert start(folder, "finetune.yaml:oom finetune.rung1.yaml:9").returncode == 9
    assert start(folder, "finetune.yaml:oom").returncode == 0
    assert attempts(folder)[2:] == [("finetune.rung1.yaml", "again", None)]


def test_files_of_unknown_origin_are_set_aside(folder):
    (folder / "artifacts" / "epoch_7").mkdir(parents=True)
    assert start(folder).returncode == 0
    assert (folder / "attempts" / "1" / "artifacts" / "epoch_7").is_dir()
    assert attempts(folder) == [("finetune.yaml", "start", None)]


def test_a_resume_names_the_epoch_and_keeps_what_belongs_to_it(folder, monkeypatch):
    """`resume.py` is tested with real files elsewhere; here it says what is wanted."""
    start(folder, "finetune.yaml:9")
    (folder / "resume.py").write_text("print('resume finetune.rung1.yaml 0')\n")
    for name in ("epoch_0", "epoch_1", "epoch_0.bak", "recipe_state"):
        (folder / "artifacts" / name).mkdir(exist_ok=True)
        (folder / "artifacts" / name / "file").touch()
    (folder / "artifacts/.datasets").mkdir()
    assert start(folder, "finetune.rung1.yaml:5").returncode == 5
    assert attempts(folder)[1:] == [("finetune.rung1.yaml", "resume", 0)]
    asked = (folder / "asked").read_text().splitlines()[-1]
    assert asked == (
        "run lora_finetune_single_device_val.py --config finetune.rung1.yaml resume_from_checkpoint=true "
        "checkpointer.recipe_checkpoint=recipe_state/recipe_state.pt "
        "checkpointer.adapter_checkpoint=epoch_0/adapter_model.pt"
    )
    aside = files(folder / "attempts/1")
    assert aside == {"artifacts/epoch_1/file", "artifacts/epoch_0.bak/file", "artifacts/torchtune_config.yaml"}
    assert {"epoch_0/file", "recipe_state/file"} <= files(folder / "artifacts")
    assert len(files(folder / "logs")) == 2


def test_a_second_job_stays_away_from_a_running_one(bin_dir, folder):
    fake_program(bin_dir, "squeue", '[ -n "$RUNNING" ] && [ "$*" = "-a -h -t R,S -j 77 -o %o" ] && echo "$RUNNING"')
    assert start(folder, "finetune.yaml:9", SLURM_JOB_ID="77").returncode == 9
    done = start(folder, RUNNING="1", SLURM_JOB_ID="78")
    assert (done.returncode, len(attempts(folder))) == (1, 1)
    assert "job 77 is training here" in done.stdout
    assert not (folder / "attempts").exists()
    assert start(folder, RUNNING="1", SLURM_JOB_ID="77").returncode == 0  # the same one, requeued
    assert start(folder, SLURM_JOB_ID="78", RUNPLAN_AGAIN="1").returncode == 0
    assert len(attempts(folder)) == 3


def test_a_copy_does_not_wait_for_the_job_of_the_original(bin_dir, folder):
    fake_program(bin_dir, "squeue", 'echo "$RUNNING"')
    assert start(folder, "finetune.yaml:9", SLURM_JOB_ID="77").returncode == 9
    copy = shutil.copytree(folder, folder.parent / "a copy")
    original, itself = (f"{each}/finetune.slurm" for each in (folder, copy))
    assert start(copy, RUNNING=itself, SLURM_JOB_ID="78").returncode == 1
    assert start(copy, RUNNING=original, SLURM_JOB_ID="78").returncode == 0
    assert start(folder, RUNNING="(null)", SLURM_JOB_ID="78").returncode == 1


def test_a_broken_resume_py_means_to_start(folder):
    start(folder, "finetune.yaml:9")
    (folder / "resume.py").write_text("import nothing_like_this\n")
    done = start(folder)
    assert done.returncode == 0
    assert "resume.py does not run here" in done.stdout
    assert attempts(folder)[1:] == [("finetune.yaml", "again", None)]


def test_several_gpus_continue_with_their_own_recipe(bin_dir, tmp_path):
    recipe = Recipe("lora_finetune_distributed", distributed=True, validation=False)
    text = (written(tmp_path, recipe=recipe) / "finetune.slurm").read_text()
    assert text.count("run tune run --nnodes 1 --nproc_per_node 0 lora_finetune_distributed --config") == 2


def test_a_recipe_of_the_users_own_keeps_its_files_to_itself(bin_dir, tmp_path):
    folder = written(tmp_path, recipe=Recipe("mine", distributed=False, validation=False, custom=True))
    for _ in range(2):
        assert start(folder).returncode == 0
    assert attempts(folder) == [("finetune.yaml", "start", None)] * 2
    assert not (folder / "attempts").exists()
