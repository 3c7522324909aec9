"""The simulated allocator of benchmarks/allocator: its laws, and its truth against a GPU that was measured."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_allocator import caching, grid, hugging_face, ledger, programs, recipe

DATA = Path(__file__).parent / "data"
MIB = 2**20
REQUESTS = st.lists(st.tuples(st.integers(1, 64 * MIB), st.booleans(), st.integers(0, 99)), min_size=1, max_size=80)


def served(requests, capacity=None):
    """An allocator after requests: of each a size, whether to free something first, and what."""
    allocator = caching.Allocator(capacity)
    held = []
    for size, free, which in requests:
        if free and held:
            allocator.free(held.pop(which % len(held)))
        held.append(allocator.allocate(size))
    return allocator, held


@given(REQUESTS)
def test_what_is_reserved_holds_what_is_allocated_in_whole_segments(requests):
    allocator, held = served(requests)
    assert sum(block.size for block in held) == allocator.allocated <= allocator.reserved
    assert allocator.reserved % caching.SMALL_SEGMENT == 0
    places = sorted((block.segment, block.place, block.place + block.size) for block in held)
    for (segment, _, end), (other, start, _) in itertools.pairwise(places):
        assert segment != other or end <= start


@given(REQUESTS)
def test_freed_blocks_become_whole_segments_that_can_be_given_back(requests):
    allocator, held = served(requests)
    for block in held:
        allocator.free(block)
    assert allocator.allocated == 0
    allocator.capacity = whole = max(allocator.reserved, caching.LARGE_SEGMENT)
    # No free block is so large unless there is but one segment: all segments go back first.
    allocator.allocate(whole)
    assert allocator.reserved == allocator.allocated == whole


@given(REQUESTS)
def test_the_same_requests_again_need_no_new_segment(requests):
    allocator, held = served([(size, False, 0) for size, _, _ in requests])
    for block in held:
        allocator.free(block)
    before = allocator.reserved
    for size, _, _ in sorted(requests, reverse=True):
        allocator.allocate(size)
    assert allocator.reserved <= before + sum(caching.LARGE_SEGMENT for _ in requests)
    assert allocator.peak_reserved == allocator.reserved


def test_a_gpu_that_is_too_small_is_out_of_memory_only_after_all_unused_is_given_back():
    allocator = caching.Allocator(60 * MIB)
    first = allocator.allocate(40 * MIB)
    with pytest.raises(caching.OutOfMemoryError):
        allocator.allocate(30 * MIB)
    allocator.free(first)
    allocator.allocate(50 * MIB)
    assert allocator.reserved == 50 * MIB


KEPT = sorted((DATA / "allocator_requests").glob("*.json.gz"))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name.split(".json")[0])
def test_measured_reserved_memory_of_a_gpu(path):
    name = path.name.removesuffix(".json.gz")
    run = next(run for run in hugging_face.RUNS if f"{run.model}_b{run.batch}_t{run.tokens}" == name)
    peaks = hugging_face.replay(hugging_face.kept(path))
    assert peaks.reserved / MIB == pytest.approx(run.reserved, rel=0.012)
    assert peaks.allocated / MIB == pytest.approx(run.allocated, rel=0.01)


def test_requests_are_there():
    assert len(KEPT) >= 5


@settings(max_examples=20)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=6))
def test_no_gpu_smaller_than_what_is_allocated_gets_through(tokens):
    step = (
        programs.Request("new", 0, 100.0, 50_000.0),
        programs.Request("new", 1, 0.0, 90_000.0),
        programs.Request("free", 0),
        programs.Request("new", 3, 0.0, 70_000.0),
        programs.Request("free", 1),
        programs.Request("free of last step", 3),
    )
    what = programs.Program((ledger.Event(1, 5 * MIB),), step)
    peaks = programs.replay(what, tokens)[-1]
    least = programs.least_capacity(what, tokens, peaks)
    assert peaks.allocated <= least <= peaks.reserved
    assert programs.replay(what, tokens, least)[-1].reserved <= least


@pytest.mark.trainer
@pytest.mark.filterwarnings("ignore")
def test_the_table_is_what_torchtune_s_steps_give():
    pytest.importorskip("torchtune")
    kept = next(row for row in grid.read(DATA / "allocator.csv") if row.model == "qwen2.5-0.5B" and row.longest == 2048)
    w = grid.workload("qwen2.5-0.5B", grid.SETTINGS[7][1], kept.checkpointing, kept.packed)
    what = programs.program(recipe.traced(w, 1, grid.PROBES), grid.PROBES)
    peaks = programs.replay(what, [2048] * grid.STEPS)[-1]
    assert peaks.allocated / 2**30 == pytest.approx(kept.allocated_gib, abs=1e-4)
    assert peaks.reserved / 2**30 == pytest.approx(kept.reserved_gib, abs=1e-4)
