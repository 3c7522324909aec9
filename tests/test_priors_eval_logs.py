"""What logs of earlier evaluations say of a task's own data, without Inspect."""

import json
import os
import zipfile
from pathlib import Path

import pytest

from runplan.read.eval_logs import HEAD_BYTES, read_seen_tasks

SCRIPT = Path("/lab/tasks/quiz/inspect.py")
SAID = {"task": "quiz", "task_file": "../tasks/quiz/inspect.py", "task_args": {}, "dataset": {"samples": 400}}


def document(**changes):
    return {"version": 2, "status": "success", "eval": SAID | changes,
            "stats": {"model_usage": {"hf/local": {"input_tokens": 4000, "output_tokens": 10}}}}  # fmt: skip


def write(folder, said, name="2026-01-01_quiz_x.json"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".eval":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("header.json", json.dumps(said))
    else:
        path.write_text(said if isinstance(said, str) else json.dumps(said))
    return path


def read(folder, functions=("quiz",)):
    return [(seen.samples, seen.prompt_tokens) for seen in read_seen_tasks([folder], SCRIPT, functions)]


@pytest.mark.parametrize("name", ["logs/1_quiz_x.json", "a/eval/quiz_epoch0/logs/1_quiz_x.json", "a/1_quiz_x.eval"])
def test_both_formats_are_read_wherever_they_lie(tmp_path, name):
    write(tmp_path, document(), name)
    assert read(tmp_path) == [(400, 10.0)]


@pytest.mark.parametrize("name", ["1_quiz_x.json", "logs/1_other_x.json", "logs/.hidden/1_quiz.eval", "logs/quiz.txt"])
def test_other_files_are_not(tmp_path, name):
    write(tmp_path, document(), name)
    assert read(tmp_path) == []


def test_a_large_log_is_read_up_to_its_samples(tmp_path):
    whole = document() | {"samples": [{"id": i, "text": "x" * 1000} for i in range(2 * HEAD_BYTES // 1000)]}
    write(tmp_path / "logs", whole)
    assert read(tmp_path) == [(400, 10.0)]


def test_a_task_with_underscores_is_named_with_dashes(tmp_path):
    write(tmp_path / "logs", document(task="a_quiz"), "1_a-quiz_x.json")
    assert read(tmp_path, ("a_quiz",)) == [(400, 10.0)]


def test_the_newest_comes_first(tmp_path):
    for age, samples in ((30, 3), (10, 1), (20, 2)):
        path = write(tmp_path / "logs", document(dataset={"samples": samples}), f"{samples}_quiz.json")
        os.utime(path, (1e9 - age, 1e9 - age))
    assert [samples for samples, _ in read(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize(
    "said",
    [
        document(task_file="../tasks/other/inspect.py"),
        document(task_file="inspect.py"),
        document(task_file=None),
        document(dataset={}),
        document(dataset=None),
        document(dataset={"samples": 0}),
        document(dataset={"samples": True}),
        document(task="riddle"),
        {"eval": 3},
        {"eval": None},
        {},
        [],
        "",
        '{"eval": {"task": "quiz", "dataset": ',
        '{"eval":' + "[" * 100_000,
    ],
)
def test_what_says_nothing_of_this_task_is_left_out(tmp_path, said):
    write(tmp_path / "logs", said)
    if not isinstance(said, str):
        write(tmp_path / "logs", said, "2_quiz.eval")
    (tmp_path / "logs/3_quiz.eval").write_bytes(b"PK\x03\x04 no archive")
    assert read(tmp_path) == []


@pytest.mark.parametrize(
    "changes",
    [{"config": {"limit": 10}}, {"config": {"epochs": 3}}, {"dataset": {"samples": 9999}}],
)
def test_prompts_are_counted_only_where_every_sample_was_asked_once(tmp_path, changes):
    write(tmp_path / "logs", document(**changes))
    ((samples, tokens),) = read(tmp_path)
    assert (samples, tokens) == (changes.get("dataset", SAID["dataset"])["samples"], None)


def test_no_folder_no_logs(tmp_path):
    assert read(tmp_path / "nowhere") == []
    assert read(tmp_path / "*/logs") == []


@pytest.mark.evaluation
def test_a_log_that_inspect_writes(tmp_path):
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSpec, write_eval_log

    spec = EvalSpec(created="2026-01-01T00:00:00+00:00", task="quiz", task_file="tasks/quiz/inspect.py", model="m",
                    dataset=EvalDataset(samples=400), config=EvalConfig())  # fmt: skip
    for suffix in ("eval", "json"):
        (tmp_path / suffix / "logs").mkdir(parents=True)
        write_eval_log(EvalLog(status="success", eval=spec), str(tmp_path / suffix / f"logs/1_quiz.{suffix}"))
        assert read(tmp_path / suffix) == [(400, None)]
