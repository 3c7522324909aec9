from __future__ import annotations

import copy

from factories_plan import make_plan

from runplan.files.diff import Change, GroupDiff, compare, merge, user_changes
from runplan.files.document import plan_document


def names(document):
    return [run["name"] for run in document["runs"]]


def test_nothing_changed():
    document = plan_document(make_plan())
    diff = compare(document, copy.deepcopy(document), {})
    assert not diff
    assert diff.lines() == []
    assert diff.unchanged == tuple(names(document))


def test_added_changed_and_orphaned_runs():
    old = plan_document(make_plan({"lora.rank": [4, 8, 16]}))
    new = plan_document(make_plan({"lora.rank": [8, 16, 32]}))
    new["runs"][1]["estimate"]["time_s"]["p50"] = 700.0
    diff = compare(old, new, {"1B_rank8": ["finetune.slurm"]})
    assert diff.added == ("1B_rank32",)
    assert diff.orphaned == ("1B_rank4",)
    assert diff.changed == {
        "1B_rank8": (Change("finetune.slurm"),),
        "1B_rank16": (Change("estimate.time_s.p50", 600.0, 700.0),),
    }
    assert diff.unchanged == ("1B_base",)  # whichever rank it was composed with
    assert diff.lines() == [
        "+ 1B_rank32",
        "~ 1B_rank8: finetune.slurm",
        "~ 1B_rank16: estimate.time_s.p50 600.0 → 700.0",
        "? 1B_rank4: no longer planned; its directory is left as it is",
        "= unchanged: 1",
    ]


def test_many_changed_keys_are_counted():
    diff = GroupDiff(changed={"a": tuple(Change(f"k{i}", i, i + 1) for i in range(9))})
    assert diff.lines()[0].endswith("k5 5 → 6, and 3 more")


def test_runs_that_change_alike_are_one_line_with_figures_last():
    figures = tuple(Change(f"estimate.k{i}", i, i + 1) for i in range(9))
    diff = GroupDiff(changed={name: (*figures, Change("finetune.yaml")) for name in "abcdef"})
    assert diff.lines() == ["~ a, b, c, d and 2 more: finetune.yaml, and 9 more"]
    assert len(diff.lines(full=True)) == 6 * 11


def test_files_are_named_where_only_figures_changed():
    old = plan_document(make_plan({"lora.rank": [4, 8]}))
    new = plan_document(make_plan({"lora.rank": [4, 8]}))
    new["runs"][0]["estimate"]["it_per_s"] = 99.0
    new["runs"][1]["config"]["epochs"] = 7
    touched = {"1B_rank4": ["finetune.yaml"], "1B_rank8": ["finetune.yaml"]}
    changed = compare(old, new, touched).changed
    assert [change.key for change in changed["1B_rank4"]] == ["finetune.yaml", "estimate.it_per_s"]
    assert [change.key for change in changed["1B_rank8"]] == ["config.epochs"]


def test_merging_keeps_entries_and_puts_orphans_before_controls():
    old = plan_document(make_plan({"lora.rank": [4, 8]}))
    new = plan_document(make_plan({"lora.rank": [8, 16]}))
    for run in new["runs"]:
        run["estimate"]["it_per_s"] = 99
    merged = merge(old, new, {"1B_rank4", "1B_rank8"})
    assert names(merged) == ["1B_rank8", "1B_rank16", "1B_rank4", "1B_base"]
    kept, changed, orphan, _ = merged["runs"]
    assert kept == old["runs"][1]
    assert changed["estimate"]["it_per_s"] == 99
    assert orphan == old["runs"][0] | {"orphaned": True}
    assert compare(old, merged, {}, {"1B_rank8"}).orphaned == ("1B_rank4",)


def test_a_run_that_is_planned_again_is_no_orphan():
    old = plan_document(make_plan({"lora.rank": [4, 8]}))
    first = merge(old, plan_document(make_plan({"lora.rank": [8]})), {"1B_rank4"})
    again = merge(first, plan_document(make_plan({"lora.rank": [4, 8]})), {"1B_rank4"})
    assert not any("orphaned" in run for run in again["runs"])
    assert again["runs"][0] == old["runs"][0]


def test_only_what_the_user_set_about_a_run_counts():
    old = {"lora": {"rank": 4, "alpha": "${rp.lora_alpha:}"}, "seed": 1, "preview": False, "priors": {"paths": ["a"]}}
    new = {"lora": {"rank": 8, "alpha": 32}, "seed": 1.0, "preview": True, "priors": {"paths": ["b"]}}
    assert user_changes(old, new) == [Change("lora.rank", 4, 8), Change("lora.alpha", "${rp.lora_alpha:}", 32)]


def test_keys_of_another_version_are_no_changes_but_made_up_ones_are():
    old = {"trainer": {"new_in_1_1": 1}, "evaluation": {"args": {"shots": 2}}, "packed": True}
    new = {"trainer": {"new_in_1_2": 1}, "evaluation": {"args": {}}, "packed": 1}
    assert user_changes(old, new) == [Change("evaluation.args.shots", 2, None), Change("packed", old=True, new=1)]


def test_of_lists_only_what_differs_is_shown():
    change = Change("overrides", ["model=1B", "epochs=1"], ["model=1B", "epochs=2"])
    assert str(change) == 'overrides ["epochs=1"] → ["epochs=2"]'
    assert str(Change("lengths", [1, 2], [2, 1])) == "lengths [1, 2] → [2, 1]"
    cells = [[{"dir": "a", "time_s": {"p50": old}}, {"dir": "b"}] for old in (1, 2)]
    assert str(Change("cells", *cells)) == "cells[0].time_s.p50 1 → 2"
    assert str(Change("orphaned", old=True)) == "planned again"
