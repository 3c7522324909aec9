"""Overrides in another order are the same plan, unless names or values come out differently."""

import copy
from dataclasses import replace

import pytest
from factories_plan import cross, make_plan
from hypothesis import given
from hypothesis import strategies as st

from runplan.files.document import plan_document
from runplan.naming import run_names
from runplan.sweep.same_order import in_known_order

FACTORS = {"model": ["1B", "3B"], "lora.rank": [4, 64]}
COMMAND = "model=1B,3B lora.rank=4,64 epochs=1"


def known(factors=FACTORS, command=COMMAND):
    return plan_document(make_plan(factors)) | {"command": command}


def sweep(factors):
    return cross(factors)


def lines(composed):
    return [one.overrides for one in composed]


@pytest.mark.parametrize("command", ["lora.rank=4,64 epochs=1 model=1B,3B", "epochs=1 lora.rank=4,64 model=1B,3B"])
def test_a_command_in_another_order_is_the_same_sweep(command):
    turned = {key: FACTORS[key] for key in reversed(FACTORS)}
    composed, said = in_known_order(sweep(turned), command, known())
    assert said == COMMAND
    assert lines(composed) == lines(sweep(FACTORS))
    assert [[*one.factors] for one in composed] == [[*FACTORS]] * 4


def test_where_names_come_out_differently_the_new_order_holds():
    factors = {"optimizer.lr": [1e-5, 1e-4], "seed": [1, 2]}
    turned = {key: factors[key] for key in reversed(factors)}
    assert run_names(sweep(turned))[1] not in run_names(sweep(factors))
    command = "seed=1,2 optimizer.lr=1e-5,1e-4"
    composed, said = in_known_order(sweep(turned), command, known(factors, "optimizer.lr=1e-5,1e-4 seed=1,2"))
    assert (said, lines(composed)) == (command, lines(sweep(turned)))


def test_runs_that_are_there_keep_their_overrides_beside_new_ones():
    turned = {"lora.rank": [4, 64, 128], "model": ["1B", "3B"]}
    command = "lora.rank=4,64,128 model=1B,3B epochs=1"
    composed, said = in_known_order(sweep(turned), command, known())
    assert said == command
    by_name = dict(zip(run_names(composed), composed, strict=True))
    assert by_name["3B_rank64"].overrides == ("model=3B", "lora.rank=64")
    assert by_name["3B_rank128"].overrides == ("lora.rank=128", "model=3B")


@pytest.mark.parametrize(
    "lines_",
    [
        ("epochs=1", "epochs=2"),
        ("+evaluation.args={a: 1}", "+evaluation.args.a=2"),
        ("~evaluation.args.a", "+evaluation.args.a=2"),
        ("lora=qlora", "lora=default"),
    ],
)
def test_where_the_order_decides_a_value_it_counts(lines_):
    document = known({})
    document["runs"][0]["overrides"] = [*lines_]
    turned = [replace(one, overrides=lines_[::-1]) for one in sweep({})]
    composed, _ = in_known_order(turned, " ".join(lines_[::-1]), document)
    assert lines(composed) == [lines_[::-1]]


def test_a_group_choice_comes_before_its_values_whatever_the_order():
    document = known({})
    document["runs"][0]["overrides"] = ["model=3B", "model.name=x"]
    turned = [replace(one, overrides=("model.name=x", "model=3B")) for one in sweep({})]
    composed, _ = in_known_order(turned, "", document)
    assert lines(composed) == [("model=3B", "model.name=x")]


@pytest.mark.parametrize("command", [None, 3, 'a="'])
def test_a_plan_without_a_command_that_can_be_read(command):
    composed, said = in_known_order(sweep(FACTORS), COMMAND, known() | {"command": command})
    assert (said, lines(composed)) == (COMMAND, lines(sweep(FACTORS)))


@given(st.permutations([*FACTORS]), st.permutations(COMMAND.split()))
def test_it_is_settled_after_one_turn(keys, words):
    """Whatever the order, what comes out is what the group has, and stays so."""
    document = known()
    before = copy.deepcopy(document)
    once = in_known_order(sweep({key: FACTORS[key] for key in keys}), " ".join(words), document)
    assert in_known_order(once[0], once[1], document) == once
    assert document == before
    assert once[1] == COMMAND
