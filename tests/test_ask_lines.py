"""From answers to override lines: what Hydra reads from them is what was answered."""

from dataclasses import replace

import pytest
from ask_known import KNOWN
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from runplan.ask.known import Thing
from runplan.ask.lines import override_lines, same, written
from runplan.ask.survey import _data_file

PARSER = OverridesParser.create()
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30),
    st.text(alphabet="\\\"'${}()[],=:a1 \n", max_size=12),
)


def read(line: str) -> list:
    """Every level that Hydra reads from a line, as a config then has it."""
    (override,) = PARSER.parse_overrides([line])
    levels = override.sweep_string_iterator() if override.is_sweep_override() else [override.get_value_element_as_str()]
    values = [PARSER.parse_overrides([f"key={level}"])[0].value() for level in levels]
    return [OmegaConf.create({"key": value}).key for value in values]


@settings(max_examples=60)
@given(TEXTS)
def test_a_text_is_read_as_it_was_written(text):
    assert read(f"system_prompt={written(text)}") == [text]


@settings(max_examples=60)
@given(st.lists(TEXTS, min_size=2, max_size=3, unique=True))
def test_several_texts_are_read_as_they_were_written(texts):
    assert read(f"system_prompt={','.join(map(written, texts))}") == texts


@pytest.mark.parametrize("text", ["1B", "h100-80", "./models/own", "a_b.c", "tasks/t/inspect.py"])
def test_simple_texts_need_no_quotes(text):
    assert written(text) == text


@pytest.mark.parametrize("text", ["null", "True", "1e3", "12", "inf", "", "a b", "1_0", "~/x"])
def test_texts_that_could_be_something_else_are_quoted(text):
    assert written(text) == f'"{text}"'


@pytest.mark.parametrize(
    ("answers", "lines"),
    [
        ({}, []),
        ({"model": ("1B",)}, ["model=1B"]),
        ({"model": ("1B", "3B"), "lora.rank": ("4", "64")}, ["model=1B,3B", "lora.rank=4,64"]),
        ({"lora.rank": ("8",), "optimizer.lr": ("0.0003",), "epochs": ("1",)}, []),
        ({"lora.quantize_base": ("false", "true")}, ["lora.quantize_base=false,true"]),
        ({"trainer": ("torchtune",), "lora.quantize_base": ("false",)}, []),
        ({"trainer": ("torchtune", "trl")}, ["trainer=torchtune,trl"]),
        ({"optimizer.lr": ("1e-5", "3e-4")}, ["optimizer.lr=1e-5,3e-4"]),
        ({"model": ("./models/own",)}, ["model=hf", "model.path=./models/own"]),
        ({"model": ("1B", "./models/own")}, ["model=hf", "model.path=/m/1B,./models/own"]),
        ({"dataset": ("./data/c.json",)}, ["dataset=chat", "dataset.path=./data/c.json"]),
        ({"dataset": ("./not listed.json",)}, ["dataset=json", 'dataset.path="./not listed.json"']),
        ({"evaluation": ("none",)}, ["evaluation=none"]),
        ({"priors.paths": ("/a b", "runs/*/slurm.out")}, ['priors.paths=["/a b","runs/*/slurm.out"]']),
        ({"naming": ("full",)}, ["naming=full"]),
        ({"evaluation": ("./tasks/t/inspect.py",)}, ["evaluation=script", "evaluation.script=./tasks/t/inspect.py"]),
        ({"resources": ("h100-80",), "resources.gpus": ("2",)}, ["resources=h100-80", "resources.gpus=2"]),
        ({"validation": ("false",), "controls": ("true",)}, ["validation=false"]),
        ({"packed": ("false",)}, ["packed=false"]),
        ({"dataset.create": ("true",)}, ["dataset.create=true"]),
        ({"other": ("lora.dropout=0,0.1", "naming=full")}, ["lora.dropout=0,0.1", "naming=full"]),
        ({"system_prompt": ("Say $(x), ${y}",)}, ['system_prompt="Say $(x), \\${y}"']),
        ({"group.name": ("a b",), "site": ("della",)}, ["site=della", 'group.name="a b"']),
    ],
)
def test_lines_say_what_does_not_hold_anyway(answers, lines):
    assert override_lines(answers, KNOWN) == lines


@pytest.mark.parametrize(
    ("key", "one", "other", "expected"),
    [
        ("optimizer.lr", "1e-5", "0.00001", True),
        ("lora.alpha", "16", "16.0", True),
        ("lora.rank", "8", "16", False),
        ("system_prompt", "1", "1.0", False),
        ("model", "1e3", "1000", False),
    ],
)
def test_numbers_are_the_same_however_they_are_written(key, one, other, expected):
    assert same(key, one, other) is expected


def test_rows_without_splits_are_a_source_of_them_unless_others_have_splits():
    flat, split = Thing("./a.csv", path="./a.csv", kind="json", has_splits=False), Thing("./b.json", path="./b.json")
    known = replace(KNOWN, datasets=(flat, split))
    assert override_lines({"dataset": ("./a.csv",)}, known)[-2:] == ["dataset=json", "dataset.source=./a.csv"]
    assert override_lines({"dataset": ("./a.csv", "./b.json")}, known)[-1] == "dataset.path=./a.csv,./b.json"


@pytest.mark.parametrize(
    ("name", "content", "kind", "has_splits"),
    [
        ("a.csv", "input,output\n", "json", False),
        ("a.jsonl", '{"messages": []}\n', "chat", False),
        ("a.json", '  [{"text": "a"}]', "text", False),
        ("a.json", '{"input": "a", "output": "b"}\n{"input": "c", "output": "d"}\n', "json", False),
        ("a.json", '{"train": [{"input": "a", "output": "b"}]}', "json", True),
        ("a.json", '{\n "train": []}', "json", True),
    ],
)
def test_a_data_files_beginning_says_whether_it_has_splits(tmp_path, name, content, kind, has_splits):
    (tmp_path / name).write_text(content)
    found = _data_file("x", tmp_path / name)
    assert (found.kind, found.has_splits, "without splits" in found.detail) == (kind, has_splits, not has_splits)
    assert _data_file("x", tmp_path / "nowhere") == Thing("x", path="x", kind="json")
