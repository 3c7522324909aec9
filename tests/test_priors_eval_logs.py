"""What logs of earlier evaluations say, without Inspect."""

import json
import math
import os
import random
import zipfile
from dataclasses import replace

import pytest
from estimate_cases import A100, GPUS, LLAMA_1B, MODELS

from runplan.estimate.calibration import calibrate
from runplan.estimate.evaluation.cell_time import Evaluation, cell_time
from runplan.facts import Lengths
from runplan.priors.eval_logs import HEAD_BYTES, cell_fields
from runplan.priors.evaluated import made_cells, seen_tasks
from runplan.priors.read import read_priors

SCRIPT = "/lab/tasks/quiz/inspect.py"
SAID = {
    "task": "quiz", "task_file": "../tasks/quiz/inspect.py", "task_args": {}, "dataset": {"samples": 400},
    "model": "hf/local", "model_generate_config": {"max_tokens": 64, "max_connections": 16}, "task_id": "x",
}  # fmt: skip
USAGE = {"hf/local": {"input_tokens": 4000, "output_tokens": 3600}}
STATS = {"started_at": "2026-01-31T12:00:20+00:00", "completed_at": "2026-01-31T12:01:20+00:00", "model_usage": USAGE}
RESULTS = {"total_samples": 400, "completed_samples": 400}
ABOUT = "task: quiz\nmodel: Llama-3.2-1B-Instruct\nweights: merged\nbase_model_path: /models/1B\n"


def document(status="success", results=RESULTS, stats=None, **changes):
    return {"version": 2, "status": status, "eval": SAID | changes, "results": results, "stats": STATS | (stats or {})}


def write(folder, said, name="logs/2026-01-01_quiz_x.json"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".eval":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("header.json", json.dumps(said))
    else:
        path.write_text(said if isinstance(said, str) else json.dumps(said))
    return path


def own_cell(run, *, started="12:00:01", ended="12:01:31", code=0, seconds=90, gpu="a100-80"):
    """A cell of ours around a log, ended as said."""
    folder = run / "eval/quiz_epoch0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "eval.yaml").write_text(ABOUT)
    label = {"token": "t", "job_id": "7", "kind": "cell"}
    notes = [{"event": "started", **label, "time": f"2026-01-31T{started}Z"}]
    notes += [{"event": "ended", **label, "exit_code": code, "seconds": seconds, "time": f"2026-01-31T{ended}Z"}]
    (folder / "jobs.jsonl").write_text("".join(f"{json.dumps(note)}\n" for note in notes))
    (run / ".hydra").mkdir(exist_ok=True)
    (run / ".hydra/config.yaml").write_text(f"resources:\n  gpu: {gpu}\n  gpus: 1\n")
    return folder


def cells(folder, cache=None, gpu=None):
    return read_priors([str(folder)], gpu, cache or folder / ".cache", folder).cells


def read(folder, functions=("quiz",)):
    return [(seen.samples, seen.prompt_tokens) for seen in seen_tasks(cells(folder), SCRIPT, functions)]


@pytest.mark.parametrize("name", ["logs/1_quiz_x.json", "a/eval/quiz_epoch0/logs/1_quiz_x.json", "a/1_quiz_x.eval"])
def test_both_formats_are_read_wherever_they_lie(tmp_path, name):
    write(tmp_path, document(), name)
    assert read(tmp_path) == [(400, 10.0)]
    assert [cell.path for cell in cells(tmp_path / name)] == [str(tmp_path / name)]


@pytest.mark.parametrize("name", ["1_quiz_x.json", ".cache/logs/1_quiz.eval", "logs/quiz.txt"])
def test_other_files_are_not(tmp_path, name):
    write(tmp_path, document(), name)
    assert read(tmp_path) == []


def test_everything_that_a_cell_of_ours_says(tmp_path):
    write(own_cell(tmp_path / "r"), document())
    (cell,) = cells(tmp_path)
    assert (cell.function, cell.script, cell.data_samples) == ("quiz", "quiz/inspect.py", 400)
    assert (cell.samples, cell.seconds, cell.startup_s) == (400, 60.0, 30.0)
    assert (cell.prompt_tokens, cell.output_tokens, cell.max_tokens, cell.batch_size) == (10.0, 9.0, 64, 16)
    assert (cell.models, cell.tuned, cell.gpu) == (("1B", "Llama-3.2-1B-Instruct"), True, "a100-80")


def test_a_log_of_others_says_its_model_and_no_gpu(tmp_path):
    write(tmp_path, document(model="hf/meta-llama/Llama-3.2-1B"), "a.eval")
    for gpu in (None, "h100-80"):
        (cell,) = cells(tmp_path, gpu=gpu)
        assert (cell.models, cell.tuned, cell.gpu) == (("Llama-3.2-1B",), None, gpu)
        assert (cell.seconds, cell.startup_s) == (60.0, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "error"},
        {"status": "cancelled"},
        {"status": "started"},
        {"results": {"total_samples": 400, "completed_samples": 399}},
        {"results": None},
        {"stats": {"completed_at": "2026-01-31T11:00:20+00:00"}},
        {"stats": {"completed_at": ""}},
        {"stats": {"completed_at": None}},
        {"stats": {"model_usage": {}}},
        {"stats": {"model_usage": USAGE | {"openai/judge": {"input_tokens": 1, "output_tokens": 1}}}},
        {"stats": {"model_usage": {"hf/local": {"input_tokens": "many", "output_tokens": -1}}}},
        {"model": "vllm/local"},
        {"model": "openai/gpt"},
    ],
)
def test_what_did_not_end_well_or_ran_elsewhere_has_no_time(tmp_path, changes):
    write(own_cell(tmp_path / "r"), document(**changes))
    (cell,) = cells(tmp_path)
    assert (cell.seconds, cell.startup_s) == (None, None)
    assert cell.data_samples == 400


@pytest.mark.parametrize(
    "job",
    [
        {"code": 1},
        {"started": "12:00:40"},
        {"ended": "12:01:10"},
        {"seconds": 59},
        {"seconds": None},
    ],
)
def test_start_up_is_known_of_the_job_that_wrote_the_log(tmp_path, job):
    write(own_cell(tmp_path / "r", **job), document())
    (cell,) = cells(tmp_path)
    assert (cell.seconds, cell.startup_s) == (60.0, None)


def test_a_job_that_ends_after_its_log_was_read_is_read_again(tmp_path):
    folder = own_cell(tmp_path / "r", code=1)
    write(folder, document())
    assert cells(tmp_path)[0].startup_s is None
    own_cell(tmp_path / "r")
    assert cells(tmp_path)[0].startup_s == 30.0


def test_what_is_known_is_not_read_again(tmp_path, monkeypatch):
    write(own_cell(tmp_path / "r"), document())
    before = cells(tmp_path)
    monkeypatch.setattr("runplan.priors.eval_logs.cell_fields", pytest.fail)
    assert cells(tmp_path) == before


def test_of_two_logs_in_a_cell_the_whole_one_counts(tmp_path):
    folder = own_cell(tmp_path / "r")
    write(folder, document("error", task_id="y"), "logs/1_quiz.json")
    write(folder, document(), "logs/2_quiz.json")
    assert sorted(cell.seconds or 0 for cell in cells(tmp_path)) == [0, 60.0]


def test_an_evaluation_that_goes_on_where_another_stopped_has_no_time(tmp_path):
    write(tmp_path, document("error"), "logs/1_quiz.json")
    write(tmp_path, document(), "logs/2_quiz.json")
    assert [cell.seconds for cell in cells(tmp_path)] == [None, None]


def test_a_copy_of_a_log_counts_once(tmp_path):
    for folder in ("a", "b"):
        write(own_cell(tmp_path / folder), document())
    write(tmp_path, document(), "converted.eval")
    assert sorted(cell.seconds or 0 for cell in cells(tmp_path)) == [0, 0, 60.0]


def test_a_large_log_is_read_up_to_its_samples(tmp_path):
    many = {"samples": 400, "sample_ids": list(range(HEAD_BYTES[0]))}
    samples = [{"id": i, "text": "x" * 1000, "stats": {"started_at": 1}} for i in range(2 * HEAD_BYTES[1] // 1000)]
    write(tmp_path, document(dataset=many) | {"samples": samples})
    assert read(tmp_path) == [(400, 10.0)]
    assert cells(tmp_path)[0].seconds == 60.0


def test_a_log_cut_anywhere_says_what_stands_before_the_cut_or_nothing(tmp_path):
    path = write(own_cell(tmp_path / "r"), document() | {"samples": [{"id": 1}]})
    text, whole = path.read_bytes(), cell_fields(str(path))
    for end in random.Random(0).sample(range(len(text)), 60):
        path.write_bytes(text[:end])
        said = cell_fields(str(path)) or {}
        assert said.items() <= whole.items()


JUNK = [
    None,
    True,
    -1,
    0,
    10**400,
    1e308,
    float("inf"),
    "",
    "x",
    [],
    {},
    [[]],
    {"samples": "9"},
    "2026-01-31",
    "2026-01-31T12",
]


def with_junk(value, rng):
    """A document in which one part is nonsense."""
    if rng.random() < 0.15 or not isinstance(value, dict) or not value:
        return rng.choice(JUNK)
    key = rng.choice([*value])
    return value | {key: with_junk(value[key], rng)}


def test_nonsense_in_a_log_or_beside_it_is_no_error(tmp_path):
    folder, rng = own_cell(tmp_path / "r"), random.Random(0)
    notes = (folder / "jobs.jsonl").read_text()
    nothing, asked = calibrate([], GPUS, MODELS), Lengths(((50, 640),))
    planned = Evaluation(LLAMA_1B, A100, asked, 256, 32, "quiz", "quiz/inspect.py", tuned=True)
    for _ in range(300):
        write(folder, with_junk(document(), rng), "logs/1.json")
        (folder / "jobs.jsonl").write_text(notes.replace("90", rng.choice(["1" + "0" * 400, "NaN", "[]", '"9"'])))
        fields = cell_fields(str(folder / "logs/1.json"))
        cells = made_cells([("/x", 1.0, fields)])
        said = cell_time(planned, replace(nothing, cells=cells)).time_s
        assert 0 < said.p50 < said.p95 < math.inf
        seen_tasks(cells, SCRIPT, ["quiz"])


def test_the_newest_comes_first(tmp_path):
    for age, samples in ((30, 3), (10, 1), (20, 2)):
        path = write(tmp_path, document(dataset={"samples": samples}, task_args={"n": samples}), f"logs/{samples}.json")
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
    write(tmp_path, said)
    if not isinstance(said, str):
        write(tmp_path, said, "logs/2_quiz.eval")
    (tmp_path / "logs/3_quiz.eval").write_bytes(b"PK\x03\x04 no archive")
    assert read(tmp_path) == []


@pytest.mark.parametrize(
    "changes",
    [{"config": {"limit": 10}}, {"config": {"epochs": 3}}, {"dataset": {"samples": 9999}}],
)
def test_prompts_are_counted_only_where_every_sample_was_asked_once(tmp_path, changes):
    write(tmp_path, document("error", **changes))
    ((samples, tokens),) = read(tmp_path)
    assert (samples, tokens) == (changes.get("dataset", SAID["dataset"])["samples"], None)


def test_no_folder_no_logs(tmp_path):
    assert read_priors([str(tmp_path / "*/logs")], None, tmp_path, tmp_path).cells == ()


@pytest.mark.evaluation
def test_a_log_that_inspect_writes(tmp_path):
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSpec, write_eval_log

    spec = EvalSpec(created="2026-01-01T00:00:00+00:00", task="quiz", task_file="tasks/quiz/inspect.py", model="m",
                    dataset=EvalDataset(samples=400), config=EvalConfig())  # fmt: skip
    for suffix in ("eval", "json"):
        (tmp_path / suffix / "logs").mkdir(parents=True)
        write_eval_log(EvalLog(status="success", eval=spec), str(tmp_path / suffix / f"logs/1_quiz.{suffix}"))
        assert read(tmp_path / suffix) == [(400, None)]
