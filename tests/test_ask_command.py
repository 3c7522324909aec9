"""`runplan ask` without a terminal: answers from files and flags, and what is looked at."""

import json
import logging
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runplan import app, cli
from runplan.ask import interview
from runplan.ask.lines import override_lines
from runplan.ask.questions import State
from runplan.ask.survey import Survey

ROOT = Path(__file__).parents[1]
ROW = {"input": "a", "output": "b"}


@pytest.fixture(autouse=True)
def _logging():
    """Hydra leaves a handler on a stream that pytest then closes."""
    before = [*logging.root.handlers]
    yield
    logging.root.handlers[:] = before


def write(path, text):
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def snapshot(folder="."):
    return {str(path): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def said(capsys, *words):
    code = cli.main(["ask", *words])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def again(out):
    """The command line that is said to plan the same."""
    return out.rstrip().splitlines()[-1].strip()


def test_flags_write_a_group_and_say_the_command_that_writes_the_same(capsys):
    code, out, _ = said(capsys, "--yes", "--set", "model=1B,3B", "lora.rank=4,64")
    assert code == 0
    line = again(out)
    assert line == ("python -m runplan -m model=1B,3B lora.rank=4,64 dataset.create=true group.name=1B-3B_rank4-64")
    assert sorted(path.name for path in Path("outputs/1B-3B_rank4-64").iterdir() if path.is_dir()) == [
        "1B_base", "1B_rank4", "1B_rank64", "3B_base", "3B_rank4", "3B_rank64",
    ]  # fmt: skip


def test_the_command_quotes_whatever_was_answered(capsys, weird_tmp_path, monkeypatch):
    monkeypatch.chdir(weird_tmp_path)
    answers = {
        "system_prompt": ["Say \"$(x)\" 'y'\\", "two\nlines, ${oc.env:HOME} `ls`"],
        "group": {"name": "a'; echo $HOME"},
        "lora.rank": 4,
        "evaluation": "none",
    }
    write("answers.yaml", json.dumps(answers))
    code, out, _ = said(capsys, "--answers", "answers.yaml", "--yes")
    assert code == 0
    first = snapshot()
    setups = [yaml.safe_load(path.read_text()) for path in Path("outputs/a'; echo $HOME").glob("*/setup_finetune.yaml")]
    assert {setup["system_prompt"] for setup in setups} == {*answers["system_prompt"]}
    subprocess.run(["rm", "-r", "outputs", "tasks"], check=True)
    line = out[out.rindex("python -m runplan") :].strip()
    line = line.replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(["bash", "-c", line], check=True, capture_output=True)
    assert snapshot() == first


def test_nothing_is_asked_where_there_is_no_terminal(capsys):
    code, _, err = said(capsys, "--set", "model=1B")
    assert code == 2
    assert "no terminal to ask on" in err
    assert "--yes" in err
    assert not [*Path.cwd().iterdir()]


def test_all_wrong_answers_are_said_at_once_and_nothing_is_written(capsys):
    write("a.yaml", "model: [1B, 4B]\nlora: {rnak: 4}\nepochs: x\noptimizer.lr: -1\nresources: h100-8\n")
    code, _, err = said(capsys, "--answers", "a.yaml", "--yes", "--set", "seed")
    assert code == 2
    for part in ("'4B'", "lora.rnak", "lora.rank", "'x' is no whole number", "'seed' sets nothing", "h100-80"):
        assert part in err, part
    assert [path.name for path in Path.cwd().iterdir()] == ["a.yaml"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("model: [", "is no YAML"),
        ("- 1", "holds a list"),
        (None, "cannot be read"),
        (b"\xff\xfe\xff", "cannot be read"),
    ],
)
def test_a_file_that_is_no_file_of_answers(capsys, text, part):
    if isinstance(text, bytes):
        Path("a.yaml").write_bytes(text)
    elif text is not None:
        write("a.yaml", text)
    code, _, err = said(capsys, "--answers", "a.yaml", "--yes")
    assert code == 2
    assert part in err


def test_options_are_explained(capsys):
    code, out, _ = said(capsys, "--help")
    assert code == 0
    for option in ("--answers", "--set", "--yes", "--plain", "--config-dir"):
        assert option in out
    assert said(capsys, "--nope")[0] == 2
    assert said(capsys, "--yes", "--config-dir", "nowhere")[0] == 2


def test_a_site_of_ones_own_is_taken_and_its_things_are_offered(capsys):
    write("conf/site/lab.yaml", "defaults: [local, _self_]\nname: lab\nmodels_dir: m\noutput_root: runs\n")
    code, out, _ = said(capsys, "--yes")
    assert code == 0
    assert again(out).startswith("python -m runplan -m site=lab model=1B ")
    assert Path("runs/1B_rank8/plan.json").is_file()


def test_a_config_folder_of_the_command_line_is_kept_in_the_command(capsys):
    write("more conf/site/lab.yaml", "defaults: [local, _self_]\nname: lab\noutput_root: runs\n")
    code, out, _ = said(capsys, "--yes", "--config-dir", "more conf", "lora.rank=4", "resources=h100-80")
    assert code == 0
    place = Path.cwd() / "more conf"
    start = f"python -m runplan -m '--config-dir={place}' site=lab model=1B lora.rank=4 "
    assert again(out) == f"{start}dataset.create=true resources=h100-80 group.name=1B_rank4"


def test_a_kept_sweep_keeps_what_it_sweeps(capsys):
    code, out, _ = said(capsys, "--yes", "+experiment=ranks", "preview=true")
    assert code == 0
    assert "6 fine-tuned" in out
    assert again(out) == "python -m runplan -m dataset.create=true +experiment=ranks group.name=ranks"
    assert not [*Path.cwd().iterdir()]


def test_what_is_there_is_offered(monkeypatch):
    write("models/Llama-3.2-1B-Instruct/config.json", "{}")
    write("models/mine/config.json", "{}")
    write("models/no-model/readme", "")
    write("conf/model/lab.yaml", "defaults: [1B, _self_]\nname: lab\nfull_name: lab\nfolder: lab\n")
    write("conf/site/lab.yaml", "defaults: [local, _self_]\nname: lab\n")
    write("data/rows.json", json.dumps({"train": [ROW]}))
    write("data/talk.json", json.dumps({"train": [{"messages": [{"role": "user", "content": "x"}]}]}))
    write("tasks/mine/input/plain.json", json.dumps({"train": [{"text": "x"}]}))
    write("tasks/mine/inspect.py", "")
    write("outputs/1B_rank8/plan.json", "{}")
    known = Survey(Path.cwd()).known([])
    models = [thing.name for thing in known.models]
    assert models[:2] == ["1B", "./models/mine"]
    assert {"lab", "3B", "tiny"} <= {*models}
    assert not {"hf", "./models/no-model"} & {*models}
    assert {thing.name: thing.kind for thing in known.datasets if "/" in thing.name} == {
        "./data/rows.json": "json", "./data/talk.json": "chat", "./tasks/mine/input/plain.json": "text",
    }  # fmt: skip
    assert [thing.name for thing in known.evaluations] == [
        "auto", "capitalization", "none", "./tasks/mine/inspect.py",
    ]  # fmt: skip
    assert known.own_sites == ("lab",)
    assert known.taken == {"1B_rank8"}
    assert known.values["optimizer.lr"] == "3e-4"
    assert "batch_size" not in known.values
    assert [thing.detail for thing in known.gpus if thing.name == "a100-80"] == ["79.14 GiB"]


def test_trainers_that_jobs_would_find_are_named():
    for name in ("torchtune-0.6.1", "trl-1.16.0"):
        write(f"env/lib/python3.11/site-packages/{name}.dist-info/METADATA", "")
    for name in ("activate", "python"):
        write(f"env/bin/{name}", "")
    known = Survey(Path.cwd()).known(["site.venv=env"])
    assert [(thing.name, thing.detail) for thing in known.trainers] == [("torchtune", "0.6.1"), ("trl", "1.16.0")]
    assert Survey(Path.cwd()).known(["site.venv=nowhere"]).trainers == ()
    assert known.chosen["trainer"] == "torchtune"


def test_a_user_s_primary_config_says_the_defaults(monkeypatch):
    text = (
        (ROOT / "conf/runplan.yaml").read_text().replace("site: local", "site: lab").replace("epochs: 1", "epochs: 2")
    )
    write("mine/runplan.yaml", text)
    write("mine/site/lab.yaml", "defaults: [local, _self_]\nname: lab\n")
    monkeypatch.setenv("RUNPLAN_CONF", "mine")
    known = Survey(Path.cwd()).known([])
    assert known.chosen["site"] == "lab"
    assert known.own_sites == ()  # it holds already, so nothing is to be asked
    assert known.values["epochs"] == "2"


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
LEVELS = {
    "model": st.lists(st.sampled_from(["1B", "3B", "qwen2.5-7B"]), min_size=1, max_size=2, unique=True),
    "lora.rank": st.lists(st.integers(1, 256).map(str), min_size=1, max_size=3, unique=True),
    "optimizer.lr": st.lists(st.sampled_from(["1e-5", "3e-4", "0.001"]), min_size=1, max_size=2, unique=True),
    "epochs": st.lists(st.integers(1, 9).map(str), min_size=1, max_size=2, unique=True),
    "seed": st.lists(st.integers(0, 99).map(str), min_size=1, max_size=2, unique=True),
    "system_prompt": st.lists(TEXTS, min_size=1, max_size=2, unique=True),
    "validation": st.sampled_from([["true"], ["false"]]),
    "packed": st.sampled_from([["auto"], ["true"], ["false"]]),
    "resources": st.sampled_from([["a100-40"], ["h100-80"]]),
    "resources.gpus": st.integers(1, 8).map(lambda number: [str(number)]),
    "group.name": TEXTS.filter(str.strip).map(lambda text: [text]),
}


@settings(max_examples=8)
@given(st.fixed_dictionaries({}, optional=LEVELS))
def test_any_answers_compose_to_every_combination_of_them(drawn):
    answers = {key: tuple(levels) for key, levels in drawn.items()}
    survey = Survey(Path.cwd())
    known = survey.known([])
    state = State(answers=answers, given=frozenset(answers))
    runs = app.compose(override_lines(interview.final_answers(state, known), known)).composed
    found = {
        (run.choices["model"], run.config.lora.rank, run.config.optimizer.lr, run.config.epochs, run.config.seed,
         run.config.system_prompt)
        for run in runs
    }  # fmt: skip
    wanted = {
        (model, int(rank), float(lr), int(epochs), int(seed), prompt)
        for model in answers.get("model", ["1B"])
        for rank in answers.get("lora.rank", ["8"])
        for lr in answers.get("optimizer.lr", ["3e-4"])
        for epochs in answers.get("epochs", ["1"])
        for seed in answers.get("seed", ["14"])
        for prompt in answers.get("system_prompt", [""])
    }
    assert found == wanted
    assert len(runs) == len(wanted)
    config = runs[0].config
    assert str(config.validation).lower() == answers.get("validation", ("true",))[0]
    assert str(config.packed).lower() == answers.get("packed", ("auto",))[0]
    assert config.resources.gpu == answers.get("resources", ("a100-80",))[0]
    assert str(config.resources.gpus) == answers.get("resources.gpus", ("1",))[0]
    assert config.group.name == answers.get("group.name", (config.group.name,))[0]
