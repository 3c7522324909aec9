from __future__ import annotations

import shlex
import subprocess

from hypothesis import given, settings
from hypothesis import strategies as st

from runplan.pasting import has_control, pasted, pasted_word

WORDS = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12), max_size=6)


@given(WORDS)
def test_a_line_to_paste_has_nothing_that_cannot_be_seen(words):
    assert not has_control(pasted(words))


@given(st.lists(st.text("ab =,$'\"\\()é→", max_size=8)))
def test_words_that_can_be_seen_are_quoted_as_ever(words):
    assert pasted(words) == shlex.join(words)


@settings(max_examples=20)
@given(WORDS)
def test_a_shell_reads_the_same_words_again(words):
    line = f"printf '%s\\0' {pasted(words)}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == [word.encode() for word in words] or (not words and done.stdout == b"\0")


def test_a_newline_is_written_out():
    assert pasted_word("prompt=it's\n{input}") == "$'prompt=it\\'s\\n{input}'"
