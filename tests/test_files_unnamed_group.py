"""What groups without a name are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runplan.cli import main
from runplan.files import unnamed_group

NOW = "2026-01-31_12-00-00"
WORDS = ["model=tiny", "dataset.create=true", "dataset.n_words=400", "priors.paths=[]"]


@pytest.fixture
def stopped(monkeypatch):
    """The clock stands still: all calls are of one second."""
    monkeypatch.setattr(unnamed_group, "FORMAT", NOW)


@pytest.mark.usefixtures("stopped")
def test_a_name_of_the_same_second_gets_a_number(tmp_path):
    assert unnamed_group.name_of_now(tmp_path / "new") == NOW
    (tmp_path / NOW).mkdir()
    assert unnamed_group.name_of_now(tmp_path) == f"{NOW}_2"
    (tmp_path / f"{NOW}_2").symlink_to("nowhere")
    assert unnamed_group.name_of_now(tmp_path) == f"{NOW}_3"


def test_only_one_takes_a_directory(tmp_path):
    assert unnamed_group.claim(tmp_path / "a" / "b")
    assert not unnamed_group.claim(tmp_path / "a" / "b")


def test_a_place_that_cannot_be_written_is_no_reason_to_wait(tmp_path):
    (tmp_path / "file").touch()
    assert unnamed_group.claim(tmp_path / "file" / "b")


def test_an_empty_directory_is_released_if_empty_and_a_group_is_not(tmp_path):
    for name in ("empty", "full"):
        unnamed_group.claim(tmp_path / name)
    (tmp_path / "full" / "plan.json").touch()
    for name in ("empty", "full"):
        with unnamed_group.released_if_empty(tmp_path / name):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


@pytest.mark.usefixtures("stopped")
def test_two_plans_of_one_second_are_two_groups():
    assert main([*WORDS, "batch_size=4"]) == 0
    assert main([*WORDS, "batch_size=8"]) == 0
    found = {
        path.parent.name: json.loads(path.read_text())["runs"][0]["config"]["batch_size"]
        for path in Path("outputs").glob("*/plan.json")
    }
    assert found == {NOW: 4, f"{NOW}_2": 8}


@pytest.mark.usefixtures("stopped")
def test_a_name_that_another_call_took_meanwhile_is_left_to_it(monkeypatch):
    chosen = iter([NOW, f"{NOW}_2"])
    monkeypatch.setattr(unnamed_group, "name_of_now", lambda _root: next(chosen))
    (Path("outputs") / NOW).mkdir(parents=True)
    assert main(WORDS) == 0
    assert sorted(path.parent.name for path in Path("outputs").glob("*/plan.json")) == [f"{NOW}_2"]
