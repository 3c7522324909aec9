"""Torchtune's logs as users keep them: cut, doubled, of two ranks, started again. Null may be said, nothing wrong."""

import random
from pathlib import Path

import pytest

from runplan.priors.command import JSON_KEYS
from runplan.priors.parse import parse_text
from runplan.priors.record import MemoryGib

DATA = Path(__file__).parent / "data"
NAMES = (
    *("logs/07_torchtune_cruijff_fixture_two_epochs", "logs/17_torchtune_kubeflow_distributed_full"),
    *("logs/50_torchtune_v061_cpu_tiny", "logs/19_torchtune_v061_rocm_8gpu"),
    *("log_excerpts/189_torchtune_out_of_memory_seff", "log_excerpts/301_torchtune_slurm_packed_wandb_offline"),
    *("log_excerpts/303_torchtune_full_three_epochs_watchdog", "log_excerpts/304_torchtune_memory_access_fault"),
)
TEXTS = {name.partition("/")[2]: (DATA / f"{name}.out").read_bytes() for name in NAMES}
WITH_CONFIG = sorted(name for name, text in TEXTS.items() if text.count(b"with resolved config:\n\nbatch_size") == 1)
PROCESSORS = {"50_torchtune_v061_cpu_tiny"}  # where the config is lost, so is that no GPU was used
SAME_MODEL = "model"  # by its folder, its builder or the shipped config: whatever is left


def said(text):
    fields = parse_text(text, "slurm-1.out") or {}
    return {key: fields[key] for key in JSON_KEYS if fields.get(key) not in {None, ()} and key != "reason"}


WHOLE = {name: said(text) for name, text in TEXTS.items()}


def agrees(key, part, whole, name):
    """Whether what a part of a log says is what the whole says, or less."""
    if key == SAME_MODEL or part == whole or (key == "num_gpus" and name in PROCESSORS):
        return True
    if key in {"steps_done", "wall_s"}:
        return whole is not None and part <= whole
    if key in {"s_per_step", "it_per_s"}:
        return part == pytest.approx(whole, rel=0.12)
    if key in {"checkpoint_s", "lora_targets"}:  # of a list that lost lines
        return set(part) <= set(whole or ())
    if isinstance(part, MemoryGib):
        both = zip(vars(part).values(), vars(whole).values(), strict=True)
        return all(mine is None or (theirs is not None and mine <= theirs) for mine, theirs in both)
    return key in {"state", "first_step_s"}


@pytest.mark.parametrize("kind", ["end", "middle", "hole"])
@pytest.mark.parametrize("name", sorted(TEXTS))
def test_what_is_left_of_a_log_says_nothing_else_than_the_log(name, kind):
    lines, places = TEXTS[name].splitlines(keepends=True), random.Random(f"{name} {kind}")
    for _ in range(8):
        start, end = sorted(places.sample(range(len(lines) + 1), 2))
        left = {"end": lines[start:], "middle": lines[start:end], "hole": lines[:start] + lines[end:]}[kind]
        for key, value in said(b"".join(left)).items():
            assert agrees(key, value, WHOLE[name].get(key), name), (key, start, end)


def doubled(text):
    return b"\n".join(line for line in text.split(b"\n") for _ in range(2))


def of_two_ranks(text):
    order = random.Random(7)
    marked = ([b"[rank0]:" + line, b"[rank1]:" + line] for line in text.split(b"\n"))
    return b"\n".join(line for pair in marked for line in order.sample(pair, 2))


@pytest.mark.parametrize("change", [doubled, of_two_ranks])
def test_lines_that_two_ranks_print_say_what_one_says(change):
    for name, text in TEXTS.items():
        if name != "303_torchtune_full_three_epochs_watchdog":  # which counts its ranks
            assert said(change(text)) == WHOLE[name], name


def test_bars_that_a_terminal_broke_into_lines_say_the_same():
    for name, text in TEXTS.items():
        assert said(text.replace(b"\r", b"\n")) == WHOLE[name], name


@pytest.mark.parametrize("name", WITH_CONFIG)
def test_a_run_that_was_started_again_says_what_its_last_attempt_says(name):
    text, places = TEXTS[name], random.Random(name)
    apart = {"oom_batch_sizes", "wall_s", "checkpoint_s", SAME_MODEL}
    for cut in (places.randrange(len(text)) for _ in range(10)):
        again = said(text[:cut] + b"\n" + text)
        assert {key: value for key, value in again.items() if key not in apart} == {
            key: value for key, value in WHOLE[name].items() if key not in apart
        }, cut
