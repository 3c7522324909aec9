"""Speed recovered from drawn progress bars, whatever else is in the log."""

import random
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runplan.priors.parse import parse_text
from runplan.priors.progress import plain_progress, tune_progress


def clock(seconds):
    seconds = int(seconds)
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60:02d}:{rest % 60:02d}"


def bar(done, total, elapsed, rate, text=""):
    shown = "?it/s" if not rate else f"{rate:5.2f}it/s" if rate >= 1 else f"{1 / rate:5.2f}s/it"
    filled = "█" * (10 * done // total) + " " * (10 - 10 * done // total)
    left = clock((total - done) / rate) if rate else "?"
    return f"{text}{100 * done // total:3d}%|{filled}| {done}/{total} [{clock(elapsed)}<{left}, {shown}]"


class Tqdm:
    """Draws as tqdm does: a moving average of the last steps, elapsed time in whole seconds."""

    def __init__(self, epoch, total):
        self.epoch, self.total, self.done, self.elapsed, self.average = epoch, total, 0, 0.0, None
        self.pause = 0.0

    def step(self, seconds, every_step):
        stale = f"{self.epoch}|{(self.epoch - 1) * self.total + self.done}|Loss: 1.5: "
        self.done += 1
        self.elapsed += seconds
        seconds, self.pause = seconds + self.pause, 0.0
        self.average = seconds if self.average is None else 0.3 * seconds + 0.7 * self.average
        text = "" if every_step else "\r" + self.draw(stale if self.done > 1 else "")
        return text + "\r" + self.draw(f"{self.epoch}|{(self.epoch - 1) * self.total + self.done}|Loss: 1.4987654321: ")

    def draw(self, text):
        return bar(self.done, self.total, self.elapsed, 1 / self.average if self.average else None, text)


def tune_log(
    s_per_step,
    steps,
    epochs=1,
    *,
    first_s=0.0,
    save_s=0.0,
    validate_every=0,
    validate_s=0.0,
    noise=0.0,
    packing=False,
    prefix="",
    announced=True,
    seed=0,
):
    rng = random.Random(seed)
    out = [f"{prefix}Running LoRAFinetuneRecipeSingleDevice with resolved config:\n\nbatch_size: 4\n"]
    out.append(f"epochs: {epochs}\ngradient_accumulation_steps: 2\n")
    out.append("run_val_every_n_steps: 10\n\n" if validate_every else "\n")
    if packing:
        out += ["\r" + bar(i, 500, i / 90, 90.0, "Packing dataset: ") for i in range(1, 501, 7)]
    for epoch in range(1, epochs + 1):
        pbar = Tqdm(epoch, steps)
        out.append("\r" + bar(0, steps, 0, None))
        for i in range(1, steps + 1):
            seconds = s_per_step * (1 + noise * rng.uniform(-1, 1)) + (first_s if i == epoch == 1 else 0)
            out.append(pbar.step(seconds, every_step=i % 2))
            if validate_every and i % validate_every == 0:
                pbar.elapsed += validate_s
                pbar.pause = validate_s
                out.append(f"{prefix}Validation loss: 1.25\n" if announced else "")
        out.append(f"{prefix}Starting checkpoint save...\n")
        pbar.elapsed += save_s
        out.append(
            f"{prefix}Checkpoint saved in {save_s:.2f} seconds.\n\r" + pbar.draw(f"{epoch}|{epoch * steps}|Loss: 1.4: ")
        )
    return "".join(out).encode()


class Case(NamedTuple):
    s_per_step: float
    seconds: int
    epochs: int
    first_s: float
    save_s: float
    validations: int
    validate_s: float
    packing: bool
    prefix: str


CASES = st.builds(
    Case,
    s_per_step=st.floats(0.04, 12),
    seconds=st.integers(400, 1500),
    epochs=st.integers(1, 3),
    first_s=st.floats(0, 60),
    save_s=st.floats(0, 200),
    validations=st.integers(0, 6),
    validate_s=st.floats(3, 40),
    packing=st.booleans(),
    prefix=st.sampled_from(["", "INFO:torchtune.utils._logging:", "0: "]),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(case=CASES)
@example(case=Case(0.5, 400, 2, 30.0, 33.0, 10, 5.0, packing=True, prefix=""))
@example(case=Case(0.05, 250, 1, 0.0, 0.0, 0, 3.0, packing=False, prefix=""))
def test_steady_speed_is_recovered_despite_first_steps_pauses_and_other_bars(case):
    steps = max(20, min(3000, int(case.seconds / case.s_per_step)))
    s_per_step = max(case.s_per_step, case.seconds / steps)
    every = max(10, steps // case.validations) if case.validations else 0
    data = tune_log(
        s_per_step,
        steps,
        case.epochs,
        first_s=case.first_s,
        save_s=case.save_s,
        validate_every=every,
        validate_s=case.validate_s,
        packing=case.packing,
        prefix=case.prefix,
    )
    pauses_s = case.save_s + (steps // every * case.validate_s if every else 0)
    fields = parse_text(data)
    assert fields["s_per_step"] == pytest.approx(s_per_step, rel=0.02)
    assert fields["steps_done"] == fields["steps_total"] == steps * case.epochs
    assert fields["state"] == "completed"
    assert fields["checkpoint_s"] == pytest.approx((case.save_s,) * case.epochs, abs=0.01)
    whole_s = case.epochs * (steps * s_per_step + pauses_s) + case.first_s
    assert fields["wall_s"] == pytest.approx(whole_s, abs=case.epochs + 1)


MESSAGES = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(
            [
                b"peak_memory_active:55.5 peak_memory_alloc:54.0 peak_memory_reserved:60.25\n",
                b"torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n",
                b"Validation loss: 1.5\n",
                b"Saving checkpoint took 12.50 secs\n",
                b"NVIDIA A100-SXM4-80GB\n",
                b"slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT 2024-01-01T00:00:00 DUE TO TIME LIMIT ***\n",
            ]
        ),
    ),
    max_size=4,
)


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(case=CASES, messages=MESSAGES, kept=st.sampled_from([1.0, 1.0, 0.7]), lines=st.booleans())
@example(
    case=Case(0.5, 400, 2, first_s=0.0, save_s=0.0, validations=1, validate_s=3.0, packing=False, prefix=""),
    messages=[(0.498046875, b"Validation loss: 1.5\n")],
    kept=1.0,
    lines=False,
)
def test_draws_that_are_not_looked_at_change_nothing_but_a_speed_by_two_per_cent(case, messages, kept, lines):
    """All other fields are what the reading of every draw and of all text says."""
    steps = max(80, min(2000, int(case.seconds / case.s_per_step)))
    data = tune_log(
        max(case.s_per_step, case.seconds / steps),
        steps,
        case.epochs,
        first_s=case.first_s,
        save_s=case.save_s,
        validate_every=max(10, steps // case.validations) if case.validations else 0,
        validate_s=case.validate_s,
        packing=case.packing,
        prefix=case.prefix,
    )
    for place, message in messages:
        # Between two draws, as loggers write: a newline ends each message.
        at = max(data.find(b"]", int(place * len(data))) + 1, data.find(b"|Loss:"))
        data = data[:at] + message + data[at:]
    data = data[: int(kept * len(data))]
    data = data.replace(b"\r", b"\n") if lines else data
    few = parse_text(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runplan.priors.progress._SHORT_S", 10**9)
        every = parse_text(data)
    speeds = [fields.pop("s_per_step", None) for fields in (few, every)]
    for fields in (few, every):
        fields.pop("it_per_s", None)
    assert few == every
    assert speeds[0] == pytest.approx(speeds[1], rel=0.02)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(s_per_step=st.floats(0.2, 3), every=st.integers(60, 300), pause_s=st.floats(40, 120), seed=st.integers(0, 99))
def test_pauses_that_nothing_announces_are_seen_in_the_times(s_per_step, every, pause_s, seed):
    data = tune_log(s_per_step, 900, validate_every=every, validate_s=pause_s, noise=0.3, announced=False, seed=seed)
    assert parse_text(data)["s_per_step"] == pytest.approx(s_per_step, rel=0.08)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(s_per_step=st.floats(0.3, 3), noise=st.floats(0, 0.8), seed=st.integers(0, 999))
def test_the_mean_not_the_median_of_uneven_steps_counts(s_per_step, noise, seed):
    """Unpacked batches differ in length; wall time is their mean times their number."""
    data = tune_log(s_per_step, 800, noise=noise, seed=seed, first_s=10)
    assert parse_text(data)["s_per_step"] == pytest.approx(s_per_step, rel=0.06)


def test_first_step_is_told_apart():
    fields = parse_text(tune_log(0.5, 300, first_s=28.0))
    assert fields["first_step_s"] == pytest.approx(28.5, rel=0.01)
    assert fields["s_per_step"] == pytest.approx(0.5, rel=0.02)


def test_one_early_draw_says_no_speed():
    data = tune_log(0.5, 2000, first_s=20.0)
    at = data.find(b"|52|Loss")
    fields = parse_text(data[: data.find(b"]", at) + 1])
    assert fields["steps_done"] == 52
    assert fields.get("state") == "unknown"


def test_contradicting_draws_say_no_speed():
    """A compile of ten minutes between two draws that both claim to be fast."""
    text = b"1|149|Loss: 0.9:   1%|          | 149/25880 [02:08<6:14:19,  1.15it/s\n"
    text += b"1|228|Loss: 0.8:   1%|          | 228/25880 [11:59<1:48:16,  3.95it/s\n"
    progress, _ = tune_progress(text)
    assert progress.s_per_step is None
    assert progress.steps_done == 228


def test_up_to_torchtune_01_the_bar_counts_batches():
    head = b"INFO:torchtune.utils.logging:Running LoRAFinetuneRecipeSingleDevice with resolved config:\n\n"
    head += b"batch_size: 2\ngradient_accumulation_steps: 64\n\nMemory Stats after model init:\n"
    bars = "".join("\r" + bar(n, 6400, n * 0.5, 2.0, f"1|{n}|Loss: 1.5: ") for n in range(1, 1300)).encode()
    fields = parse_text(head + bars)
    assert fields["s_per_step"] == pytest.approx(32, rel=0.02)
    assert fields["steps_done"] == 1299 // 64


def test_training_bar_of_hugging_face_is_the_longest_without_description():
    text = "\r".join(bar(i, 40, i * 3.0, 1 / 3, "Map: ") for i in range(1, 41))
    text += "\n{'loss': 1.2, 'epoch': 0.1}\n"
    text += "\r".join(bar(i, 200, i * 2.0, 0.5) for i in range(1, 201))
    text += "\n" + "\r".join(bar(i, 5, i * 0.5, 2.0) for i in range(1, 6))
    progress = plain_progress(text.encode(), [])
    assert progress.steps_done == progress.steps_per_epoch == 200
    assert progress.s_per_step == pytest.approx(2.0, rel=0.02)
