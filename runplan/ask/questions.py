"""A question as data, and the answers so far. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from runplan.ask.known import Known
from runplan.ask.lines import Answer
from runplan.ask.settings import Form

Answers = Mapping[str, Answer]


class Kind(Enum):
    """How a question is answered."""

    one = "one"
    """By choosing."""
    many = "many"
    """By choosing any number."""
    typed = "typed"
    """By typing."""


@dataclass(frozen=True)
class Choice:
    """One thing to choose."""

    value: str
    label: str
    detail: str = ""


@dataclass(frozen=True)
class State:
    """The interview so far. Answers outlive being asked again: they are then the defaults."""

    answers: Answers = field(default_factory=dict)
    """Levels by key: of the configuration, or of a question that only steers."""
    asked: tuple[str, ...] = ()
    """Questions that were answered, in order."""
    given: frozenset[str] = frozenset()
    """Keys that a file or a flag gave."""
    wanted: frozenset[str] = frozenset()
    """Settings chosen under "anything else"."""

    def has(self, key: str) -> bool:
        """Whether a key's answer counts: it was asked and answered, or given."""
        return key in self.answers and (key in self.asked or key in self.given)

    def varies(self, key: str) -> bool:
        """Whether the key was chosen to be varied, or was given several levels."""
        return key in self.answers.get("vary", ()) or (key in self.given and len(self.answers.get(key, ())) > 1)


def _nothing(_: State, __: Known) -> tuple[Choice, ...]:
    return ()


def _always(_: State, __: Known) -> bool:
    return True


def _no_problem(_: Answer, __: State, ___: Known) -> str:
    return ""


@dataclass(frozen=True)
class Question:
    """One question: what is asked, when, what may be answered, and what the answer sets."""

    key: str
    text: Callable[[State, Known], str]
    default: Callable[[State, Known], Answer]
    """What Enter answers: the present value."""
    kind: Callable[[State, Known], Kind]
    choices: Callable[[State, Known], tuple[Choice, ...]] = _nothing
    when: Callable[[State, Known], bool] = _always
    """Whether it is asked, given the answers so far."""
    form: Form = Form.text
    note: str = ""
    unset: str = ""
    """What holds when a typed question is left without an answer; empty: it needs one."""
    problem: Callable[[Answer, State, Known], str] = _no_problem
    """Why an answer cannot be taken; empty when it can."""
    sets: Callable[[Answer, State, Known], Answers] | None = None
    """Keys that the answer sets; None: the question's own."""
    words: Callable[[State, Known], tuple[str, ...]] | None = None
    """What completes while typing; None: nothing."""
    completes_paths: bool = False


def present(key: str, state: State, known: Known) -> Answer:
    """Levels that hold now: answered, else what holds when nothing is said."""
    if key in state.answers:
        return state.answers[key]
    value = known.chosen.get(key, known.values.get(key))
    return () if value is None else (value,)
