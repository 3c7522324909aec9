"""Looking through folders: what is recognised, what is passed over, and that nothing makes it hang or raise."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from runplan.discover import folders
from runplan.discover.folders import Root, Search, search

CONFIG = json.dumps({"model_type": "llama", "vocab_size": 128256})
LOG = "Running LoRAFinetuneRecipeSingleDevice with resolved config:\n"


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def look(*roots: Root | Path, limit_s: float = 10.0) -> Search:
    made = [root if isinstance(root, Root) else Root(str(root)) for root in roots]
    return search(made, {"Llama-3.2-1B-Instruct": "1B"}, limit_s)


def test_models_are_known_by_their_config(tmp_path):
    write(tmp_path / "meta/Llama-3.2-1B-Instruct/config.json", CONFIG)
    write(tmp_path / "meta/Llama-3.2-1B-Instruct/deeper/config.json", CONFIG)  # part of the model
    write(tmp_path / "a vision model/config.json", json.dumps({"model_type": "vit"}))
    write(tmp_path / "app/config.json", "[]")
    write(tmp_path / "broken/config.json", "{")
    write(tmp_path / "outputs/1B_rank4/artifacts/epoch_0/config.json", CONFIG)  # made by a run
    found = look(tmp_path)
    assert [(m.path, m.model_type, m.option) for m in found.models.values()] == [
        (f"{tmp_path}/meta/Llama-3.2-1B-Instruct", "llama", "1B")
    ]
    assert found.done
    assert found.unreadable == {}


def test_a_snapshot_of_the_hub_says_its_repository(tmp_path):
    blob = write(tmp_path / "models--meta-llama--Llama-3.2-1B-Instruct/blobs/abc", CONFIG)
    snapshot = tmp_path / "models--meta-llama--Llama-3.2-1B-Instruct/snapshots/0123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to(blob)
    (found,) = look(tmp_path).models.values()
    assert (found.hub, found.option, found.path) == ("meta-llama/Llama-3.2-1B-Instruct", "1B", str(snapshot))


def test_links_are_followed_once(tmp_path):
    write(tmp_path / "big/x/config.json", CONFIG)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/x").symlink_to(tmp_path / "big/x")
    (tmp_path / "models/loop").symlink_to(tmp_path / "models")
    (tmp_path / "models/dead").symlink_to(tmp_path / "gone")
    assert len(look(tmp_path / "models", tmp_path).models) == 1


def test_data_is_json_with_splits(tmp_path):
    rows = [{"input": "a", "output": "A"}]
    write(tmp_path / "good.json", json.dumps({"metadata": {"n": 1}, "train": rows * 3, "validation": rows, "test": []}))
    write(tmp_path / "only_train.json", json.dumps({"train": rows}))
    write(tmp_path / "rows.json", json.dumps(rows))
    write(tmp_path / "half.json", '{"train": [')
    write(tmp_path / "tokenizer_config.json", json.dumps({"train": [], "test": []}))
    write(tmp_path / "plan.json", json.dumps({"train": [], "test": []}))
    os.mkfifo(tmp_path / "pipe.json")
    found = look(tmp_path)
    assert [(file.path, file.rows) for file in found.data.values()] == [
        (f"{tmp_path}/good.json", (("train", 3), ("validation", 1), ("test", 0)))
    ]


def test_the_rows_of_a_large_file_are_not_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "COUNTED_BYTES", 10)
    write(tmp_path / "large.json", '{"train": [1, 2, 3], "test": []}')
    (found,) = look(tmp_path).data.values()
    assert (found.rows, found.size_bytes) == ((), 32)


def test_logs_are_those_of_torchtune(tmp_path):
    for name in ("a/slurm-1.out", "a/b/slurm-2.out", "c/slurm-3.out"):
        write(tmp_path / name, LOG)
    write(tmp_path / "d/slurm-4.out", "hello\n")
    found = look(tmp_path)
    assert [(folder.path, folder.logs) for folder in found.log_folders()] == [
        (f"{tmp_path}/a", 2),
        (f"{tmp_path}/c", 1),
    ]
    named = look(Root(str(tmp_path), frozenset({"logs"}), named=True))
    assert [(folder.path, folder.logs) for folder in named.log_folders()] == [(str(tmp_path), 3)]


def test_only_what_is_asked_for(tmp_path):
    write(tmp_path / "m/config.json", CONFIG)
    write(tmp_path / "d.json", '{"train": [], "test": []}')
    found = look(Root(str(tmp_path), frozenset({"data"})))
    assert (found.models, len(found.data)) == ({}, 1)


def test_depth_is_bounded(tmp_path):
    write(tmp_path / "1/2/3/m/config.json", CONFIG)
    assert len(look(Root(str(tmp_path), depth=4)).models) == 1
    assert look(Root(str(tmp_path), depth=3)).models == {}


def test_what_cannot_be_read_is_told(tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    write(closed / "m/config.json", CONFIG)
    scandir = os.scandir

    def refuse(path):
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    write(tmp_path / "open/config.json", CONFIG)
    found = look(tmp_path)
    assert found.unreadable == {str(closed): "Permission denied"}
    assert len(found.models) == 1


def test_a_root_that_is_not_there_is_told_only_if_it_was_named(tmp_path):
    gone = str(tmp_path / "gone")
    assert look(Root(gone)).unreadable == {}
    assert look(Root(gone, named=True)).unreadable == {gone: "no such folder"}


def test_time_is_bounded_by_a_file_system_that_does_not_answer(tmp_path, monkeypatch):
    (tmp_path / "dead").mkdir()
    scandir = os.scandir

    def hang(path):
        if str(path).endswith("dead"):
            time.sleep(3)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", hang)
    write(tmp_path / "alive/config.json", CONFIG)
    begin = time.monotonic()
    found = look(tmp_path / "alive", tmp_path / "dead", tmp_path / "alive", limit_s=0.2)
    assert time.monotonic() - begin < 2
    assert len(found.models) == 1
    assert "0.2 s" in found.unreadable[f"{tmp_path}/dead"]


@pytest.mark.parametrize("name", ["a\nb", "a'; echo x", "${x}", "ü", "-rf"])
def test_hostile_names(tmp_path, name):
    write(tmp_path / name / "config.json", CONFIG)
    write(tmp_path / name / "x.json", '{"train": [], "test": []}')
    assert list(look(tmp_path).models) == [f"{tmp_path}/{name}"]


def test_names_that_are_no_text_are_passed_over(tmp_path):
    write(tmp_path / os.fsdecode(b"\xff") / "config.json", CONFIG)
    assert look(tmp_path).models == {}


def test_progress_is_called(tmp_path):
    calls: list[int] = []
    search([Root(str(tmp_path))], {}, 5, lambda found: calls.append(found.folders))
    assert calls
    assert calls[-1] == 1
