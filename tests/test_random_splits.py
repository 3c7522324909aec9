"""A file of rows becomes random splits: the same for the same rows and seed, and no row in two of them."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from contextlib import suppress
from functools import cache
from itertools import chain

import pytest
from factories import make_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runplan.config import DatasetType
from runplan.errors import ConfigError, StoreError
from runplan.random_splits import create, is_made, read_flat, splits_text

ROWS = [{"input": f"q{i}", "output": f"a{i}", "more": i} for i in range(100)]


@cache
def asked(**changes):
    changes = {"train_fraction": 0.8, "seed": 14} | changes
    return make_config(**{f"dataset__{key}": value for key, value in changes.items()}).dataset


def split(rows, **changes):
    numbered = ((f"row {i}", row) for i, row in enumerate(rows))
    return json.loads(b"".join(splits_text(numbered, asked(**changes), "x.json")))


def made(folder, name, content, **changes):
    source = folder / name
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    create(folder / "made.json", asked(**changes), source)
    return json.loads((folder / "made.json").read_text(encoding="utf-8"))


def refusal(folder, name, content, **changes):
    with pytest.raises(ConfigError) as caught:
        made(folder, name, content, **changes)
    (problem,) = caught.value.problems
    assert problem.where == "dataset.source"
    return f"{problem.what} -> {problem.fix}"


def as_csv(rows, separator=","):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def everything(parts):
    return list(chain.from_iterable(parts.values()))


def texts(rows):
    return Counter((row["input"], row["output"]) for row in rows)


class TestSplits:
    def test_are_random_parts_with_all_columns(self):
        parts = split(ROWS)
        assert {name: len(rows) for name, rows in parts.items()} == {"train": 80, "validation": 10, "test": 10}
        assert sorted(everything(parts), key=lambda row: row["more"]) == ROWS
        assert parts["train"] != ROWS[:80]

    def test_depend_on_seed_and_fraction_alone(self):
        assert split(ROWS) == split(ROWS)
        assert split(ROWS, seed=15) != split(ROWS)
        assert split(ROWS)["train"][0]["input"] == "q71"  # the same with every version of Python
        assert len(split(ROWS, train_fraction=0.5)["test"]) == 25

    def test_have_the_names_that_are_asked_for(self):
        assert list(split(ROWS, train_split="a b", test_split="c")) == ["a b", "validation", "c"]

    @settings(max_examples=50)
    @given(st.lists(st.integers(0, 12), min_size=60, max_size=120), st.integers(0, 5))
    def test_hold_every_row_once_and_none_in_two(self, numbers, seed):
        numbers = [*numbers, *range(13)]
        parts = split([ROWS[i] for i in numbers], seed=seed, train_fraction=0.6)
        counts = [texts(rows) for rows in parts.values()]
        assert sum(counts, Counter()) == texts(ROWS[i] for i in numbers)
        assert not counts[0].keys() & counts[1].keys()
        assert not (counts[0] + counts[1]).keys() & counts[2].keys()

    def test_any_text_comes_back(self):
        rows = [{"input": text, "output": "é\u2028\"'"} for text in ("\ud800", "a\nb", "ü", "\\", "0", "1", "", " ")]
        assert texts(everything(split(rows, train_fraction=0.5))) == texts(rows)

    def test_chat_and_text_rows_are_split_alike(self):
        chats = [{"messages": [{"role": "user", "content": str(i)}]} for i in range(20)]
        assert len(split(chats, type=DatasetType.chat)["train"]) == 16
        assert len(split([{"text": str(i)} for i in range(20)], type=DatasetType.text)["train"]) == 16


class TestSources:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.jsonl", "\n".join(map(json.dumps, ROWS)) + "\n\n"),
            ("a.json", "\n".join(map(json.dumps, ROWS))),
            ("a.json", json.dumps(ROWS)),
            ("a.json", json.dumps({"data": ROWS, "version": 1})),
        ],
    )
    def test_json_of_every_form(self, tmp_path, name, content):
        assert made(tmp_path, name, content) == split(ROWS)

    @pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t"), ("a.csv", "\t")])
    def test_tables(self, tmp_path, name, separator):
        rows = [row | {"input": f'{row["input"]}, "q";\n\tx', "more": str(row["more"])} for row in ROWS]
        assert made(tmp_path, name, as_csv(rows, separator).encode("utf-8-sig")) == split(rows)

    def test_a_long_cell(self, tmp_path):
        rows = [{"input": "x" * 200_000 + str(i), "output": "y"} for i in range(10)]
        assert sum(map(len, made(tmp_path, "a.csv", as_csv(rows)).values())) == 10

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("a.csv", "input,output\na,b,c\n", "line 2 has 3 cells, the first line names 2"),
            ("a.csv", "input,input\na,b\n", "names a column twice: input, input"),
            ("a.csv", 'input,output\n"a"b,c\n', "line 2: "),
            ("a.csv", "q,a\n1,2\n", "line 2 of a.csv has no 'input' -> its columns are 'q', 'a'"),
            ("a.csv", b"input,output\n\xff,b\n", "not UTF-8 text: byte 0xff"),
            ("a.csv", "", "0 distinct rows of a.csv"),
            ("a.jsonl", '{"input": "a", "output": "b"}\n{', "line 2: "),
            ("a.jsonl", '{"input": "a", "output": "b"}\n7\n8\n', "line 2 of a.jsonl is a number"),
            ("a.json", '{"train": [], "test": []}', "holds 2 lists of rows: 'train', 'test'"),
            ("a.json", "7", "holds no list of rows"),
            ("a.json", "{", "is not JSON"),
            ("a.json", json.dumps(ROWS[:3]), "3 distinct rows of a.json with train_fraction 0.8 leave 2 training"),
            ("a.json", json.dumps(ROWS[:1] * 30), "1 distinct rows"),
            ("a.parquet", b"PAR1", "is a Parquet file -> save it as CSV or JSON lines"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_split_is_refused_and_nothing_written(self, tmp_path, name, content, said):
        assert said in refusal(tmp_path, name, content)
        assert [path.name for path in tmp_path.iterdir()] == [name]

    def test_what_is_no_file_is_refused(self, tmp_path):
        (tmp_path / "folder.json").mkdir()
        for name in ("nowhere.csv", "folder.json"):
            with pytest.raises(ConfigError):
                list(read_flat(tmp_path / name, asked()))

    @settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.binary(max_size=60) | st.text(st.sampled_from('a,;"\n\r\x00{}[]:1'), max_size=40).map(str.encode))
    def test_any_bytes_are_split_or_refused(self, tmp_path, content):
        for kind in ("csv", "tsv", "jsonl", "json"):
            source = tmp_path / f"x.{kind}"
            source.write_bytes(content)
            with suppress(ConfigError):
                json.loads(b"".join(splits_text(read_flat(source, asked()), asked(), source.name)))


class TestTheFile:
    def test_nothing_is_written_over(self, tmp_path):
        made(tmp_path, "a.json", json.dumps(ROWS))
        with pytest.raises(StoreError, match="there already"):
            made(tmp_path, "a.json", json.dumps(ROWS))
        with pytest.raises(ConfigError, match="its own random parts"):
            create(tmp_path / "a.json", asked(), tmp_path / "a.json")

    def test_it_is_known_again_until_rows_or_settings_change(self, tmp_path):
        made(tmp_path, "a.json", json.dumps(ROWS))
        assert is_made(tmp_path / "made.json", asked(), tmp_path / "a.json")
        assert not is_made(tmp_path / "made.json", asked(seed=1), tmp_path / "a.json")
        (tmp_path / "a.json").write_text(json.dumps(ROWS[1:]))
        assert not is_made(tmp_path / "made.json", asked(), tmp_path / "a.json")

    def test_a_fraction_is_needed(self):
        with pytest.raises(ConfigError, match=r"dataset\.train_fraction"):
            split(ROWS, train_fraction=None)
