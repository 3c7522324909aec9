import hashlib
import json
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runplan import capitalization
from runplan.config import Dataset, DatasetType
from runplan.errors import ConfigError, StoreError


def a_dataset(**changes):
    values = {"word_length": 8, "n_words": 100, "train_fraction": 0.8, "seed": 14} | changes
    return Dataset(name="capitalization", type=DatasetType.instruct, **values)


def rows_of(text):
    return {split: [tuple(row.values()) for row in rows] for split, rows in json.loads(text).items()}


def test_the_file_is_the_same_bytes_everywhere():
    text = capitalization.json_text(a_dataset(n_words=20))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "4b4ffd44e459546a"


def test_only_the_three_splits_stand_in_the_file_since_trainers_read_top_level_keys():
    assert list(json.loads(capitalization.json_text(a_dataset()))) == ["train", "validation", "test"]


def test_names_of_splits_and_columns_follow_the_configuration():
    dataset = a_dataset(train_split="tr", validation_split="va", test_split="te", input_column="q", output_column="a")
    document = json.loads(capitalization.json_text(dataset))
    assert list(document) == ["tr", "va", "te"]
    assert set(document["tr"][0]) == {"q", "a"}


@settings(max_examples=30)
@given(length=st.integers(3, 10), number=st.integers(10, 300), percent=st.integers(10, 80), seed=st.integers(0, 2**31))
def test_splits_are_disjoint_and_add_up(length, number, percent, seed):
    dataset = a_dataset(word_length=length, n_words=number, train_fraction=percent / 100, seed=seed)
    splits = rows_of(capitalization.json_text(dataset))
    every = [row for rows in splits.values() for row in rows]
    assert len(every) == len(set(every)) == number
    assert len(splits["train"]) == round(number * percent / 100)
    assert 0 <= len(splits["validation"]) - len(splits["test"]) <= 1
    for word, answer in every:
        assert len(word) == length
        assert word == word.lower()
        assert answer == word.capitalize()


def test_another_seed_makes_other_words():
    assert capitalization.json_text(a_dataset(seed=1)) != capitalization.json_text(a_dataset(seed=2))


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_every_word_that_can_be_made_is_made(length):
    number = capitalization.word_capacity(length)
    assert len(set(capitalization.generated_words(length, number, seed=1))) == number


def test_too_many_words_of_that_length_name_both_numbers():
    with pytest.raises(ConfigError, match=r"10000 words of 2 letters.*only 200"):
        capitalization.json_text(a_dataset(word_length=2, n_words=10000))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"word_length": 0}, "word_length is 0"),
        ({"word_length": -3}, "word_length is -3"),
        ({"word_length": None}, "needs dataset.word_length"),
        ({"n_words": None}, "needs dataset.n_words"),
        ({"train_fraction": 1.0}, "between 0 and 1"),
        ({"train_fraction": 0.0}, "between 0 and 1"),
        ({"n_words": 2}, "2 words with train_fraction 0.8 leave 2 training, 0 validation and 0 test"),
        ({"n_words": 0}, "0 words"),
        ({"n_words": -5}, "-5 words"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        capitalization.json_text(a_dataset(**changes))


def test_a_word_list_is_filtered_by_length_and_drawn_from_at_random():
    listed = [f"{a}{b}cat\n" for a in "abcdefghij" for b in "klmnopqrst"] + ["Short", "it's-no-word", "", "x1234"]
    splits = rows_of(capitalization.json_text(a_dataset(word_length=5, n_words=50), listed))
    drawn = {word for rows in splits.values() for word, _ in rows}
    assert len(drawn) == 50
    assert drawn <= {line.strip().lower() for line in listed}
    assert "x1234" not in drawn


def test_the_order_of_the_word_list_does_not_matter():
    listed = [f"{a}{b}c" for a in "abcdefgh" for b in "abcdefgh"]
    dataset = a_dataset(word_length=3, n_words=20)
    shuffled = random.Random(1).sample(listed, len(listed))
    assert capitalization.json_text(dataset, listed) == capitalization.json_text(dataset, shuffled)


def test_a_word_list_that_is_too_short_names_both_numbers():
    with pytest.raises(ConfigError, match=r"2 words of 5 letters, 100 were asked for"):
        capitalization.json_text(a_dataset(word_length=5), ["apple", "grape", "fig"])


def test_a_word_list_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.txt cannot be read"):
        capitalization.create(tmp_path / "x.json", a_dataset(), tmp_path / "nowhere.txt")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_never_written_over(tmp_path):
    path = tmp_path / "words.json"
    path.write_text("mine")
    with pytest.raises(StoreError, match="there already"):
        capitalization.create(path, a_dataset())
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_two_that_make_the_same_file_at_once_leave_one_whole_file(tmp_path):
    path, results = tmp_path / "a b" / "words.json", []

    def make():
        try:
            capitalization.create(path, a_dataset())
            results.append("made")
        except StoreError:
            results.append("refused")

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("made") == 1
    assert path.read_text() == capitalization.json_text(a_dataset())
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        capitalization.create(tmp_path / "file" / "words.json", a_dataset())


def test_a_write_that_fails_leaves_nothing(tmp_path):
    def parts():
        yield b"{"
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left"):
        capitalization.write_new(tmp_path / "words.json", parts())
    assert not [*tmp_path.iterdir()]
