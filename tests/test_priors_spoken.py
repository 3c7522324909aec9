"""No message is lost where the middle of redrawn lines is passed over."""

from hypothesis import given
from hypothesis import strategies as st

from runplan.priors.settings import last_attempt
from runplan.priors.spoken import spoken_spans, spoken_text

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
    assert last_attempt(data) == (last, spoken_spans(last))


def test_a_text_without_newlines_is_looked_at_whole():
    data = HEAD.replace(b"\n", b"\r") + b"\r1|7|Loss: 1.5" * 2000 + b"said\r" + b"x" * 9000
    assert spoken_spans(data) == [(0, len(data))]


def test_most_of_a_redrawn_log_is_passed_over():
    data = HEAD + b"\r1|7|Loss: 1.5:  16%|##" * 10_000 + b"Checkpoint saved in 2.00 seconds.\n"
    said = spoken_text(data, spoken_spans(data))
    assert len(said) < len(data) / 20
    assert said.endswith(b"Checkpoint saved in 2.00 seconds.\n")
