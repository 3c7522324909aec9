"""LLaMA-Factory's `trainer_log.jsonl` and ms-swift's `logging.jsonl`: of public notes, damaged, and whose they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.priors.files import is_log_name
from runplan.priors.join import SWIFT_LOG, TRAINER_LOG
from runplan.priors.parse import parse_text
from runplan.priors.read import read_priors
from runplan.priors.record import MemoryGib

DATA = Path(__file__).parent / "data" / "trainer_logs"
LORA = (DATA / "lora_310_steps.jsonl").read_bytes()
FULL = (DATA / "full_tuning_93_steps.jsonl").read_bytes()
LAST = LORA.splitlines(keepends=True)[-1]


def read(data):
    return parse_text(data, TRAINER_LOG)


def test_a_finished_run_tells_steps_speed_and_time():
    said = read(LORA)
    assert (said["steps_done"], said["steps_total"], said["wall_s"]) == (310, 310, 968.0)
    assert said["s_per_step"] == pytest.approx(3.12)  # 50 → 300 in 2:37 → 15:37
    assert (said["trainer"], said["state"], said.get("tokens_per_s")) == ("hf", "completed", None)


def test_tokens_of_all_gpus_are_those_while_it_trained():
    said = read(FULL)
    assert said["tokens_per_s"] == 13203.14
    assert said["s_per_step"] == pytest.approx(23.28, rel=0.01)  # 5 → 90 in 2:03 → 35:02
    assert (said["wall_s"], said["state"]) == (2220.0, "completed")


def test_one_that_goes_on_has_not_completed():
    said = read(LORA.removesuffix(LAST))
    assert (said["steps_done"], said["steps_total"], said["state"]) == (300, 310, "unknown")
    early = read(LORA.removesuffix(LAST) + LAST.replace(b'"current_steps": 310', b'"current_steps": 305'))
    assert (early["steps_done"], early["state"]) == (305, "unknown")


def test_an_evaluation_at_the_last_step_is_not_the_end():
    evaluated = LAST.replace(b'"epoch"', b'"eval_loss": 1.2, "epoch"')
    assert read(LORA.removesuffix(LAST) + evaluated)["state"] == "unknown"


def test_of_several_trainings_the_last_one_is_told():
    said = read(FULL + LORA.removesuffix(LAST))
    assert (said["steps_done"], said["steps_total"]) == (300, 310)
    assert "tokens_per_s" not in said


def test_the_end_alone_of_a_training_that_told_no_losses():
    said = read(
        b'{"current_steps": 768, "total_steps": 768, "epoch": 2.9965936739659367, "percentage": 100.0, '
        b'"elapsed_time": "1:39:39", "remaining_time": "0:00:00", "throughput": 4129.18, "total_tokens": 24689312}\n'
    )
    assert (said["steps_done"], said["steps_total"], said["wall_s"], said["state"]) == (768, 768, 5979, "completed")
    assert said["s_per_step"] == pytest.approx(5979 / 768)
    assert said.get("tokens_per_s") is None  # whether padding is in that mean depends on how often it was told


def test_days_count():
    long = LAST.replace(b'"0:16:08"', b'"1 day, 0:16:08"')
    assert read(LORA.removesuffix(LAST) + long)["wall_s"] == 86400 + 968


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"{}\n",
        LAST.replace(b'"epoch": 5.0, ', b""),  # as a prediction writes it
        LAST.replace(b'"epoch"', b'"eval_loss": 1.2, "epoch"'),
        b'{"current_steps": 10, "total_steps": 200, "loss": 2.4153, "epoch": 0.25}\n',
        LORA.splitlines()[0][:-9],
    ],
)
def test_what_holds_no_step_of_a_training_is_no_log(data):
    assert read(data) is None


@given(st.integers(0, len(LORA)), st.binary(max_size=20))
def test_a_damaged_or_growing_file_says_no_more_than_a_whole_one(at, noise):
    said = read(LORA[:at] + noise) or {}
    assert said.get("steps_done", 0) <= 310
    assert said.get("wall_s", 0) <= 968
    whole = read(LORA[:at] + noise + LORA[at:]) or {}
    assert whole.get("steps_total", 310) == 310


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
    saves = tmp_path / "logs" / "saves"
    saves.mkdir(parents=True)
    (saves / TRAINER_LOG).write_bytes(LORA)
    return tmp_path


def runs(folder):
    return [(Path(run.path).name, run.steps_done) for run in read_priors(["logs"], None, folder / "cache", folder).runs]


def test_it_is_a_run_where_nothing_else_tells_of_it(folder):
    assert is_log_name(TRAINER_LOG)
    (folder / "logs" / "other.out").write_text("nothing\n")
    assert runs(folder) == [(TRAINER_LOG, 310)]
    assert runs(folder) == [(TRAINER_LOG, 310)]  # from the index


BAR = "{'loss': 2.0}\n 100%|##| 310/310 [16:08<00:00,  3.12s/it]\n{'train_runtime': 968.4, 'epoch': 5.0}\n"


def test_it_is_not_counted_beside_the_log_of_the_same_run(folder):
    job = folder / "logs" / "slurm-1.out"
    job.write_text(BAR)
    assert runs(folder) == [("slurm-1.out", 310)]
    os.utime(job, (1e9, 1e9))  # long before: another run
    assert runs(folder) == [("slurm-1.out", 310), (TRAINER_LOG, 310)]
    (folder / "logs" / "saves" / "running_log.txt").write_text(BAR)
    assert runs(folder) == [("slurm-1.out", 310), ("running_log.txt", 310)]


# What the documentation of ms-swift shows as printed; the file holds it as JSON.
SWIFT = (Path(__file__).parent / "data" / "log_excerpts" / "172_swift_global_steps.out").read_text()
JSON = SWIFT.replace("'", '"').encode()
SUMMARY = b'{"last_model_checkpoint": "x", "log_history": [%s], "memory": 72.5}\n' % b", ".join(JSON.splitlines())


def test_ms_swift_s_lines_say_what_it_prints():
    said = parse_text(JSON + SUMMARY, SWIFT_LOG)
    assert (said["trainer"], said["steps_done"], said["steps_total"], said["state"]) == ("swift", 94, 94, "completed")
    assert (said["wall_s"], said["peak_memory_gib"]) == (183.4332, MemoryGib(reserved=6.5))
    assert said["s_per_step"] == pytest.approx(1.9, rel=0.02)  # 70 → 90 in 2:14 → 2:52
    assert said == parse_text(SWIFT.encode(), "train.out")


# As ms-swift 2.2 wrote it, each of two ranks; only the end tells how many steps there were.
OLD_LINES = [
    b'{"loss": 1.5, "acc": 0.6, "train_speed(iter/s)": %.6f, "epoch": %.2f, "global_step": %d}'
    % (rate, step / 50, step)
    for step in range(5, 51, 5)
    for rate in (0.5, 0.5001)
]
OLD_END = b'{"train_runtime": 120.5, "train_steps_per_second": 0.415, "epoch": 1.0, "global_step": 52}'


def test_ms_swift_s_lines_before_3():
    said = parse_text(b"\n".join([*OLD_LINES, OLD_END, SUMMARY]), SWIFT_LOG)
    assert (said["trainer"], said["steps_done"], said["wall_s"], said["state"]) == ("swift", 52, 120.5, "completed")
    assert said["s_per_step"] == pytest.approx(2.0, rel=0.02)
    running = parse_text(b"\n".join(OLD_LINES), SWIFT_LOG)
    assert (running["steps_done"], running["wall_s"], running["state"]) == (50, 100, "unknown")


def test_steps_that_nothing_counts_are_not_those_of_a_log_that_has_none(folder):
    (folder / "logs" / "saves" / TRAINER_LOG).unlink()
    (folder / "logs" / "saves" / SWIFT_LOG).write_bytes(b"\n".join(OLD_LINES))
    (folder / "logs" / "slurm-1.out").write_text("slurmstepd: error: Detected 1 oom_kill event in StepId=1.batch.\n")
    assert runs(folder) == [("slurm-1.out", None), (SWIFT_LOG, 50)]


@pytest.mark.parametrize("data", [b"", b"{}\n", b'{"loss": 1.0}\n', b'{"level": "info", "message": "loss"}\n', SUMMARY])
def test_other_programs_lines_of_that_name_are_no_log(data):
    assert parse_text(data, SWIFT_LOG) is None


def test_ms_swift_s_lines_are_not_counted_beside_its_output(folder):
    (folder / "logs" / "saves" / TRAINER_LOG).unlink()
    (folder / "logs" / "saves" / SWIFT_LOG).write_bytes(JSON)
    assert runs(folder) == [(SWIFT_LOG, 94)]
    (folder / "logs" / "slurm-1.out").write_text(SWIFT)
    assert runs(folder) == [("slurm-1.out", 94)]
