"""The tree of a preview: every kind of run once, marks of what planning again does."""

from __future__ import annotations

from runplan.files.diff import Change, GroupDiff
from runplan.summary.tree import ALIKE_SHOWN, RUNS_SHOWN, tree_lines

FILES = (".hydra/config.yaml", "finetune.yaml", "eval/t_epoch0/eval.yaml", "eval/t_epoch0/cell.slurm")


def paths(*runs: str) -> list[str]:
    return ["README.md", "plan.json", *(f"{run}/{file}" for run in runs for file in FILES)]


def test_a_new_group():
    assert tree_lines("/o/g", [*paths("1B_rank4", "3B_rank4"), "1B_base/eval/t/eval.yaml"], GroupDiff()) == [
        "/o/g/",
        "├── README.md",
        "├── plan.json",
        "├── 1B_rank4/",
        "│   ├── finetune.yaml",
        "│   ├── eval/",
        "│   │   └── t_epoch0/",
        "│   │       ├── eval.yaml",
        "│   │       └── cell.slurm",
        "│   └── .hydra/",
        "│       └── config.yaml",
        "├── 3B_rank4/   files as in 1B_rank4/",
        "└── 1B_base/",
        "    └── eval/",
        "        └── t/",
        "            └── eval.yaml",
    ]


def test_marks_of_planning_again():
    diff = GroupDiff(("new",), {"changed": (Change("config.lr", 1, 2),)}, ("same",), ("gone",), ("ran",))
    lines = tree_lines("g", paths("new", "changed", "same", "ran"), diff)
    marks = [line for line in lines if line.startswith(("├── ", "└── ")) and "/" in line]
    assert marks == [
        "├── new/   new",
        "├── changed/   changes; files as in new/",
        "├── same/   unchanged; files as in new/",
        "└── ran/   has run, stays as it is; files as in new/",
    ]


def test_many_runs_are_counted():
    lines = tree_lines("g", paths(*(f"r{i}" for i in range(1000))), GroupDiff())
    assert lines[-2:] == [
        f"├── r{ALIKE_SHOWN - 1}/   files as in r0/",
        f"└── … {1000 - ALIKE_SHOWN} more runs   files as in r0/",
    ]


def test_runs_that_differ_are_named_up_to_a_number():
    lines = tree_lines("g", [f"r{i}/f{i}" for i in range(100)], GroupDiff())
    assert sum(line.startswith(("├── r", "└── r")) for line in lines) == RUNS_SHOWN


def test_what_happens_to_others_is_not_hidden_among_those_alike():
    diff = GroupDiff(added=("new",), unchanged=tuple(f"r{i}" for i in range(9)))
    lines = tree_lines("g", paths(*(f"r{i}" for i in range(9)), "new"), diff)
    assert lines[-2:] == [
        "├── new/   new; files as in r0/",
        f"└── … {9 - ALIKE_SHOWN} more runs   unchanged; files as in r0/",
    ]


def test_names_stay_on_their_line():
    assert [line for line in tree_lines("a\nb", ["x\ny/z\x1b"], GroupDiff()) if "\n" in line or "\x1b" in line] == []
