"""How long saving took, as a log tells it: in words, or by an epoch's bar alone."""

from runplan.priors.parse import parse_text
from runplan.priors.saving import drawn_seconds, seconds_at

OF_SIZE = "INFO:torchtune.utils.logging:Model checkpoint of size 4.98 GB saved to /o/hf_model_000{}_0.pt\n"
FULL = "\r{}|{}|Loss: 1.0: 100%|██| 50/50 [{}<00:00,  2.0it/s]"


def epoch(number, before, after, words):
    return FULL.format(number, number * 50, before) + words + FULL.format(number, number * 50, after) + "\n"


def marks(text, words=("heckpoint", "alidation")):
    places = [at for word in words for at in range(len(text)) if text.startswith(word, at)]
    return sorted(places)


def drawn(text):
    data = text.encode()
    return drawn_seconds(data, marks(data.decode("latin-1")))


def test_a_bar_drawn_full_before_and_after_tells_the_seconds_once():
    shards = "".join(OF_SIZE.format(n) for n in range(1, 5))
    text = epoch(1, "24:09", "25:20", shards) + epoch(2, "24:27", "25:38", shards)
    assert drawn(text) == (71.0, 71.0)
    assert parse_text(text.encode())["checkpoint_s"] == (71.0, 71.0)


def test_so_do_more_shards_than_stand_near_a_bar():
    assert drawn(epoch(1, "24:09", "25:20", "".join(OF_SIZE.format(n) for n in range(1, 40)))) == (71.0,)


def test_words_that_tell_them_count_alone():
    text = epoch(
        1, "24:09", "25:20", "\nModel checkpoint of size 1 GB saved to /o\nSaving checkpoint took 70.12 secs\n"
    )
    assert parse_text(text.encode())["checkpoint_s"] == (70.12,)


def test_validation_in_between_a_bar_that_is_not_full_and_no_saving_tell_nothing():
    assert drawn(epoch(1, "24:09", "25:20", OF_SIZE + "Running validation: 3it\n" + OF_SIZE)) == ()
    assert drawn(epoch(1, "24:09", "25:20", OF_SIZE).replace(" 50/50", " 25/50")) == ()
    assert drawn(epoch(1, "24:09", "25:20", "\nINFO: Activation Checkpointing is on, checkpoint soon\n")) == ()
    assert drawn(FULL.format(1, 50, "24:09") + OF_SIZE) == ()
    assert drawn(epoch(1, "24:09", "24:09", OF_SIZE)) == ()


def test_what_every_rank_tells_is_told_once():
    took = "[rank{}]:Saving checkpoint took 5.12 secs\n"
    ranks = "".join(took.format(rank) for rank in range(4))
    step = "1|1|Loss: 1.0: 100%|█| 1/1 [00:05<00:00]\n"
    for text, told in (
        (ranks, (5.12,)),
        (ranks + step + ranks, (5.12, 5.12)),
        (took + took.replace("5.12", "5.2"), (5.12, 5.2)),
    ):
        data = text.encode()
        assert seconds_at(data, marks(data.decode("latin-1"))) == told
