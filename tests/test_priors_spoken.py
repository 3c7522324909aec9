"""No message is lost where the middle of redrawn lines is passed over."""

from hypothesis import given
from hypothesis import strategies as st

from runplan.priors.progress import HF_PAUSES, TUNE_PAUSES
from runplan.priors.settings import last_attempt
from runplan.priors.spoken import Word, last_place, spoken_spans, spoken_text

HEAD = b"Running LoRAFinetuneRecipeSingleDevice with resolved config:\n\nbatch_size: 4\n\n"
PIECES = st.lists(
    st.one_of(
        st.builds(
            lambda n: (b"", b"\r1|7|Loss: 1.5:  16%|##   | 40/250 [00:19<01:44,  2.00it/s]" * n), st.integers(1, 900)
        ),
        st.builds(lambda n: (b"<said %d>" % n, b"<said %d>\n" % n), st.integers(0, 99)),
        st.builds(lambda n: (b"", b"\n1|7|Loss: 1.5:  16%|##   | 40/250" * n), st.integers(1, 300)),
    ),
    max_size=12,
)


@given(pieces=PIECES)
def test_every_message_is_in_the_spans(pieces):
    data = HEAD + b"".join(text for _, text in pieces)
    said = spoken_text(data, spoken_spans(data))
    assert all(said.count(word) == data.count(word) for word, _ in pieces if word)


@given(pieces=PIECES, before=PIECES)
def test_the_last_of_several_attempts_is_found(pieces, before):
    last = HEAD + b"".join(text for _, text in pieces)
    data = HEAD + b"".join(text for _, text in before) + b"\n" + last
    assert last_attempt(data) == (last, spoken_spans(last), len(data) - len(last))


@given(pieces=PIECES, after=PIECES)
def test_what_a_job_does_with_the_trained_model_is_another_matter(pieces, after):
    first = HEAD + b"".join(text for _, text in pieces) + b"\n"
    data = first + b"INFO:torchtune.utils._logging:Running EleutherEvalRecipe with resolved config:\n\ntasks:\n"
    assert last_attempt(data + b"".join(text for _, text in after)) == (first, spoken_spans(first), 0)


def test_a_text_without_newlines_is_looked_at_whole():
    data = HEAD.replace(b"\n", b"\r") + b"\r1|7|Loss: 1.5" * 2000 + b"said\r" + b"x" * 9000
    assert spoken_spans(data) == [(0, len(data))]


def test_most_of_a_redrawn_log_is_passed_over():
    data = HEAD + b"\r1|7|Loss: 1.5:  16%|##" * 10_000 + b"Checkpoint saved in 2.00 seconds.\n"
    said = spoken_text(data, spoken_spans(data))
    assert len(said) < len(data) / 20
    assert said.endswith(b"Checkpoint saved in 2.00 seconds.\n")


@given(
    text=st.lists(st.sampled_from([b"needle", b"eedle", b"e", b"d", b"d" * 50, b"n", b"\r1|2|Loss"]), max_size=30),
    rare=st.integers(0, 5),
    start=st.integers(0, 40),
    end=st.one_of(st.none(), st.integers(0, 200)),
)
def test_a_word_is_found_by_any_of_its_bytes_where_rfind_finds_it(text, rare, start, end):
    data = b"".join(text)
    bounds = (start,) if end is None else (start, end)
    assert last_place(data, Word(b"needle", rare), *bounds) == data.rfind(b"needle", *bounds)


def test_bars_and_numbers_have_no_byte_by_which_words_are_looked_for():
    bar = b"1|7|Loss: 1.5:  16%|##   | 40/250 [1:00:19<01:44,  2.00it/s] 3.20s/it ?it/s, 00:00\n\r"
    for word in (*TUNE_PAUSES, *HF_PAUSES):
        assert word.text[word.rare] not in bar, word
