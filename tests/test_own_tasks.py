"""Tasks of a user's own, by convention and by configuration: each dataset is measured by its own evaluation."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from runplan import tiny
from runplan.cli import main

TASK = """
from inspect_ai import Task, task
@task
def {name}(data_path, split="test", input_column="input"): ...
"""
CPU = ["model=tiny", "resources=cpu", "batch_size=4", "priors.paths=[]", "group.name=g"]


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Two tasks that a user keeps in tasks/, one of them with columns of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))  # no SLURM of this machine's
    add_task("sums", {"input": "{}+{}", "output": "{}"})
    add_task("kinds", {"word": "w{}{}", "kind": "{}"})
    return tmp_path


def add_task(name, row):
    """A task, its data and an option of the dataset group."""
    rows = [{key: text.format(i, i % 7) for key, text in row.items()} for i in range(90)]
    folder = Path("tasks") / name
    (folder / "input").mkdir(parents=True)
    (folder / "inspect.py").write_text(TASK.format(name=name))
    splits = {"train": rows[:60], "validation": rows[60:75], "test": rows[75:]}
    (folder / "input" / "rows.json").write_text(json.dumps(splits))
    asked, answer = row
    lines = ["defaults: [json, _self_]", f"name: {name}", "file: rows.json", f"input_column: {asked}"]
    Path("conf/dataset").mkdir(parents=True, exist_ok=True)
    Path(f"conf/dataset/{name}.yaml").write_text("\n".join([*lines, f"output_column: {answer}", ""]))


def planned(*words):
    """The plan of a command line, its runs by name."""
    assert main([*CPU, *words]) == 0
    document = json.loads(Path("outputs/g/plan.json").read_text())
    return {run["name"]: run for run in document["runs"]}, document


def facts_of(run, cell=0):
    import yaml

    return yaml.safe_load((Path("outputs/g") / run["dir"] / run["cells"][cell]["dir"] / "eval.yaml").read_text())


def test_a_file_is_measured_by_the_task_that_holds_it(lab):
    runs, document = planned("dataset=json", "dataset.path=tasks/sums/input/rows.json")
    facts = facts_of(runs["tiny_rank8"])
    assert facts["task_script"] == str(lab / "tasks/sums/inspect.py")
    assert facts["args"]["data_path"] == str(lab / "tasks/sums/input/rows.json")
    assert {row["status"] for row in document["verified"]} <= {"ok", "unchecked"}


def test_data_without_a_task_of_its_own_is_never_measured_by_another(lab):
    Path("other.json").write_text(Path("tasks/sums/input/rows.json").read_text())
    runs, document = planned("dataset=json", "dataset.path=other.json")
    assert facts_of(runs["tiny_base"])["task_script"] == str(lab / "tasks/other/inspect.py")
    (row,) = (row for row in document["verified"] if row["kind"] == "evaluation")
    assert row["status"] == "missing"
    assert "evaluation=none" in row["fix"]


def test_the_evaluation_that_is_asked_for_is_kept(lab):
    words = ["dataset=json", "dataset.path=tasks/sums/input/rows.json"]
    runs, _ = planned(*words, "evaluation=capitalization")
    assert facts_of(runs["tiny_base"])["function"] == "capitalization"
    runs, _ = planned(*words, "evaluation=none", "overwrite=true")
    assert [run["cells"] for run in runs.values()] == [[]]


def test_each_dataset_of_a_sweep_has_its_own_task_and_control(lab):
    runs, document = planned("dataset=sums,kinds", "lora.rank=4,8")
    assert document["totals"] | {"gpu_hours": 0} == {"runs": 6, "fine_tuned": 4, "controls": 2, "gpu_hours": 0}
    for name, run in runs.items():
        task = "sums" if "sums" in name else "kinds"
        facts = facts_of(run)
        assert facts["function"] == facts["task"] == task
        assert facts["args"]["data_path"] == str(lab / f"tasks/{task}/input/rows.json")
        assert facts["args"]["input_column"] == {"sums": "input", "kinds": "word"}[task]
    assert {"tiny_base_sums", "tiny_base_kinds"} <= set(runs)


def test_files_of_a_sweep_are_measured_where_they_lie(lab):
    Path("tasks/more/input").mkdir(parents=True)
    for name in ("inspect.py", "input/rows.json"):
        Path(f"tasks/more/{name}").write_text(Path(f"tasks/sums/{name}").read_text())
    runs, _ = planned("dataset=json", "dataset.path=tasks/sums/input/rows.json,tasks/more/input/rows.json")
    assert len(runs) == 4
    for run in runs.values():
        facts = facts_of(run)
        assert Path(facts["task_script"]).parent == Path(facts["args"]["data_path"]).parents[1]


def test_a_dataset_may_say_whose_task_it_is(lab):
    Path("big.json").write_text(Path("tasks/sums/input/rows.json").read_text())
    runs, _ = planned("dataset=json", "dataset.path=big.json", "dataset.task=sums")
    assert facts_of(runs["tiny_rank8"])["function"] == "sums"


def test_the_size_of_the_data_is_a_factor_with_one_control(lab):
    runs, document = planned("dataset=sums", "dataset.train_rows=20,60")
    assert set(runs) == {"tiny_rank8_train_rows20", "tiny_rank8_train_rows60", "tiny_base"}
    assert [run["steps"]["total"] for run in runs.values() if run["type"] == "fine-tuned"] == [5, 15]
    splits = [Path(f"outputs/g/tiny_rank8_train_rows{n}/finetune.yaml").read_text() for n in (20, 60)]
    assert ["train[:20]" in text for text in splits] == [True, False]
    assert document["design"]["factors"] == {"dataset.train_rows": [20, 60]}


def test_training_on_a_cpu_needs_no_second_word(lab):
    planned("dataset=sums")
    assert "\ndevice: cpu\n" in Path("outputs/g/tiny_rank8/finetune.yaml").read_text()


def lacks_image(folder):
    """The tiny model as a folder of the user's, whose tokenizer does not name every special token of Llama 3."""
    tiny.create(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [
        token for token in tokenizer["added_tokens"] if token["content"] not in {"<|image|>", "<|step_id|>"}
    ]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def test_a_tokenizer_that_torchtune_cannot_make_is_said_before_it_waits_in_a_queue(lab, capsys):
    folder = lacks_image(lab / "models" / "small")
    main([*CPU, "model=hf", f"model.path={folder}", "dataset=sums"])
    said = " ".join(capsys.readouterr()).replace("\n", " ")
    assert "names no <|step_id|>, <|image|>" in said


@pytest.mark.trainer
@pytest.mark.filterwarnings("ignore")
def test_torchtune_cannot_make_that_tokenizer(tmp_path):
    from torchtune.models.llama3 import llama3_tokenizer

    folder = lacks_image(tmp_path / "small")
    with pytest.raises(KeyError, match="step_id"):
        llama3_tokenizer(f"{folder}/original/tokenizer.model", special_tokens_path=f"{folder}/tokenizer.json")


OWN = """
from inspect_ai import Task, task
@task
def quiz(level="easy", prompt="{input}"): ...
"""
QUIZ = ["dataset=json", "dataset.path=tasks/sums/input/rows.json", "evaluation=script"]


@pytest.fixture
def quiz(lab):
    """A task that brings its own data, beside data that have another number of test rows."""
    place = lab / "tasks/quiz/inspect.py"
    place.parent.mkdir()
    place.write_text(OWN)
    QUIZ[3:] = [f"evaluation.script={place}"]
    return place


def cell_of(document):
    """What all cells of a plan say of their samples and times."""
    (cell,) = {
        (cell["samples"], cell.get("samples_source"), cell["time_s"]["p50"])
        for run in document["runs"]
        for cell in run["cells"]
    }
    return cell


def log_of(folder, samples, script, level="easy"):
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    said = {"task": "quiz", "task_file": str(script), "task_args": {"level": level}, "dataset": {"samples": samples}}
    usage = {"hf/local": {"input_tokens": 7 * samples}}
    text = json.dumps({"version": 2, "eval": said, "stats": {"model_usage": usage}, "samples": []})
    (folder / f"logs/2026-01-01T00-00-00_quiz_{samples}.json").write_text(text)


def test_own_data_of_unknown_size_are_never_sized_by_the_run_s_rows(quiz):
    _, document = planned(*QUIZ)
    samples, source, unknown_s = cell_of(document)
    assert (samples, source) == (None, "not known")
    (risk,) = (risk for risk in document["risks"] if "brings its own data" in risk["what"])
    assert (risk["run"], "1000 of the longest prompts" in risk["what"]) == ("all runs", True)
    rows = json.loads(Path("tasks/sums/input/rows.json").read_text())
    Path("tasks/sums/input/rows.json").write_text(json.dumps(rows | {"test": rows["test"] * 40}))
    assert cell_of(planned(*QUIZ, "overwrite=true")[1]) == (None, "not known", unknown_s)


def test_a_limit_is_what_is_known_then(quiz):
    _, document = planned(*QUIZ, "evaluation.limit=50")
    assert cell_of(document)[:2] == (50, "evaluation.limit")
    assert not [risk for risk in document["risks"] if "brings its own data" in risk["what"]]


def test_an_earlier_log_of_the_task_says_how_many_samples_there_are(quiz, lab):
    log_of(lab / "old/run", 400, quiz)
    learnt = [*QUIZ, "priors.paths=[old]"]
    samples, source, time_s = cell_of(planned(*learnt)[1])
    assert (samples, source.startswith("an earlier log: ")) == (400, True)
    assert time_s < cell_of(planned(*QUIZ, "overwrite=true")[1])[2]
    assert cell_of(planned(*learnt, "evaluation.limit=30", "overwrite=true")[1])[0] == 30
    other = [*learnt, "+evaluation.args.level=hard", "overwrite=true"]
    assert cell_of(planned(*other)[1])[:2] == (None, "not known")  # another level may have other samples
    log_of(lab / "old/run", 90, quiz, "hard")
    assert cell_of(planned(*other)[1])[0] == 90


def test_another_file_given_to_the_task_is_not_the_run_s_data(lab):
    _, document = planned("dataset=json", "dataset.path=tasks/sums/input/rows.json", "+evaluation.args.data_path=/x")
    assert cell_of(document)[:2] == (None, "not known")
    _, document = planned("dataset=json", "dataset.path=tasks/sums/input/rows.json", "overwrite=true")
    assert cell_of(document)[:2] == (15, None)
