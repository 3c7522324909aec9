from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from runplan import yaml_text

keys = st.text(min_size=1, max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
trees = st.dictionaries(
    keys,
    st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=10
    ),
    max_size=4,
)
TRAPS = [
    "1e-5", "1e5", "12:30:00", "1:00", "0x10", "0o7", "010", "1_000", "on", "No", "~", "null", "",
    " ", " a", "a ", "- a", "a: b", "a #b", "#", "!tag", "&a", "*a", "{a}", "[a]", "%", "@", "`",
    "'", '"', "a'; echo x", "a\nb", "a\n", "\t", "日本", "é", "\u2028", "\x85", "\x07", "\x1b[0m",
    "\ufeff", "2024-01-01", ".inf", ".nan", "nan", "=", "<<", "---", "...", "?", "|", ">",
    "a" * 3000, "😀", "true ", "1.", ".5", "+1", "-1", "0.0003", "1e", "e1", "_1", "\x7f",
]  # fmt: skip


@given(trees)
def test_pyyaml_reads_back_what_went_in(tree):
    assert yaml.safe_load(yaml_text.dump(tree)) == tree


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), scalars, max_size=5))
def test_omegaconf_reads_back_what_went_in(tree):
    tree = {key: value for key, value in tree.items() if not (isinstance(value, str) and "$" in value)}
    back = OmegaConf.to_container(OmegaConf.create(yaml_text.dump(tree) if tree else "{}"), resolve=False)
    assert back == tree
    assert [type(value) for value in back.values()] == [type(value) for value in tree.values()]


@pytest.mark.parametrize("text", TRAPS)
def test_text_that_looks_like_something_else_stays_text(text):
    for written in (yaml_text.dump({"a": text}), f"a: {yaml_text.scalar(text)}\n", yaml_text.dump({"x": {text: 1}})):
        back = yaml.safe_load(written)
        again = OmegaConf.to_container(OmegaConf.create(written))
        assert back in ({"a": text}, {"x": {text: 1}})
        assert again == back


def test_marks_stay_marks():
    written = yaml_text.dump({"batch_size": "${rp.batch_size:}", "a": "${oc.env:USER}"})
    assert OmegaConf.is_interpolation(OmegaConf.create(written), "batch_size")
    assert yaml.safe_load(written)["a"] == "${oc.env:USER}"


@pytest.mark.parametrize("value", [1e-5, 1e-4, 3e-4, 1e22, 1.0, 0.1, -1e-7, 1e300, 5e-324])
def test_floats_stay_floats_for_both_readers(value):
    written = yaml_text.dump({"lr": value})
    assert yaml.safe_load(written)["lr"] == value
    assert isinstance(yaml.safe_load(written)["lr"], float)
    assert OmegaConf.create(written).lr == value


def test_numbers_without_an_end():
    back = yaml.safe_load(yaml_text.dump({"a": math.inf, "b": -math.inf, "c": math.nan}))
    assert back["a"] == math.inf
    assert back["b"] == -math.inf
    assert math.isnan(back["c"])


def test_order_headers_and_shared_lists():
    shared = [1, 2]
    text = yaml_text.dump({"b": shared, "a": shared, "c": ()}, header="made by\n\nus")
    assert text == "# made by\n#\n# us\nb:\n- 1\n- 2\na:\n- 1\n- 2\nc: []\n"


def test_headers_cannot_break_out_of_their_comment():
    assert yaml.safe_load(yaml_text.dump({"a": 1}, header="x\rb: 2\x85c: 3\u2028d: 4")) == {"a": 1}


@pytest.mark.parametrize(
    "value", [None, True, 3, 1e-5, "a b", [], {}, [1, "x: y"], {"a": [None, "12:30:00"]}, "a" * 200]
)
def test_a_scalar_is_one_line(value):
    text = yaml_text.scalar(value)
    assert "\n" not in text
    assert yaml.safe_load(f"a: {text}\n") == {"a": value}


def test_values_that_are_equal_keep_their_own_text():
    for _ in range(2):
        written = [yaml_text.scalar(value) for value in (1, True, "1", 1.0, 0, False, 0.0, -0.0, None, "null")]
        assert written == ["1", "true", "'1'", "1.0", "0", "false", "0.0", "-0.0", "null", "'null'"]


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True).filter(str.isidentifier), scalars, max_size=5))
def test_flat_mappings_are_written_as_any_other(tree):
    words = {f"k_{key}": value for key, value in tree.items()}
    assert yaml_text.flat(words) == yaml_text.dump(words)


@given(st.lists(scalars, max_size=5))
def test_flat_lists_are_written_as_any_other(values):
    assert yaml_text.flat(values) == yaml_text.dump(values)


@pytest.mark.parametrize("text", TRAPS)
def test_flat_text_is_quoted_as_in_any_other(text):
    assert yaml_text.flat({"a": text}) == yaml_text.dump({"a": text})
    assert yaml_text.flat([text]) == yaml_text.dump([text])


@given(st.lists(trees, max_size=3))
def test_remembered_sections_and_values_are_those_of_their_own_value(found):
    for tree in [*found, *found]:
        assert yaml_text.section("a", tree) == yaml_text.dump({"a": tree})
        assert yaml.safe_load(yaml_text.scalar(tree)) == tree


def test_values_that_are_equal_but_not_the_same_are_told_apart():
    pairs = [(0.0, -0.0), (True, 1), (1, 1.0), ("1", 1), ([1], [True]), ([0.0], [-0.0])]
    for one, other in pairs:
        assert yaml_text.scalar(one) != yaml_text.scalar(other)
        assert yaml_text.section("a", one) != yaml_text.section("a", other)


def test_other_values_change_their_own_lines_alone():
    text = "batch: 4\nbatch_val: 4\nnested:\n  batch: 4\nname: 'batch: 4'\n"
    changed = yaml_text.with_values(text, {"batch": 2, "name": "a: b", "absent": 1})
    assert yaml.safe_load(changed) == yaml.safe_load(text) | {"batch": 2, "name": "a: b"}
    assert changed.count("4") == 2
