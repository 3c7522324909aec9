import json

import pytest

from runplan import tiny
from runplan.config import Model
from runplan.facts import Architecture, LengthKey, ModelFacts, Status
from runplan.read import lengths
from runplan.read.model import read_model

WORDS = [("hello", "Hello"), (" padded ", " Padded\n"), ("naïve 漢字", "Naïve <|eot_id|>"), ("", "")]
CHATS = [
    (("user", "hi"), ("assistant", "Hello!"), ("user", "more "), ("assistant", " yes")),
    (("system", "old rules"), ("user", "hi"), ("assistant", "x")),
    (("user", "no answer yet"),),
]


def a_key(**changes):
    values = {"dataset": "d", "model": "m", "type": "instruct", "split": "train"} | changes
    return LengthKey(**values)


def flat(chat):
    return tuple(text for message in chat for text in message)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "llama"
    tiny.create(folder)
    return read_model(folder, Model(name="tiny", family="auto"))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "qwen"
    folder.mkdir()
    vocab = tiny._byte_characters() | {"he": 256, "ll": 257, "hell": 258, "hello": 259}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\nh e\nl l\nhe ll\nhell o\n")
    shape = Architecture("qwen2_5", 64, 2, 4, 2, 16, 256, 151936, 32768)
    return ModelFacts(str(folder), Status.ok, shape, vocab_json=True)


def measured(model, rows, key):
    return lengths.measure(rows, key, model.architecture.family, lengths.counter(model))


def test_a_row_of_llama_3_counts_headers_and_ends(llama):
    # begin; header(user), hello, end of turn; header(assistant), Hello, end of turn; end. Bytes are tokens here.
    expected = 1 + (2 + 4 + 2 + 5 + 1) + (2 + 9 + 2 + 5 + 1) + 1
    assert measured(llama, [WORDS[0]], a_key()).counts == ((expected, 1),)


def test_the_histogram_is_exact(llama):
    counts = measured(llama, [("a", "b"), ("aa", "b"), ("a", "bb"), ("a", "b")], a_key()).counts
    assert [rows for _, rows in counts] == [2, 2]
    assert counts[1][0] - counts[0][0] == 1


def test_a_system_prompt_and_a_prompt_are_counted(llama):
    plain = measured(llama, [WORDS[0]], a_key()).longest
    assert measured(llama, [WORDS[0]], a_key(prompt="Word: {input}!")).longest == plain + len("Word: !")
    assert measured(llama, [WORDS[0]], a_key(system_prompt="Be brief")).longest == plain + 2 + 6 + 2 + 8 + 1


def test_without_files_nothing_counts(tmp_path):
    assert lengths.counter(ModelFacts(str(tmp_path), Status.missing)) is None
    (tmp_path / "tokenizer.json").write_text("{}")
    assert lengths.counter(ModelFacts(str(tmp_path), Status.invalid, tokenizer="tokenizer.json")) is None


def test_a_guess_is_marked_and_grows_with_the_text():
    short, long = lengths.guess([("a", "b")], a_key()), lengths.guess([("a" * 400, "b" * 400)], a_key())
    assert not short.measured
    assert long.longest - short.longest == 200 - 1
    assert lengths.guess([("a" * 400,)], a_key(type="text")).longest == 102
    assert lengths.guess([], a_key()).rows == 0
    assert lengths.guess([("a", "b")], a_key(), "qwen3").longest == short.longest + 4


def test_lengths_survive_the_cache(llama):
    found = measured(llama, WORDS, a_key())
    assert lengths.from_json(json.loads(json.dumps(lengths.as_json(found)))) == found


def _torchtune_lengths(tokenizer, key, rows, tmp_path):
    """What torchtune's own datasets make of the same rows."""
    from torchtune.datasets import chat_dataset, instruct_dataset, text_completion_dataset

    columns = {"instruct": ("input", "output"), "text": ("text",)}
    data = [
        dict(zip(columns[key.type], row, strict=True))
        if key.type in columns
        else {"messages": [{"role": role, "content": content} for role, content in row]}
        for row in rows
    ]
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"train": data}))
    options = {"source": "json", "data_files": str(path), "field": "train", "split": "train"}
    options["cache_dir"] = str(tmp_path / "cache")
    if key.type == "text":
        dataset = text_completion_dataset(tokenizer, column="text", **options)
    elif key.type == "chat":
        dataset = chat_dataset(
            tokenizer,
            conversation_column="messages",
            conversation_style="openai",
            new_system_prompt=key.system_prompt or None,
            **options,
        )
    else:
        dataset = instruct_dataset(tokenizer, new_system_prompt=key.system_prompt or None, **options)
    return [len(dataset[i]["tokens"]) for i in range(len(dataset))]


def _template(prompt):
    """The prompt around the input as one text, which is how finetune.yaml has it."""
    from torchtune.data import Message

    before, _, after = prompt.partition("{input}")

    def apply(messages, inference=False):
        return [
            Message(role="user", content=before + message.text_content + after, masked=message.masked, eot=message.eot)
            if message.role == "user"
            else message
            for message in messages
        ]

    return apply


CASES = [
    (a_key(), WORDS),
    (a_key(system_prompt=" Be brief. "), WORDS),
    (a_key(prompt="Word: {input}\n"), WORDS),
    (a_key(type="text"), [(text,) for pair in WORDS for text in pair]),
    (a_key(type="chat"), CHATS[:2]),
    (a_key(type="chat", system_prompt="new rules", prompt="Say {input}!"), CHATS[:2]),
]


@pytest.mark.trainer
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("key", "rows"), CASES)
def test_llama_rows_have_torchtunes_number_of_tokens(llama, key, rows, tmp_path):
    from torchtune.models.llama3 import llama3_tokenizer

    tokenizer = llama3_tokenizer(
        path=f"{llama.path}/original/tokenizer.model", special_tokens_path=f"{llama.path}/tokenizer.json"
    )
    tokenizer.prompt_template = _template(key.prompt)
    _compare(llama, tokenizer, key, rows, tmp_path)


@pytest.mark.trainer
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("key", "rows"), CASES)
def test_qwen_rows_have_torchtunes_number_of_tokens(qwen, key, rows, tmp_path):
    from torchtune.models.qwen2_5 import qwen2_5_tokenizer

    tokenizer = qwen2_5_tokenizer(path=f"{qwen.path}/vocab.json", merges_file=f"{qwen.path}/merges.txt")
    tokenizer.prompt_template = _template(key.prompt)
    _compare(qwen, tokenizer, key, rows, tmp_path)


def _compare(model, tokenizer, key, rows, tmp_path):
    ours = [measured(model, [flat(row) if key.type == "chat" else row], key).longest for row in rows]
    assert ours == _torchtune_lengths(tokenizer, key, rows, tmp_path)


@pytest.mark.trainer
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("lines", [False, True])
def test_torchtune_reads_a_list_or_json_lines_without_a_field(llama, lines, tmp_path):
    from torchtune.datasets import instruct_dataset
    from torchtune.models.llama3 import llama3_tokenizer

    rows = [{"input": prompt, "output": answer} for prompt, answer in WORDS]
    path = tmp_path / "list.json"
    path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows))
    tokenizer = llama3_tokenizer(
        path=f"{llama.path}/original/tokenizer.model", special_tokens_path=f"{llama.path}/tokenizer.json"
    )
    dataset = instruct_dataset(
        tokenizer, source="json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(dataset) == len(WORDS)
