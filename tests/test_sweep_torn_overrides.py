from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.config import iter_keys
from runplan.sweep.torn_overrides import torn_lines


@pytest.mark.parametrize(
    ("words", "what", "fix"),
    [
        (["lora.rank=4,", "64"], "spaces around a comma", "write lora.rank=4,64"),
        (["lora.rank=4", ",64"], "spaces around a comma", "write lora.rank=4,64"),
        (["lora.rank=4", ",", "64"], "spaces around a comma", "write lora.rank=4,64"),
        (["lora.rank=4", "64"], "no commas between", "write lora.rank=4,64"),
        (["lora.rank", "=", "4"], "spaces around =", "write lora.rank=4"),
        (["lora.rank=", "4"], "spaces around =", "write lora.rank=4"),
        (["lora.rank", "=4"], "spaces around =", "write lora.rank=4"),
        (["seed", "4"], "has no =", "write seed=4"),
        (["preview"], "no override", "write preview=true"),
        (["system_prompt=You", "are", "a", "bot"], "without its quotes", "'system_prompt=\"You are a bot\"'"),
        (["prompt=Q:", "{input}"], "without its quotes", "'prompt=\"Q: {input}\"'"),
    ],
)
def test_a_torn_line_is_named_whole_and_with_how_to_write_it(words: list[str], what: str, fix: str) -> None:
    whole, problems = torn_lines(["model=1B", *words, "epochs=2"])
    assert whole == ["model=1B", "epochs=2"]
    (problem,) = problems
    assert what in problem.what
    assert " ".join(words) in problem.what
    assert fix in problem.fix


@pytest.mark.parametrize("words", [["seed"], ["nonsense"], ["lora.rank=4", "nonsense"], ["=", "3"], []])
def test_what_nobody_can_put_together_is_left_to_the_grammar(words: list[str]) -> None:
    assert torn_lines(["model=1B", *words]) == (["model=1B", *words], [])


@given(st.lists(st.tuples(st.sampled_from(sorted(iter_keys())), st.text(min_size=1)), max_size=5))
def test_whole_lines_are_left_as_they_are(pairs: list[tuple[str, str]]) -> None:
    lines = [f"{key}={value}" for key, value in pairs]
    assert torn_lines(lines) == (lines, [])
