"""Models, datasets and evaluations: an option of a config group, or a folder or file of one's own. Pure."""

from __future__ import annotations

from collections.abc import Callable

from runplan.ask.known import Known, Thing
from runplan.ask.lines import Answer
from runplan.ask.questions import Answers, Choice, State, present

ELSEWHERE = "elsewhere"
"""Choice of a folder or file that is not listed."""
PLACES = {"model": "model.path", "dataset": "dataset.path", "evaluation": "evaluation.script"}
"""Question → the one that asks for a place of its own."""
ANY_FILE = frozenset({"json", "chat", "text"})
"""Options of `dataset` that read a file of one's own, which no evaluation of ours measures."""


def listed(group: str, where: str) -> Callable[[State, Known], tuple[Choice, ...]]:
    """Things of a group, those that were answered from elsewhere, and a place of one's own."""

    def choices(state: State, known: Known) -> tuple[Choice, ...]:
        things = {"model": known.models, "dataset": known.datasets, "evaluation": known.evaluations}[group]
        shown = [Choice(thing.name, thing.name, thing.detail) for thing in things]
        names = {thing.name for thing in things}
        own = [Choice(level, level) for level in present(group, state, known) if level not in names | {ELSEWHERE}]
        return (*shown, *own, Choice(ELSEWHERE, where))

    return choices


def chooses_elsewhere(group: str) -> Callable[[State, Known], bool]:
    """Whether a place of one's own was chosen among a group's things."""
    return lambda state, _known: ELSEWHERE in state.answers.get(group, ())


def _with_places(group: str, answer: Answer, state: State) -> tuple[Answer, Answer]:
    """Paths, and the levels in which they take the stand-in's position."""
    paths = tuple(path if "/" in path else f"./{path}" for path in answer)
    levels = [new for old in state.answers[group] for new in (paths if old == ELSEWHERE else (old,))]
    return paths, tuple(dict.fromkeys(levels))


def adds_to(group: str) -> Callable[[Answer, State, Known], Answers]:
    """What a place sets: the levels of its group in which it takes the stand-in's position."""

    def sets(answer: Answer, state: State, _: Known) -> Answers:
        paths, levels = _with_places(group, answer, state)
        return {group: levels, PLACES[group]: paths}

    return sets


def place_problem(group: str) -> Callable[[Answer, State, Known], str]:
    """Why a place cannot be taken; empty when it can."""

    def problem(answer: Answer, state: State, known: Known) -> str:
        paths, levels = _with_places(group, answer, state)
        if len(levels) > 1 and not state.varies(group):
            return "write one; several are varied, which is chosen at the start"
        return one_kind_of(group)((*levels, *paths), state, known)

    return problem


def one_kind_of(group: str) -> Callable[[Answer, State, Known], str]:
    """Options and paths go together only where each has a path, and data files only where rows are of one kind."""

    def problem(answer: Answer, _: State, known: Known) -> str:
        if not answer:
            return "choose at least one"
        things = {name: known.thing(group, name) or Thing(name, path=name) for name in answer if name != ELSEWHERE}
        by_path = any("/" in name or name == ELSEWHERE for name in answer)
        bare = [name for name, thing in things.items() if not thing.path]
        if by_path and bare:
            return f"{', '.join(bare)}: not on disk, and cannot go together with a path; get it first, or leave it out"
        kinds = {thing.kind for thing in things.values() if thing.kind}
        if by_path and len(kinds) > 1:
            return f"rows of kinds {' and '.join(sorted(kinds))} cannot be varied in one group; plan one for each"
        return ""

    return problem


def evaluation_default(state: State, known: Known) -> Answer:
    """The task beside the data where data are the user's own, else none; what holds anyway for known data."""
    if "evaluation" in state.answers:
        return state.answers["evaluation"]
    dataset = state.answers.get("dataset", ())
    if not any("/" in name or name in ANY_FILE for name in dataset):
        return present("evaluation", state, known)
    beside = [
        each.name for each in known.evaluations if "/" in each.name and all(_beside(each, name) for name in dataset)
    ]
    return tuple(beside[:1]) or ("none",)


def _beside(task: Thing, dataset: str) -> bool:
    """By convention `tasks/<task>/inspect.py` measures what `tasks/<task>/input/` holds."""
    return dataset.startswith(f"{task.name.rpartition('/')[0]}/")


def evaluation_is_open(state: State, known: Known) -> bool:
    """Whether the evaluation is asked for: the data are not those it belongs to, or it is wanted."""
    return "evaluation" in state.wanted or present("dataset", state, known) != (known.chosen.get("dataset"),)
