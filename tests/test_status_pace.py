"""How far a job is and how fast, from real ends of logs and from any bytes."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.jobs.seen import JobSeen, ending_of, last_words, of_last_attempt
from runplan.status.pace import Memory, Pace, evaluation_pace, gpu_memory, training_pace

LOGS = Path(__file__).parent / "data" / "logs"
SIGNS = [b"|Loss:", b"%|##| 3/10 [00:03<00:07,  1.00s/it]", b"1|7|Loss: 2.5:  1%|#| 7/9 [00:07<00:02,  1.00s/it]",
         b"with resolved config", b"peak_memory_alloc:", b"1e999", b"9" * 5000, b"/", b"[", b"\r", b"\n",
         b"Samples: 5/10",
         b"\nfinetune.slurm: not enough GPU memory for a; b once more with c\n", b"Traceback (most recent call last)",
         b"timestamp,", b"2026, 0, A, 9 %, 99 MiB, 9 MiB, 9 W\n"]  # fmt: skip
GARBAGE = st.lists(st.one_of(st.binary(max_size=30), st.sampled_from(SIGNS)), max_size=30).map(b"".join)


def log(start):
    (path,) = LOGS.glob(f"{start}*")
    return path.read_bytes()


def bars(first, last, s_per_step, epoch=1, total=250):
    """Torchtune's bars of some steps, each of which takes as long."""
    lines = []
    for done in range(first, last + 1):
        passed = round(done * s_per_step)
        clock = f"{passed // 60:02d}:{passed % 60:02d}"
        lines.append(f"{epoch}|{done}|Loss: 1.5:  9%|#  | {done}/{total} [{clock}<09:00,  {s_per_step:.2f}s/it]\r")
    return "".join(lines).encode()


@pytest.mark.parametrize(
    ("name", "done", "total", "per_epoch", "s_per_step"),
    [
        ("07", 500, None, 250, 0.456),
        ("09", 52, None, 25880, 0.546),
        ("10", 3, None, 1617, 6.87),
        ("17", 1625, None, 1625, 0.809),
        ("38", 284, 873, None, 4.33),
        ("50", 100, None, 50, 0.0228),
    ],
)
def test_recorded_logs(name, done, total, per_epoch, s_per_step):
    pace = training_pace(log(name))
    assert (pace.done, pace.total, pace.per_epoch) == (done, total, per_epoch)
    assert pace.s_per_step == pytest.approx(s_per_step, rel=0.02)


@given(GARBAGE)
def test_any_bytes_are_a_pace_a_memory_and_an_ending(data):
    pace = training_pace(data)
    assert pace.done is None or 0 <= pace.done < 10**12
    assert pace.s_per_step is None or (pace.s_per_step > 0 and math.isfinite(pace.s_per_step))
    evaluation_pace(data)
    memory = gpu_memory(JobSeen(tail=data, disk_log=data, gpu_metrics=data))
    assert memory is None or math.isfinite(memory.gib)
    found = ending_of(data)
    assert found is None or (found.reason and found.reason.isprintable())
    assert data.endswith(of_last_attempt(data))


@given(st.integers(0, 20_000))
def test_wherever_the_tail_begins_the_last_bar_counts(start):
    data = bars(1, 140, 6.0)
    pace = training_pace(data[min(start, len(data) - 200) :])
    assert (pace.done, pace.per_epoch) == (140, 250)
    assert pace.s_per_step == pytest.approx(6.0, rel=0.05)


def test_now_is_the_recent_past():
    slow = bars(1, 200, 2.0)
    fast = b"".join(
        b"1|%d|Loss: 1.5:  9%%|#  | %d/900 [%02d:%02d<09:00,  1.00s/it]\r" % (n, n, *divmod(200 + n, 60))
        for n in range(201, 600)
    )
    assert training_pace(slow.replace(b"/250", b"/900") + fast).s_per_step == pytest.approx(1.0, rel=0.02)


def test_a_pause_for_validation_is_not_slowness():
    later = b"".join(
        b"1|%d|Loss: 1.5:  9%%|#  | %d/250 [%02d:%02d<09:00,  2.10s/it]\r" % (n, n, *divmod(2 * n + 300, 60))
        for n in range(101, 180)
    )
    pace = training_pace(bars(1, 100, 2.0) + b"\nRunning validation...\n" + later)
    assert (pace.done, pace.s_per_step) == (179, pytest.approx(2.0, rel=0.05))


def test_an_attempt_that_began_anew_counts_from_its_own_start():
    first = b"Running Recipe with resolved config:\n\n" + bars(1, 90, 2.0)
    again = (
        b"\nfinetune.slurm: not enough GPU memory for finetune.yaml; the same effective batch once more with x.yaml\n"
    )
    assert training_pace(first).done == 90
    assert training_pace(first + again) == Pace()
    second = b"Running Recipe with resolved config:\n\n" + bars(1, 12, 3.0)
    assert training_pace(first + again + second).done == 12
    final = b"\nfinetune.slurm: not enough GPU memory for x.yaml; nothing else is planned\n"
    assert training_pace(first + again + second + final).done == 12


def test_a_resumed_attempt_counts_as_its_bars_do():
    assert training_pace(b"with resolved config:\n" + bars(1, 30, 2.0, epoch=2)).done == 280


def test_one_displayed_rate_is_a_speed_unless_it_is_the_first_steps():
    assert training_pace(b"1|1|Loss: 2.0:  0%|  | 1/250 [00:41<99:00, 41.00s/it]").s_per_step is None
    assert training_pace(b"1|4|Loss: 2.0:  0%|  | 4/250 [00:50<99:00,  5.00s/it]").s_per_step == pytest.approx(5.0)


def test_samples_of_an_evaluation_are_counted():
    lines = (
        b"cap | Steps:   3/ 10  30% | Samples:   3/ 10 | hf:  1/ 8\ncap | Steps:   7/ 10  70% | Samples:   7/ 10 |\n"
    )
    assert evaluation_pace(lines) == Pace(7, 10)
    assert evaluation_pace(b"evaluated") == Pace()


HEADER = b"timestamp, index, name, utilization.gpu [%], memory.used [MiB], memory.total [MiB], power.draw [W]\n"
SAMPLE = b"2026/01/31 12:00:00.000, %d, NVIDIA A100-SXM4-80GB, 98 %%, %d MiB, 81920 MiB, 300.00 W\n"


def test_the_fullest_gpu_since_the_attempt_began_counts():
    metrics = HEADER + SAMPLE % (0, 71680) + HEADER + SAMPLE % (0, 1024) + SAMPLE % (1, 2048) + SAMPLE % (0, 1024)
    assert gpu_memory(JobSeen(gpu_metrics=metrics)) == Memory(2.0, "nvidia-smi")
    lines = SAMPLE % (0, 99999) + SAMPLE % (0, 71680) + SAMPLE % (0, 1024)
    tail = lines[lines.index(b"99 MiB") :]  # cut within a number
    assert gpu_memory(JobSeen(gpu_metrics=tail)) == Memory(70.0, "nvidia-smi")
    assert gpu_memory(JobSeen(gpu_metrics=HEADER)) is None


def test_without_samples_the_trainer_is_believed():
    logged = b"Step 5 | loss:1.0 peak_memory_active:3.5 peak_memory_alloc:3.25 peak_memory_reserved:4.75\n"
    assert gpu_memory(JobSeen(disk_log=logged)) == Memory(4.75, "reserved")
    assert gpu_memory(JobSeen(tail=logged.replace(b"reserved", b"of_nobody"))) == Memory(3.5, "active")


def test_last_words_are_no_bars_and_no_blanks():
    assert last_words(b"one\nSaving \x1b[1mall\n" + bars(1, 3, 2.0) + b"\n\n") == "Saving all"
    assert last_words(b"one\n--- ===\n\x1b[0m\n") == "one"
    assert last_words(bars(1, 3, 2.0)) == ""
    assert ending_of(b"cell.slurm: no model at /x\n").reason == "cell.slurm: no model at /x"
    assert ending_of(b"compile: false\n").reason == "last line of its log: compile: false"
    assert ending_of(b"") is None


def test_the_trainers_last_words_count_more_than_its_exit_code():
    said = b"tune: bad interpreter: Permission denied\nfinetune.slurm: finetune.yaml ended with exit code 126\n"
    assert ending_of(said).reason == "last line of its log: tune: bad interpreter: Permission denied"
    assert ending_of(said.splitlines()[1]).reason.endswith("exit code 126")


def test_a_reason_is_whole_and_without_the_bar_before_it():
    words = b"Error(s) in loading state_dict for TransformerDecoder:\n\tsize mismatch for norm: [336]\n\tmore"
    found = ending_of(b"Traceback (most recent call last):\nRuntimeError: " + words)
    assert found.reason.endswith("for TransformerDecoder: size mismatch for norm: [336]")
    over = b"slurmstepd: error: *** JOB 3 ON n1 CANCELLED AT 2026-01-31T12:00:00 DUE TO TIME LIMIT ***"
    found = ending_of(b"1|15|Loss: 5.6: 30%|##| 15/50 [03:39<09:03, 1.55s/it]" + over + b"\n")
    assert (found.state, found.reason) == ("timeout", over.decode())


def test_a_group_of_exceptions_is_told_by_the_one_inside():
    said = """  + Exception Group Traceback (most recent call last):
  |   File "/venv/inspect_ai/_eval/eval.py", line 706, in eval_async
  |     raise BaseExceptionGroup(
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/venv/inspect_ai/_util/kvstore.py", line 35, in __enter__
    |     self._conn.commit()
    | sqlite3.OperationalError: database or disk is full
    +------------------------------------
"""
    assert ending_of(said.encode()).reason == "sqlite3.OperationalError: database or disk is full"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ('31475 Killed                  "$@"', "Killed (signal 9): by hand, or for lack of memory on the node"),
        ('   77 Segmentation fault      (core dumped) "$@"', "Segmentation fault (core dumped)"),
    ],
)
def test_a_program_that_a_signal_ended_is_told_without_bashs_line_and_the_bar_before_it(said, reason):
    bar = "2|280|Loss: 5.38: 40%|####  | 80/200 [00:03<00:04, 26.11it/s]"
    found = ending_of(f"{bar}/var/spool/slurm/job00024/slurm_script: line 101: {said}\n".encode())
    assert (found.state, found.reason) == ("failed", f"its program ended: {reason}")


@pytest.mark.parametrize(
    ("name", "state"), [("26", "oom"), ("28", "oom"), ("29", "timeout"), ("30", "host_oom"), ("32", "host_oom")]
)
def test_recorded_endings(name, state):
    found = ending_of(log(name))
    assert found.state == state
    assert found.reason
