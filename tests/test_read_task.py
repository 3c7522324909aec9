from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runplan.facts import Status
from runplan.paths import TASKS_DIR
from runplan.read.task import read_task

HEAD = "from inspect_ai import Task, task\n"


def write(tmp_path, text):
    path = tmp_path / "inspect.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "tasks"),
    [
        ("@task\ndef cap(a, b=1): ...", {"cap": ("a", "b")}),
        ("@task()\ndef cap(*, a, **more): ...", {"cap": ("a", "**")}),
        ("@task(name='other')\ndef cap(a, /): ...", {"other": ("a",)}),
        ("@task('third')\ndef cap(): ...", {"third": ()}),
        ("import inspect_ai\n@inspect_ai.task\ndef cap(): ...", {"cap": ()}),
        ("import inspect_ai as ai\n@ai.task(x=1)\ndef cap(): ...", {"cap": ()}),
        ("from inspect_ai import task as t\n@t\ndef cap(): ...", {"cap": ()}),
        ("@task\nasync def cap(): ...", {"cap": ()}),
        ("if True:\n  @task\n  def cap(): ...", {"cap": ()}),
        ("@task\n@other\ndef b(): ...\n@task\ndef a(): ...", {"b": (), "a": ()}),
        ("@solver\ndef s(): ...\n@celery.task\ndef c(): ...\n@task\ndef cap(): ...", {"cap": ()}),
    ],
)
def test_tasks_are_found_by_parsing(tmp_path, text, tasks):
    facts = read_task(write(tmp_path, HEAD + text), next(iter(tasks)))
    assert dict(facts.parameters) == tasks
    assert facts.tasks == tuple(tasks)
    assert (facts.status, facts.findings) == (Status.ok, ())


def test_the_file_is_never_run(tmp_path):
    path = write(tmp_path, HEAD + f"open({str(tmp_path / 'ran')!r}, 'w')\n@task\ndef cap(): ...")
    assert read_task(path, "cap").status is Status.ok
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def cap(:\n", "is not Python: line 1"),
        ("x = 1\n\n  y = 2\n", "is not Python: line 3"),
        (b"\x00\x01", "is not Python"),
        (b"\xff\xfe bad", "is not Python"),
        ("", "defines no Inspect task"),
        ("def cap(): ...", "defines no Inspect task"),
        ("(" * 5000, "is not Python"),
    ],
)
def test_what_is_no_task_file_is_invalid(tmp_path, text, said):
    facts = read_task(write(tmp_path, text), "cap")
    assert facts.status is Status.invalid
    assert said in facts.findings[0].detail


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_garbage_never_raises(tmp_path, content):
    assert read_task(write(tmp_path, content), "cap").status is Status.invalid


def test_a_missing_file_carries_the_fix(tmp_path):
    facts = read_task(tmp_path / "x.py", "cap", fix="write it")
    assert (facts.status, facts.findings[0].fix) == (Status.missing, "write it")


def test_a_folder_in_place_of_the_file(tmp_path):
    assert read_task(tmp_path, "cap").findings[0].detail == "is a folder, not a Python file"


def test_a_file_that_may_not_be_read_is_said_not_raised(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path, HEAD)
    monkeypatch.setattr(Path, "open", refuse)
    assert "cannot be read: Permission denied" in read_task(path, "cap").findings[0].detail


def test_the_only_task_runs_under_another_name_and_says_so(tmp_path):
    facts = read_task(write(tmp_path, HEAD + "@task\ndef other(): ..."), "cap")
    assert (facts.status, facts.findings[0].detail) == (Status.ok, "its only task is called other, not cap")


def test_several_tasks_of_other_names_must_be_chosen_from(tmp_path):
    path = write(tmp_path, HEAD + "@task\ndef a(): ...\n@task\ndef b(): ...")
    facts = read_task(path, "cap")
    assert facts.status is Status.invalid
    assert facts.findings[0].fix == "choose with evaluation.tasks=[a]"
    assert read_task(path, "cap", ["b"]).status is Status.ok
    assert "has no task c; its tasks are a, b" in read_task(path, "cap", ["c"]).findings[0].detail


def test_the_capitalization_task_takes_what_runs_differ_in():
    facts = read_task(TASKS_DIR / "capitalization" / "inspect.py", "capitalization")
    assert facts.status is Status.ok
    assert set(facts.parameters["capitalization"]) >= {"data_path", "split", "system_prompt", "prompt"}


@pytest.mark.evaluation
@pytest.mark.filterwarnings("default")
def test_inspect_runs_the_capitalization_task_case_sensitively(tmp_path):
    import json

    from inspect_ai import eval as inspect_eval
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    data = tmp_path / "words.json"
    pairs = [("apple", "Apple"), ("berry", "Berry"), ("cherry", "Cherry")]
    data.write_text(json.dumps({"test": [{"input": word, "output": answer} for word, answer in pairs]}))
    answers = ["Apple", "berry", "It is Cherry"]
    outputs = [ModelOutput.from_content("mockllm/model", answer) for answer in answers]
    for output in outputs:
        output.usage = ModelUsage()  # otherwise the mock counts tokens with a tokenizer that it downloads
    model = get_model("mockllm/model", custom_outputs=outputs)
    (log,) = inspect_eval(
        f"{TASKS_DIR}/capitalization/inspect.py@capitalization",
        model=model,
        task_args={"data_path": str(data), "system_prompt": "Be brief.", "prompt": "Word: {input}"},
        log_dir=str(tmp_path / "logs"),
        max_connections=1,
        max_samples=1,
        display="none",
    )
    assert log.status == "success", log.error
    assert log.results.scores[0].metrics["accuracy"].value == pytest.approx(1 / 3)
    assert [message.text for message in log.samples[0].messages[:2]] == ["Be brief.", "Word: apple"]
