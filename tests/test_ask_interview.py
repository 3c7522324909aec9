"""How the interview moves."""

from dataclasses import replace

import pytest
from ask_known import KNOWN, MISSING_DATA, MISSING_MODEL
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from runplan.ask import interview
from runplan.ask.flow import BY_QUESTION, QUESTIONS
from runplan.ask.known import Thing
from runplan.ask.lines import override_lines
from runplan.ask.places import ELSEWHERE
from runplan.ask.questions import Kind, State
from runplan.ask.settings import SETTINGS, Form
from runplan.ask.typed import NotUnderstood

PARSER = OverridesParser.create()


def hold(answers, known=KNOWN, state=None):
    """Questions in the order they are asked, and the state at the end; defaults for what `answers` does not say."""
    state, left, asked = state or State(), {key: list(value) for key, value in answers.items()}, []
    while (question := interview.next_question(state, known)) is not None:
        asked.append(question.key)
        said = left.get(question.key)
        answer = tuple(said.pop(0)) if said else question.default(state, known)
        state = interview.answered(question, answer, state, known)
        assert len(asked) < 60
    return asked, state


def lines(state, known=KNOWN):
    return override_lines(interview.final_answers(state, known), known)


def test_on_defaults_few_questions_are_asked():
    asked, state = hold({})
    assert asked == ["vary", "model", "dataset", "gpus", "measure", "more"]
    assert lines(state) == ["model=1B", "group.name=1B_rank8"]


def test_at_most_eight_questions_come_before_approval():
    known = replace(KNOWN, own_sites=("mine",), sites=KNOWN.sites, checks=(MISSING_DATA, MISSING_MODEL))
    known = replace(known, own_sites=("della",))
    asked, state = hold({}, known)
    assert asked == ["site", "vary", "model", "dataset", "missing", "gpus", "measure", "more"]
    assert lines(state, known) == ["site=della", "model=1B", "dataset.create=true", "group.name=1B_rank8"]


def test_what_varies_is_asked_for_its_levels():
    asked, state = hold({"vary": [["model", "lora.rank"]], "model": [["1B", "3B"]], "lora.rank": [["4", "64"]]})
    assert asked == ["vary", "model", "lora.rank", "dataset", "gpus", "measure", "more"]
    assert lines(state) == ["model=1B,3B", "lora.rank=4,64", "group.name=1B-3B_rank4-64"]


def test_everything_can_be_varied_together():
    varied = [choice.value for choice in BY_QUESTION["vary"].choices(State(), KNOWN)]
    asked, state = hold({"vary": [varied], "other": [["lora.dropout=0,0.1"]], "model": [["1B", "3B"]]})
    assert {*varied} <= {*asked}
    said = lines(state)
    assert "lora.rank=4,16,64" in said
    assert "seed=1,2,3" in said
    assert "lora.dropout=0,0.1" in said


def test_a_setting_is_asked_for_when_it_is_wanted_and_more_is_asked_again():
    asked, state = hold({"more": [["lora.alpha"], ["epochs"]], "lora.alpha": [["32"]], "epochs": [["3"]]})
    assert asked[-5:] == ["more", "lora.alpha", "more", "epochs", "more"]
    assert lines(state) == ["model=1B", "lora.alpha=32", "epochs=3", "group.name=1B_rank8"]


def test_the_trainer_and_4_bits_are_offered_without_a_question_more():
    known = replace(KNOWN, trainers=(Thing("torchtune", "0.6.1"), Thing("trl", "1.16.0")))
    assert hold({}, known)[0] == hold({})[0]
    offered = {choice.value: choice.detail for choice in BY_QUESTION["more"].choices(State(), known)}
    assert offered["trainer"] == "torchtune; installed: torchtune 0.6.1, trl 1.16.0"
    assert offered["lora.quantize_base"] == "false"
    asked, state = hold({"more": [["trainer"], ["lora.quantize_base"]], "trainer": [["trl"]],
                         "lora.quantize_base": [["true"]]}, known)  # fmt: skip
    assert asked[-5:] == ["more", "trainer", "more", "lora.quantize_base", "more"]
    assert lines(state) == ["model=1B", "lora.quantize_base=true", "trainer=trl", "group.name=1B_rank8"]


def test_a_setting_can_stay_open():
    asked, state = hold({"more": [["lora.alpha"]]})
    assert asked[-2:] == ["lora.alpha", "more"]
    assert lines(state) == ["model=1B", "group.name=1B_rank8"]


def test_going_back_asks_the_last_question_with_its_answer_as_default():
    state = interview.answered(BY_QUESTION["vary"], ("seed",), State(), KNOWN)
    state = interview.answered(BY_QUESTION["model"], ("3B",), state, KNOWN)
    state = interview.back(state, "dataset")
    question = interview.next_question(state, KNOWN)
    assert (question.key, question.default(state, KNOWN)) == ("model", ("3B",))
    state = interview.back(state, "model")
    question = interview.next_question(state, KNOWN)
    assert (question.key, question.default(state, KNOWN)) == ("vary", ("seed",))
    assert interview.back(state, "vary") == state


def test_going_back_from_a_setting_lets_it_go():
    _, state = hold({})
    state = interview.changed(state, "more")
    state = interview.answered(BY_QUESTION["more"], ("epochs",), state, KNOWN)
    assert interview.next_question(state, KNOWN).key == "epochs"
    state = interview.back(state, "epochs")
    assert interview.next_question(state, KNOWN).key == "more"
    state = interview.answered(BY_QUESTION["more"], ("epochs",), state, KNOWN)
    state = interview.answered(BY_QUESTION["epochs"], ("3",), state, KNOWN)
    assert "epochs=3" in lines(state)
    state = interview.back(state, "more")
    assert interview.next_question(state, KNOWN).key == "more"
    assert "epochs=3" not in lines(state)


def test_a_changed_answer_keeps_the_others_and_asks_what_depends_on_it():
    _, state = hold({"vary": [["lora.rank"]], "model": [["3B"]]})
    state = interview.changed(state, "vary")
    asked, state = hold({"vary": [["model", "seed"]], "model": [["1B", "3B"]]}, state=state)
    assert asked == ["vary", "model", "seed"]
    assert lines(state) == ["model=1B,3B", "seed=1,2,3", "group.name=1B-3B_rank8_seed1-2-3"]


def test_a_folder_of_ones_own():
    asked, state = hold({"model": [[ELSEWHERE]], "model.path": [["/x/y z"]]})
    assert asked[1:4] == ["model", "model.path", "dataset"]
    assert lines(state)[:2] == ["model=hf", 'model.path="/x/y z"']
    state = interview.changed(state, "model.path")
    _, state = hold({"model.path": [["plain"]]}, state=state)
    assert lines(state)[:2] == ["model=hf", "model.path=./plain"]


def test_data_of_ones_own_are_measured_by_the_task_beside_them():
    asked, state = hold({"dataset": [["./tasks/t/input/b.json"]]})
    assert "evaluation" in asked
    assert "evaluation.script=./tasks/t/inspect.py" in lines(state)
    asked, state = hold({"dataset": [["./data/a.json"]]})
    assert "evaluation=none" in lines(state)
    assert [choice.value for choice in BY_QUESTION["measure"].choices(state, KNOWN)] == ["validation"]


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("model", (), "choose one"),
        ("model", ("4B",), "no choice '4B'"),
        ("model", ("3B", "./models/own"), "choose one"),
        ("gpus", ("h1000",), "no GPU type h1000"),
        ("epochs", (), "an answer is needed"),
        ("model", ("elsewhere", "3B"), "choose one"),
    ],
)
def test_answers_that_cannot_be_taken(key, answer, said):
    with pytest.raises(NotUnderstood, match=said):
        interview.answered(BY_QUESTION[key], answer, State(), KNOWN)


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("model", (), "at least one"),
        ("model", ("3B", "./models/own"), "3B: not on disk"),
        ("model", ("3B", "elsewhere"), "3B: not on disk"),
        ("dataset", ("capitalization", "./data/a.json"), "capitalization: not on disk"),
        ("dataset", ("./data/a.json", "./data/c.json"), "kinds chat and json"),
    ],
)
def test_things_that_cannot_be_varied_together(key, answer, said):
    state = State(answers={"vary": ("model", "dataset")}, asked=("vary",))
    with pytest.raises(NotUnderstood, match=said):
        interview.answered(BY_QUESTION[key], answer, state, KNOWN)


def test_what_is_missing_is_asked_again_when_another_thing_is_chosen():
    known = replace(KNOWN, checks=(MISSING_DATA,))
    _, state = hold({}, known)
    assert "dataset.create=true" in lines(state, known)
    state = interview.changed(state, "dataset")
    asked, state = hold({"dataset": [["./data/a.json"]]}, state=state)
    assert asked == ["dataset", "evaluation"]
    assert "dataset.create=true" not in lines(state)


def test_a_missing_dataset_need_not_be_made():
    known = replace(KNOWN, checks=(MISSING_DATA,))
    _, state = hold({"missing": [["without"]]}, known)
    assert lines(state, known) == ["model=1B", "group.name=1B_rank8"]


def test_given_answers_are_not_asked():
    state = State(answers={"model": ("1B", "3B"), "validation": ("false",), "resources.gpus": ("2",)},
                  given=frozenset({"model", "validation", "resources.gpus"}))  # fmt: skip
    asked, state = hold({}, state=state)
    assert asked == ["vary", "dataset", "gpus", "measure", "more"]
    assert lines(state) == ["model=1B,3B", "resources.gpus=2", "validation=false", "group.name=1B-3B_rank8"]


def test_a_group_that_is_there_gets_a_number():
    _, state = hold({}, known := replace(KNOWN, taken=frozenset({"1B_rank8", "1B_rank8-2"})))
    assert lines(state, known)[-1] == "group.name=1B_rank8-3"


def test_settled_lists_what_can_be_changed():
    _, state = hold({"vary": [["lora.rank"]]})
    rows = {key: text for key, _, text in interview.settled(state, KNOWN)}
    assert rows["lora.rank"] == "4, 16, 64"
    assert rows["gpus"] == "1 a100-80"
    assert rows["vary"] == "LoRA ranks"
    assert "more" not in rows


def test_every_question_is_one_of_a_kind():
    assert len({question.key for question in QUESTIONS}) == len(QUESTIONS)


NUMBERS = st.lists(st.integers(1, 99).map(str), min_size=1, max_size=3, unique=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def typed(question):
    if question.form is Form.whole or question.form is Form.number:
        return NUMBERS
    if question.key == "gpus":
        return st.sampled_from([["2"], ["h100-80"], ["3 v100-32"]])
    if question.form is Form.lines:
        return st.sampled_from([["naming=full"], ["lora.dropout=0,0.1", "naming=full"]])
    if question.form is Form.texts:
        return st.sampled_from([["/x/y"], ["own, too"], ["$(a)/b"]])
    return st.lists(TEXTS, min_size=1, max_size=1)


@settings(max_examples=60)
@given(st.data())
def test_any_answers_make_lines_that_hydra_reads(data):
    """Whatever is answered, gone back to and changed: it ends, and every line is one override of a known key."""
    state, known = State(), replace(KNOWN, checks=data.draw(st.sampled_from([(), (MISSING_DATA,), (MISSING_MODEL,)])))
    for _ in range(data.draw(st.integers(0, 12))):
        question = interview.next_question(state, known)
        if question is None:
            state = interview.changed(state, data.draw(st.sampled_from(interview.settled(state, known)))[0])
            continue
        if data.draw(st.integers(0, 4)) == 0:
            state = interview.back(state, question.key)
            continue
        if question.kind(state, known) is Kind.typed:
            answer = data.draw(typed(question))
        else:
            values = [choice.value for choice in question.choices(state, known)]
            most = 1 if question.kind(state, known) is Kind.one else 4
            answer = data.draw(st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True))
        try:
            state = interview.answered(question, tuple(answer), state, known)
        except NotUnderstood as error:
            assert str(error)  # noqa: PT017 - a refusal says why, and changes nothing
    answers = {question.key: [("./x",)] for question in QUESTIONS if question.completes_paths}
    _, state = hold(answers | {"other": [("naming=full",)]}, known, state)
    said = lines(state, known)
    parsed = PARSER.parse_overrides(said)
    keys = [override.key_or_group for override in parsed]
    assert len(set(keys)) == len(keys)
    settings = {setting.key for setting in SETTINGS}
    groups = {"site", "model", "dataset", "evaluation", "resources"}
    rest = {"model.path", "dataset.path", "evaluation.script", "dataset.create", "resources.gpus", "validation",
            "controls", "naming", "lora.dropout"}  # fmt: skip
    assert {*keys} <= settings | groups | rest
    assert "elsewhere" not in " ".join(said)
