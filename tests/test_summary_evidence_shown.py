from runplan.summary.evidence_shown import EVIDENCE_SHOWN, evaluation_items, evidence_items


def run(name, model, *evidence):
    return {"name": name, "model": model, "estimate": {"evidence": list(evidence)}}


def texts(*runs):
    return [item.text for item in evidence_items(runs)]


def test_what_holds_for_some_runs_says_for_which():
    small = [run(f"1B_rank{rank}", "1B", "all", "small", *(["four"] if rank == 4 else [])) for rank in (4, 64)]
    large = [run(f"3B_rank{rank}", "3B", "all", "large") for rank in (4, 64)]
    assert texts(*small, *large) == ["all", "1B: small", "1B_rank4: four", "3B: large"]


def log(tokens, counts, path="a; b/train.out"):
    return (
        f"{path}: 1B, cpu, batch 4 of {tokens} tokens assumed, 12.5 it/s (median of 2 logs of this setting); {counts}"
    )


FAR = "weak: the GPU is not known; but {} times the step time that physics implies, so the interval reaches further"


def test_a_log_is_named_once_whatever_lengths_are_assumed_of_it():
    runs = [run(f"1B_length{tokens}", "1B", log(tokens, "very similar")) for tokens in (4, 12, 8)]
    assert texts(*runs) == [log("4 to 12", "very similar")]
    assert texts(*runs, run("1B", "1B")) == [f"1B_length4, 1B_length12, 1B_length8: {log('4 to 12', 'very similar')}"]
    far = [run(f"{i}", "1B", log(8, FAR.format(times))) for i, times in enumerate(("2.5", "1e+02", "19"))]
    assert texts(*far) == [log(8, FAR.format("2.5 to 1e+02"))]


def test_a_log_that_counts_more_for_some_runs_says_for_which():
    small = [run(f"1B_length{tokens}", "1B", log(tokens, "very similar")) for tokens in (4, 8)]
    large = [run(f"3B_length{tokens}", "3B", log(tokens, "same GPU, another model")) for tokens in (4, 8)]
    assert texts(*small, *large) == [log("4 to 8", "1B: very similar; 3B: same GPU, another model")]


def test_other_logs_stay_apart():
    lines = [log(8, "very similar"), log(8, "very similar", "c.out"), log(8, "very similar").replace("12.5", "13")]
    assert texts(run("1B", "1B", *lines)) == lines


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
