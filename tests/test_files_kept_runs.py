from __future__ import annotations

import pytest

from runplan.errors import StoreError
from runplan.files.diff import Change, GroupDiff
from runplan.files.kept_runs import outdated, refuse_changed_keys

MODEL = "model: {vocab_size: %d, lora_rank: 8}\nbatch_size: %d\n"


def texts(vocab_size=317, batch_size=4, config="seed: 1\n"):
    return {"finetune.yaml": MODEL % (vocab_size, batch_size), ".hydra/config.yaml": config, "setup_finetune.yaml": ""}


def test_another_model_behind_the_same_path_is_told():
    there = {"a": texts(), "b": texts(), "c": {}}
    planned = {"a": texts(vocab_size=336), "b": texts(batch_size=8), "c": texts(), "new": texts()}
    assert outdated(planned, there) == {"a": (Change("finetune.yaml model.vocab_size", 317, 336),)}


def test_a_file_that_somebody_broke_is_left_alone():
    there = {"a": {"finetune.yaml": "[}"}}
    assert outdated({"a": {"finetune.yaml": "- 1"}}, there) == {}


def test_changed_keys_are_refused_all_at_once():
    there = {"a": texts(), "b": texts()}
    planned = {"a": texts(config="seed: 2\n"), "b": texts(config="seed: 3\n")}
    with pytest.raises(StoreError, match=r"a: seed was 1, is now 2(?s:.)*b: seed was 1, is now 3(?s:.)*overwrite=true"):
        refuse_changed_keys(planned, there)
    refuse_changed_keys(there, there)


def test_the_diff_names_them_and_how_to_take_the_new_model():
    changes = (Change("finetune.yaml model.vocab_size", 317, 336),)
    diff = GroupDiff(ran=("a", "b"), outdated={"a": changes, "b": changes})
    assert diff
    assert diff.lines()[1:] == [
        "! another model by now, overwrite=true takes it: a, b: finetune.yaml model.vocab_size 317 → 336"
    ]
