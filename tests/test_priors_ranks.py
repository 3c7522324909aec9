"""How many processes trained."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.priors.parse import parse_text
from runplan.priors.ranks import failed_processes, process_count

OMP = b"Setting OMP_NUM_THREADS environment variable for each process to be 1 in default\n"


def rank_line(rank, device=0, *, distributed=True, gpus=1):
    return f"Process rank: {rank}, device: cuda:{device}, n_gpu: {gpus}, distributed training: {distributed}\n".encode()


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (b"Num processes: 8\nProcess index: 0\n", 8),
        (b"\t`--num_processes` was set to a value of `4`\n", 4),
        (b"[INFO] [config.py:1003:print]   world_size ................... 6\n", 6),
        (b'{"wandb_mode": null, "world_size": 2}\n', 2),
        (b"num_workers = 1, worker_id = 0, rank = 0, world_size=1\n", None),
        (rank_line(-1, distributed=False), 1),
        (rank_line(-1, distributed=False, gpus=4), 4),
        (rank_line(0) + rank_line(1, 1), 2),
        (rank_line(0), None),  # others may not print theirs
        (rank_line(0) + rank_line(0) + rank_line(1), None),  # two nodes, or two attempts
        (rank_line(0) + rank_line(2), None),
        (b"", None),
    ],
)
def test_launchers_and_trainers_say_how_many(text, count):
    assert process_count(text) == count


@given(st.integers(2, 16), st.integers(0, 3))
def test_ranks_that_load_together_are_counted(ranks, more):
    bars = b"".join(b"Loading checkpoint shards:   0%|   | 0/2 [00:00<?, ?it/s]\r\n" for _ in range(ranks))
    said = b"".join(b"2026-01-06 11:41:3%d,418 - Loading tokenizer: a/b\n" % (i % 10) for i in range(ranks))
    assert process_count(OMP + said + bars) == ranks
    assert process_count(said + bars) is None  # one process may load as many models
    if more:
        assert process_count(OMP + said + bars * (more + 1)) is None


def test_devices_that_share_a_model_are_counted_too():
    banner = (
        b"***** Running training *****\n  Instantaneous batch size per device = 10\n"
        b"  Total train batch size (w. parallel, distributed & accumulation) = 640\n  Gradient Accumulation steps = 8\n"
    )
    assert parse_text(banner)["num_gpus"] == 8
    assert parse_text(b"torchrun --nproc_per_node=32 run_clm.py\n" + banner)["num_gpus"] == 32
    assert parse_text(b"torchrun --nproc_per_node=12 run_clm.py\n" + banner)["num_gpus"] == 8


@given(failed=st.sets(st.integers(0, 7), min_size=1), wrote=st.sets(st.integers(0, 7)), told=st.integers(0, 8))
def test_ranks_that_failed_are_counted_where_the_launcher_tells_as_many(failed, wrote, told):
    text = "".join(f"[rank{rank}]: RuntimeError\n" for rank in wrote)
    text += "".join(f"Sending process {900 + n} closing signal SIGTERM\n" for n in range(told))
    text += "".join(f"exitcode : -6 (pid: {800 + rank})\n" for rank in failed)
    whole = told and len(wrote) > 1 and wrote == set(range(len(wrote))) and len(failed) + told == len(wrote)
    assert failed_processes(text.encode()) == (len(wrote) if whole else None)
