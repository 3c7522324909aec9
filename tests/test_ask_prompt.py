"""Reading what was typed at a question."""

import pytest
from ask_known import KNOWN

from runplan.ask.flow import BY_QUESTION
from runplan.ask.plain import PlainAsker
from runplan.ask.prompt import Prompt, prompt_of, read_answer
from runplan.ask.questions import Choice, Kind, State
from runplan.ask.settings import Form
from runplan.ask.typed import NotUnderstood

CHOICES = (Choice("a", "first"), Choice("b", "second"), Choice("2", "third"))
ONE = Prompt("Which?", Kind.one, ("a",), CHOICES)
MANY = Prompt("Which?", Kind.many, ("a", "b"), CHOICES)
TYPED = Prompt("Rank?", Kind.typed, ("8",), form=Form.whole, refused=lambda answer: "too many" * (len(answer) > 2))


@pytest.mark.parametrize(
    ("prompt", "text", "answer"),
    [
        (ONE, "", ("a",)),
        (ONE, "second", ("b",)),
        (ONE, "1", ("a",)),
        (ONE, "2", ("2",)),  # a name goes before a number
        (MANY, "", ("a", "b")),
        (MANY, "none", ()),
        (MANY, "3, first", ("2", "a")),
        (MANY, "1 3", ("a", "2")),
        (MANY, "1, 3", ("a", "2")),
        (TYPED, "", ("8",)),
        (TYPED, "4,64", ("4", "64")),
    ],
)
def test_a_line_is_an_answer(prompt, text, answer):
    assert read_answer(text, prompt) == answer


@pytest.mark.parametrize(
    ("prompt", "text", "said"),
    [
        (ONE, "4", "no choice '4'"),
        (MANY, "a,frist", "no choice 'frist'"),
        (MANY, "y", "numbers from 1 to 3 with commas between, names, or none"),
        (TYPED, "x", "no whole number"),
        (TYPED, "1,2,3", "too many"),
        (Prompt("Folder?", Kind.typed), "", "an answer is needed"),
    ],
)
def test_a_line_that_is_none(prompt, text, said):
    with pytest.raises(NotUnderstood, match=said):
        read_answer(text, prompt)


def test_a_prompt_shows_what_holds():
    prompt = prompt_of(BY_QUESTION["gpus"], State(), KNOWN, lambda _: "")
    assert (prompt.default_text, prompt.words) == ("1 a100-80", ("a100-80", "h100-80", "v100-32"))
    assert prompt_of(BY_QUESTION["lora.alpha"], State(), KNOWN, lambda _: "").default_text == "2 × rank"
    assert read_answer("", prompt_of(BY_QUESTION["lora.alpha"], State(), KNOWN, lambda _: "")) == ()


def test_lines_are_asked_until_one_can_be_taken(monkeypatch, capsys):
    typed = iter(["nine", " 9 "])
    monkeypatch.setattr("builtins.input", lambda _: next(typed))
    assert PlainAsker().ask(TYPED) == ("9",)
    assert "'nine' is no whole number" in capsys.readouterr().out


def test_lines_go_back_and_stop(monkeypatch):
    monkeypatch.setattr("builtins.input", lambda _: "<")
    assert PlainAsker().ask(ONE) is None

    def ended(_):
        raise EOFError

    monkeypatch.setattr("builtins.input", ended)
    with pytest.raises(KeyboardInterrupt):
        PlainAsker().ask(ONE)
