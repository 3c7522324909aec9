from __future__ import annotations

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from runplan.config import iter_keys
from runplan.suggest import did_you_mean, listed, near, quoted

KEYS = tuple(iter_keys())


def test_mistyped_keys_find_theirs() -> None:
    assert near("lora.rnak", KEYS)[0] == "lora.rank"
    assert near("optimiser.lr", KEYS)[0] == "optimizer.lr"
    assert near("max_seq_length", KEYS)[0] == "max_seq_len"
    assert near("modle", KEYS)[0] == "model"


def test_a_bare_last_part_finds_its_group() -> None:
    assert near("rank", KEYS)[0] == "lora.rank"
    assert near("lr", KEYS)[0] == "optimizer.lr"
    assert near("lora.lr", KEYS)[0] == "optimizer.lr"


def test_far_words_suggest_nothing() -> None:
    assert near("xyzzy", KEYS) == ()
    assert did_you_mean("xyzzy", KEYS, "look it up") == "look it up"


def test_case_does_not_matter() -> None:
    assert near("1b", ["1B", "3B"])[0] == "1B"


@given(st.sampled_from(KEYS))
def test_a_right_key_is_its_own_nearest(key: str) -> None:
    assert near(key, KEYS)[0] == key


@given(st.sampled_from(KEYS), st.data())
def test_one_letter_lost_still_finds_the_key(key: str, data: st.DataObject) -> None:
    if len(key) < 8:
        return
    lost = data.draw(st.integers(0, len(key) - 1))
    assert key in near(key[:lost] + key[lost + 1 :], KEYS)


def test_long_lists_are_cut_and_say_so() -> None:
    assert listed(["b", "a"]) == "a, b"
    assert listed([f"{i:03}" for i in range(40)]).endswith("… (40 in all)")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("system_prompt={a}", "{a}"),
        ("system_prompt=a=b", "a=b"),
        ("""system_prompt='it's "so"'""", """it's "so\""""),
        ("system_prompt=back\\", "back\\"),
        ("resources.extra_sbatch=[--foo=bar, --x]", ["--foo=bar", "--x"]),
    ],
)
def test_the_advice_on_quoting_is_a_line_that_hydra_reads(line, value):
    advice = quoted(line)
    (word,) = shlex.split(advice.partition(": ")[2])
    (override,) = OverridesParser.create().parse_overrides([word])
    found = override.value()
    assert ([str(part) for part in found] if isinstance(found, list) else str(found)) == value
