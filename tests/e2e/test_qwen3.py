"""Qwen3, which TRL alone trains here: a job as it is planned, and what it is asked is what it was trained in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tiny_qwen3 import make_tiny_qwen3
from tiny_training import make_dataset, planned, row
from trained_and_asked import facts_of, sent, trained_by_trl
from trained_runs import HOSTILE

from runplan.facts import LengthKey
from runplan.read.dataset import row_texts
from runplan.read.lengths import counter, measure

pytestmark = [pytest.mark.trl, pytest.mark.filterwarnings("ignore")]
ROOT = Path(__file__).parents[2]
CASES = {
    "plain": {},
    "prompt": {"prompt": "Word: {input}\nAnswer:"},
    "both": {"prompt": "Say {input}! ", "system_prompt": HOSTILE},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny_qwen3(tmp_path_factory.mktemp("models") / "Qwen3-tiny")


def test_the_folder_that_transformers_writes_is_read_whole(model):
    assert model.findings == ()
    assert model.architecture.family == "qwen3"
    assert model.architecture.query_size == 2 * model.architecture.hidden_size
    assert model.params == model.architecture.params


def tokenizer_of(model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model.path)


@pytest.mark.evaluation
@pytest.mark.parametrize("kind", ["instruct", "chat"])
@pytest.mark.parametrize("case", CASES)
def test_the_prompt_is_the_one_that_was_trained_and_qwens_own_without_thoughts(
    case, kind, model, tmp_path, monkeypatch
):
    data = make_dataset(tmp_path / "rows.json")
    run = planned(model, data, trainer="trl", model="hf", dataset__type=kind, max_seq_len=1024, **CASES[case])
    rows = trained_by_trl(run, tmp_path / "run", monkeypatch)
    prompt, tokenizer = sent(run)
    assert prompt == rows[0]["input_ids"][: len(prompt)]
    answer = tokenizer.decode(rows[0]["input_ids"][len(prompt) :], skip_special_tokens=False)
    assert answer == row("train", 0)["output"] + facts_of(run)["stop_token"]
    assert rows[0]["labels"] == [-100] * len(prompt) + rows[0]["input_ids"][len(prompt) :]

    config = run.config
    said = [{"role": "system", "content": config.system_prompt}] if config.system_prompt else []
    said.append({"role": "user", "content": config.prompt.replace("{input}", row("train", 0)["input"])})
    own = tokenizer_of(model).apply_chat_template(said, add_generation_prompt=True, enable_thinking=False)
    assert prompt == own["input_ids"]
    thinking = tokenizer_of(model).apply_chat_template(said, add_generation_prompt=True)
    assert prompt != thinking["input_ids"]

    key = LengthKey("", "", kind, "train", config.system_prompt, config.prompt, trainer="trl")
    texts = [row_texts(row("train", i), config.dataset) for i in range(len(rows))]
    lengths = measure(texts, key, "qwen3", counter(model, "trl"))
    assert lengths.counts == tuple(sorted(Counter(len(each["input_ids"]) for each in rows).items()))


@pytest.mark.evaluation
def test_every_answer_of_a_conversation_is_learnt_behind_what_it_is_asked_behind(model, tmp_path, monkeypatch):
    from inspect_ai.model import ChatMessageAssistant, ChatMessageUser

    data = make_dataset(tmp_path / "rows.json")
    talks = {name: [{"messages": talk()} for _ in range(2)] for name in ("train", "validation", "test")}
    (tmp_path / "rows.json").write_text(json.dumps(talks))
    run = planned(model, data, trainer="trl", model="hf", dataset__type="chat", max_seq_len=1024)
    (one, _) = trained_by_trl(run, tmp_path / "run", monkeypatch)
    messages = [ChatMessageUser(content="a"), ChatMessageAssistant(content="A"), ChatMessageUser(content="b")]
    for asked, answer in ((messages[:1], "A<|im_end|>"), (messages, "B<|im_end|>")):
        prompt, tokenizer = sent(run, asked)
        assert prompt == one["input_ids"][: len(prompt)]
        learnt = [token for token in one["labels"][len(prompt) :] if token != -100]
        assert tokenizer.decode(learnt, skip_special_tokens=False).startswith(answer)
    assert sum(label != -100 for label in one["labels"]) == 2 * len(["A", "<|im_end|>"])


def talk():
    turns = (("user", "a"), ("assistant", "A"), ("user", "b"), ("assistant", "B"))
    return [{"role": role, "content": content} for role, content in turns]


def test_a_planned_job_trains_an_epoch(model, tmp_path, monkeypatch):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPATH": f"{ROOT}:{ROOT / 'runplan' / '_hydra'}", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def call(*command, expected=0):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == expected, done.stdout + done.stderr
        return done.stdout + done.stderr

    words = ["model=hf", f"model.path={model.path}", "dataset.create=true", "dataset.n_words=100", "max_seq_len=128"]
    words += ["resources=cpu", "evaluation=none", "batch_size=8", "optimizer.lr=1e-2", "group.name=g"]
    plan = (sys.executable, "-m", "runplan", *words)
    assert "torchtune 0.6.1 has no qwen3 models" in call(*plan, expected=1)
    call(*plan, "trainer=trl")
    folder = tmp_path / "outputs" / "g" / "Qwen3-tiny_rank8"
    call("bash", str(folder / "finetune.slurm"))
    (log,) = (folder / "logs").glob("log_*.txt")
    losses = [float(line.split(" loss:")[1].split()[0]) for line in log.read_text().splitlines() if " loss:" in line]
    assert len(losses) == json.loads((folder.parent / "plan.json").read_text())["runs"][0]["steps"]["total"] == 10
    assert sum(losses[-3:]) / 3 < losses[0] - 0.1
    monkeypatch.setitem(sys.modules, "torchao", None)  # PEFT refuses the version that torchtune needs
    check_adapters(model, folder / "artifacts" / "epoch_0")


def check_adapters(model, saved):
    """They change what the model says, as evaluation loads them."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ids = torch.tensor([[1, 2, 3]])
    base = AutoModelForCausalLM.from_pretrained(model.path, dtype=torch.float32)
    with torch.no_grad():
        before = base(ids).logits
        after = PeftModel.from_pretrained(base, saved)(ids).logits
    assert (after - before).abs().max() > 1e-3
