from __future__ import annotations

import json

import pytest

from runplan.errors import StoreError
from runplan.files.existing_group import is_own, read_run, refuse_strangers, started_runs, submitted_paths


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("finetune.yaml", True),
        ("finetune.slurm", True),
        ("eval/a_epoch0/cell.slurm", True),
        (".hydra/config.yaml", True),
        ("lora_finetune_single_device_val.py", True),
        ("run_prompt.py", True),
        ("prompt.py", False),
        ("notes.yaml", False),
        ("eval/a/b/cell.slurm", False),
        ("artifacts/finetune.yaml", False),
        ("slurm-1.out", False),
        ("eval/a/logs/eval.yaml", False),
    ],
)
def test_what_is_ours(path, own):
    assert is_own(path) is own


def test_a_run_as_it_is(tmp_path):
    run = tmp_path / "a"
    (run / "eval" / "x").mkdir(parents=True)
    (run / "eval" / "x" / "cell.slurm").write_text("1")
    (run / "finetune.yaml").write_text("2")
    (run / "mine.txt").write_text("3")
    found = read_run(tmp_path, "a", ["finetune.yaml", "finetune.slurm"])
    assert found.texts == {"finetune.yaml": "2"}
    assert sorted(found.own) == ["eval/x/cell.slurm", "finetune.yaml"]
    assert not read_run(tmp_path, "b", []).there


def test_a_submitted_run_whose_directory_is_gone_has_nothing_to_keep(tmp_path):
    lines = [
        json.dumps({"event": "submitted", "token": name, "job_id": "1", "path": f"{name}/finetune.slurm"})
        for name in "ab"
    ]
    (tmp_path / "ledger.jsonl").write_text("\n".join(lines))
    (tmp_path / "a").mkdir()
    assert started_runs(tmp_path, ["a", "b"]) == {"a"}


def entry(event, path, job_id):
    return json.dumps({"event": event, "token": path.partition("/")[0], "job_id": job_id, "path": path})


def test_a_ledger_with_damage_and_other_events(tmp_path):
    lines = [
        entry("intent", "a/finetune.slurm", None),
        entry("submitted", "b/eval/x/cell.slurm", "7"),
        entry("cancelled", "c/finetune.slurm", "8"),
        entry("intent", "g/finetune.slurm", None),
        entry("refused", "g/finetune.slurm", None),
        entry("intent", "h/finetune.slurm", None),
        entry("submitted", "h/finetune.slurm", "9"),
        entry("intent", "h/finetune.slurm", None),
        entry("refused", "h/finetune.slurm", None),
        "[1]",
        '"text"',
        '{"event": "intent", "path": "d',
        "\x00\xff",
    ]
    (tmp_path / "ledger.jsonl").write_bytes("\n".join(lines).encode("latin-1"))
    assert submitted_paths(tmp_path) == {"a", "b", "h"}
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "slurm-7.out").touch()
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "slurm.out").touch()
    assert started_runs(tmp_path, ["a", "c", "d", "e", "f", "g"]) == {"e"}


def test_a_group_that_another_plan_begins_meanwhile_is_no_stranger(tmp_path):
    def paths():
        (tmp_path / "ledger.jsonl").touch()
        (tmp_path / "1B").mkdir()
        yield "1B"

    refuse_strangers(tmp_path, paths())
    (tmp_path / "ledger.jsonl").unlink()
    with pytest.raises(StoreError, match="is no group, but has 1B"):
        refuse_strangers(tmp_path, ["1B"])
