"""The interview as it is held, with somebody who answers from a script."""

import logging
from pathlib import Path

import pytest

from runplan.ask.dialogue import Dialogue
from runplan.ask.given import given_state
from runplan.ask.survey import Survey

FEW_WORDS = "dataset.n_words=400"


@pytest.fixture(autouse=True)
def _logging():
    """Hydra leaves a handler on a stream that pytest then closes."""
    before = [*logging.root.handlers]
    yield
    logging.root.handlers[:] = before


class Scripted:
    """Answers what the script says, in its order, and the default otherwise; keeps what was asked."""

    help = "Answers by heart."

    def __init__(self, *script):
        self.script = list(script)
        self.asked = []
        self.refused = []

    def ask(self, prompt):
        self.asked.append(prompt.text)
        if not self.script or self.script[0][0] != prompt.text:
            assert len(self.asked) < 40, self.asked
            return prompt.default
        answer = self.script.pop(0)[1]
        if answer is not None and (why := prompt.refused(answer)):
            self.refused.append(why)
            return self.ask(prompt)
        return answer


def hold(asker, *given):
    state, problems = given_state(None, [FEW_WORDS, *given], "")
    assert problems == []
    code = Dialogue(Survey(Path.cwd()), state).hold(asker)
    assert asker.script == []
    return code


def test_what_cannot_be_planned_can_be_changed(capsys):
    asker = Scripted(
        ("GPUs for each job?", ("1 t4-16",)),
        ("This cannot be planned. What now?", ("change",)),
        ("Which answer?", ("gpus",)),
        ("GPUs for each job?", ("2 h100-80",)),
        ("Is this the plan?", ("write",)),
    )
    assert hold(asker, "model=8B") == 0
    said = capsys.readouterr()
    assert "1 of 2 runs cannot be planned" in said.err
    assert "GiB" in said.err
    assert said.out.rstrip().endswith(
        f"model=8B dataset.create=true {FEW_WORDS} resources=h100-80 resources.gpus=2 group.name=8B_rank8"
    )
    assert Path("outputs/8B_rank8/plan.json").is_file()


def test_a_model_that_would_fit_in_4_bits_can_be_planned_so(capsys):
    asker = Scripted(
        ("GPUs for each job?", ("1 a100-80",)),
        ("This cannot be planned. What now?", ("quantise",)),
        ("Is this the plan?", ("change",)),
        ("Which answer?", ("lora.quantize_base",)),
        ("Is this the plan?", ("write",)),
    )
    assert hold(asker, "model=70B", "controls=false", "evaluation=none") == 0
    assert "lora.quantize_base=true" in capsys.readouterr().out
    assert '"quantize_base": true' in Path("outputs/70B_rank8/plan.json").read_text()


@pytest.mark.parametrize(
    "given",
    [
        ["model=70B", "resources=t4-16"],  # too large in 4 bits as well
        ["model=1B", "resources=a100-80", "recipe=sft"],  # something else is wrong
        ["model=70B", "resources=a100-80", "lora.quantize_base=false"],  # answered
    ],
)
def test_4_bits_are_offered_only_where_they_help_and_are_open(given):
    asker = Offered()
    assert hold(asker, "evaluation=none", *given) == 0
    assert asker.offers == ["change", "stop"]


class Offered(Scripted):
    """Stops at a plan that cannot be, and keeps what could be chosen there."""

    def ask(self, prompt):
        if not prompt.text.startswith("This cannot"):
            return super().ask(prompt)
        self.offers = [choice.value for choice in prompt.choices]
        return ("stop",)


def test_an_answer_that_the_schema_refuses_is_asked_again():
    asker = Scripted(
        ("Anything else to set?", ("epochs",)),
        ("Epochs?", ("0",)),
        ("Epochs?", ("2",)),
        ("Anything else to set?", ("other",)),
        ("Which keys?", ("lora.drpout=0.1",)),
        ("Which keys?", ("lora.dropout=0.1", "naming=full")),
        ("Is this the plan?", ("stop",)),
    )
    assert hold(asker) == 0
    assert ["at least 1" in asker.refused[0], "did you mean lora.dropout" in asker.refused[1]] == [True, True]
    assert not [*Path.cwd().iterdir()]


def test_what_cannot_be_made_is_said_and_does_not_end_the_interview(capsys):
    asker = Scripted(
        ("This cannot be planned. What now?", ("stop",)),
    )
    assert hold(asker, "dataset.create=true", "dataset.word_list=nowhere.txt") == 0
    assert "nowhere.txt" in capsys.readouterr().err


def test_back_from_approval_leads_to_the_last_question():
    asker = Scripted(("Is this the plan?", None), ("Is this the plan?", ("stop",)))
    assert hold(asker) == 0
    assert asker.asked[-4:] == [
        "Anything else to set?",
        "Is this the plan?",
        "Anything else to set?",
        "Is this the plan?",
    ]


def test_back_at_the_first_question_says_so(capsys):
    asker = Scripted(("What do you want to vary?", None), ("Is this the plan?", ("stop",)))
    assert hold(asker) == 0
    assert "This is the first question" in capsys.readouterr().out


def test_another_site_offers_what_is_there(capsys):
    for name, line in {"here": "", "there": "models_dir: elsewhere"}.items():
        file = Path(f"conf/site/{name}.yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"defaults: [local, _self_]\nname: {name}\n{line}\n")
    folder = Path("elsewhere/mine")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    offered = []

    class Watching(Scripted):
        def ask(self, prompt):
            if prompt.text == "Which model?":
                offered.append([choice.value for choice in prompt.choices])
            return super().ask(prompt)

    asker = Watching(("Which site?", ("there",)), ("Which model?", None), ("What do you want to vary?", None),
                     ("Which site?", ("here",)), ("Is this the plan?", ("stop",)))  # fmt: skip
    assert hold(asker) == 0
    assert ["./elsewhere/mine" in names for names in offered] == [True, False]
    assert "-m site=here model=1B" in capsys.readouterr().out


class Leaving(Scripted):
    """Presses Ctrl-C at the question the script ends with."""

    def ask(self, prompt):
        if self.script == [(prompt.text, "Ctrl-C")]:
            self.script.pop()
            raise KeyboardInterrupt
        return super().ask(prompt)


def test_who_stops_is_told_how_to_go_on_with_the_answers_given(capsys):
    asker = Leaving(
        ("What do you want to vary?", ("lora.rank",)),
        ("Which model?", ("3B",)),
        ("Which LoRA ranks?", ("4", "8")),
        ("Which dataset?", "Ctrl-C"),
    )
    with pytest.raises(KeyboardInterrupt):
        hold(asker, "seed=3")
    said = capsys.readouterr().out.splitlines()
    words = said[-1].split()
    assert said[-3:-1] == ["Stopped: nothing was written.", "With these answers already given:"]
    assert words[:4] == ["python", "-m", "runplan", "ask"]
    again, problems = given_state(None, words[4:], "")
    assert problems == []
    assert {key: again.answers[key] for key in ("model", "lora.rank", "seed")} == {
        "model": ("3B",),
        "lora.rank": ("4", "8"),
        "seed": ("3",),
    }


def test_who_stops_at_once_has_given_no_answers(capsys):
    with pytest.raises(KeyboardInterrupt):
        hold(Leaving(("What do you want to vary?", "Ctrl-C")))
    assert capsys.readouterr().out.rstrip().endswith("Stopped: nothing was written.")


def test_a_file_of_ones_own_is_asked_before_anything_is_said_of_the_data(capsys):
    asker = Leaving(("Which dataset?", ("elsewhere",)), ("Which file?", "Ctrl-C"))
    with pytest.raises(KeyboardInterrupt):
        hold(asker)
    said = capsys.readouterr().out
    assert "Dataset" not in said
    assert "elsewhere" not in said
