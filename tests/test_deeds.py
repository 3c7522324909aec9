from __future__ import annotations

import pytest
from factories_plan import make_composed

from runplan.deeds import plan_command, without_deeds


@pytest.mark.parametrize("deed", ["preview", "overwrite"])
def test_deeds_leave_no_trace(deed):
    made = without_deeds(make_composed({"lora.rank": 4}, extra={deed: True}))
    assert made.overrides == ("lora.rank=4",)
    assert deed not in made.tree
    assert getattr(made.config, deed) is True
    assert made.factors == {"lora.rank": 4}


def test_the_choice_of_how_to_submit_goes_too():
    composed = make_composed({"lora.rank": 4})
    composed.choices["submit"] = "sbatch"
    assert "submit" not in without_deeds(composed).choices
    assert "submit" not in without_deeds(composed).tree


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
