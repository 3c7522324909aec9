import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runplan import capitalization
from runplan.config import Dataset, DatasetType
from runplan.facts import Status
from runplan.read import rows
from runplan.read.cache import Cache
from runplan.read.dataset import read_dataset
from runplan.turns import BadTurns


def a_dataset(**changes):
    values = {"name": "d", "type": DatasetType.instruct} | changes
    return Dataset(**values)


def instruct(*pairs):
    return [{"input": prompt, "output": answer} for prompt, answer in pairs]


def write(tmp_path, document):
    path = tmp_path / "data set.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def details(facts):
    return " | ".join(finding.detail for finding in facts.findings)


GOOD = {
    "train": instruct(("a", "A"), ("b", "B"), ("c", "C")),
    "validation": instruct(("d", "D")),
    "test": instruct(("e", "E")),
}


def test_the_capitalization_data_is_fine(tmp_path):
    dataset = a_dataset(word_length=8, n_words=1000, train_fraction=0.8, seed=14)
    path = tmp_path / "words.json"
    capitalization.create(path, dataset)
    facts = read_dataset(path, dataset)
    assert (facts.status, facts.findings, dict(facts.leaks)) == (Status.ok, (), {})
    assert {role: split.rows for role, split in facts.splits.items()} == {"train": 800, "validation": 100, "test": 100}
    assert facts.fields == {"train": "train", "validation": "validation", "test": "test"}
    assert facts.size_bytes == path.stat().st_size


def test_a_missing_file_carries_the_fix_it_was_given(tmp_path):
    facts = read_dataset(tmp_path / "x.json", a_dataset(), "dataset.create=true")
    assert (facts.status, facts.findings[0].fix) == (Status.missing, "dataset.create=true")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("", "is empty"),
        ("{", "is not JSON: line 1 column 2"),
        ('{"train": [\n  {"input": }\n]}', "is not JSON: line 2 column 13"),
        ("3", "holds a number"),
        ('"text"', "holds a text"),
        ("null", "holds null"),
        ("{}", "has no splits: its keys are none"),
        ('{"rows": []}', "has no splits: its keys are 'rows'"),
        ('{"train": {"a": 1}}', "'train' holds an object instead of a list of rows"),
        ('{"train": []}', "train has no rows"),
        ("[" * 200_000, "nested too deeply"),
        ('{"input": "a", "output": "b"}\n{"input": oops}\n', "is not JSON lines: line 2: column 11"),
        ("version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ],
)
def test_what_is_no_dataset_is_invalid_and_says_where(tmp_path, document, said):
    facts = read_dataset(write(tmp_path, document), a_dataset())
    assert facts.status is Status.invalid
    assert said in details(facts)


def test_a_split_without_rows_is_said_and_left_to_who_asks_for_it(tmp_path):
    facts = read_dataset(write(tmp_path, {**GOOD, "validation": []}), a_dataset())
    assert (facts.status, facts.rows("validation")) == (Status.ok, 0)
    assert "validation has no rows" in details(facts)


@pytest.mark.parametrize(
    ("name", "content", "fix"),
    [("x.csv", b"input,output\na,A\n", "x.csv dataset.create=true"), ("x.parquet", b"PAR1\xff\x00", "save it as CSV")],
)
def test_a_table_is_called_what_it_is(tmp_path, name, content, fix):
    (tmp_path / name).write_bytes(content)
    (finding,) = read_dataset(tmp_path / name, a_dataset()).findings
    assert finding.detail.lower().startswith(f"is a {name[2:]} file; it must be one json object")
    assert fix in finding.fix


def test_bytes_that_are_not_utf8_are_named_with_their_place(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'{"train": "\xff"}')
    assert "is not UTF-8 text: byte 0xff at 11" in details(read_dataset(path, a_dataset()))


def test_a_byte_order_mark_is_no_obstacle(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert read_dataset(path, a_dataset()).status is Status.ok


def test_a_folder_in_place_of_the_file(tmp_path):
    facts = read_dataset(tmp_path, a_dataset())
    assert (facts.status, facts.findings[0].detail) == (Status.invalid, "is a folder, not a file")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.json")
    assert "it is not a regular file" in details(read_dataset(tmp_path / "x.json", a_dataset()))


def test_a_file_that_may_not_be_read_is_said_not_raised(tmp_path, monkeypatch):
    path = write(tmp_path, GOOD)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "cannot be read: Permission denied" in details(read_dataset(path, a_dataset()))


def test_a_file_too_large_to_read_is_unchecked(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "LARGEST_BYTES", 10)
    facts = read_dataset(write(tmp_path, GOOD), a_dataset())
    assert facts.status is Status.unchecked
    assert "rows not counted" in details(facts)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_garbage_never_raises(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    assert read_dataset(tmp_path / "x.json", a_dataset()).status is not Status.missing


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["train", "test", "input", "output", "messages", "role", "content"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_JSON, st.sampled_from(DatasetType))
def test_any_json_never_raises(tmp_path, document, kind):
    read_dataset(write(tmp_path, document), a_dataset(type=kind))


def test_a_list_is_all_training_rows_and_says_so(tmp_path):
    facts = read_dataset(write(tmp_path, GOOD["train"]), a_dataset())
    assert facts.rows("train") == 3
    assert facts.fields == {}
    assert "one list without splits: all 3 rows are training rows" in details(facts)


def test_json_lines_are_a_list(tmp_path):
    facts = read_dataset(write(tmp_path, "\n".join(map(json.dumps, GOOD["train"])) + "\n\n"), a_dataset())
    assert (facts.status, facts.rows("train")) == (Status.ok, 3)


@pytest.mark.parametrize("name", ["valid", "val", "dev", "eval"])
def test_usual_names_of_the_validation_split_are_found_and_said(tmp_path, name):
    facts = read_dataset(write(tmp_path, {"train": GOOD["train"], name: GOOD["validation"]}), a_dataset())
    assert facts.fields["validation"] == name
    assert f"validation rows are under '{name}'" in details(facts)


def test_a_split_the_user_named_is_not_replaced_by_another(tmp_path):
    document = {"train": GOOD["train"], "val": GOOD["validation"]}
    facts = read_dataset(write(tmp_path, document), a_dataset(validation_split="held_out"))
    assert "validation" not in facts.splits


def test_duplicates_empty_rows_and_leaks_are_counted(tmp_path):
    document = {
        "train": instruct(("a", "A"), ("a", "A"), ("b", "B"), ("c", " ")),
        "validation": instruct(("a", "A"), ("b", "X"), ("d", "D")),
        "test": instruct(("d", "D"), ("d", "D"), ("", "E")),
    }
    facts = read_dataset(write(tmp_path, document), a_dataset())
    assert facts.status is Status.ok
    assert (facts.splits["train"].duplicates, facts.splits["train"].empty) == (1, 1)
    assert (facts.splits["test"].duplicates, facts.splits["test"].empty) == (1, 1)
    assert dict(facts.leaks) == {("train", "validation"): 1, ("validation", "test"): 2}
    assert "1 validation row is a train row, too" in details(facts)
    assert "2 validation rows have a train row's prompt" in details(facts)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "a", "answer": "A"}, "has no 'input'"),
        ({"input": "a"}, "has no 'output'"),
        ({"input": 3, "output": "A"}, "has a number instead of text in 'input'"),
        ({"input": "a", "output": None}, "has null instead of text in 'output'"),
        ("text", "is a text instead of an object"),
    ],
)
def test_rows_that_cannot_be_used_are_counted_and_the_first_is_named(tmp_path, row, said):
    facts = read_dataset(write(tmp_path, {"train": [*GOOD["train"], row, row]}), a_dataset())
    assert facts.status is Status.invalid
    assert f"2 of 5 train rows, first train row 3 (from 0), each {said}" in details(facts)
    assert facts.findings[0].fix == "mend such rows, or leave them out"
    facts = read_dataset(write(tmp_path, {"train": [*GOOD["train"], row]}), a_dataset())
    assert f"train row 3 (from 0) {said}" in details(facts)


def test_unknown_columns_are_listed_with_the_keys_that_name_them(tmp_path):
    path = write(tmp_path, {"train": [{"question": "a", "answer": "A"}] * 2})
    assert "its columns are 'question', 'answer'; name them with dataset.input_column" in (
        read_dataset(path, a_dataset()).findings[0].fix
    )
    assert read_dataset(path, a_dataset(input_column="question", output_column="answer")).status is Status.ok


def test_one_fault_of_several_splits_is_said_once_with_the_type_that_fits(tmp_path):
    row = {"messages": [{"role": "user", "content": "a"}]}
    (finding,) = read_dataset(write(tmp_path, {"train": [row] * 3, "test": [row] * 2}), a_dataset()).findings
    assert finding.detail.startswith("3 of 3 train rows, 2 of 2 test rows, first train row 0 (from 0), each has no")
    assert finding.fix.endswith("or dataset.type=chat fits them")


def test_chat_rows(tmp_path):
    chat = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "A"}]}]
    parts = [{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}]
    bad = [{"messages": [{"from": "human", "value": "a"}]}, {"messages": "x"}, {"conversations": []}]
    facts = read_dataset(write(tmp_path, {"train": chat + parts}), a_dataset(type=DatasetType.chat))
    assert (facts.status, facts.rows("train")) == (Status.ok, 2)
    facts = read_dataset(write(tmp_path, {"train": bad}), a_dataset(type=DatasetType.chat))
    assert facts.status is Status.invalid
    assert len(facts.findings) == 3


def test_conversations_that_torchtune_refuses_are_counted(tmp_path):
    def talk(*roles):
        return {"messages": [{"role": role, "content": "a"} for role in roles]}

    rows = [talk("user", "assistant"), talk("usr", "assistant"), "no row", talk("usr", "assistant"), talk("user")]
    chat = a_dataset(type=DatasetType.chat)
    facts = read_dataset(write(tmp_path, {"train": rows, "test": [talk("user", "user")]}), chat)
    assert facts.bad_turns == (
        BadTurns("train", 2, 1, "has 'assistant' after 'usr', must be after 'user'", False),  # noqa: FBT003 - a row
        BadTurns("train", 1, 4, "has 1 message", False),  # noqa: FBT003 - a row
        BadTurns("test", 1, 0, "has 'user' twice in a row", False),  # noqa: FBT003 - a row
    )


def test_text_rows(tmp_path):
    facts = read_dataset(write(tmp_path, {"train": [{"text": "abc"}]}), a_dataset(type=DatasetType.text))
    assert facts.status is Status.ok
    facts = read_dataset(write(tmp_path, {"train": [{"body": "abc"}]}), a_dataset(type=DatasetType.text))
    assert "has no 'text'" in details(facts)


def test_splits_of_very_different_length_are_noted(tmp_path):
    document = {"train": instruct(*[(f"{i:05}", "x" * 10) for i in range(30)])}
    document["test"] = instruct(*[(f"{i:05}", "y" * 100) for i in range(30)])
    assert "do not look like random parts of one file" in details(read_dataset(write(tmp_path, document), a_dataset()))


# --- remembered


def test_a_remembered_answer_equals_the_first_and_reads_nothing(tmp_path, monkeypatch):
    path, cache = write(tmp_path, GOOD), Cache(tmp_path / "cache")
    first = read_dataset(path, a_dataset(), cache=cache)
    monkeypatch.setattr(rows, "open_regular", lambda path: pytest.fail(f"{path} was read again"))
    assert read_dataset(path, a_dataset(), cache=cache) == first


def test_a_changed_file_is_read_again(tmp_path):
    path, cache = write(tmp_path, GOOD), Cache(tmp_path / "cache")
    assert read_dataset(path, a_dataset(), cache=cache).rows("train") == 3
    write(tmp_path, {"train": GOOD["train"][:2]})
    assert read_dataset(path, a_dataset(), cache=cache).rows("train") == 2


def test_other_columns_are_another_question(tmp_path):
    path, cache = write(tmp_path, GOOD), Cache(tmp_path / "cache")
    assert read_dataset(path, a_dataset(), cache=cache).status is Status.ok
    assert read_dataset(path, a_dataset(input_column="q"), cache=cache).status is Status.invalid


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b"\xff\xff", b'{"asked": "something else", "answer": 1}'])
def test_a_spoilt_answer_is_asked_for_again(tmp_path, garbage):
    path, cache = write(tmp_path, GOOD), Cache(tmp_path / "cache")
    first = read_dataset(path, a_dataset(), cache=cache)
    for kept in (tmp_path / "cache").iterdir():
        kept.write_bytes(garbage)
    assert read_dataset(path, a_dataset(), cache=cache) == first


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert read_dataset(write(tmp_path, GOOD), a_dataset(), cache=Cache(tmp_path / "cache")).status is Status.ok


def test_a_cache_that_may_not_write_leaves_no_file(tmp_path):
    read_dataset(write(tmp_path, GOOD), a_dataset(), cache=Cache(tmp_path / "cache", write=False))
    assert not (tmp_path / "cache").exists()
