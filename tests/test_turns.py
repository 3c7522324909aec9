"""Who speaks after whom, as torchtune wants it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.turns import bad_turns, turns_fault

ROLES = st.lists(st.sampled_from(["system", "user", "assistant", "ipython", "tool"]), max_size=6)


@pytest.mark.parametrize(
    ("speakers", "fault"),
    [
        ("system user assistant user assistant", ""),
        ("user assistant", ""),
        ("", "has 0 messages"),
        ("assistant user", "has 'assistant' first, must be after 'user'"),
        ("user tool assistant", "has 'assistant' after 'tool', must be after 'user'"),
        ("user user assistant", "has 'user' twice in a row"),
        ("user assistant system user assistant", "has 'system' after the first message"),
    ],
)
def test_faults(speakers, fault):
    assert turns_fault(speakers.split()) == (fault, "system" in fault)


def test_faults_of_a_kind_are_one_row():
    talks = [(3, ["user"]), (4, ["user", "assistant"]), (7, ["user"])]
    (bad,) = bad_turns("train", talks)
    assert (bad.rows, bad.first, bad.fault) == (2, 3, "has 1 message")


@given(ROLES)
@pytest.mark.trainer
def test_exactly_what_torchtune_refuses_has_a_fault(speakers):
    from torchtune.data import Message, validate_messages

    try:
        validate_messages([Message(role, "a") for role in speakers])
    except ValueError:
        assert turns_fault(speakers)[0]
    else:
        assert not turns_fault(speakers)[0]
