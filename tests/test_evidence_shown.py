from runplan.evidence_shown import EVIDENCE_SHOWN, evaluation_items, evidence_items


def run(name, model, *evidence):
    return {"name": name, "model": model, "estimate": {"evidence": list(evidence)}}


def texts(*runs):
    return [item.text for item in evidence_items(runs)]


def test_what_holds_for_some_runs_says_for_which():
    small = [run(f"1B_rank{rank}", "1B", "all", "small", *(["four"] if rank == 4 else [])) for rank in (4, 64)]
    large = [run(f"3B_rank{rank}", "3B", "all", "large") for rank in (4, 64)]
    assert texts(*small, *large) == ["all", "1B: small", "1B_rank4: four", "3B: large"]


def test_many_runs_are_not_all_named():
    runs = [run(f"1B_seed{i}", "1B", *(["odd"] if i % 2 else []), "all") for i in range(12)]
    assert texts(*runs) == ["all", "1B_seed1, 1B_seed3, 1B_seed5 and 3 more: odd"]


def test_nothing_is_said_to_be_nothing():
    assert texts(run("1B", "1B")) == ["No earlier log was used."]


def test_an_odd_log_is_shown_however_many_there_are():
    lines = [f"log {i}" for i in range(EVIDENCE_SHOWN + 5)]
    shown = texts(run("1B", "1B", *lines, "far.out: but 9 times, so the interval reaches further"))
    assert shown[0].startswith("far.out")
    assert shown[-1] == "… and 6 more in plan.json."


def evaluated(name, model, evidence):
    return {"name": name, "model": model, "cells": [{"task": "t", "time_evidence": evidence}]}


def test_times_of_evaluations_say_of_which_runs_they_are():
    tuned = [evaluated(f"1B_rank{rank}", "1B", "2 logs, fine-tuned") for rank in (4, 64)]
    shown = [item.text for item in evaluation_items([*tuned, evaluated("1B_base", "1B", "1 log, not fine-tuned")])]
    assert shown == [
        "Time to evaluate t (1B_rank4, 1B_rank64): 2 logs, fine-tuned.",
        "Time to evaluate t (1B_base): 1 log, not fine-tuned.",
    ]
    assert [item.text for item in evaluation_items(tuned)] == ["Time to evaluate t: 2 logs, fine-tuned."]
    assert evaluation_items([evaluated("1B_base", "1B", None)]) == []
