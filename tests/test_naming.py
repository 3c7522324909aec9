from __future__ import annotations

import pytest
from factories_plan import cross, make_composed
from hypothesis import given
from hypothesis import strategies as st

from runplan.config import DatasetType, Naming
from runplan.naming import (
    LONGEST,
    concerns_control,
    control_key,
    control_names,
    run_names,
    safe_name,
    shared_control,
)


@pytest.mark.parametrize(
    ("factors", "names"),
    [
        ({"model": ["1B", "3B"], "lora.rank": [4, 64]}, ["1B_rank4", "1B_rank64", "3B_rank4", "3B_rank64"]),
        ({"model": ["3B"], "lora.rank": [64], "optimizer.lr": [1e-5, 3e-4]}, ["3B_rank64_lr1e-5", "3B_rank64_lr3e-4"]),
        ({"optimizer.lr": [1e-5], "seed": [1, 2]}, ["1B_rank8_seed1", "1B_rank8_seed2"]),
        ({"epochs": [1, 2], "batch_size": [4]}, ["1B_rank8_ep1", "1B_rank8_ep2"]),
        ({"epochs": [2, 3], "batch_size": [4, 8]}, [f"1B_rank8_ep{ep}_bs{bs}" for ep in (2, 3) for bs in (4, 8)]),
        ({"batch_size": [4, 8], "lora.rank": [4, 8]}, [f"1B_rank{rank}_bs{bs}" for bs in (4, 8) for rank in (4, 8)]),
        ({"optimizer.weight_decay": [0.0, 0.01]}, ["1B_rank8_weight_decay0", "1B_rank8_weight_decay0.01"]),
        ({"dataset.path": ["a/words_5L.json", "b/words_8L.json"]}, ["1B_rank8_words_5L", "1B_rank8_words_8L"]),
        (
            {"system_prompt": ["Say yes/no.", "a/b"]},
            ["1B_rank8_system_prompt-Say-yes-no", "1B_rank8_system_prompt-a-b"],
        ),
        (
            {"lora.attn_modules": [["q_proj", "v_proj"], ["q_proj", "output_proj"]]},
            ["1B_rank8_attn_modules-q-v", "1B_rank8_attn_modules-q-output"],
        ),
        ({"validation": [True, False]}, ["1B_rank8_validation-true", "1B_rank8_validation-false"]),
        ({"model.path": ["/m/Llama-3.2-1B", "/m/Qwen2.5-0.5B"]}, ["1B_rank8_Llama-3.2-1B", "1B_rank8_Qwen2.5-0.5B"]),
        ({}, ["1B_rank8"]),
    ],
)  # fmt: skip
def test_names_say_model_rank_and_what_varies_in_command_order(factors, names):
    assert run_names(cross(factors)) == names


def test_a_group_choice_contributes_its_value():
    composed = cross({"dataset": ["words", "digits"]}, choices=("dataset",))
    assert run_names(composed) == ["1B_rank8_words", "1B_rank8_digits"]


def test_full_names_drop_instruct_unless_the_base_model_occurs():
    factors = {"model": ["1B"], "lora.rank": [8], "optimizer.lr": [1e-5, 5e-5]}
    composed = cross(factors, extra={"naming": Naming.full})
    assert run_names(composed) == ["Llama-3.2-1B_rank8_lr1e-5", "Llama-3.2-1B_rank8_lr5e-5"]
    assert control_names(composed[:1]) == ["Llama-3.2-1B_base"]
    both = cross({"model": ["1B", "1B-base"]}, extra={"naming": Naming.full})
    assert run_names(both) == ["Llama-3.2-1B-Instruct_rank8", "Llama-3.2-1B_rank8"]


def test_models_that_share_a_short_name_are_told_apart():
    one, other = cross({"model": ["1B", "3B"]})
    other.config.model.name = "1B"
    assert run_names([one, other]) == ["1B_rank8_1B", "1B_rank8_3B"]


def test_runs_without_training_are_named_like_controls():
    assert run_names(cross({"model": ["1B", "3B"]}, extra={"train": False})) == ["1B_base", "3B_base"]


def test_a_control_has_the_levels_in_which_those_that_share_it_agree():
    one, other, third = cross({"experiment": ["a", "b", "b"], "model": ["1B"], "lora.rank": [4]})
    shared = shared_control(one, other)
    assert shared.factors == {"model": "1B", "lora.rank": 4}
    assert shared_control(shared, third) is shared
    assert shared_control(other, third) is other
    assert len({*control_names([shared, other])}) == 2


def test_controls_are_one_a_base_model_and_evaluation():
    composed = cross(
        {"model": ["1B", "3B"], "lora.rank": [4, 64], "optimizer.lr": [1e-5, 1e-4], "seed": [1, 2], "epochs": [1, 2]}
    )
    assert len({control_key(one) for one in composed}) == 2
    assert control_names(composed[:1])[0] == "1B_base"


@pytest.mark.parametrize(
    ("key", "levels", "names"),
    [
        ("system_prompt", ["", "Be terse."], ["1B_base_system_prompt", "1B_base_system_prompt-Be-terse"]),
        ("evaluation.temperature", [0.0, 0.7], ["1B_base_temperature0", "1B_base_temperature0.7"]),
        ("dataset.path", ["x/a.json", "x/b.json"], ["1B_base_a", "1B_base_b"]),
        ("prompt", ["{input}", "Q: {input}"], ["1B_base_prompt-input", "1B_base_prompt-Q-input"]),
    ],
)
def test_a_control_is_named_by_what_varies_in_its_evaluation(key, levels, names):
    composed = cross({"lora.rank": [4, 64], key: levels})
    distinct = list({control_key(one): one for one in composed}.values())
    assert control_names(distinct) == names


def test_a_task_with_data_of_its_own_has_one_control_for_all_datasets():
    composed = cross({"dataset.path": ["x/a.json", "x/b.json"]})
    assert len({control_key(one) for one in composed}) == 2
    distinct = list({control_key(one, takes_data=False): one for one in composed}.values())
    assert control_names(distinct) == ["1B_base"]
    chat, instruct = cross({"dataset.type": [DatasetType.chat, DatasetType.instruct]})
    assert control_key(chat, takes_data=False) != control_key(instruct, takes_data=False)  # prompts are written so


def test_what_is_trained_on_does_not_concern_a_control():
    assert not any(map(concerns_control, ("dataset.train_rows", "evaluation.epochs", "lora.rank", "seed")))
    assert all(map(concerns_control, ("dataset.path", "dataset", "evaluation.temperature", "model", "prompt")))


def test_control_names_avoid_those_of_runs():
    [name] = control_names([make_composed({})], taken=["1B_base"])
    assert name.startswith("1B_base-")


def test_long_values_end_in_a_hash_and_keep_their_beginning():
    names = run_names(cross({"system_prompt": ["a" * 300, "a" * 299 + "b"]}))
    assert all(len(name) <= LONGEST and name.startswith("1B_rank8_system_prompt-aaa") for name in names)
    assert len(set(names)) == 2


def test_a_clashing_name_is_the_same_whatever_else_is_planned():
    few = dict(zip("ab", run_names(cross({"prompt": ["a;", "a'"]})), strict=True))
    many = run_names(cross({"prompt": ["a;", "zz", "a'"]}))
    assert [few["a"], few["b"]] == [many[0], many[2]]


@pytest.mark.parametrize(
    "text", ["", ".", "..", "-rf", "../../etc", "a/b", "\n", "ünï", "日本", "$(rm)", "a'; echo x", "\0"]
)
def test_safe_names_are_safe(text):
    name = safe_name(text)
    assert name
    assert name.isascii()
    assert name[0] not in ".-"
    assert not set(name) & set(" /$();'\"\n\0`\\*?&|<>")
    assert safe_name("é") == "e"


levels = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=150),
    st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@given(
    st.lists(levels, min_size=1, max_size=6),
    st.sampled_from(["prompt", "dataset.path", "optimizer.lr", "evaluation.args.x"]),
)
def test_names_are_unique_valid_short_and_deterministic(values, key):
    composed = [make_composed({key: value, "lora.rank": 4}) for value in values]
    names = run_names(composed)
    assert names == run_names(composed)
    assert len({name.casefold() for name in names}) == len(composed)
    for name in names:
        assert 0 < len(name) < 100
        assert name == safe_name(name)
        assert name.startswith("1B_rank4")
    assert not set(names) & set(control_names(composed, taken=names))
