"""Budget and effective batches of a whole group."""

from __future__ import annotations

from types import SimpleNamespace

from runplan.errors import Problem
from runplan.estimate.workload import Interval
from runplan.facts import DatasetFacts, Split, Status
from runplan.plan import RunType
from runplan.verify.group_checks import (
    check_budget,
    check_effective_batch,
    check_leaks,
    check_repeated_training,
    check_same_things,
    check_seeds,
    merge_risks,
)


def run(name, hours=1.0, batch=16, accumulation=1, gpus=1):
    return SimpleNamespace(
        name=name,
        gpu_hours=Interval(hours, 2 * hours),
        sizing=SimpleNamespace(batch_size=batch, gradient_accumulation_steps=accumulation),
        config=SimpleNamespace(resources=SimpleNamespace(gpus=gpus), trainer=SimpleNamespace(name="torchtune")),
    )


def test_over_budget_names_the_dearest_runs_to_drop():
    runs = [run("1B", 1), run("3B", 3), run("8B", 8)]
    (problem,) = check_budget(runs, Interval(12, 16), 5)
    assert "12.0 GPU-hours (p95 16.0)" in problem.what
    assert "5.0" in problem.what
    assert "without 8B it needs 4.0" in problem.fix


def test_a_budget_below_the_smallest_run_is_not_met_by_dropping_everything():
    (problem,) = check_budget([run("1B", 0.04), run("3B", 0.05)], Interval(0.09, 0.15), 0.001)
    assert problem.what == "the group needs 0.09 GPU-hours (p95 0.15), the budget is 0.001"
    assert "even its cheapest run needs more" in problem.fix


def test_rows_shared_with_training_are_a_risk_said_once_a_dataset():
    splits = {"train": Split("train", 90), "validation": Split("validation", 15), "test": Split("test", 3)}
    leaks = {("train", "validation"): 5, ("validation", "test"): 2}
    data = DatasetFacts("/data/words.json", Status.ok, splits=splits, leaks=leaks)
    runs = [SimpleNamespace(dataset=data, config=SimpleNamespace(train=True)) for _ in range(3)]
    (problem,) = check_leaks(runs)
    assert problem.what.startswith("5 of 15 validation rows of /data/words.json are train rows, too")
    assert check_leaks([SimpleNamespace(dataset=data, config=SimpleNamespace(train=False))]) == []


def test_within_budget_or_without_one_says_nothing():
    assert check_budget([run("a")], Interval(1, 2), 2) == []
    assert check_budget([run("a")], Interval(1, 2), None) == []


def test_effective_batches_that_differ_are_said_unless_they_are_the_factor():
    runs = [run("a"), run("b", batch=8)]
    (problem,) = check_effective_batch(runs, ["model"])
    assert "16 in a" in problem.what
    assert "8 in b" in problem.what
    assert check_effective_batch(runs, ["batch_size"]) == []
    assert check_effective_batch([run("a"), run("b", batch=8, accumulation=2)], ["model"]) == []


def test_what_seeds_do_not_replicate_is_said_where_they_are_a_factor():
    assert "shuffles the rows alike" in check_seeds([run("a"), run("b")], ["seed"])[0].what
    assert check_seeds([run("a")], ["model"]) == []


def test_factors_of_evaluation_alone_train_the_same_again():
    runs = [SimpleNamespace(type=RunType.fine_tuned), SimpleNamespace(type=RunType.control)]
    factors = {"lora.rank": (4, 8), "evaluation.temperature": (0.0, 0.5, 1.0)}
    (problem,) = check_repeated_training(runs, factors)
    assert problem.what.startswith("evaluation.temperature changes evaluation alone: each training is done 3 times")
    assert check_repeated_training(runs, {"lora.rank": (4, 8)}) == []
    assert check_repeated_training([SimpleNamespace(type=RunType.eval_only)], factors) == []


def of_data(level, path, kind=RunType.fine_tuned, **dataset):
    composed = SimpleNamespace(factors={"dataset": level}, choices={"dataset": level})
    config = SimpleNamespace(dataset=SimpleNamespace(**{"name": level, "train_split": "train", **dataset}))
    data = DatasetFacts(path, Status.ok)
    return SimpleNamespace(composed=composed, config=config, dataset=data, type=kind, model=SimpleNamespace(path="/m"))


def test_levels_that_are_one_file_are_said():
    (problem,) = check_same_things([of_data("json", "/d.json"), of_data("capitalization", "/d.json")], ["dataset"])
    assert problem.what.startswith("dataset=json,capitalization are the same dataset, /d.json")
    assert problem.where == "dataset"


def test_levels_that_differ_in_rows_or_are_no_factor_are_fine():
    assert check_same_things([of_data("a", "/a.json"), of_data("b", "/b.json")], ["dataset"]) == []
    other = of_data("b", "/a.json", train_split="small")
    assert check_same_things([of_data("a", "/a.json"), other], ["dataset"]) == []
    assert check_same_things([of_data("a", "/a.json"), of_data("b", "/a.json")], ["lora.rank"]) == []
    control = of_data("b", "/a.json", RunType.control)
    assert check_same_things([of_data("a", "/a.json"), control], ["dataset"]) == []


def test_two_sizes_of_one_folder_are_said():
    runs = [of_data("a", "/a.json"), of_data("b", "/b.json")]
    for run, level in zip(runs, ("1B", "3B"), strict=True):
        run.composed.factors["model"] = run.composed.choices["model"] = level
    (problem,) = check_same_things(runs, ["dataset", "model"])
    assert problem.what.startswith("model=1B,3B are the same model, /m")


def test_what_concerns_every_training_says_so():
    risks = [Problem("few steps", "epochs", "more", run=f"r{i}") for i in range(24)]
    trained, control = run("r"), SimpleNamespace(sizing=None)
    assert [risk.run for risk in merge_risks(risks, [trained] * 24 + [control] * 4)] == ["all fine-tuned runs"]
    assert [risk.run for risk in merge_risks(risks, [trained] * 24)] == ["all runs"]
    assert merge_risks(risks, [trained] * 26)[0].run.endswith(" and 20 more")
    assert merge_risks(risks[:1], [trained])[0].run == "r0"
