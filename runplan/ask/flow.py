"""The questions of the interview, in order. Pure.

On defaults there are at most nine: site (where the user has one), what to vary, model, dataset, what is missing, GPUs,
what is measured, anything else, approval. Everything else is asked only when it is wanted.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable

from runplan.ask.known import Known
from runplan.ask.lines import Answer
from runplan.ask.name import suggested_name
from runplan.ask.places import (
    adds_to,
    chooses_elsewhere,
    evaluation_default,
    evaluation_is_open,
    listed,
    one_kind_of,
    place_problem,
)
from runplan.ask.questions import Answers, Choice, Kind, Question, State, present
from runplan.ask.settings import BY_KEY, OTHER, SETTINGS, VARIED, Form, Setting
from runplan.ask.typed import NotUnderstood, read_gpus, shown
from runplan.facts import Status

MEASURED = {
    "validation": ("validation loss during training", "needs a _val recipe and a validation split"),
    "controls": ("controls: each base model without fine-tuning", "they measure the effect of fine-tuning"),
}
NO, YES = "no", "yes"
WRITE, SUBMIT, QUANTISE, CHANGE, STOP = "write", "submit", "quantise", "change", "stop"
WITHOUT_DATA = "without"
QUANTISED = "lora.quantize_base"
_ABOUT_MODELS = 4
"""So many of the settings are about how models are trained, and asked for behind them."""


def _says(text: str) -> Callable[[State, Known], str]:
    return lambda _state, _known: text


def _one(_: State, __: Known) -> Kind:
    return Kind.one


def _many(_: State, __: Known) -> Kind:
    return Kind.many


def _typed(_: State, __: Known) -> Kind:
    return Kind.typed


def _several(key: str) -> Callable[[State, Known], Kind]:
    return lambda state, _known: Kind.many if state.varies(key) else Kind.one


def _settings_default(setting: Setting) -> Callable[[State, Known], Answer]:
    def default(state: State, known: Known) -> Answer:
        if setting.key == "group.name" and setting.key not in state.answers:
            return (suggested_name(state, known),)
        if state.varies(setting.key) and len(state.answers.get(setting.key, ())) < 2:
            return setting.levels
        return present(setting.key, state, known)

    return default


def _setting_question(setting: Setting) -> Question:
    def when(state: State, _: Known) -> bool:
        return setting.key in state.wanted or state.varies(setting.key)

    def text(state: State, _: Known) -> str:
        return (
            f"Which {setting.several}?"
            if state.varies(setting.key)
            else f"{setting.label[0].upper()}{setting.label[1:]}?"
        )

    def problem(answer: Answer, _: State, __: Known) -> str:
        wrong = [level for level in answer if level not in setting.words] if setting.words else []
        return f"{wrong[0]!r}: write {' or '.join(setting.words)}" if wrong else ""

    return Question(setting.key, text, _settings_default(setting), _typed, when=when, form=setting.form,
                    note=setting.advice, unset=setting.unset, problem=problem)  # fmt: skip


def _vary_default(state: State, _: Known) -> Answer:
    if "vary" in state.answers:
        return state.answers["vary"]
    return tuple(key for key in VARIED if len(state.answers.get(key, ())) > 1)


def _site_default(state: State, known: Known) -> Answer:
    return state.answers.get("site") or known.own_sites[:1] or present("site", state, known)


def _is_lacking(state: State, known: Known) -> bool:
    return bool(known.lacking) or "missing" in state.asked


def _can_make(known: Known) -> bool:
    return any("dataset.create=true" in check.fix for check in known.lacking)


def _missing_text(_: State, known: Known) -> str:
    broken = any(check.status is Status.invalid for check in known.lacking)
    return f"Something is {'broken' if broken else 'missing'}. Go on?"


def _missing_choices(state: State, known: Known) -> tuple[Choice, ...]:
    makes = _can_make(known) or state.answers.get("dataset.create") == ("true",)
    if makes and "dataset.create" not in state.given:
        of_rows = any("/" in level for level in state.answers.get("dataset", ()))
        size = (
            "dataset.train_fraction= and dataset.seed= decide its splits"
            if of_rows
            else ("dataset.n_words= and dataset.word_length= set its size")
        )
        return (
            Choice(
                YES,
                "go on, and make the dataset",
                f"when the plan is written; {size}",
            ),
            Choice(WITHOUT_DATA, "go on without"),
        )
    return (Choice(YES, "go on; what is missing can be got until the runs are submitted"),)


def _missing_default(state: State, _: Known) -> Answer:
    return state.answers.get("missing", (YES,))


def _missing_sets(answer: Answer, state: State, known: Known) -> Answers:
    if "dataset.create" in state.given:
        return {"missing": answer}
    makes = answer == (YES,) and len(_missing_choices(state, known)) > 1
    return {"missing": answer, "dataset.create": ("true",) if makes else ()}


def _gpus_default(state: State, known: Known) -> Answer:
    return (" ".join((*present("resources.gpus", state, known), *present("resources", state, known))),)


def _gpus_sets(answer: Answer, state: State, known: Known) -> Answers:
    (gpu,), (number,) = present("resources", state, known), present("resources.gpus", state, known)
    gpu, number = read_gpus(answer[0], (thing.name for thing in known.gpus), gpu, number)
    return {"resources": (gpu,), "resources.gpus": (number,)}


def _gpus_problem(answer: Answer, state: State, known: Known) -> str:
    try:
        _gpus_sets(answer, state, known)
    except NotUnderstood as error:
        return str(error)
    return ""


def _gpus_open(state: State, known: Known) -> bool:
    simple = all(len(present(key, state, known)) == 1 for key in ("resources", "resources.gpus"))
    return simple and not {"resources", "resources.gpus"} <= state.given


def _measurable(state: State, known: Known) -> list[str]:
    evaluated = present("evaluation", state, known) != ("none",)
    return [key for key in MEASURED if key not in state.given and (evaluated or key != "controls")]


def _measure_choices(state: State, known: Known) -> tuple[Choice, ...]:
    return tuple(Choice(key, *MEASURED[key]) for key in _measurable(state, known))


def _measure_default(state: State, known: Known) -> Answer:
    return tuple(key for key in _measurable(state, known) if present(key, state, known) == ("true",))


def _measure_sets(answer: Answer, state: State, known: Known) -> Answers:
    return {key: (str(key in answer).lower(),) for key in _measurable(state, known)}


def value_shown(setting: Setting, state: State, known: Known) -> str:
    """What a setting is now, in words."""
    levels = present(setting.key, state, known)
    if not levels and setting.key == "group.name":
        levels = (suggested_name(state, known),)
    text = shown(levels, setting.form) if levels and levels != ("",) else setting.unset or "none"
    if setting.key == "trainer" and known.trainers:
        text += f"; installed: {', '.join(f'{thing.name} {thing.detail}' for thing in known.trainers)}"
    return text


def _more_choices(state: State, known: Known) -> tuple[Choice, ...]:
    rows = [Choice(setting.key, setting.label, value_shown(setting, state, known)) for setting in SETTINGS]
    evaluation = Choice("evaluation", "evaluation", shown(present("evaluation", state, known), Form.texts))
    other = Choice(OTHER, "any other key", shlex.join(state.answers.get(OTHER, ())) or "KEY=VALUE …")
    site = [Choice("site", "site", present("site", state, known)[0])] if len(known.sites) > 1 else []
    return (Choice(NO, "no, go on"), *rows, evaluation, *site, other)


def _other_open(state: State, _: Known) -> bool:
    return OTHER in state.wanted or OTHER in state.answers.get("vary", ())


QUESTIONS: tuple[Question, ...] = (
    Question("site", _says("Which site?"), _site_default, _one,
             choices=lambda _, known: tuple(Choice(site.name, site.name, site.detail) for site in known.sites),
             when=lambda state, known: bool(known.own_sites) or "site" in state.wanted),
    Question("vary", _says("What do you want to vary?"), _vary_default, _many,
             choices=lambda _, __: tuple(Choice(key, label) for key, label in VARIED.items()),
             note="any combination; nothing = a single run"),
    Question("model", lambda state, _: "Which models?" if state.varies("model") else "Which model?",
             lambda state, known: present("model", state, known), _several("model"),
             choices=listed("model", "another folder…"), problem=one_kind_of("model")),
    Question("model.path", _says("Which folder?"), lambda state, _: state.answers.get("model.path", ()), _typed,
             when=chooses_elsewhere("model"), form=Form.texts, completes_paths=True,
             sets=adds_to("model"), problem=place_problem("model"),
             note="a Hugging Face folder, with config.json; several with commas"),
    *(_setting_question(setting) for setting in SETTINGS[:_ABOUT_MODELS]),
    Question("dataset", lambda state, _: "Which datasets?" if state.varies("dataset") else "Which dataset?",
             lambda state, known: present("dataset", state, known), _several("dataset"),
             choices=listed("dataset", "another file…"), problem=one_kind_of("dataset")),
    Question("dataset.path", _says("Which file?"), lambda state, _: state.answers.get("dataset.path", ()), _typed,
             when=chooses_elsewhere("dataset"), form=Form.texts, completes_paths=True,
             sets=adds_to("dataset"), problem=place_problem("dataset"),
             note="JSON: train, validation and test as random parts of one file; several with commas"),
    Question("evaluation", _says("How is it evaluated?"), evaluation_default, _one,
             choices=listed("evaluation", "another Inspect file…"), when=evaluation_is_open),
    Question("evaluation.script", _says("Which Inspect file?"),
             lambda state, _: state.answers.get("evaluation.script", ()), _typed,
             when=chooses_elsewhere("evaluation"), form=Form.text, sets=adds_to("evaluation"), completes_paths=True),
    *(_setting_question(setting) for setting in SETTINGS[_ABOUT_MODELS:]),
    Question(OTHER, _says("Which keys?"), lambda state, _: state.answers.get(OTHER, ()), _typed, when=_other_open,
             form=Form.lines, note="KEY=VALUE, or KEY=VALUE,VALUE to vary it; runplan --cfg job lists all"),
    Question("missing", _missing_text, _missing_default, _one, choices=_missing_choices,
             when=_is_lacking, sets=_missing_sets),
    Question("gpus", _says("GPUs for each job?"), _gpus_default, _typed, when=_gpus_open, problem=_gpus_problem,
             sets=_gpus_sets, words=lambda _, known: tuple(thing.name for thing in known.gpus),
             note="number and type; 1 = single-device recipe, more = distributed"),
    Question("measure", _says("Validation and controls?"), _measure_default, _many, choices=_measure_choices,
             when=lambda state, known: bool(_measurable(state, known)), sets=_measure_sets),
    Question("more", _says("Anything else to set?"), lambda _, __: (NO,), _one, choices=_more_choices),
)  # fmt: skip
BY_QUESTION = {question.key: question for question in QUESTIONS}
"""Every question by its key."""
assert set(BY_KEY) <= set(BY_QUESTION)
