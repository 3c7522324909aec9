from __future__ import annotations

from pathlib import Path

import pytest
from factories_plan import make_files, make_plan, plan_templates

from runplan.errors import RenderError
from runplan.files.group_files import GroupFiles, RunFiles, Texts, by_run
from runplan.files.store import compare_group, write_group

FILES = {"a/x.txt": "1", "plan.json": "{}", "a/eval/y.txt": "2", "b/x.txt": "3"}


def counted(runs):
    """The same runs on demand, and the names that were asked for so far."""
    made: list[str] = []

    def make(name):
        made.append(name)
        return runs[name]

    return RunFiles(runs, make), made


def test_files_by_run_and_back():
    files = by_run(FILES)
    assert files.own == {"plan.json": "{}"}
    assert files.runs == {"a": {"x.txt": "1", "eval/y.txt": "2"}, "b": {"x.txt": "3"}}
    assert sorted(files.paths()) == sorted(FILES)
    assert dict(Texts(files)) == FILES
    assert "c" not in files.runs


def test_a_run_is_made_when_it_is_asked_for_and_forgotten_for_the_next():
    runs, made = counted(by_run(FILES).runs)
    assert (len(runs), [*runs], "a" in runs, "c" in runs, made) == (2, ["a", "b"], True, False, [])
    assert runs["a"] is runs["a"]
    assert made == ["a"]
    assert (runs["b"], runs["a"]) == ({"x.txt": "3"}, {"x.txt": "1", "eval/y.txt": "2"})
    assert made == ["a", "b", "a"]
    with pytest.raises(KeyError):
        runs["c"]


def test_new_runs_are_made_once_and_one_at_a_time(tmp_path):
    plan = make_plan(directory=str(tmp_path / "group"))
    files = by_run(make_files(plan))
    runs, made = counted(files.runs)
    write_group(plan, GroupFiles(files.own, runs), templates=plan_templates())
    assert made == [*files.runs]
    made.clear()
    assert write_group(plan, GroupFiles(files.own, runs), templates=plan_templates()).written == ()
    assert made == [*files.runs]


@pytest.mark.parametrize("there", [False, True])
def test_a_run_that_cannot_be_made_leaves_everything_as_it_was(tmp_path, there):
    plan = make_plan(directory=str(tmp_path / "group"))
    files = by_run(make_files(plan))

    def make(name):
        if name == [*files.runs][-1]:
            raise RenderError("no such thing")
        return files.runs[name]

    if there:
        first = next(iter(files.runs))
        write_group(plan, GroupFiles(files.own, {first: files.runs[first]}), templates=plan_templates())
    before = sorted(Path(plan.directory).rglob("*"))
    for act in (write_group, compare_group):
        with pytest.raises(RenderError):
            act(plan, GroupFiles(files.own, RunFiles(files.runs, make)), templates=plan_templates())
    assert sorted(Path(plan.directory).rglob("*")) == before
    assert Path(plan.directory).exists() == there
