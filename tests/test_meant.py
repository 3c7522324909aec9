"""What was meant with a line that cannot be read: the advice is a line that can."""

from __future__ import annotations

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from runplan.meant import levels, meant

PARSER = OverridesParser.create()
SEVERAL = "write each as a word of its own: "


@pytest.mark.parametrize(
    ("line", "lacks", "written"),
    [
        ("model=1B lora.rank=4,8 epochs=2", "holds several settings", "model=1B lora.rank=4,8 epochs=2"),
        ("model=1B;lora.rank=4", "holds several settings", "model=1B lora.rank=4"),
        ("model=1B,lora.rank=4", "holds several settings", "model=1B lora.rank=4"),
        ("~lora.rank model=1B", "holds several settings", "'~lora.rank' model=1B"),
        ("lora.rank=4,,8", "lacks a value beside a comma", "lora.rank=4,8"),
        ("lora.rank=4,", "lacks a value beside a comma", "lora.rank=4"),
        ("model=,1B", "lacks a value beside a comma", "model=1B"),
        ("site.modules=[a,,b]", "lacks a value beside a comma", "'site.modules=[a,b]'"),
        ("optimizer.lr=1e-4;1e-5", "does not have commas alone between its values", "optimizer.lr=1e-4,1e-5"),
        ("lora.rank={4,8}", "has brackets around its values", "lora.rank=4,8"),
        ("lora.rank==4", "has = twice", "lora.rank=4"),
        ("lora.rank = 4", "has blanks around =", "lora.rank=4"),
    ],
)
def test_a_line_that_cannot_be_read_is_written_as_it_has_to_be(line, lacks, written):
    assert meant(line) == (lacks, f"{SEVERAL if 'several' in lacks else 'write '}{written}")
    for word in shlex.split(written):
        PARSER.parse_overrides([word])


def test_a_text_may_be_several_settings_or_one_text():
    lacks, fix = meant("prompt=Q: {input} epochs=2")
    assert lacks == "holds several settings"
    assert fix.startswith(f"""{SEVERAL}'prompt="Q: {{input}}"' epochs=2; if it is one text, quote""")


def test_a_key_that_no_key_can_be_is_said_to_be_none():
    assert meant("lüra.rank=4") == ("does not begin with a key", "did you mean lora.rank?")


@pytest.mark.parametrize(
    "line",
    ["system_prompt=a b=1", "prompt=a, b", "+evaluation.args.x=a b", "resources.time=1:00:00", "epochs=0x&",
     "sweep.exclude=[{model: 3B, lora.rank: 64}]", "lora.rank=,", "lora.attn_modules=[q_proj],,[v_proj]", "model=1B"],
)  # fmt: skip
def test_of_other_lines_nothing_is_claimed(line):
    assert meant(line) is None


def test_levels_are_told_from_one_wrong_value():
    assert levels("lora.rank", "4|8")[1] == levels("lora.rank", "4 8")[1] == levels("lora.rank", "4/8")[1]
    assert levels("lora.rank", "four") == levels("lora.rank", "4-8") == levels("lora.rank", "4") == ("", "")


@given(st.text(st.sampled_from("lora.rnkmde=4,;| \"'[](){}~+ü\n1B"), max_size=30))
def test_any_line_is_answered(line):
    found = meant(line)
    assert found is None or all(found)
