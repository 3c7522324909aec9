"""Mistral's rows are the same to torchtune, to TRL, to evaluation, and to whoever counts their tokens."""

from __future__ import annotations

import runpy
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trained_runs import make_tiny_mistral

from runplan.config import DatasetType
from runplan.facts import LengthKey
from runplan.paths import RECIPES_DIR
from runplan.read.lengths import counter, measure, whole_text
from runplan.trainers.chat import chat_format, training_template

pytestmark = [pytest.mark.trainer, pytest.mark.evaluation, pytest.mark.filterwarnings("ignore")]

TEXTS = st.text(st.sampled_from("ab ABé\n\t{}'字")) | st.sampled_from(["[INST] x [/INST]", "</s>", "a<s>b", " x ", ""])
TURNS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3)


@pytest.fixture(scope="module", params=[True, False], ids=["v0.3", "v0.1"])
def tokenizers(request, tmp_path_factory):
    """The model, torchtune's tokenizer of it and transformers'."""
    from transformers import AutoTokenizer

    model = make_tiny_mistral(tmp_path_factory.mktemp("models") / "mistral", instructions=request.param)
    ours = runpy.run_path(str(RECIPES_DIR / "mistral_tokenizer.py"))["MistralTokenizer"]
    return model, ours, AutoTokenizer.from_pretrained(model.path)


def conversation(system, turns):
    said = [("system", system)] if system else []
    return [*said, *((role, text) for pair in turns for role, text in zip(("user", "assistant"), pair, strict=True))]


@settings(max_examples=60, deadline=None)
@given(system=TEXTS, turns=TURNS, learnt=st.booleans())
def test_tokens_and_what_is_learnt_are_the_templates(tokenizers, system, turns, learnt):
    from torchtune.data import Message

    model, ours, theirs = tokenizers
    said = conversation(system, turns)
    messages = [{"role": role, "content": text} for role, text in said]
    template = training_template("mistral", DatasetType.chat)
    wanted = theirs.apply_chat_template(
        messages, chat_template=template, return_dict=True, return_assistant_tokens_mask=True
    )
    given_ = [Message(role=role, content=text, masked=learnt and role != "assistant") for role, text in said]
    tokens, mask = ours(f"{model.path}/{model.tokenizer}").tokenize_messages(given_)
    assert tokens == wanted["input_ids"]
    if learnt:
        assert [not left for left in mask] == [bool(marked) for marked in wanted["assistant_masks"]]
    else:
        assert not any(mask)
    key = LengthKey("", "", "chat", "train")
    row = [part for role, text in said for part in (role, text)]
    assert measure([row], key, "mistral", counter(model)).counts == ((len(tokens), 1),)
    asked = theirs.apply_chat_template(messages, chat_template=chat_format("mistral", DatasetType.chat).template)
    assert asked["input_ids"] == tokens
    assert whole_text(row, key, "mistral") == theirs.apply_chat_template(
        messages, chat_template=template, tokenize=False
    )


@given(text=TEXTS)
def test_plain_text_begins_and_ends_as_trl_writes_it(tokenizers, text):
    model, ours, theirs = tokenizers
    template = training_template("mistral", DatasetType.text)
    wanted = theirs.apply_chat_template([{"role": "user", "content": text}], chat_template=template)["input_ids"]
    made = ours(f"{model.path}/{model.tokenizer}")
    assert made.encode(text) == wanted
    assert made.encode(text, add_eos=False) == wanted[:-1]
    assert made.decode(wanted) == theirs.decode(wanted, skip_special_tokens=True)


def test_rows_are_cut_and_end_with_the_end(tokenizers):
    from torchtune.data import Message

    model, ours, _ = tokenizers
    messages = [Message(role="user", content="a b c", masked=True), Message(role="assistant", content="A B C D E F")]
    rows = [ours(f"{model.path}/tokenizer.json", cut).tokenize_messages(messages) for cut in (None, 400, 14, 13)]
    (whole, mask), *_ = rows
    assert rows[1] == rows[0]
    assert [len(tokens) for tokens, _ in rows] == [len(mask) for _, mask in rows]
    assert [len(tokens) for tokens, _ in rows[2:]] == [14, 13]
    for (longer, _), (tokens, left) in pairwise(rows[1:]):
        assert (tokens[:-1], tokens[-1]) == (longer[: len(tokens) - 1], whole[-1])
        assert left[-1] is False
    sample = ours(f"{model.path}/tokenizer.json")({"messages": messages, "kept": 1})
    assert sample == {"tokens": whole, "mask": mask, "kept": 1}


def test_a_tokenizer_without_begin_and_end_is_refused(tokenizers, tmp_path):
    model, ours, _ = tokenizers
    text = (tmp_path.parent / model.path / "tokenizer.json").read_text().replace('"</s>"', '"<end>"')
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ValueError, match="has no token <s> or </s>"):
        ours(str(tmp_path / "tokenizer.json"))
