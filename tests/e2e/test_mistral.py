"""Mistral for real: both trainers' jobs train the same rows, and transformers evaluates what each saves."""

from __future__ import annotations

import json
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from disturbed_jobs import start, write_run
from tiny_training import make_dataset, row
from trained_runs import make_tiny_mistral

from runplan.trainers import torchtune, trl
from runplan.trainers.chat import MISTRAL

pytestmark = [pytest.mark.trainer, pytest.mark.trl, pytest.mark.filterwarnings("ignore")]

PROMPT, SYSTEM = "Word: {input}\nAnswer:", "Be brief."
SETTINGS = {
    "model": "hf", "dtype": "fp32", "trainer__max_steps_per_epoch": None, "trainer__shuffle": False,
    "gradient_accumulation_steps": 1, "trainer__run_val_every_n_steps": 12, "optimizer__lr": 0.05, "max_seq_len": 128,
    "prompt": PROMPT, "system_prompt": SYSTEM,
}  # fmt: skip


def logged(folder, name):
    (file,) = (folder / "logs").glob("log_*.txt")
    return [float(value) for value in re.findall(rf" {name}:([-.\de]+)", file.read_text())]


def validation_loss(folder, base=None):
    """Mean over the answers' tokens of the validation rows, by transformers; adapters are put on their base."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base or folder, dtype=torch.float32)
    if base:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder)
    tokenizer = AutoTokenizer.from_pretrained(base or folder)
    total, tokens = 0.0, 0
    for i in range(7):
        one = row("validation", i)
        said = [("system", SYSTEM), ("user", PROMPT.replace("{input}", one["input"]))]
        messages = [{"role": role, "content": text} for role, text in (*said, ("assistant", one["output"]))]
        asked, whole = (
            tokenizer(
                tokenizer.apply_chat_template(some, chat_template=MISTRAL, tokenize=False),
                add_special_tokens=False, return_tensors="pt",
            ).input_ids
            for some in (messages[:2], messages)
        )  # fmt: skip
        labels = whole.clone()
        labels[:, : asked.shape[1]] = -100
        learnt = whole.shape[1] - asked.shape[1]
        with torch.no_grad():
            total += float(model(whole, labels=labels).loss) * learnt
        tokens += learnt
    return total / tokens


def test_both_trainers_train_the_same_rows_and_save_what_transformers_loads(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao", None)  # which PEFT refuses
    model, dataset = make_tiny_mistral(tmp_path / "mistral"), make_dataset(tmp_path / "rows.json")
    writers = {"torchtune": torchtune.training_files, "trl": trl.training_files}
    folders = {
        name: write_run(files, tmp_path / name, SETTINGS | {"trainer": name}, model, dataset)
        for name, files in writers.items()
    }
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(lambda folder: start(folder, ""), folders.values()):
            assert done.returncode == 0, done.stdout
    losses = {name: logged(folder, "loss") for name, folder in folders.items()}
    assert losses["torchtune"][0] == pytest.approx(losses["trl"][0], rel=1e-3)
    assert {len(found) for found in losses.values()} == {12}
    assert all(min(found) < 0.95 * found[0] for found in losses.values())
    for name, folder in folders.items():
        assert validation_loss(folder / "artifacts/epoch_0", model.path) == pytest.approx(
            logged(folder, "val_loss")[-1], rel=1e-3
        ), name
    merged = tmp_path / "merged"  # without the adapters, which transformers would put on top, as cells have it
    shutil.copytree(folders["torchtune"] / "artifacts/epoch_0", merged, ignore=shutil.ignore_patterns("adapter*"))
    assert json.loads((merged / "config.json").read_text())["model_type"] == "mistral"
    assert validation_loss(merged) == pytest.approx(logged(folders["torchtune"], "val_loss")[-1], rel=1e-3)
