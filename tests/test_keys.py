"""The reference of keys: complete, and what the page in docs/ says."""

import os
import re
from pathlib import Path

import pytest

from runplan.config import iter_keys
from runplan.errors import ConfigError
from runplan.explain import defaults, explain
from runplan.keys import default_text, described, markdown

PAGE = Path(__file__).parents[1] / "docs" / "keys.md"


def test_every_key_of_the_schema_is_described():
    assert sorted(key.name for key in described()) == sorted(iter_keys())
    assert [key.name for key in described() if not key.meaning] == []


def test_the_page_is_the_schemas():
    text = markdown(defaults())
    if os.environ.get("RUNPLAN_REGEN"):
        PAGE.write_text(text)
    assert PAGE.read_text() == text, "RUNPLAN_REGEN=1 python -m pytest tests/test_keys.py rewrites docs/keys.md"


def test_a_key_says_type_default_and_meaning():
    text = explain(["lora.rank", "dtype", "batch_size"])
    assert re.search(r"^lora\.rank   int; default: 8$", text, re.MULTILINE)
    assert "dtype   bf16 or fp32 or null; default: null" in text
    assert "batch_size   int or null; default: worked out" in text
    assert "Sequences a GPU processes at once" in text


def test_a_group_lists_its_options_and_its_keys():
    text = explain(["lora"])
    assert "lora=all-linear, attention-only" in text
    assert "lora.alpha" in text
    assert "ranks" in explain(["experiment"])


def test_what_is_not_there_is_said_all_at_once():
    with pytest.raises(ConfigError) as error:
        explain(["lora.rnak", "modle"])
    assert "lora.rank" in str(error.value)
    assert "model" in str(error.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), (1e-5, "1e-5"), ("", '""'), (["a", "b"], "[a,b]"), ("${rp.x:}", "worked out"),
     ("???", "set by the option"), ({}, "{}")],
    ids=str,
)  # fmt: skip
def test_defaults_are_written_as_a_command_line_has_them(value, text):
    assert default_text("a.b", {"a": {"b": value}}) == text
    assert default_text("a.c", {"a": {"b": value}}) == "set by the option"
