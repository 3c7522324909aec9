"""A question made ready to be shown: every text, choice and default is decided. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runplan.ask.known import Known
from runplan.ask.lines import Answer
from runplan.ask.questions import Choice, Kind, Question, State
from runplan.ask.settings import Form
from runplan.ask.typed import NotUnderstood, read_typed, shown
from runplan.suggest import did_you_mean

BACK_WORD = "<"
"""What goes back, typed in place of an answer."""


@dataclass(frozen=True)
class Prompt:
    """One question as it stands on the screen."""

    text: str
    kind: Kind
    default: Answer = ()
    choices: tuple[Choice, ...] = ()
    form: Form = Form.text
    note: str = ""
    unset: str = ""
    words: tuple[str, ...] = ()
    completes_paths: bool = False
    refused: Callable[[Answer], str] = lambda _: ""
    """Why an answer cannot be taken, on the spot; empty when it can."""

    @property
    def default_text(self) -> str:
        """The default as one would type it; empty where there is none."""
        return shown(self.default, self.form) if self.default else self.unset

    def labels(self, answer: Answer) -> str:
        """An answer as it stays on the screen."""
        if self.kind is Kind.typed:
            return shown(answer, self.form) if answer else self.unset
        named = {choice.value: choice.label for choice in self.choices}
        return ", ".join(named.get(value, value) for value in answer) or "none"


def prompt_of(question: Question, state: State, known: Known, refused: Callable[[Answer], str]) -> Prompt:
    """A question as it stands now."""
    return Prompt(
        text=question.text(state, known),
        kind=question.kind(state, known),
        default=question.default(state, known),
        choices=question.choices(state, known),
        form=question.form,
        note=question.note,
        unset=question.unset,
        words=question.words(state, known) if question.words else (),
        completes_paths=question.completes_paths,
        refused=refused,
    )


def read_answer(text: str, prompt: Prompt) -> Answer:
    """The answer that a typed line is; an empty line is the default.

    Choices are named by their number, value or label, with commas (numbers: or spaces) between several; `none` chooses
    nothing of many.

    Raises:
        NotUnderstood: it is no answer to this question.
    """
    text = text.strip()
    if not text:
        if not prompt.default and prompt.kind is not Kind.many and not prompt.unset:
            raise NotUnderstood("an answer is needed")
        answer = prompt.default
    elif prompt.kind is Kind.typed:
        answer = read_typed(text, prompt.form)
    elif prompt.kind is Kind.many and text.lower() == "none":
        answer = ()
    else:
        parts = _parts(text) if prompt.kind is Kind.many else [text]
        answer = tuple(dict.fromkeys(_chosen(part, prompt) for part in parts if part))
    problem = prompt.refused(answer)
    if problem:
        raise NotUnderstood(problem)
    return answer


def _parts(text: str) -> list[str]:
    """Several choices: between commas; numbers also between spaces, which names may hold."""
    words = text.replace(",", " ").split()
    return words if all(word.isdecimal() for word in words) else [part.strip() for part in text.split(",")]


def _chosen(part: str, prompt: Prompt) -> str:
    choices = prompt.choices
    for choice in choices:
        if part in {choice.value, choice.label}:
            return choice.value
    if part.isdecimal() and 1 <= int(part) <= len(choices):
        return choices[int(part) - 1].value
    known = [choice.value for choice in choices]
    one = f"write a number from 1 to {len(choices)}, or a name"
    several = f"write numbers from 1 to {len(choices)} with commas between, names, or none"
    fix = did_you_mean(part, known, several if prompt.kind is Kind.many else one)
    raise NotUnderstood(f"there is no choice {part!r}; {fix}")
