"""What is asked is what was trained: token for token, from the written files to what Inspect's provider sends.

The models' own chat templates here say more than the data, as those of Llama 3.2 (a date) and Qwen2.5 (a system prompt)
do; the last test shows what they would have done.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from tiny_training import make_tiny_model, planned, row
from trained_and_asked import facts_of, sent, task_of, trained_by_trl
from trained_runs import HOSTILE, make_tiny_mistral, make_tiny_qwen, write

from runplan.config import Prompts
from runplan.facts import DatasetFacts, LengthKey, Split, Status
from runplan.read.dataset import row_texts
from runplan.read.lengths import counter, measure

pytestmark = [pytest.mark.trainer, pytest.mark.evaluation, pytest.mark.filterwarnings("ignore")]

DATED = "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday is {{ 1 + 1 }}<|eot_id|>"
HELPFUL = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
WITH_TEXT = {"dataset__type": "text"}
CASES = {
    "plain": {},
    "system": {"system_prompt": "Be brief."},
    "prompt": {"prompt": "Word: {input}\nAnswer:"},
    "both": {"prompt": "Say {input}! ", "system_prompt": HOSTILE},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "words.json"
    file.write_text(json.dumps({role: [row(role, i) for i in range(9)] for role in ("train", "validation", "test")}))
    splits = {role: Split(role, 9) for role in ("train", "validation", "test")}
    return DatasetFacts(str(file), Status.ok, 1, "instruct", splits, {role: role for role in splits})


@pytest.fixture(scope="module", params=["llama", "qwen", "mistral", "mistral-v0.1"])
def model(request, tmp_path_factory):
    """A model folder whose own chat template is not how it is trained."""
    folder = tmp_path_factory.mktemp("models") / request.param
    if request.param == "llama":
        made = make_tiny_model(folder)
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings["chat_template"] = DATED + settings["chat_template"].removeprefix("{{ bos_token }}")
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        return made
    if request.param.startswith("mistral"):
        return make_tiny_mistral(folder, instructions=request.param == "mistral")
    return qwen_with_tokenizer(folder)


def qwen_with_tokenizer(folder):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from runplan.trainers.chat import QWEN2_5

    made = make_tiny_qwen(folder)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    special = [token["content"] for token in json.loads((folder / "tokenizer.json").read_text())["added_tokens"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    assert tokenizer.token_to_id("<|im_end|>") == 258
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=HELPFUL + QWEN2_5
    ).save_pretrained(folder)
    return made


BOTH = ["torchtune", pytest.param("trl", marks=pytest.mark.trl)]


def trained(run, folder, monkeypatch):
    """Token ids of the first training row, made by the trainer from the written files."""
    if run.config.trainer.name == "trl":
        return trained_by_trl(run, folder, monkeypatch)[0]["input_ids"]
    import sys

    from omegaconf import OmegaConf
    from torchtune import config

    write(run, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop("run_prompt", None)
    cfg = OmegaConf.load("finetune.yaml")
    return config.instantiate(cfg.dataset, config.instantiate(cfg.tokenizer))[0]["tokens"]


@pytest.mark.parametrize("trainer", BOTH)
@pytest.mark.parametrize("kind", ["instruct", "chat"])
@pytest.mark.parametrize("case", CASES)
def test_the_prompt_is_the_one_that_was_trained(case, kind, trainer, model, dataset, tmp_path, monkeypatch):
    run = planned(model, dataset, trainer=trainer, model="hf", dataset__type=kind, max_seq_len=1024, **CASES[case])
    tokens = trained(run, tmp_path / "run", monkeypatch)
    prompt, tokenizer = sent(run)
    assert prompt == tokens[: len(prompt)]
    stop = facts_of(run)["stop_token"]
    answer = tokenizer.decode(tokens[len(prompt) :], skip_special_tokens=False)
    assert answer.startswith(row("train", 0)["output"] + stop)
    assert answer.removeprefix(row("train", 0)["output"] + stop) in {"", "<|end_of_text|>"}


@pytest.mark.trl
@pytest.mark.parametrize("settings", [{}, {"dataset__type": "chat"}, WITH_TEXT, {"dataset__train_on_input": True}])
def test_trl_learns_answers_and_their_end_and_rows_are_as_long_as_planned(
    settings, model, dataset, tmp_path, monkeypatch
):
    settings = settings | CASES["both"]
    run = planned(model, dataset, trainer="trl", model="hf", max_seq_len=1024, **settings)
    rows = trained_by_trl(run, tmp_path / "run", monkeypatch)
    tokenizer = sent(run)[1]
    learnt = tokenizer.decode([label for label in rows[0]["labels"] if label != -100], skip_special_tokens=False)
    whole = tokenizer.decode(rows[0]["input_ids"], skip_special_tokens=False)
    masked = "train_on_input" not in str(settings) and settings.get("dataset__type") != "text"
    assert learnt == (row("train", 0)["output"] + facts_of(run)["stop_token"] if masked else whole)
    kind = settings.get("dataset__type", "instruct")
    key = LengthKey("", "", kind, "train", run.config.system_prompt, run.config.prompt, trainer="trl")
    texts = [row_texts(row("train", i), run.config.dataset) for i in range(9)]
    family = model.architecture.family
    lengths = measure(texts, key, family, counter(replace(model, tokenizer="tokenizer.json"), "trl"))
    assert lengths.counts == tuple(sorted(Counter(len(each["input_ids"]) for each in rows).items()))


@pytest.mark.parametrize("trainer", BOTH)
def test_text_is_continued_as_it_was_trained(trainer, model, dataset, tmp_path, monkeypatch):
    from inspect_ai.model import ChatMessageUser

    run = planned(model, dataset, trainer=trainer, model="hf", **WITH_TEXT)
    tokens = trained(run, tmp_path / "run", monkeypatch)
    text = row("train", 0)["text"]
    prompt, tokenizer = sent(run, [ChatMessageUser(content=text[:4])])
    assert prompt == tokens[: len(prompt)]
    assert tokenizer.decode(tokens[len(prompt) :], skip_special_tokens=False) == text[4:] + facts_of(run)["stop_token"]


def test_the_models_own_template_is_there_for_those_who_want_it(model, dataset, tmp_path, monkeypatch):
    """And differs from what was trained, or this file would show nothing."""
    run = planned(model, dataset, model="hf")
    evaluation = replace(run.config.evaluation, prompts=Prompts.model)
    own = replace(run, config=replace(run.config, evaluation=evaluation))
    assert facts_of(own)["chat_template"] is facts_of(own)["stop_token"] is None
    tokens = trained(run, tmp_path / "run", monkeypatch)
    prompt, _ = sent(own)
    assert prompt != tokens[: len(prompt)]


@pytest.mark.parametrize(("answer", "mark"), [("Hello", "C"), ("hello", "I"), ("HELLO", "I"), ("Hello there", "I")])
def test_the_shipped_task_sees_case_and_nothing_but_the_answer(answer, mark, dataset):
    """Inspect's default ignores case, and every base model would score 1."""
    import asyncio

    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import Target
    from inspect_ai.solver import TaskState

    (scorer,) = task_of({"args": {"data_path": dataset.path}}).scorer
    state = TaskState("m", "1", 1, "hello", [], output=ModelOutput.from_content("m", answer))
    assert asyncio.run(scorer(state, Target("Hello"))).value == mark
