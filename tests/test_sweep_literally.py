"""Text on the command line arrives as it was typed."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from runplan.sweep.literally import as_typed

WORDS = st.text("0123456789_.+-eEinfatruls", min_size=1, max_size=8).filter(lambda word: word.lower() != "null")


@pytest.mark.parametrize("line", ["lora.rank=1_0", "group.name", "group.name=", 'group.name="1_0"', "~group.name=1_0",
                                  "system_prompt=[1_0]", "nowhere.name=1_0", "group.name=null"])  # fmt: skip
def test_other_lines_stay(line):
    assert as_typed([line]) == [line]


@given(st.lists(WORDS, min_size=1, max_size=3))
def test_hydra_reads_each_word_as_it_stands(words):
    (line,) = as_typed([f"++group.name={','.join(words)}"])
    try:
        (override,) = OverridesParser.create().parse_overrides([line])
    except Exception:  # noqa: BLE001 - what Hydra cannot read is said elsewhere
        return
    found = [*override.sweep_iterator()] if override.is_sweep_override() else [override.value()]
    assert [str(getattr(value, "text", value)) for value in found] == words
