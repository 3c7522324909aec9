import math
import random

import pytest
from estimate_cases import ROWS
from hypothesis import given
from hypothesis import strategies as st

from runplan.estimate import steps
from runplan.facts import Lengths

histograms = st.dictionaries(st.integers(1, 512), st.integers(1, 300), min_size=1, max_size=20).map(
    lambda counts: Lengths(tuple(sorted(counts.items())))
)


def pack(lengths, limit):
    """torchtune's packing, written out: a row that does not fit closes the pack."""
    packs, fill = 0, 0
    for tokens in lengths:
        if fill + tokens > limit:
            packs, fill = packs + 1, 0
        fill += tokens
    return packs + (fill > 0)


@given(histograms, st.integers(512, 4096))
def test_packs_hold_all_tokens_and_are_no_more_than_rows(lengths, limit):
    packs = steps.packed_rows(lengths, limit)
    assert math.ceil(lengths.tokens / limit) <= packs <= lengths.rows


@pytest.mark.parametrize("limit", [1024, 2048, 8192])
def test_packs_of_many_rows_agree_with_packing_them_in_any_order(limit):
    rows = [tokens for tokens, n in ROWS.counts for _ in range(n)]
    random.Random(7).shuffle(rows)
    assert steps.packed_rows(ROWS, limit) == pytest.approx(pack(rows, limit), rel=0.01, abs=1)


def test_packs_of_equal_rows_are_exact():
    assert steps.packed_rows(Lengths(((500, 1001),)), 2048) == math.ceil(1001 / 4)
    assert steps.packed_rows(Lengths(()), 2048) == 0
    assert steps.packed_rows(Lengths(((3000, 10),)), 2048) == 10


@pytest.mark.parametrize(
    ("rows", "batch", "gpus", "accumulation", "limit", "batches", "per_epoch"),
    [
        (8000, 4, 1, 1, None, 2000, 2000),
        (8000, 16, 1, 1, None, 500, 500),
        (8003, 4, 1, 8, None, 2000, 250),
        (1003, 4, 1, 8, None, 250, 31),
        (1003, 4, 4, 1, None, 62, 62),
        (3, 4, 1, 1, None, 0, 0),
        (8000, 4, 1, 2, 10, 20, 10),
        (40, 4, 1, 2, 10, 10, 5),
    ],
)
def test_steps_as_torchtune_counts_them(rows, batch, gpus, accumulation, limit, batches, per_epoch):
    counted = steps.optimizer_steps(rows, batch, gpus, accumulation, limit)
    assert (counted.batches_per_epoch, counted.per_epoch) == (batches, per_epoch)
    assert counted.total(3) == 3 * per_epoch


@given(histograms, st.integers(1, 64))
def test_padded_length_grows_from_the_mean_to_the_longest(lengths, batch):
    assert steps.padded_length(lengths, 1) == pytest.approx(lengths.mean)
    assert steps.padded_length(lengths, batch) <= steps.padded_length(lengths, batch + 1) + 1e-9
    assert steps.padded_length(lengths, batch) <= lengths.longest + 1e-9


def test_padded_length_agrees_with_drawn_batches():
    rng = random.Random(3)
    rows = [tokens for tokens, n in ROWS.counts for _ in range(n)]
    drawn = sum(max(rng.choices(rows, k=8)) for _ in range(20000)) / 20000
    assert steps.padded_length(ROWS, 8) == pytest.approx(drawn, rel=0.02)


def test_packing_is_chosen_unless_too_few_steps_are_left():
    packed, why = steps.choose_packed(ROWS, 2048, 4, 1, 50)
    assert packed
    assert "packs of 2048 tokens" in why
    packed, why = steps.choose_packed(ROWS, 2048, 16, 1, 50)
    assert not packed
    assert "fewer than 50" in why
    assert steps.choose_packed(ROWS, 2048, 16, 4, 50)[0]
    assert [steps.validation_interval(n) for n in (0, 1, 10, 11, 18, 100)] == [1, 1, 1, 2, 2, 10]
    few = Lengths(((100, 300),))  # a GPU of 8 gets 38 of 300 rows: 19 batches of 2, where one GPU has 18 of 16
    assert steps.choose_packed(few, 2048, 16, 1, 50, gpus=8)[1].endswith("(unpacked: 19)")
    assert steps.choose_packed(Lengths(()), 2048, 16, 4, 50)[0] is False


@given(histograms, st.integers(1, 500))
def test_padded_lengths_of_a_few_batches_tell_those_of_all(lengths, batch):
    padded = steps.padded_lengths(lengths)
    assert list(padded) == sorted(padded)
    between = steps.padded_between(padded, batch)
    if batch in steps.PADDED_BATCHES:
        assert between == pytest.approx(steps.padded_length(lengths, batch), abs=0.06)
    elif batch < steps.PADDED_BATCHES[-1]:
        assert between == pytest.approx(steps.padded_length(lengths, batch), rel=0.05, abs=0.2)
    else:
        assert between == padded[-1]


def test_lengths_that_nobody_counted_are_not_noted():
    assert steps.padded_lengths(Lengths(())) == steps.padded_lengths(Lengths(((12, 3),), measured=False)) == ()


@given(histograms, st.integers(1, 8), st.integers(1, 5000))
def test_lengths_that_come_again_are_new_once_while_few_are_kept(lengths, batch, batches):
    part = steps.new_lengths(lengths, batch, batches)
    assert 0 < part <= 1 + 1e-9
    assert part >= steps.new_lengths(lengths, batch, 2 * batches) * (1 - 1e-4)  # solved by halving
    if len(lengths.counts) <= steps.KEPT_LENGTHS:
        assert part * batches <= len(lengths.counts) + 1e-6


@pytest.mark.parametrize("distinct", [5, 60, 300])
def test_new_lengths_are_those_of_a_cache_that_forgets_what_was_used_longest_ago(distinct):
    rng, kept, new, draws = random.Random(3), [], 0, 4000
    for _ in range(draws):
        length = rng.randrange(distinct)
        new += length not in kept
        kept = [length, *(other for other in kept if other != length)][: steps.KEPT_LENGTHS]
    assert steps.new_of_range(distinct, draws) == pytest.approx(new / draws, rel=0.1, abs=0.01)
