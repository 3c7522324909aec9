"""Answers from a file and from flags."""

import pytest
from ask_known import KNOWN
from hypothesis import given, settings
from hypothesis import strategies as st

from runplan.ask.given import given_state
from runplan.ask.lines import override_lines


def lines(document=None, flags=()):
    state, problems = given_state(document, flags, "a.yaml")
    assert problems == []
    return override_lines(state.answers, KNOWN)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"model": ["1B", "3B"], "lora.rank": [4, 64]}, ["model=1B,3B", "lora.rank=4,64"]),
        ({"lora": {"rank": 4, "dropout": 0.1}}, ["lora.rank=4", "lora.dropout=0.1"]),
        ({"optimizer.lr": [1e-5, "3e-4"], "controls": False}, ["optimizer.lr=1e-5,3e-4", "controls=false"]),
        ({"dataset": "./data/c.json"}, ["dataset=chat", "dataset.path=./data/c.json"]),
        ({"system_prompt": ["a, b", 'say "x"']}, ['system_prompt="a, b","say \\"x\\""']),
        ({"resources.constraint": "gpu80", "epochs": 2}, ["epochs=2", "resources.constraint=gpu80"]),
        ({"priors.gpu": None, "naming": "full"}, ["priors.gpu=null", "naming=full"]),
        ({"packed": False, "batch_size": 4}, ["batch_size=4", "packed=false"]),
        ({"batch_size": None, "lora.alpha": None, "epochs": 2}, ["epochs=2"]),
    ],
)
def test_a_file_of_answers(document, expected):
    assert lines(document) == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["model=1B,3B", "lora.rank=4, 64"], ["model=1B,3B", "lora.rank=4,64"]),
        (["seed=range(1,4)", "epochs=2"], ["epochs=2", "seed=range(1,4)"]),
        (["system_prompt=one, two"], ['system_prompt="one, two"']),
        (["+experiment=ranks", "naming=full"], ["+experiment=ranks", "naming=full"]),
        (["model=3B", "model=1B"], ["model=1B"]),
    ],
)
def test_flags(flags, expected):
    assert lines(None, flags) == expected


def test_a_flag_wins_over_the_file():
    assert lines({"model": "3B", "lora": {"dropout": 0.1}}, ["model=1B", "lora.dropout=0.2"]) == [
        "model=1B", "lora.dropout=0.2",
    ]  # fmt: skip


def test_all_that_is_wrong_is_said():
    document = {"lora.rank": ["4.5", 8], "epochs": [[1]], "batch_size": "many", "model": []}
    _, problems = given_state(document, ["seed", "optimizer.lr=fast", "=x"], "a.yaml")
    assert {problem.where for problem in problems} == {
        "a.yaml: lora.rank", "a.yaml: epochs", "a.yaml: batch_size", "a.yaml: model", "--set", "--set optimizer.lr",
    }  # fmt: skip
    assert len(problems) == 7
    assert all(problem.what and problem.fix for problem in problems)


@pytest.mark.parametrize("document", ["text", [1, 2], 3])
def test_a_file_of_something_else(document):
    _, (problem,) = given_state(document, [], "a.yaml")
    assert "not keys with answers" in problem.what


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["model", "lora.rank", "dataset", "system_prompt", "packed", "x.y"]) | st.text(max_size=5)


@settings(max_examples=60)
@given(st.dictionaries(KEYS, JSONISH, max_size=4), st.lists(st.text(max_size=8), max_size=3))
def test_whatever_is_in_a_file_it_is_answers_or_problems(document, flags):
    state, problems = given_state(document, flags, "a.yaml")
    assert all(isinstance(level, str) for levels in state.answers.values() for level in levels)
    assert all(problem.what and problem.where and problem.fix for problem in problems)
