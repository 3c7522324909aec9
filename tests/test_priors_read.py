"""Folders of logs: what is found, what is read again, what is joined, and what must never stop a reading."""

import json
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from runplan.errors import ConfigError
from runplan.priors import processes
from runplan.priors.accounting import parse_sacct
from runplan.priors.command import JSON_KEYS, main, print_table
from runplan.priors.contents import read_text
from runplan.priors.index import Index
from runplan.priors.own_jobs import job_fields
from runplan.priors.read import read_priors
from runplan.priors.slurm_words import job_id

LOGS = Path(__file__).parent / "data" / "logs"
CONFIG = "Running LoRAFinetuneRecipeSingleDevice with resolved config:\n\nbatch_size: {batch}\nepochs: 1\n\n"


def tune_log(batch=4, s_per_step=0.5, steps=400, extra=""):
    lines = [CONFIG.format(batch=batch), extra]
    for i in range(1, steps + 1):
        seconds = int(i * s_per_step)
        shown = f"{1 / s_per_step:.2f}it/s"
        lines.append(f"\r1|{i}|Loss: 1.25: {100 * i // steps:3d}%|####      | {i}/{steps} ")
        lines.append(f"[{seconds // 60:02d}:{seconds % 60:02d}<00:10,  {shown}]")
    return "".join([*lines, "Starting checkpoint save...\nCheckpoint saved in 2.00 seconds.\n"])


@pytest.fixture
def no_sacct(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))


@pytest.fixture
def read(tmp_path, no_sacct):
    def call(*paths, gpu=None, **options):
        return read_priors([str(path) for path in paths or ["logs"]], gpu, tmp_path / "cache", tmp_path, **options)

    (tmp_path / "logs").mkdir()
    return call


@pytest.fixture
def count_reads(monkeypatch):
    seen = []
    original = processes.read_log
    monkeypatch.setattr(processes, "read_log", lambda log: (seen.append(log.name), original(log))[1])
    return seen


def age(path, seconds=7200):
    os.utime(path, (time.time() - seconds,) * 2)


def test_a_folder_is_searched_recursively_for_logs_only(tmp_path, read):
    run = tmp_path / "logs" / "a" / "b c'$(x)" / "é"
    run.mkdir(parents=True)
    for name in ("slurm-1.out", "train.err", "x.log"):
        (run / name).write_text(tune_log())
    (run / "notes.txt").write_text(tune_log())
    (run / "model.safetensors").write_bytes(b"\0" * 10)
    (run / "other.out").write_text("no training here")
    found = read()
    assert [Path(one.path).name for one in found.runs] == ["slurm-1.out", "train.err", "x.log"]
    assert found.searched == 4
    assert [one.it_per_s for one in found.runs] == pytest.approx([2.0] * 3, rel=0.01)


def test_a_missing_folder_is_an_error_and_a_missing_default_is_not(tmp_path, read):
    with pytest.raises(ConfigError, match="nowhere") as error:
        read("nowhere", tmp_path / "there", "logs")
    assert len(error.value.problems) == 2
    assert error.value.exit_code == 2
    found = read("nowhere", optional={"nowhere"})
    assert found.runs == ()
    assert any("nowhere" in warning for warning in found.warnings)
    assert any("ck-" in warning for warning in read("ck-*/slurm-*.out").warnings)
    assert any("no training log" in warning for warning in read("logs").warnings)


def test_a_glob_that_finds_logs_is_no_warning_nor_are_other_defaults_beside_it(tmp_path, read):
    (tmp_path / "logs" / "slurm-1.out").write_text(tune_log())
    assert read("logs/slurm-*.out").warnings == ()
    assert read("ck-*/slurm-*.out", "logs/slurm-*.out", optional={"ck-*/slurm-*.out"}).warnings == ()
    assert any("ck-" in warning for warning in read("ck-*/slurm-*.out", "logs/slurm-*.out").warnings)


def test_globs_and_files_are_read_once(tmp_path, read):
    (tmp_path / "logs" / "slurm-1.out").write_text(tune_log())
    found = read("logs/slurm-*.out", "logs", "logs/slurm-1.out")
    assert (len(found.runs), found.searched) == (1, 1)


def test_only_changed_logs_are_read_again(tmp_path, read, count_reads):
    logs = tmp_path / "logs"
    for i in range(5):
        (logs / f"slurm-{i}.out").write_text(tune_log(batch=i))
    first = read()
    assert len(count_reads) == 5
    assert read() == first
    assert len(count_reads) == 5
    (logs / "slurm-3.out").write_text(tune_log(batch=33, steps=300))
    (logs / "slurm-4.out").unlink()
    assert [one.batch_size for one in read().runs] == [0, 1, 2, 33]
    assert count_reads[5:] == ["slurm-3.out"]
    (logs / "finetune.yaml").write_text("model:\n  lora_rank: 64\n")
    assert {one.lora_rank for one in read().runs} == {64}
    read(refresh=True)
    assert len(count_reads) == 5 + 1 + 4 + 4


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 1}', b"\xff\x00\x80" * 99, b"null", b"[" * 20000])
def test_a_damaged_index_is_rebuilt(tmp_path, read, content):
    (tmp_path / "logs" / "slurm-1.out").write_text(tune_log())
    first = read()
    index = next((tmp_path / "cache" / "priors").glob("*.json"))
    index.write_bytes(content)
    assert read() == first
    assert json.loads(index.read_bytes())["logs"]


def test_an_index_with_nonsense_entries_does_no_harm(tmp_path, read):
    (tmp_path / "logs" / "slurm-1.out").write_text(tune_log())
    first = read()
    index = next((tmp_path / "cache" / "priors").glob("*.json"))
    for nonsense in (7, [], [1, 2, 3, 4], None, {"a": 1}):
        content = json.loads(index.read_bytes())
        content["logs"] = dict.fromkeys(content["logs"], nonsense)
        index.write_text(json.dumps(content))
        assert read() == first


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, no_sacct):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "slurm-1.out").write_text(tune_log())
    (tmp_path / "cache").write_text("a file in the way")
    found = read_priors(["logs"], None, tmp_path / "cache", tmp_path)
    assert len(found.runs) == 1
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["slurm-1.out"]


def test_several_readers_at_once_leave_a_whole_index(tmp_path, read):
    for i in range(20):
        (tmp_path / "logs" / f"slurm-{i}.out").write_text(tune_log(batch=i, steps=30))
    results = []
    readers = [threading.Thread(target=lambda: results.append(len(read().runs))) for _ in range(6)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert results == [20] * 6
    kept = list((tmp_path / "cache" / "priors").iterdir())
    assert [path.suffix for path in kept] == [".json"]
    assert len(json.loads(kept[0].read_bytes())["logs"]) == 20


def test_many_logs_are_read_by_several_processes(tmp_path, read, monkeypatch):
    monkeypatch.setattr(processes, "_PARALLEL_FROM", 4)
    monkeypatch.setattr(processes, "_CHUNK", 2)
    for i in range(9):
        (tmp_path / "logs" / f"slurm-{i}.out").write_text(tune_log(batch=i, steps=30))
    assert [one.batch_size for one in read().runs] == list(range(9))


def test_garbage_loops_and_closed_folders_stop_nothing(tmp_path, read):
    logs = tmp_path / "logs"
    (logs / "slurm-1.out").write_text(tune_log())
    (logs / "garbage.out").write_bytes(os.urandom(70_000))
    (logs / "empty.log").touch()
    (logs / "loop").symlink_to(logs)
    (logs / "gone.out").symlink_to(logs / "nothing")
    (logs / "self.out").symlink_to("self.out")
    (logs / "folder.out").mkdir()
    os.mkfifo(logs / "pipe.out")
    closed = logs / "closed"
    closed.mkdir()
    (closed / "slurm-2.out").write_text(tune_log())
    closed.chmod(0)
    try:
        found = read()
    finally:
        closed.chmod(stat.S_IRWXU)
    assert any(one.path.endswith("logs/slurm-1.out") for one in found.runs)
    assert not any("pipe" in one.path or "folder" in one.path for one in found.runs)


def test_a_file_name_that_is_not_unicode_is_read(tmp_path, read):
    (Path(os.fsdecode(bytes(tmp_path / "logs") + b"/slurm-\xff.out"))).write_text(tune_log())
    assert len(read().runs) == 1
    assert len(read().runs) == 1


def test_of_a_huge_log_ends_and_pieces_are_read(tmp_path, read, monkeypatch):
    monkeypatch.setattr("runplan.priors.contents._WHOLE_BYTES", 200_000)
    monkeypatch.setattr("runplan.priors.contents._END_BYTES", 40_000)
    monkeypatch.setattr("runplan.priors.contents._PIECE_BYTES", 1_000)
    path = tmp_path / "logs" / "slurm-1.out"
    path.write_text(tune_log(steps=9000))
    assert len(read_text(str(path), path.stat().st_size)) < 150_000 < path.stat().st_size
    (run,) = read().runs
    assert run.it_per_s == pytest.approx(2.0, rel=0.01)
    assert (run.steps_done, run.batch_size, run.state) == (9000, 4, "completed")


def test_a_growing_log_is_running_and_an_old_one_is_not(tmp_path, read):
    path = tmp_path / "logs" / "slurm-1.out"
    text = tune_log()
    path.write_text(text[: len(text) // 2])
    assert read().runs[0].state == "running"
    age(path)
    (run,) = read().runs
    assert run.state == "unknown"
    path.write_text(text)
    assert read().runs[0].state == "completed"


def test_siblings_add_what_the_log_does_not_say(tmp_path, read):
    run = tmp_path / "logs" / "1B_rank4"
    (run / ".hydra").mkdir(parents=True)
    (run / "slurm-12.out").write_text(tune_log(batch=4))
    (run / "finetune.yaml").write_text(
        "model:\n  _component_: torchtune.models.llama3_2.lora_llama3_2_1b\n  lora_rank: 4\n"
        "batch_size: 99\ngradient_accumulation_steps: 2\ntokenizer:\n  max_seq_len: 2048\n"
        "dataset:\n  packed: true\ncheckpointer:\n  checkpoint_dir: /models/Llama-3.2-1B-Instruct\n"
    )
    (run / "setup_finetune.yaml").write_text("lora_rank: 5\ngpus: 1\n")
    (run / "finetune.slurm").write_text("#!/bin/bash\n#SBATCH --gres=gpu:1\n#SBATCH --constraint=gpu80\n")
    (run / ".hydra" / "config.yaml").write_text("resources:\n  gpu: h100-80\nlora:\n  rank: ${rp.x:}\n")
    (run / "gpu_metrics.csv").write_text("timestamp, name, memory.used [MiB]\n1, NVIDIA H200, 1024 MiB\n")
    (one,) = read(gpu="t4-16").runs
    assert (one.batch_size, one.gradient_accumulation_steps, one.lora_rank) == (4, 2, 4)
    assert (one.model, one.params_b, one.gpu) == ("Llama-3.2-1B-Instruct", 1.236, "a100-80")
    assert one.process_peak_gib == 1.0
    assert one.tokens_per_s == pytest.approx(2.0 * 4 * 2 * 2048, rel=0.01)


def test_the_trainer_state_of_hugging_face_adds_the_plan(tmp_path, read):
    run = tmp_path / "logs" / "sft"
    run.mkdir()
    (run / "train.log").write_text("***** Running training *****\n{'loss': 1.2, 'epoch': 0.1}\n")
    history = [{"epoch": i / 99, "step": i, "loss": 1.25, "text": "x" * 400} for i in range(6000)]
    state = {"epoch": 1.5, "global_step": 90, "log_history": history, "max_steps": 120, "num_train_epochs": 2}
    (run / "trainer_state.json").write_text(json.dumps({**state, "train_batch_size": 8}, indent=2))
    (one,) = read().runs
    assert (one.trainer, one.steps_total, one.epochs, one.batch_size, one.steps_done) == ("hf", 120, 2, 8, None)
    (run / "trainer_state.json").write_bytes(b"\0{" * 9)
    assert read().runs[0].steps_total is None


def test_gpu_request_then_text_then_default(tmp_path, read):
    logs = tmp_path / "logs"
    for name, script, text in (
        ("request", "#SBATCH --gres=gpu:h100:1\n", "NVIDIA A100-SXM4-80GB\n"),
        ("refined", "#SBATCH --gres=gpu:a100:1\n", "NVIDIA A100-SXM4-80GB\n"),
        ("text", "#SBATCH --gres=gpu:1\n", "NVIDIA A100-SXM4-80GB\n"),
        ("unsaid", "#SBATCH --gres=gpu:1\n", ""),
    ):
        (logs / name).mkdir()
        (logs / name / "finetune.slurm").write_text(script)
        (logs / name / "slurm-1.out").write_text(text + tune_log())
    gpus = {Path(one.path).parent.name: one.gpu for one in read(gpu="t4-16").runs}
    assert gpus == {"request": "h100", "refined": "a100-80", "text": "a100-80", "unsaid": "t4-16"}
    assert {Path(one.path).parent.name: one.gpu for one in read().runs}["unsaid"] is None


OOM = "Traceback (most recent call last):\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"


@pytest.mark.parametrize(("output", "errors"), [("a.out", "a.err"), ("a.log", "a.err"), ("stdout.log", "stderr.log")])
def test_standard_error_in_a_file_of_its_own_belongs_to_its_job(tmp_path, read, count_reads, output, errors):
    whole = tune_log(batch=8)
    whole = whole[: whole.index("\r1|300|")]
    bars = whole.index("\r1|1|")
    (tmp_path / "logs" / output).write_text(whole[:bars])
    (tmp_path / "logs" / errors).write_text(whole[bars:])
    (tmp_path / "logs" / "other.err").write_text(whole)
    other, one = sorted(read().runs, key=lambda run: not run.path.endswith("other.err"))
    assert (other.path, one.path) == (str(tmp_path / "logs/other.err"), str(tmp_path / "logs" / output))
    for key in ("batch_size", "s_per_step", "steps_done", "checkpoint_s", "state"):
        assert getattr(one, key) == getattr(other, key), key
    assert [run.path for run in read("logs/*").runs] == [run.path for run in read().runs]
    count_reads.clear()
    with (tmp_path / "logs" / errors).open("a") as file:
        file.write(OOM)
    (again,) = [run for run in read().runs if run.path == one.path]
    assert count_reads == [output]
    assert again.state == "oom"


def test_a_closed_or_empty_standard_error_says_nothing(tmp_path, read):
    (tmp_path / "logs" / "a.out").write_text(tune_log())
    (tmp_path / "logs" / "a.err").write_text("")
    before = read().runs
    (tmp_path / "logs" / "a.err").unlink()
    (tmp_path / "logs" / "a.err").mkdir()
    assert (
        [run.s_per_step for run in read().runs] == [run.s_per_step for run in before] == [pytest.approx(0.5, rel=0.01)]
    )


def test_a_disk_log_joins_the_log_of_its_run(tmp_path, read):
    run = tmp_path / "logs" / "1B_rank4"
    (run / "logs").mkdir(parents=True)
    text = tune_log(extra="Writing logs to /elsewhere/logs/log_1734708879.txt\n")
    (run / "slurm-1.out").write_text(text)
    (run / "logs" / "log_1734708879.txt").write_text("Step 1 | loss:1.0 peak_memory_active:7.5 \nStep 2 | loss:1.0 \n")
    (one,) = read().runs
    assert one.path.endswith("slurm-1.out")
    assert (one.peak_memory_gib.active, one.steps_done) == (7.5, 400)
    (run / "slurm-1.out").unlink()
    (one,) = read().runs
    assert one.path.endswith("log_1734708879.txt")
    assert (one.peak_memory_gib.active, one.steps_done) == (7.5, 2)


def test_a_disk_log_nobody_names_joins_the_only_log_of_its_run_directory(tmp_path, read):
    run = tmp_path / "logs" / "run"
    (run / "logs").mkdir(parents=True)
    (run / "slurm-123.out").write_text(tune_log())
    (run / "logs" / "log_0.txt").write_text("Step 1 | loss:1.0 peak_memory_alloc:3.5 \n")
    (one,) = read().runs
    assert one.peak_memory_gib.allocated == 3.5
    (run / "slurm-124.out").write_text(tune_log())
    assert len(read().runs) == 3


def test_what_an_attempt_left_aside_is_no_run_of_its_own(tmp_path, read):
    """A job that ran out of memory went on with a smaller batch; its own log tells of both attempts."""
    run = tmp_path / "logs" / "run"
    for folder in ("logs", "attempts/1/logs"):
        (run / folder).mkdir(parents=True)
        (run / folder / "log_1.txt").write_text("Step 1 | loss:1.0 peak_memory_alloc:3.5 \n")
    (run / "attempts/1/logs/log_1.txt").write_text("Step 1 | loss:1.0 peak_memory_alloc:79.0 \n")
    (run / "slurm-1.out").write_text(tune_log(extra="Writing logs to logs/log_1.txt\n"))
    (one,) = read().runs
    assert one.peak_memory_gib.allocated == 3.5


SACCT = """7|COMPLETED|900||billing=1,gres/gpu:a100=1,gres/gpu=1|8|
7.batch|COMPLETED|900|2097152K||8|1
7.extern|COMPLETED|900|||8|1
8|FAILED|60||gres/gpu=2|16|
8.batch|FAILED|60|||16|1
8.0|FAILED|60|||16|2
9|OUT_OF_MEMORY|60|||4|
10|CANCELLED by 1000|60|||4|
11_2|RUNNING|60|||4|
garbage
"""


def test_accounting_is_parsed():
    jobs = parse_sacct(SACCT)
    assert jobs["7"] == {
        "state": "completed",
        "elapsed_s": 900.0,
        "gpu": "a100",
        "num_gpus": 1,
        "max_rss_gib": 2.0,
        "cpus": 8,
    }
    assert jobs["8"] == {"state": "failed", "elapsed_s": 60.0, "num_gpus": 2, "cpus": 8}
    assert "cpus" not in jobs["9"]
    assert [jobs[name]["state"] for name in ("9", "10", "11_2")] == ["host_oom", "cancelled", "running"]
    assert (job_id("slurm-123_4.out"), job_id("slurm-5.out"), job_id("train.log")) == ("123_4", "5", None)


def test_accounting_is_asked_once_and_counts_first(tmp_path, read, monkeypatch):
    programs = tmp_path / "no-programs"
    programs.mkdir()
    (programs / "sacct").write_text(f"#!/bin/sh\necho $@ >>{tmp_path}/asked\n/bin/cat <<'END'\n{SACCT}END\n")
    (programs / "sacct").chmod(0o755)
    for job in (7, 8, 9):
        (tmp_path / "logs" / f"slurm-{job}.out").write_text(tune_log())
    for _ in range(2):
        runs = read(gpu="t4-16").runs
        assert [(one.state, one.gpu) for one in runs] == [
            ("completed", "a100"),
            ("failed", "t4-16"),
            ("host_oom", "t4-16"),
        ]
    assert (runs[0].wall_s, runs[0].startup_s, runs[0].max_rss_gib) == (900, 700, 2.0)
    assert [one.cpus for one in runs] == [8, 8, None]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 1
    assert "--jobs 7,8,9" in asked[0]


def job_notes(*notes):
    return "".join(json.dumps({"kind": "train", "cell": None, "token": "t", **note}) + "\n" for note in notes)


def test_a_job_of_ours_tells_its_whole_time_and_start_up(tmp_path, read):
    run = tmp_path / "logs" / "run"
    run.mkdir()
    (run / "slurm-7.out").write_text(tune_log())  # 200 s of bars
    (run / "jobs.jsonl").write_text(job_notes({"event": "started", "job_id": "7"}))
    assert (read().runs[0].wall_s, read().runs[0].startup_s) == (200, None)
    notes = ({"event": "started", "job_id": "7"}, {"event": "ended", "job_id": "7", "seconds": 260, "exit_code": 0})
    (run / "jobs.jsonl").write_text(job_notes(*notes))
    assert (read().runs[0].wall_s, read().runs[0].startup_s) == (260, 60)


def test_two_attempts_in_one_log_tell_no_start_up(tmp_path, read):
    run = tmp_path / "logs" / "run"
    run.mkdir()
    (run / "slurm-7.out").write_text(tune_log() + tune_log(batch=2))
    (run / "jobs.jsonl").write_text(job_notes({"event": "ended", "job_id": "7", "seconds": 500, "exit_code": 0}))
    assert (read().runs[0].wall_s, read().runs[0].startup_s) == (500, None)


@pytest.mark.parametrize(
    ("name", "notes", "seconds"),
    [
        ("slurm-7.out", [{"event": "ended", "job_id": "7", "seconds": 60}], 60.0),
        ("slurm-local-31.out", [{"event": "ended", "job_id": "local-31", "seconds": 60}], 60.0),
        ("slurm-9.out", [{"event": "ended", "job_id": "8_1", "seconds": 60}], 60.0),
        ("slurm-9.out", [{"event": "ended", "job_id": f"8_{task}", "seconds": 60} for task in (1, 2)], None),
        ("slurm-9.out", [{"event": "ended", "job_id": "8", "seconds": 60}], None),
        ("slurm-7.out", [{"event": "ended", "job_id": "7", "seconds": 60}, {"event": "started", "job_id": "7"}], None),
        ("slurm-7.out", [{"event": "ended", "job_id": "7", "seconds": 60, "kind": "cell"}], None),
        ("slurm-7.out", [{"event": "ended", "job_id": "7", "seconds": -1}], None),
        ("slurm-7.out", [{"event": "ended", "job_id": "7", "seconds": "60"}], None),
        ("train.out", [{"event": "ended", "job_id": "7", "seconds": 60}], None),
    ],
)
def test_notes_belong_to_the_job_that_wrote_the_log(name, notes, seconds):
    text = b'{"event": "ended", \xff\n[]\n' + job_notes(*notes).encode() + b'{"event": "ended", "job_'
    assert job_fields(text, name).get("job_s") == seconds


def test_the_logger_s_name_tells_loading_where_the_files_keep_their_times(tmp_path, read):
    run, started = tmp_path / "logs" / "run", int(time.time()) - 5000
    run.mkdir()
    log, config = run / "train.out", run / "finetune.yaml"
    log.write_text(tune_log(extra=f"Writing logs to logs/log_{started}.txt\n"))
    config.write_text("batch_size: 4\n")
    os.utime(config, (started - 60,) * 2)
    os.utime(log, (started + 230,) * 2)
    assert read().runs[0].loading_s == pytest.approx(30, abs=1)
    os.utime(config, (started + 4000,) * 2)  # all were copied: nothing is known of when the run ended
    assert read().runs[0].loading_s is None


def test_tokens_of_the_logger_join_the_run(tmp_path, read):
    run = tmp_path / "logs" / "run"
    (run / "logs").mkdir(parents=True)
    (run / "train.out").write_text(tune_log(extra="Writing logs to logs/log_1700000000.txt\n"))
    rates = [9.0, 9.0, 9.0, 9.0, 9.0] + [100.0, 300.0] * 10
    lines = [f"Step {i} | loss:1.0 lr:0.1 tokens_per_second_per_gpu:{rate} \n" for i, rate in enumerate(rates, 1)]
    (run / "logs" / "log_1700000000.txt").write_text("".join(lines))
    assert [run.trained_tokens_per_s for run in read().runs] == [200.0]


def test_accounting_of_unfinished_jobs_is_asked_now_and_then(tmp_path, read, monkeypatch):
    programs = tmp_path / "no-programs"
    programs.mkdir()
    (programs / "sacct").write_text(f"#!/bin/sh\necho $@ >>{tmp_path}/asked\n")
    (programs / "sacct").chmod(0o755)
    (tmp_path / "logs" / "slurm-7.out").write_text(tune_log())
    now = time.time()
    for later, asked in ((0, 1), (300, 1), (700, 2), (800, 2), (8 * 86400, 2)):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        assert read().runs[0].state == "completed"
        assert len((tmp_path / "asked").read_text().splitlines()) == asked


def test_accounting_that_hangs_or_fails_is_no_accounting(tmp_path, read, monkeypatch):
    programs = tmp_path / "no-programs"
    programs.mkdir()
    (tmp_path / "logs" / "slurm-7.out").write_text(tune_log())
    monkeypatch.setattr("runplan.priors.accounting._TIMEOUT_S", 0.2)
    for script in ("#!/bin/sh\nexit 1\n", "#!/bin/sh\nexec /bin/sleep 5\n", "no script"):
        (programs / "sacct").write_text(script)
        (programs / "sacct").chmod(0o755)
        assert read(refresh=True).runs[0].state == "completed"


def test_command_prints_the_contract_as_json(tmp_path, monkeypatch, capsys, no_sacct):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert main([str(LOGS), "--json", "--gpu", "a100-80"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert len(records) == len(list(LOGS.glob("*.out")))
    assert all(tuple(record) == JSON_KEYS for record in records)
    by_name = {Path(record["path"]).stem: record for record in records}
    one = by_name["07_torchtune_cruijff_fixture_two_epochs"]
    assert one["peak_memory_gib"] == {"allocated": None, "active": 18.77768, "reserved": None}
    assert one["checkpoint_s"] == [33.06, 32.51]
    assert (one["gpu"], one["lora_targets"], one["max_seq_len"]) == ("a100-80", None, None)
    assert by_name["09_torchtune_v01_first_finetune"]["checkpoint_s"] == []
    assert by_name["50_torchtune_v061_cpu_tiny"]["gpu"] == "cpu"
    assert (tmp_path / "cache" / "runplan" / "priors").is_dir()


def test_command_prints_a_table_and_counts(tmp_path, monkeypatch, capsys, no_sacct):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "slurm-[red]1.out").write_text(tune_log())
    (tmp_path / "other.log").write_text("nothing")
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "slurm-[red]1.out" in out
    assert "400/400  2.000" in out
    assert "searched 2 files: 1 training log (1 completed)" in out


def test_a_narrow_table_puts_the_path_on_its_own_line(tmp_path, capsys, no_sacct):
    path = tmp_path / "a-folder-with-a-long-name" / "slurm-1.out"
    path.parent.mkdir()
    path.write_text(tune_log())
    found = read_priors([str(tmp_path)], None, tmp_path / "cache", tmp_path)
    print_table(found, 80)
    lines = capsys.readouterr().out.splitlines()
    assert str(path) in lines
    assert all(len(line) <= 80 or line == str(path) for line in lines)
    print_table(found)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_step_of_an_hour_has_a_speed_that_is_not_0(tmp_path, capsys):
    found = read_priors([str(LOGS / "33_hf_trainer_dicts_and_eval.out")], None, tmp_path / "cache", tmp_path)
    print_table(found)
    assert " 0.000251 " in capsys.readouterr().out


def test_command_says_what_is_wrong(tmp_path, monkeypatch, capsys, no_sacct):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for words, said in ((["nowhere"], "nowhere does not exist"), (["--wrong"], "--wrong"), (["--gpu=a10"], "a100-80")):
        with pytest.raises(ConfigError, match=said):
            main(words)
    assert main(["--help"]) == 0
    assert main([]) == 0
    assert "nothing at" in capsys.readouterr().err


def test_index_forgets_logs_that_are_gone(tmp_path):
    index = Index(tmp_path, "somewhere")
    index.load()
    index.save()
    assert not (tmp_path / "priors").exists()


def test_a_glob_that_matches_is_no_warning(tmp_path, no_sacct):
    (tmp_path / "ck-out-a").mkdir()
    (tmp_path / "ck-out-a" / "slurm-1.out").write_text(tune_log())
    read = read_priors(["ck-out-*/slurm-*.out"], None, tmp_path / "cache", tmp_path)
    assert (len(read.runs), read.warnings) == (1, ())
    assert read_priors(["none-*/x.out"], None, tmp_path / "cache", tmp_path).warnings != ()


TUNED = (
    "Running LoRAFinetuneRecipeSingleDevice with resolved config:\n\nbatch_size: 4\nepochs: 1\n"
    "model:\n  _component_: torchtune.models.llama3_2.lora_llama3_2_1b\n  lora_rank: 8\n\nSetting manual seed to 1\n"
)


def test_a_config_of_another_run_in_the_same_folder_is_not_taken(tmp_path, read):
    run = tmp_path / "logs" / "both"
    run.mkdir()
    (run / "slurm-1.out").write_text(TUNED)
    (run / "slurm-2.out").write_text(TUNED.replace("lora_rank: 8", "lora_rank: 64"))
    (run / "finetune.yaml").write_text("model:\n  lora_rank: 64\ngradient_accumulation_steps: 2\n")
    (run / "finetune.slurm").write_text("#SBATCH --gres=gpu:h100:1\n")
    first, second = read().runs
    assert (first.lora_rank, first.gradient_accumulation_steps, first.gpu) == (8, None, "h100")
    assert (second.lora_rank, second.gradient_accumulation_steps, second.gpu) == (64, 2, "h100")


def test_a_log_among_the_artifacts_of_a_run_has_its_request_above_and_its_copies_do_not_count(tmp_path, read):
    run = tmp_path / "logs" / "rank8"
    (run / "artifacts" / "epoch_0").mkdir(parents=True)
    (run / "finetune.slurm").write_text("#SBATCH --gres=gpu:1\n#SBATCH --constraint=gpu80\n")
    for folder in (run / "artifacts", run / "artifacts" / "epoch_0"):
        (folder / "slurm-7.out").write_text(TUNED)
    (run / "artifacts" / "epoch_0" / "slurm-9.out").write_text(TUNED)
    runs = {one.path.removeprefix(f"{run}/artifacts/"): one for one in read().runs}
    assert {path: one.gpu for path, one in runs.items()} == {"slurm-7.out": "a100-80", "epoch_0/slurm-9.out": None}


OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. {}.\n"


@pytest.mark.parametrize(
    ("name", "text", "used", "default", "gpu"),
    [
        ("a100", OUT_OF_MEMORY.format("GPU 0 has a total capacity of 79.15 GiB"), 0, None, "a100-80"),
        ("nvidia_a100", OUT_OF_MEMORY.format("(GPU 0; 39.39 GiB total capacity; 3 GiB free)"), 0, None, "a100-40"),
        ("v100", OUT_OF_MEMORY.format("GPU 0 has a total capacity of 31.74 GiB"), 0, None, "v100-32"),
        ("a100", "", 45_000, None, "a100-80"),
        ("a100", "", 30_000, None, "a100"),
        ("a100", "", 30_000, "a100-40", "a100-40"),
        ("a100", "", 30_000, "h100-80", "a100"),
        ("h100", "", 45_000, None, "h100"),
    ],
)  # fmt: skip
def test_the_memory_of_a_gpu_named_without_it_is_what_torch_saw_or_more_than_was_in_use(
    tmp_path, read, name, text, used, default, gpu
):
    run = tmp_path / "logs" / "one"
    run.mkdir()
    (run / "slurm-1.out").write_text(TUNED + text)
    (run / "finetune.slurm").write_text(f"#SBATCH --gres=gpu:{name}:1\n")
    if used:
        (run / "gpu_metrics.csv").write_text(f"timestamp, memory.used [MiB]\n1, {used} MiB\n")
    assert read(gpu=default).runs[0].gpu == gpu


def test_samples_of_a_later_job_are_not_those_of_an_earlier_log(tmp_path, read):
    run = tmp_path / "logs" / "twice"
    run.mkdir()
    for job in (1, 2):
        (run / f"slurm-{job}.out").write_text(TUNED)
    (run / "gpu_metrics.csv").write_text("timestamp, name, memory.used [MiB]\n1, NVIDIA H200, 1024 MiB\n")
    earlier = (run / "gpu_metrics.csv").stat().st_mtime - 7200
    os.utime(run / "slurm-1.out", (earlier, earlier))
    assert [(one.process_peak_gib, one.gpu) for one in read().runs] == [(None, "h200-141"), (1.0, "h200-141")]


def running_log(steps):
    lines = ["***** Running training *****", "  Num examples = 400", "  Num Epochs = 4"]
    lines += ["  Instantaneous batch size per device = 4", "  Gradient Accumulation steps = 2"]
    lines += [
        "  Total train batch size (w. parallel, distributed & accumulation) = 8",
        "  Total optimization steps = 200",
    ]
    for i in range(10, steps + 1, 10):
        lines.append(f"{{'loss': 1.5, 'learning_rate': 1.0e-05, 'epoch': {i / 50:.2f}}}")
    stamps = [f"[INFO|2025-03-01 10:{i // 2:02d}:{30 * (i % 2):02d}] trainer.py:1 >> " for i in range(40)]
    head = stamps[0]
    return "".join(f"{head}{line}\n" for line in lines[:7]) + "".join(
        f"{stamp}{line}\n" for stamp, line in zip(stamps[1:], lines[7:], strict=False)
    )


def test_llama_factory_s_running_log_is_read_with_speed_from_its_clock(tmp_path, read):
    (tmp_path / "logs/saves").mkdir()
    (tmp_path / "logs/saves/running_log.txt").write_text(running_log(150))
    [run] = read().runs
    assert (run.steps_done, run.steps_total, run.batch_size, run.wall_s) == (150, 200, 4, 450)
    assert run.s_per_step == pytest.approx(3.0, rel=0.02)


def test_a_running_log_is_that_of_the_job_whose_output_is_read_too(tmp_path, read):
    (tmp_path / "logs/saves/a/lora/sft").mkdir(parents=True)
    (tmp_path / "logs/saves/a/lora/sft/running_log.txt").write_text(running_log(150))
    job = tmp_path / "logs/job-1.out"
    job.write_text(running_log(120))
    [run] = read().runs
    assert run.path.endswith("job-1.out")
    job.write_text(
        running_log(120)
        .replace("per device = 4", "per device = 2")
        .replace("Accumulation steps = 2", "Accumulation steps = 4")
    )
    assert len(read(refresh=True).runs) == 2
