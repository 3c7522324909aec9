import random
import statistics

import pytest

from runplan.estimate.speed.step import FLEX_BLOCK, packed_span

ROWS = {
    "alike": [200],
    "short": [20, 40, 90],
    "spread": [50, 100, 150, 200, 300, 500],
    "long": [900, 1100],
}


def computed(rows, pack, packs=40):
    """Tokens that flex attention computes for each of a pack: every block with a pair of the same row in it."""
    rng, found = random.Random(8), []
    for _ in range(packs):
        of_token = []
        while len(of_token) + (tokens := rng.choice(rows)) <= pack:
            of_token += [len(of_token)] * tokens
        of_token += [len(of_token)] * (pack - len(of_token))
        blocks = [of_token[start : start + FLEX_BLOCK] for start in range(0, pack, FLEX_BLOCK)]
        # A block's first token sees back the farthest; rows are numbered by where they begin.
        pairs = sum(before[-1] >= block[0] for n, block in enumerate(blocks) for before in blocks[: n + 1])
        found.append(pairs * FLEX_BLOCK**2 / pack)
    return statistics.fmean(found)


@pytest.mark.parametrize("pack", [2048, 4096])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_packed_rows_cost_the_blocks_that_flex_attention_computes(rows, pack):
    assert packed_span(pack, statistics.fmean(rows)) == pytest.approx(computed(rows, pack), rel=0.15)


def test_a_row_as_long_as_its_pack_begins_with_a_block():
    assert packed_span(2048, 2048) == computed([2048], 2048) == (2048 + FLEX_BLOCK) / 2


def test_nothing_known_of_the_rows_is_half_of_the_sequence():
    assert packed_span(2048, 0) == 512
