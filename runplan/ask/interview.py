"""How the interview moves: the next question, an answer, a step back, a change. Pure."""

from __future__ import annotations

from dataclasses import replace

from runplan.ask.flow import BY_QUESTION, NO, QUANTISED, QUESTIONS
from runplan.ask.known import Known
from runplan.ask.lines import ORDER, Answer
from runplan.ask.name import suggested_name
from runplan.ask.places import ELSEWHERE, PLACES
from runplan.ask.questions import Answers, Kind, Question, State
from runplan.ask.settings import OTHER, VARIED
from runplan.ask.typed import NotUnderstood
from runplan.suggest import did_you_mean, listed

_ABOUT_MISSING = frozenset({"missing", "dataset.create"})


def next_question(state: State, known: Known) -> Question | None:
    """The first question that is to be asked and has no answer yet; None when all have one."""
    open_ones = (each for each in QUESTIONS if each.key not in state.asked and each.key not in state.given)
    return next((question for question in open_ones if question.when(state, known)), None)


def check(question: Question, answer: Answer, state: State, known: Known) -> None:
    """Hold an answer against its question.

    Raises:
        NotUnderstood: it is none of the choices, or cannot be taken; why.
    """
    kind = question.kind(state, known)
    if kind is Kind.one and len(answer) != 1:
        raise NotUnderstood("choose one")
    if kind is not Kind.typed:
        values = [choice.value for choice in question.choices(state, known)]
        for level in answer:
            if level not in values and "/" not in level:
                fix = did_you_mean(level, values, f"choose among {listed(values)}")
                raise NotUnderstood(f"there is no choice {level!r}; {fix}")
    elif not answer and not question.unset:
        raise NotUnderstood("an answer is needed")
    problem = question.problem(answer, state, known)
    if problem:
        raise NotUnderstood(problem)


def answered(question: Question, answer: Answer, state: State, known: Known) -> State:
    """The state after an answer.

    Raises:
        NotUnderstood: the answer cannot be taken.
    """
    check(question, answer, state, known)
    if question.key == "more" and answer != (NO,):
        key = answer[0]
        return replace(state, wanted=state.wanted | {key}, asked=_without(state.asked, key), given=state.given - {key})
    sets: Answers = {question.key: answer} if question.sets is None else question.sets(answer, state, known)
    asked = (*_without(state.asked, question.key), question.key)
    state = replace(state, answers={**state.answers, **sets}, asked=asked)
    if question.key == "vary":
        return _varied(state)
    return _looked_for_again(state, question.key)


def _looked_for_again(state: State, key: str) -> State:
    """Another model, dataset or evaluation: a place of one's own, and what is missing, are asked for again."""
    if key not in PLACES and key not in PLACES.values() and key != "site":
        return state
    answers = {each: levels for each, levels in state.answers.items() if each not in _ABOUT_MISSING - state.given}
    asked = _without(_without(state.asked, PLACES.get(key, "")), "missing")
    return replace(state, answers=answers, asked=asked)


def _varied(state: State) -> State:
    """What is varied now is asked for its levels, and what no longer is for its one value."""
    vary, again = state.answers["vary"], []
    answers = dict(state.answers)
    for key in VARIED:
        if key not in vary and len(answers.get(key, ())) > 1 and key != OTHER:
            again.append(key)
            del answers[key]
        elif key in vary and len(answers.get(key, ())) < 2:
            again.append(key)
    return replace(
        state,
        answers=answers,
        asked=tuple(key for key in state.asked if key not in again),
        given=state.given - set(again),
    )


def back(state: State, key: str) -> State:
    """One step back from the question `key`: to the last one answered, whose answer is now the default.

    A setting that was chosen under "anything else" is let go again. At the first question nothing changes.
    """
    if key in state.wanted:
        return _let_go(state, key)
    if not state.asked:
        return state
    last = state.asked[-1]
    state = replace(_standing_in(state, last), asked=state.asked[:-1])
    return _let_go(state, last) if last in state.wanted else state


def _let_go(state: State, key: str) -> State:
    answers = {each: levels for each, levels in state.answers.items() if each != key}
    return replace(state, answers=answers, wanted=state.wanted - {key})


def changed(state: State, key: str) -> State:
    """The state in which one question is asked again, and what then depends on it."""
    return replace(_standing_in(state, key), asked=_without(state.asked, key))


def quantised(state: State) -> State:
    """The state in which base models are held in 4 bits, as if that had been asked for and answered."""
    return replace(
        state,
        answers={**state.answers, QUANTISED: ("true",)},
        asked=(*_without(state.asked, QUANTISED), QUANTISED),
        wanted=state.wanted | {QUANTISED},
    )


def _standing_in(state: State, key: str) -> State:
    """A place that is asked for again needs its stand-in among the levels."""
    group = next((group for group, place in PLACES.items() if place == key), None)
    if group is None or key not in state.answers:
        return state
    paths = state.answers[key]
    levels = [ELSEWHERE if level in paths else level for level in state.answers[group]]
    return replace(state, answers={**state.answers, group: tuple(dict.fromkeys(levels))})


def _without(keys: tuple[str, ...], key: str) -> tuple[str, ...]:
    return tuple(each for each in keys if each != key)


def final_answers(state: State, known: Known) -> dict[str, Answer]:
    """Levels by key of the configuration, without those of questions that are no longer asked."""
    kept: dict[str, Answer] = {}
    for key in ORDER:
        levels = tuple(level for level in state.answers.get(key, ()) if level != ELSEWHERE)
        question = BY_QUESTION.get(key)
        if levels and (key in state.given or question is None or question.when(state, known)):
            kept[key] = levels
    if not kept.get("group.name"):
        kept["group.name"] = (suggested_name(state, known),)
    return kept


def settled(state: State, known: Known) -> tuple[tuple[str, str, str], ...]:
    """Key, question and present answer of every question that can be asked again, in order."""
    rows = []
    for question in QUESTIONS:
        if question.key in state.asked and question.when(state, known) and question.key != "more":
            levels = question.default(state, known)
            labels = {choice.value: choice.label for choice in question.choices(state, known)}
            text = ", ".join(labels.get(level, level) for level in levels) or "none"
            rows.append((question.key, question.text(state, known), text))
    return tuple(rows)
