"""What people type."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runplan.ask.settings import Form
from runplan.ask.typed import NotUnderstood, read_gpus, read_typed, shown

GPUS = ("a100-80", "h100-80")


@pytest.mark.parametrize(
    ("text", "form", "levels"),
    [
        ("4, 64", Form.whole, ("4", "64")),
        ("4,4", Form.whole, ("4",)),
        ("1e-5,3e-4", Form.number, ("1e-5", "3e-4")),
        ("one, two", Form.text, ("one, two",)),
        ('""', Form.text, ("",)),
        ('"a,b", c', Form.texts, ("a,b", "c")),
        ("lora.dropout=0,0.1 'system_prompt=\"a b\"'", Form.lines, ("lora.dropout=0,0.1", 'system_prompt="a b"')),
    ],
)
def test_typed_levels(text, form, levels):
    assert read_typed(text, form) == levels


@pytest.mark.parametrize(
    ("text", "form", "said"),
    [
        ("4.5", Form.whole, "'4.5' is no whole number"),
        ("4,,8", Form.whole, "a value is missing"),
        ("4,", Form.whole, "a value is missing"),
        ("1_000", Form.whole, "no whole number"),
        ("²", Form.whole, "no whole number"),
        ("fast", Form.number, "'fast' is no number"),
        ("lora.rank 4", Form.lines, "lora.rank: write KEY=VALUE"),
        ("a='b", Form.lines, "quote as in a shell"),
        ('"a', Form.texts, "double quotes"),
    ],
)
def test_what_cannot_be_taken_is_said(text, form, said):
    with pytest.raises(NotUnderstood, match=said.replace("(", r"\(")):
        read_typed(text, form)


@settings(max_examples=60)
@given(st.lists(st.text("ab,\" '", min_size=1).map(str.strip).filter(bool), min_size=1, max_size=3, unique=True))
def test_what_is_shown_can_be_typed_again(levels):
    assert read_typed(shown(levels, Form.texts), Form.texts) == tuple(levels)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2", ("a100-80", "2")),
        ("h100-80", ("h100-80", "1")),
        ("2 h100-80", ("h100-80", "2")),
        ("2x h100-80", ("h100-80", "2")),
        ("2 × h100-80", ("h100-80", "2")),
        ("h100-80 x4", ("h100-80", "4")),
        ("h100-80 4", ("h100-80", "4")),
    ],
)  # fmt: skip
def test_gpus_are_a_number_a_type_or_both(text, found):
    assert read_gpus(text, GPUS, "a100-80", "1") == found


@pytest.mark.parametrize(
    ("text", "said"),
    [("0", "at least 1"), ("h100", "did you mean h100-80"), ("2 3", "write a number"), ("", "write a number"),
     ("2 h100-80 2", "write a number"), ("-1", "write a number")],
)  # fmt: skip
def test_gpus_that_are_none(text, said):
    with pytest.raises(NotUnderstood, match=said):
        read_gpus(text, GPUS, "a100-80", "1")
