"""Job scripts as texts, and run by bash with programs that only pretend."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from job_plans import cell, config, control, fake_program, plan, request, run, templates, write
from omegaconf import OmegaConf

from runplan.errors import ConfigError, RenderError
from runplan.estimate.steps import padded_lengths
from runplan.facts import Lengths, ModelFacts, Status
from runplan.jobs.cells import cell_token
from runplan.jobs.scripts import job_files, one_line, submit_all
from runplan.plan import Check, Recipe
from runplan.priors.siblings import script_fields

TUNE = 'printf "%s\\n" "$*"; pwd; exit "${TUNE_EXIT:-0}"'
HOSTILE = ["a'; echo x", "$(touch x)", "new\nline", '`id` "q" \\', "ünï %j #=,", "-n"]


@pytest.fixture
def bin_dir(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    fake_program(folder, "tune", TUNE)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def bash(script: Path, **more) -> subprocess.CompletedProcess[str]:
    more.setdefault("cwd", "/")
    return subprocess.run(["bash", str(script)], capture_output=True, text=True, timeout=60, check=False, **more)


def records(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "jobs.jsonl").read_text().splitlines()]


def tree(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def test_the_files_of_a_run():
    made = run(cells=(cell(0), cell(1)))
    assert set(job_files(plan(made), made, templates())) == {
        "finetune.slurm",
        *(f"eval/cap_epoch{epoch}/{name}" for epoch in (0, 1) for name in ("eval.yaml", "cell.slurm")),
    }
    base = control()
    assert set(job_files(plan(base), base, templates())) == {"eval/cap/eval.yaml", "eval/cap/cell.slurm"}


def test_the_same_plan_gives_the_same_bytes():
    made = plan(run(cells=(cell(),)), control())
    assert submit_all(made, templates()) == submit_all(made, templates())
    assert job_files(made, made.runs[0], templates()) == job_files(made, made.runs[0], templates())


def test_eval_yaml_is_read_back_as_it_was_meant():
    text = "a: 'b' # {x}\n1e-5"
    made = run(cells=(replace(cell(), args={"prompt": text, "n": 1e-5, "on": True}),), config=config())
    made.config.prompt = text
    made.config.evaluation.limit = 7
    document = job_files(plan(made), made, templates())["eval/cap_epoch0/eval.yaml"]
    for read in (yaml.safe_load(document), OmegaConf.to_container(OmegaConf.create(document))):
        assert read["prompt"] == text
        assert read["args"] == {"prompt": text, "n": 1e-5, "on": True}
        assert (read["model_path"], read["weights"], read["limit"]) == ("artifacts/epoch_0", "merged", 7)


def test_a_cell_asks_inspect_for_what_the_config_says():
    made = run(cells=(replace(cell(), args={"system_prompt": "s"}),), config=config())
    evaluation = made.config.evaluation
    evaluation.limit, evaluation.temperature, made.config.system_prompt = 5, 0.7, "s"
    script = job_files(plan(made), made, templates())["eval/cap_epoch0/cell.slurm"]
    assert "--limit=5" in script
    assert "--temperature=0.7" in script
    assert "do_sample" not in script
    assert "--system-message" not in script  # the task takes it as an argument
    evaluation.temperature = 0.0
    greedy = replace(made, cells=(cell(),))
    script = job_files(plan(greedy), greedy, templates())["eval/cap_epoch0/cell.slurm"]
    assert '"do_sample": false' in script
    assert "--temperature" not in script
    assert "--system-message=s" in script


def test_tokens_tell_all_jobs_apart_and_are_plain():
    first, second = run(cells=(cell(0), cell(1))), run(token="tok2", cells=(cell(0),))
    tokens = [cell_token(each.token, part.dir) for each in (first, second) for part in each.cells]
    assert len(set(tokens)) == 3
    assert all(token.startswith(("tok1-", "tok2-")) for token in tokens)
    with pytest.raises(RenderError, match="cannot identify"):
        job_files(plan(first), replace(first, token="a b"), templates())


def test_a_variable_that_bash_cannot_have_is_refused():
    made = run(config=config(env={"A B": "x"}))
    with pytest.raises(ConfigError, match=r"site\.env"):
        job_files(plan(made), made, templates())


def test_a_directory_slurm_would_misread_gets_its_log_from_the_job():
    made = run("50%")
    assert "#SBATCH --output=/dev/null" in job_files(plan(made), made, templates())["finetune.slurm"]
    assert "#SBATCH --output=slurm-%j.out" in job_files(plan(run()), run(), templates())["finetune.slurm"]


def test_several_gpus_and_a_recipe_of_the_users_own():
    many = run(recipe=Recipe("lora_finetune_distributed", distributed=True, validation=False))
    many = replace(many, request=replace(request(), gpus=4))
    assert "tune run --nnodes 1 --nproc_per_node 4 lora_finetune_distributed --config" in _script(many)
    own = run(recipe=Recipe("/my files/r.py", distributed=False, validation=False, custom=True))
    assert "run python '/my files/r.py' --config" in _script(own)


def _script(made) -> str:
    return job_files(plan(made), made, templates())["finetune.slurm"]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=12))
def test_bash_reads_every_script_whatever_the_names(name):
    made = run(
        name,
        cells=(replace(cell(script=f"/t/{name}.py"), args={name: name}),),
        config=config(modules=[name], conda_env=name, venv=name, env={"A": name}),
    )
    made.config.system_prompt = name
    check = Check("model", name, f"/models/{name}", Status.invalid, name, name)
    group = plan(made, group=name, command=name, checks=(check,), directory=f"/out/{name}")
    texts = [*job_files(group, made, templates()).items(), ("submit_all.sh", submit_all(group, templates()))]
    for path, text in texts:
        if not path.endswith(".yaml"):
            done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, ""), f"{path}\n{text}"


@pytest.mark.parametrize("name", HOSTILE)
def test_training_runs_in_its_directory_and_leaves_nothing_elsewhere(name, bin_dir, tmp_path, monkeypatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    group = write(plan(run(name), directory=str(tmp_path / "a group")))
    before = tree(tmp_path)
    done = bash(group / name / "finetune.slurm")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"run lora_finetune_single_device --config finetune.yaml\n{group / name}\n"
    started, attempt, ended = records(group / name)
    assert (started["event"], attempt["event"]) == ("started", "attempt")
    assert started["token"] == "tok1"
    assert started["kind"] == "train"
    assert started["job_id"].startswith("local-")
    assert (ended["event"], ended["exit_code"], ended["job_id"]) == ("ended", 0, started["job_id"])
    new = {f"a group/{name}/{file}" for file in ("jobs.jsonl", "logs", "artifacts", f"slurm-{started['job_id']}.out")}
    assert tree(tmp_path) - before == new
    assert (group / name / f"slurm-{started['job_id']}.out").read_text() == done.stdout


@pytest.mark.parametrize("end", ["", "\0\0"])
def test_a_line_that_was_cut_short_spoils_no_other(end, bin_dir, tmp_path):
    folder = write(plan(run(), directory=str(tmp_path / "g"))) / "1B_rank4"
    (folder / "jobs.jsonl").write_text('{"event": "started", "tok' + end)
    assert bash(folder / "finetune.slurm").returncode == 0
    first, *others = (folder / "jobs.jsonl").read_text().splitlines()
    assert first == '{"event": "started", "tok' + end
    assert [json.loads(line)["event"] for line in others] == ["started", "attempt", "ended"]


@pytest.mark.parametrize(("words", "job_id"), [((), "77"), (("70_3",), "70_3"), (("x",), "77")])
def test_a_job_knows_who_it_is_whatever_it_inherited(words, job_id, bin_dir, tmp_path, monkeypatch):
    """A job that was submitted from within a task of an array has that one's words around it."""
    for key, value in {"SLURM_JOB_ID": "77", "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2"}.items():
        monkeypatch.setenv(key, value)
    folder = write(plan(run(), directory=str(tmp_path / "g"))) / "1B_rank4"
    subprocess.run(["bash", "finetune.slurm", *words], cwd=folder, capture_output=True, check=True, timeout=60)
    assert {each["job_id"] for each in records(folder)} == {job_id}
    assert (folder / "slurm-77.out").is_file()


@pytest.mark.parametrize(("body", "code"), [("exit 3", 3), ("kill -9 $$", 137)])
def test_the_exit_code_is_the_trainers(body, code, bin_dir, tmp_path):
    fake_program(bin_dir, "tune", f"until [ -s gpu_metrics.csv ]; do sleep 0.02; done\n{body}")
    fake_program(bin_dir, "nvidia-smi", "echo timestamp; exec sleep 30")
    group = write(plan(run(), directory=str(tmp_path / "g")))
    assert bash(group / "1B_rank4" / "finetune.slurm").returncode == code
    assert records(group / "1B_rank4")[-1]["exit_code"] == code
    assert (group / "1B_rank4" / "gpu_metrics.csv").read_text() == "timestamp\n"


def test_a_signal_reaches_the_trainer_and_its_exit_code_comes_back(bin_dir, tmp_path):
    fake_program(bin_dir, "tune", "trap 'echo saved; exit 9' TERM; echo ready; sleep 30 >/dev/null 2>&1 & wait $!")
    group = write(plan(run(), directory=str(tmp_path / "g")))
    command = ["bash", str(group / "1B_rank4" / "finetune.slurm")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as job:
        assert job.stdout.readline() == "ready\n"
        job.send_signal(signal.SIGUSR2)  # a notice of the time limit is no reason to stop
        job.send_signal(signal.SIGTERM)
        start = time.monotonic()
        assert job.wait(20) == 9
        assert time.monotonic() - start < 10
        assert job.stdout.read() == "saved\n"
        with contextlib.suppress(ProcessLookupError):  # what the trainer left behind, if anything
            os.killpg(job.pid, signal.SIGKILL)
    assert records(group / "1B_rank4")[-1]["exit_code"] == 9


def test_no_trainer_is_one_clear_message(bin_dir, tmp_path):
    (bin_dir / "tune").unlink()
    group = write(plan(run(config=config(conda_env="ml", modules=["ana"])), directory=str(tmp_path / "g")))
    done = bash(group / "1B_rank4" / "finetune.slurm")
    assert done.returncode == 127
    log = (group / "1B_rank4" / f"slurm-{records(group / '1B_rank4')[0]['job_id']}.out").read_text()
    assert "cannot activate conda environment ml" in log
    assert "no tune on PATH" in log
    assert records(group / "1B_rank4")[-1]["exit_code"] == 127


def test_a_missing_environment_is_said_and_the_trainer_on_path_used(bin_dir, tmp_path):
    settings = config(conda_env="ml", modules=["ana/1 2"], venv=str(tmp_path / "no venv"))
    group = write(plan(run(config=settings), directory=str(tmp_path / "g")))
    done = bash(group / "1B_rank4" / "finetune.slurm")
    assert done.returncode == 0
    assert "no environment modules here, going on without: ana/1 2" in done.stdout
    assert f"going on with {bin_dir}/tune" in done.stdout


def test_modules_conda_and_venv_are_used_where_they_are(bin_dir, tmp_path, monkeypatch):
    (bin_dir / "tune").unlink()
    fake_program(tmp_path / "env", "tune", 'echo "$LOADED $CONDA $A"')
    fake_program(
        bin_dir,
        "conda",
        f'echo \'conda() {{ [ "$1 $2" = "activate m l" ] && CONDA=yes && export CONDA PATH={tmp_path}/env:$PATH; }}\'',
    )
    (tmp_path / "init").mkdir()
    (tmp_path / "init" / "bash").write_text("module() { export LOADED=$LOADED+$2; }\n")
    monkeypatch.setenv("MODULESHOME", str(tmp_path))
    settings = config(conda_env="m l", modules=["a", "b"], env={"A": "it's"})
    group = write(plan(run(config=settings), directory=str(tmp_path / "g")))
    done = bash(group / "1B_rank4" / "finetune.slurm")
    assert (done.returncode, done.stdout) == (0, "+a+b yes it's\n")


def test_caches_are_the_jobs_own(bin_dir, tmp_path):
    fake_program(bin_dir, "tune", "env")
    group = write(plan(run(), directory=str(tmp_path / "g")))
    out = bash(group / "1B_rank4" / "finetune.slurm").stdout
    seen = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    own = f"{group}/1B_rank4/.cache/"
    for name in ("HF_HOME", "HF_DATASETS_CACHE", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME"):
        assert seen[name].startswith(own), name
    assert (seen["HF_HUB_OFFLINE"], seen["OMP_NUM_THREADS"]) == ("1", os.environ.get("OMP_NUM_THREADS", "1"))
    assert len(seen["TMPDIR"]) < 80


INSPECT = """
printf '%s\\n' "$@" >asked
for word; do case $word in *model.json) cp "$word" . ;; *task.json) cp "$word" . ;; esac; done
model=$(python3 -c 'import json; print(json.load(open("model.json"))["model_path"])')
ls "$model" >view
cp "$model/generation_config.json" generation.json
[ -z "$INSPECT_LOG" ] || printf '%s' "$INSPECT_LOG" >logs/1.json
exit "${INSPECT_EXIT:-0}"
"""
SUCCESS = json.dumps(
    {
        "status": "success",
        "results": {"scores": [{"name": "match", "metrics": {"accuracy": {"name": "accuracy", "value": 0.5}}}]},
    }
)


HEADER = json.dumps({"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER.encode() + bytes(8)


@pytest.fixture
def evaluated(bin_dir, tmp_path, monkeypatch):
    """A run with a saved epoch of merged weights and adapters, and its cell's directory."""
    fake_program(bin_dir, "inspect", INSPECT)
    group = write(plan(run("a'; echo x", cells=(replace(cell(), args={"p": "a,b"}),)), directory=str(tmp_path / "g")))
    epoch = group / "a'; echo x" / "artifacts" / "epoch_0"
    epoch.mkdir(parents=True)
    for name in ("config.json", "adapter_config.json"):
        (epoch / name).write_text("{}")
    for name in ("model.safetensors", "adapter_model.safetensors"):
        (epoch / name).write_bytes(WEIGHTS)
    monkeypatch.setenv("INSPECT_LOG", SUCCESS)
    return group / "a'; echo x" / "eval" / "cap_epoch0"


def test_a_cell_evaluates_merged_weights_without_the_adapters(evaluated):
    done = bash(evaluated / "cell.slurm")
    assert done.returncode == 0, done.stdout
    assert "match accuracy 0.5" in done.stdout
    assert (evaluated / "view").read_text().split() == ["config.json", "generation_config.json", "model.safetensors"]
    assert json.loads((evaluated / "task.json").read_text()) == {"p": "a,b"}
    assert json.loads((evaluated / "model.json").read_text())["tokenizer_call_args"] == {"add_special_tokens": False}
    assert "/tasks/cap/inspect.py@cap" in (evaluated / "asked").read_text().split()
    started, ended = records(evaluated)
    assert (started["kind"], started["cell"], ended["exit_code"]) == ("cell", "eval/cap_epoch0", 0)
    assert not (evaluated / ".cache").exists()


def break_weights(content):
    return lambda epoch: (epoch / "model.safetensors").write_bytes(content)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (break_weights(WEIGHTS[:-1]), f"model.safetensors is cut off: {len(WEIGHTS) - 1} bytes of {len(WEIGHTS)}"),
        (break_weights(WEIGHTS[:9]), "model.safetensors is no safetensors file"),
        (break_weights(b""), "model.safetensors is no safetensors file"),
        (lambda epoch: (epoch / "config.json").write_text("{"), "cannot read"),
        (lambda epoch: (epoch / "tokenizer.json").write_text("["), "cannot read"),
        (shutil.rmtree, "its training has not saved this epoch"),
    ],
    ids=["cut off", "cut in the header", "empty", "config", "tokenizer", "no epoch"],
)
def test_a_cell_says_what_is_wrong_with_a_checkpoint(evaluated, break_it, says):
    break_it(evaluated.parents[1] / "artifacts" / "epoch_0")
    done = bash(evaluated / "cell.slurm")
    assert done.returncode == records(evaluated)[-1]["exit_code"] == 1
    assert says in done.stdout
    assert "Traceback" not in done.stdout
    assert not (evaluated / "asked").exists()


@pytest.mark.parametrize("lost", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_cell_says_that_a_checkpoint_lacks_its_adapter(evaluated, lost, tmp_path):
    settings = config()
    settings.trainer.save_adapter_weights_only = True
    model = ModelFacts(str(tmp_path), Status.ok)
    name = "a'; echo x"
    group = write(plan(run(name, cells=(cell(),), config=settings, model=model), directory=str(tmp_path / "g")))
    (group / name / "artifacts" / "epoch_0" / lost).unlink()
    done = bash(evaluated / "cell.slurm")
    assert done.returncode == 1
    assert f"no {lost} in {group / name}/artifacts/epoch_0: its training has not saved" in done.stdout


@pytest.mark.parametrize(
    ("generation", "ends"),
    [(None, [7, 9]), ({"eos_token_id": 3, "top_p": 0.9}, [3, 9]), ({"eos_token_id": [9, 3]}, [9, 3]), ({}, [9])],
)
def test_an_answer_ends_where_training_ended_it(evaluated, generation, ends):
    epoch = evaluated.parents[1] / "artifacts" / "epoch_0"
    (epoch / "config.json").write_text('{"eos_token_id": 7}')
    added = [{"id": 8, "content": "<|end_of_text|>"}, {"id": 9, "content": "<|eot_id|>"}]
    (epoch / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    if generation is not None:
        (epoch / "generation_config.json").write_text(json.dumps(generation))
    assert bash(evaluated / "cell.slurm").returncode == 0
    assert json.loads((evaluated / "generation.json").read_text()) == (generation or {}) | {"eos_token_id": ends}


@pytest.mark.parametrize(
    ("environment", "code", "says"),
    [
        ({"INSPECT_LOG": '{"status": "error", "error": {"message": "no"}}'}, 1, "Inspect ended with status error: no"),
        ({"INSPECT_LOG": '{"status": "started"}'}, 1, "Inspect ended with status started"),
        ({"INSPECT_LOG": ""}, 1, "Inspect wrote no log"),
        ({"INSPECT_EXIT": "2"}, 2, ""),
    ],
)
def test_a_cell_fails_when_inspect_does_even_with_exit_code_0(evaluated, monkeypatch, environment, code, says):
    (evaluated / "logs").mkdir()
    (evaluated / "logs" / "0.json").write_text(SUCCESS)  # of an earlier attempt
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    done = bash(evaluated / "cell.slurm")
    assert (done.returncode, records(evaluated)[-1]["exit_code"]) == (code, code)
    assert says in done.stdout


def test_a_cell_without_its_epoch_says_so(bin_dir, tmp_path):
    fake_program(bin_dir, "inspect", "exit 0")
    group = write(plan(run(cells=(cell(),)), directory=str(tmp_path / "g")))
    done = bash(group / "1B_rank4" / "eval" / "cap_epoch0" / "cell.slurm")
    assert done.returncode == 1
    assert "its training has not saved this epoch" in done.stdout


@pytest.mark.parametrize("text", HOSTILE)
def test_one_line(text):
    assert len(one_line(text).splitlines()) == 1


def test_a_trainer_that_ends_at_once_leaves_its_own_exit_code(bin_dir, tmp_path):
    """The sampler of GPU metrics is stopped while it starts; it must not write the run's last record."""
    fake_program(bin_dir, "tune", "exit 3")
    fake_program(bin_dir, "nvidia-smi", "exec sleep 30")
    for i in range(15):
        group = write(plan(run(), directory=str(tmp_path / f"g{i}")))
        assert bash(group / "1B_rank4" / "finetune.slurm").returncode == 3
        assert [each["event"] for each in records(group / "1B_rank4")] == ["started", "attempt", "ended"]
        assert records(group / "1B_rank4")[-1]["exit_code"] == 3


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**4)), min_size=1, max_size=30))
def test_what_a_job_script_notes_of_its_rows_is_read_again(counts):
    padded = padded_lengths(Lengths(tuple(sorted(dict(counts).items()))))
    made = replace(run(), padded_tokens=padded)
    script = job_files(plan(made), made, templates())["finetune.slurm"]
    assert script_fields(script.encode())["padded_tokens"] == list(padded)
    plain = job_files(plan(run()), run(), templates())["finetune.slurm"]
    assert "padded_tokens" not in script_fields(plain.encode())
