from __future__ import annotations

import pytest
from factories_plan import make_composed

from runplan.action_keys import plan_command, without_actions


@pytest.mark.parametrize("key", ["preview", "overwrite"])
def test_actions_leave_no_trace(key):
    made = without_actions(make_composed({"lora.rank": 4}, extra={key: True}))
    assert made.overrides == ("lora.rank=4",)
    assert key not in made.tree
    assert getattr(made.config, key) is True
    assert made.factors == {"lora.rank": 4}


def test_the_choice_of_how_to_submit_goes_too():
    composed = make_composed({"lora.rank": 4})
    composed.choices["submit"] = "sbatch"
    assert "submit" not in without_actions(composed).choices
    assert "submit" not in without_actions(composed).tree


@pytest.mark.parametrize(
    ("command", "plan"),
    [
        (
            "model=1B,3B preview=true lora.rank=4 submit=sbatch submit.via=local ++overwrite=true",
            "model=1B,3B lora.rank=4",
        ),
        ("'prompt=\"a preview=true\"'", "'prompt=\"a preview=true\"'"),
        ("previews=1", "previews=1"),
        ("'prompt=\"a\nb\"' preview=true", "$'prompt=\"a\\nb\"'"),
        ("", ""),
    ],
)
def test_the_command_makes_the_plan_and_no_more(command, plan):
    assert plan_command(command) == plan
