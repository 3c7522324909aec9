"""Text that is still being written, cut, or damaged: never an exception, never a number that the text does not say."""

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runplan.priors.arguments import argument_fields
from runplan.priors.command import JSON_KEYS
from runplan.priors.letters import plain_bytes, settled, tidy
from runplan.priors.limits import believed
from runplan.priors.parse import parse_text
from runplan.priors.record import MemoryGib
from runplan.priors.siblings import metrics_fields, script_fields, trainer_state_fields

DATA = Path(__file__).parent / "data"
TEXTS = {path.stem: path.read_bytes() for path in sorted(DATA.glob("log*/*.out"))}
SETTINGS = ("batch_size", "gradient_accumulation_steps", "epochs", "lora_rank", "lora_alpha", "max_seq_len", "packed")
SETTINGS += (
    "lora_targets",
    "quantize_base",
    "dtype",
    "compile",
    "activation_checkpointing",
    "trainer_version",
    "gpu",
    "steps_total",
    "params_b",
)
# Texts that say two things one after the other: attempts, bars of another kind, the memory of two models or ranks.
TWO_ATTEMPTS = {"27_unsloth_banner_two_attempts", "43_hf_trainer_callback_cuda_oom_caught"}
ENDED_BEFORE = {"171_hf_three_runs_of_one_script", "200_hf_three_models_in_a_loop"}  # the last training is read
TWO_ATTEMPTS |= ENDED_BEFORE
ENDED_BEFORE |= {
    "190_swift_two_attempts_out_of_memory",
    "199_trl_requeued_and_resumed",
    "201_hf_folds_only_errors_file",
    "260_hf_fourth_model_of_a_loop_fails",
}
TWO_BARS = {"38_axolotl_progress_and_loss", "106_cluster_error_file_with_wandb_summary"}
TWO_BARS |= {"79_torchtune_v02_ten_epochs_of_three_steps"}  # of ten, eight were left out
TWO_BARS |= {"149_unsloth_two_ranks"}  # losses after a bar that was not drawn on
TWO_BLOCKS = {"16_torchtune_v02_memstats_GiB", "36_axolotl_memory_usage", "32_axolotl_2024_eight_ranks"}
TWO_BLOCKS |= {"124_axolotl_2025_ranks_named"}
TWO_BLOCKS |= {"184_torchtune_distillation_two_models", "189_torchtune_out_of_memory_seff"}
NUMBER = re.compile(rb"\d+(?:\.\d+)?")
STRANGE = [b"9" * 5000, b"9" * 400, b"9" * 25, b"1e999", b"-1", b"0", b"nan", b"inf", b"1.2.3", b"..", b"\xd9\xa3"]


def kinds(memory):
    return {} if memory is None else {kind: value for kind, value in vars(memory).items() if value is not None}


@settings(max_examples=300)
@given(name=st.sampled_from(sorted(TEXTS)), cut=st.integers(0, 8000))
@example(name="07_torchtune_cruijff_fixture_two_epochs", cut=457)
@example(name="121_torchtune_quantisation", cut=605)
def test_a_text_that_is_being_written_says_nothing_that_its_rest_takes_back(name, cut):
    part, whole = (parse_text(text) or {} for text in (TEXTS[name][:cut], TEXTS[name]))
    if not whole:
        return  # what it does besides training, or instead, stands further down
    if name not in TWO_ATTEMPTS | TWO_BARS:
        said = {key: part[key] for key in SETTINGS if key in part}
        if "params_b" in said:  # known by the model's name, then counted, with what was added to it
            assert said.pop("params_b") == pytest.approx(whole["params_b"], rel=2e-3)
        assert said == {key: whole.get(key) for key in said}
    for key in ("steps_done", "wall_s") if name not in TWO_BARS | ENDED_BEFORE else ():
        assert (part.get(key) or 0) <= (whole.get(key) or 0)
    peak, final = kinds(part.get("peak_memory_gib")), kinds(whole.get("peak_memory_gib"))
    assert all(value <= final[kind] for kind, value in peak.items())
    if name not in TWO_BLOCKS:
        assert kinds(part.get("init_memory_gib")).items() <= kinds(whole.get("init_memory_gib")).items()


def encoded(value):
    assert isinstance(value, MemoryGib)
    return [value.allocated, value.active, value.reserved]


@settings(max_examples=300)
@given(name=st.sampled_from(sorted(TEXTS)), which=st.integers(0, 10**6), strange=st.sampled_from(STRANGE))
@example(name="36_axolotl_memory_usage", which=20, strange=b"1.2.3")
def test_whatever_stands_where_a_number_was_is_a_number_of_a_run_or_none(name, which, strange):
    text = TEXTS[name][:8000]
    places = list(NUMBER.finditer(text))
    place = places[which % len(places)]
    fields = parse_text(text[: place.start()] + strange + text[place.end() :])
    for key, value in (fields or {}).items():
        if key in JSON_KEYS:
            assert "-1" not in json.dumps(value, default=encoded, allow_nan=False) or isinstance(value, str)
            assert not isinstance(value, int | float) or 0 <= value < 1e13


@settings(max_examples=200)
@given(name=st.sampled_from(sorted(TEXTS)), at=st.integers(0, 8000), noise=st.binary(max_size=60))
def test_noise_anywhere_raises_nothing(name, at, noise):
    text = TEXTS[name]
    fields = parse_text(text[:at] + noise + text[at:])
    assert fields is None or fields["state"]


@pytest.mark.parametrize("parse", [metrics_fields, script_fields, trainer_state_fields])
def test_strange_numbers_beside_a_log_raise_nothing(parse):
    for strange in STRANGE:
        text = b'name, memory.used [MiB]\nx, %b MiB\n"max_steps": %b\n#SBATCH --gpus=a100:%b\n' % ((strange,) * 3)
        assert all(not isinstance(value, int) or value < 1e13 for value in parse(text).values())


@given(st.text("ab é█字😀\n", max_size=30), st.sampled_from(["utf-16-le", "utf-16-be"]))
def test_text_of_two_bytes_a_letter_is_read(text, encoding):
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}[encoding]
    assert plain_bytes(mark + text.encode(encoding)) == text.encode()


def test_half_of_such_a_text_is_read_too():
    assert plain_bytes(b"\xff\xfea\0b\0c").startswith(b"ab")


@given(st.binary(max_size=40))
def test_what_is_settled_is_a_beginning_and_ends_between_words(text):
    kept = settled(text)
    assert text.startswith(kept)
    assert not kept or kept[-1:].isspace()
    assert b"\0" not in tidy(text)


@given(st.floats() | st.integers(), st.sampled_from(["s_per_step", "batch_size", "wall_s"]))
def test_what_is_believed_is_finite_and_not_negative(value, key):
    kept = believed({key: value, "peak_memory_gib": MemoryGib(allocated=value), "checkpoint_s": (value,)})
    assert all(math.isfinite(kept.get(name, 0)) and kept.get(name, 0) >= 0 for name in (key,))
    assert all(0 < number < 1e6 for number in kinds(kept.get("peak_memory_gib")).values())
    assert all(0 <= number < 1e8 for number in kept["checkpoint_s"])


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (b"--lora_r 8 --packing \\\n --num_train_epochs 2.0\n", {"lora_rank": 8, "epochs": 2, "packed": True}),
        (b"--bf16 --torch_compile False ", {"dtype": "bf16", "compile": False}),
        (b"LoraConfig: lora_r=16, lora_alpha=32.5, ", {"lora_rank": 16, "lora_alpha": 32.5}),
        (b'"per_device_train_batch_size": "auto", "micro_batch_size": 4, ', {"batch_size": 4}),
        (b"eval_sample_packing: true\nnum_train_epochs: 0.5\n", {}),
        (b"base_model: NousResearch/Llama-3.2-1B\n", {"model": "Llama-3.2-1B", "params_b": 1.236}),
        (b"model_name_or_path=./checkpoint-100 ", {}),
        (b"cache/models--meta-llama--Llama-3.1-8B/snapshots/x", {"model": "Llama-3.1-8B", "params_b": 8.03}),
        (b"torchrun --nnodes 2 --nproc_per_node=8 sft.py ", {"num_gpus": 16}),
        (b"accelerate launch --num_processes 4 sft.py ", {"num_gpus": 4}),
        (b'"transformers_version": "4.40.2",', {"trainer_version": "4.40.2"}),
    ],
)  # fmt: skip
def test_arguments_are_read_however_they_are_printed(text, fields):
    assert argument_fields(text, "hf") == fields
