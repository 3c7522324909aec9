from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from factories_plan import make_files, make_plan, plan_templates

from runplan.errors import StoreError
from runplan.estimate.workload import Interval
from runplan.files import staging
from runplan.files.diff import Change
from runplan.files.group_files import by_run
from runplan.files.store import compare_group, read_document, write_group
from runplan.summary.readme import RESULTS_START


def snapshot(root: Path) -> dict[str, bytes | str]:
    """Everything below a folder: bytes of files, targets of links; folders as a word."""
    found: dict[str, bytes | str] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found[name] = str(path.readlink()) if path.is_symlink() else "folder" if path.is_dir() else path.read_bytes()
    return found


def times(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*") if path.name != "ledger.jsonl"}


class Group:
    """A group in a folder of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def plan(self, factors=None, **more):
        return make_plan(factors, directory=str(self.directory), **more)

    def write(self, factors=None, *, overwrite=False, **more):
        plan = self.plan(factors, **more)
        return write_group(plan, by_run(make_files(plan)), overwrite=overwrite, templates=plan_templates())

    def entries(self):
        return {run["name"]: run for run in read_document(self.directory)["runs"]}

    def path(self, name: str) -> Path:
        return self.directory / name


@pytest.fixture
def group(tmp_path):
    return Group(tmp_path / "out" / "a'; echo x")


def test_a_new_group_has_every_file_and_nothing_else(group):
    result = group.write()
    plan = group.plan()
    files = make_files(plan)
    found = {name for name, text in snapshot(group.directory).items() if text != "folder"}
    assert found == {*files, "ledger.jsonl"}
    assert all(group.path(name).read_text(encoding="utf-8") == text for name, text in files.items())
    assert os.access(group.path("submit_all.sh"), os.X_OK)
    assert not os.access(group.path("README.md"), os.X_OK)
    assert set(result.written) == {*(run.name for run in plan.runs), *(name for name in files if "/" not in name)}
    assert not result.diff


def test_planning_again_touches_nothing(group):
    group.write()
    before, at = snapshot(group.directory), times(group.directory)
    result = group.write()
    assert result.written == ()
    assert not result.diff
    assert snapshot(group.directory) == before
    assert times(group.directory) == at


def test_new_runs_are_added_and_unchanged_ones_not_touched(group):
    group.write({"lora.rank": [4, 8]})
    at = times(group.path("1B_rank8"))
    result = group.write({"lora.rank": [4, 8, 16]})
    assert result.diff.added == ("1B_rank16",)
    assert times(group.path("1B_rank8")) == at
    fresh = Group(group.directory.with_name("fresh"))
    fresh.write({"lora.rank": [4, 8, 16]})
    assert set(snapshot(fresh.directory)) == set(snapshot(group.directory))


def test_estimates_of_runs_that_did_not_run_follow_new_priors(group):
    group.write({"lora.rank": [4]})
    (group.path("1B_rank4") / "notes.txt").write_text("mine")
    at = times(group.path("1B_rank4"))
    result = group.write({"lora.rank": [4]}, sizes={"it_per_s": 9.0, "time_s": Interval(60.0, 90.0)})
    changes = result.diff.changed["1B_rank4"]
    assert Change("estimate.it_per_s", 1.2346, 9.0) in changes
    assert group.entries()["1B_rank4"]["estimate"]["it_per_s"] == 9.0
    assert (group.path("1B_rank4") / "notes.txt").read_text() == "mine"
    assert "90.0" in (group.path("1B_rank4") / "finetune.slurm").read_text()
    now = times(group.path("1B_rank4"))
    kept = str(group.path("1B_rank4") / "finetune.yaml")
    assert now[kept] == at[kept]


def test_a_template_that_changed_is_said(group):
    group.write({"lora.rank": [4]})
    plan = group.plan({"lora.rank": [4]})
    files = make_files(plan) | {"1B_rank4/finetune.slurm": "#!/bin/bash\n# better\n"}
    result = write_group(plan, by_run(files), templates=plan_templates())
    assert result.diff.changed == {"1B_rank4": (Change("finetune.slurm"),)}
    assert result.written == ("1B_rank4",)


def test_our_files_that_are_no_longer_planned_go_and_others_stay(group):
    group.write({"epochs": [2]})
    run = group.path("1B_rank8")
    (run / "eval" / "capitalization_epoch1" / "mine.txt").write_text("x")
    (run / "empty").mkdir()
    (run / "link").symlink_to("/nowhere")
    (run / "folder_link").symlink_to(run.parent)
    plan = group.plan({"epochs": [2]})
    files = {path: text for path, text in make_files(plan).items() if "_epoch1" not in path}
    write_group(plan, by_run(files), templates=plan_templates())
    assert [path.name for path in (run / "eval" / "capitalization_epoch1").iterdir()] == ["mine.txt"]
    assert (run / "eval" / "capitalization_epoch0" / "cell.slurm").is_file()
    assert (run / "empty").is_dir()
    assert (run / "link").readlink() == Path("/nowhere")
    assert (run / "folder_link").is_symlink()


TRACES = ["artifacts/epoch_0/x", "jobs.jsonl", "slurm-12.out", "logs/a.log", "eval/capitalization_epoch0/logs/a.eval",
          "eval/capitalization_epoch0/slurm-3_1.out"]  # fmt: skip


def leave(group: Group, trace: str) -> None:
    path = group.path("1B_rank4") / trace
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("trace")


@pytest.mark.parametrize("trace", TRACES)
def test_a_run_that_ran_keeps_files_and_entry_whatever_new_priors_say(group, trace):
    group.write()
    leave(group, trace)
    before, entry = snapshot(group.path("1B_rank4")), group.entries()["1B_rank4"]
    result = group.write(sizes={"it_per_s": 9.0, "evidence": ("new",)})
    assert snapshot(group.path("1B_rank4")) == before
    assert group.entries()["1B_rank4"] == entry
    assert group.entries()["1B_rank64"]["estimate"]["it_per_s"] == 9.0
    assert result.diff.ran == ("1B_rank4",)
    rows = group.path("plan.csv").read_text(encoding="utf-8").splitlines()
    assert "1.2346" in rows[1]
    assert "| 1B_rank4 | 500 | 1.23 |" in group.path("README.md").read_text(encoding="utf-8")
    again = snapshot(group.directory)
    assert group.write(sizes={"it_per_s": 9.0, "evidence": ("new",)}).written == ()
    assert snapshot(group.directory) == again


@pytest.mark.parametrize("event", ["intent", "submitted"])
def test_a_run_in_the_ledger_is_kept(group, event):
    group.write()
    job_id = "7" if event == "submitted" else None
    line = json.dumps({"event": event, "token": "t", "job_id": job_id, "path": "1B_rank4/finetune.slurm"})
    group.path("ledger.jsonl").write_text(f'{line}\n{{"event": "intent", "pa')
    assert group.write(sizes={"it_per_s": 9.0}).diff.ran == ("1B_rank4",)


def test_an_empty_logs_folder_is_no_trace(group):
    group.write()
    (group.path("1B_rank4") / "logs").mkdir()
    assert group.write(sizes={"it_per_s": 9.0}).diff.ran == ()


def test_a_changed_key_of_a_run_that_ran_is_refused_with_both_values(group):
    group.write({"lora.rank": [4, 8]})
    leave(group, "jobs.jsonl")
    before = snapshot(group.directory)
    with pytest.raises(StoreError) as caught:
        group.write({"lora.rank": [4, 8, 16]}, extra={"epochs": 3, "preview": False})
    text = str(caught.value)
    assert "1B_rank4: epochs was 1, is now 3" in text
    assert "overwrite=true" in text
    assert "1B_rank8" not in text
    assert snapshot(group.directory) == before


def test_overwriting_insists(group):
    group.write({"lora.rank": [4, 8]})
    leave(group, "artifacts/epoch_0/weights")
    inode = group.path("1B_rank4").stat().st_ino
    group.write({"lora.rank": [4, 8]}, extra={"epochs": 3}, overwrite=True)
    run = group.path("1B_rank4")
    assert group.entries()["1B_rank4"]["config"]["epochs"] == 3
    assert "epochs: 3" in (run / ".hydra/config.yaml").read_text()
    assert (run / "artifacts/epoch_0/weights").read_text() == "trace"
    assert (run / "eval/capitalization_epoch2/cell.slurm").is_file()
    assert run.stat().st_ino == inode, "a job may be running there: the folder stays the same"
    group.write({"lora.rank": [4, 8]}, overwrite=True)
    assert not (run / "eval/capitalization_epoch2/cell.slurm").exists()


def test_a_control_that_ran_does_not_care_for_ranks(group):
    group.write({"lora.rank": [4, 8]})
    (group.path("1B_base") / "jobs.jsonl").write_text("x")
    result = group.write({"lora.rank": [16, 32]})
    assert result.diff.ran == ("1B_base",)
    assert result.diff.orphaned == ("1B_rank4", "1B_rank8")
    with pytest.raises(StoreError, match="1B_base: prompt was"):
        group.write({"lora.rank": [16, 32]}, extra={"prompt": "Q: {input}"})


def test_orphans_stay_on_disk_and_keep_their_entries_when_they_ran(group):
    group.write({"lora.rank": [4, 8, 16]})
    leave(group, "jobs.jsonl")
    result = group.write({"lora.rank": [16]})
    assert result.diff.orphaned == ("1B_rank4", "1B_rank8")
    assert (group.path("1B_rank8") / "finetune.yaml").is_file()
    assert list(group.entries()) == ["1B_rank16", "1B_rank4", "1B_base"]
    assert group.entries()["1B_rank4"]["orphaned"] is True
    assert group.write({"lora.rank": [16]}).written == ()
    assert group.write({"lora.rank": [4, 16]}).diff.ran == ("1B_rank4",)
    assert "orphaned" not in group.entries()["1B_rank4"]


def test_results_in_the_readme_survive(group):
    group.write()
    readme = group.path("README.md")
    filled = readme.read_text(encoding="utf-8").replace(f"{RESULTS_START}\n", f"{RESULTS_START}\n## Results\nfine\n")
    readme.write_text(filled, encoding="utf-8")
    assert group.write().written == ()
    group.write({"lora.rank": [4]})
    assert "## Results\nfine\n" in readme.read_text(encoding="utf-8")


def test_a_preview_says_the_same_and_writes_nothing(group):
    plan = group.plan()
    result = compare_group(plan, by_run(make_files(plan)), templates=plan_templates())
    assert not group.directory.parent.exists()
    assert result.preview
    group.write({"lora.rank": [4]})
    before = snapshot(group.directory)
    plan = group.plan({"lora.rank": [4, 8]})
    assert compare_group(plan, by_run(make_files(plan)), templates=plan_templates()).diff.added == ("1B_rank8",)
    assert snapshot(group.directory) == before


def test_undecodable_and_hostile_text_is_written_as_it_is(group):
    plan = group.plan({"system_prompt": ["a\r\nb\udce9日本"]})
    files = {"plan.json": make_files(group.plan())["plan.json"], "1B_rank8/x.txt": "a\r\nb\udce9日本"}
    write_group(plan, by_run(files), templates=plan_templates())
    assert group.path("1B_rank8/x.txt").read_bytes() == b"a\r\nb\xe9" + "日本".encode()


# What is in the way


def test_a_file_where_the_group_should_be(group):
    group.directory.parent.mkdir()
    group.directory.write_text("I am a file")
    with pytest.raises(StoreError, match="a file stands where a folder should be"):
        group.write()
    assert group.directory.read_text() == "I am a file"


def test_a_file_where_a_run_should_be(group):
    group.write({"lora.rank": [4]})
    group.path("1B_rank8").write_text("mine")
    before = snapshot(group.directory)
    with pytest.raises(StoreError, match="1B_rank8: is a file, but a run is planned there"):
        group.write({"lora.rank": [4, 8]})
    assert snapshot(group.directory) == before


def test_a_folder_where_a_file_should_be(group):
    group.write({"lora.rank": [4]})
    group.path("README.md").unlink()
    group.path("README.md").mkdir()
    with pytest.raises(StoreError, match=re.escape("README.md")):
        group.write({"lora.rank": [4]})


def test_a_damaged_plan_json_is_said_not_overwritten(group):
    group.write({"lora.rank": [4]})
    group.path("plan.json").write_text("{")
    with pytest.raises(StoreError, match="not JSON"):
        group.write({"lora.rank": [4]})
    group.path("plan.json").write_text('{"schema": 1, "group": "g", "design": {"factors": {}}, "runs": "none"}')
    with pytest.raises(StoreError, match=r"not as runplan wrote it .runs: no list.; move it away and plan the same"):
        group.write({"lora.rank": [4]})
    group.path("plan.json").write_text('{"schema": 2}')
    with pytest.raises(StoreError, match="schema 2, this runplan knows 1"):
        group.write({"lora.rank": [4]})


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "site.output_root")])
def test_a_disk_that_refuses_leaves_the_group_as_it_was(group, monkeypatch, number, said):
    group.write({"lora.rank": [4]})
    before = snapshot(group.directory)
    real, calls = staging.write_text, []

    def fail(path, text):
        calls.append(path)
        if len(calls) == 9:
            raise OSError(number, os.strerror(number), path)
        real(path, text)

    monkeypatch.setattr(staging, "write_text", fail)
    with pytest.raises(StoreError, match=said):
        group.write({"lora.rank": [4, 8]}, sizes={"it_per_s": 2.0})
    assert snapshot(group.directory) == before
    fresh = Group(group.directory.with_name("fresh"))
    calls.clear()
    with pytest.raises(StoreError, match=said):
        fresh.write()
    assert not fresh.directory.exists()
    monkeypatch.undo()
    assert group.write({"lora.rank": [4, 8]}).written


def test_a_run_directory_that_is_a_link_stays_one(group, tmp_path):
    group.write({"lora.rank": [4]})
    elsewhere = tmp_path / "scratch"
    shutil.move(group.path("1B_rank4"), elsewhere)
    group.path("1B_rank4").symlink_to(elsewhere)
    group.write({"lora.rank": [4]}, sizes={"time_s": Interval(1.0, 2.0)})
    assert group.path("1B_rank4").is_symlink()
    assert "2.0" in (elsewhere / "finetune.slurm").read_text()
