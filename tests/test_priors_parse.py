"""Every recorded log against what a person reads in it, and text that is no log at all."""

import re
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from runplan.priors.command import JSON_KEYS
from runplan.priors.devices import gpu_in_text
from runplan.priors.ending import ending
from runplan.priors.flat import _section, flat_yaml
from runplan.priors.names import gpu_key, model_from_config_name, params_b
from runplan.priors.parse import parse_text
from runplan.priors.peaks import counts_gigabytes, init_memory, peak_memory
from runplan.priors.record import MemoryGib
from runplan.priors.settings import command_line, torchtune_fields
from runplan.priors.siblings import script_fields
from runplan.priors.trainers import hugging_face_fields

LOGS = Path(__file__).parent / "data" / "logs"
TUNE = {"trainer": "torchtune", "state": "unknown"}
GB = 1e9 / 2**30

# Worked out by reading each file; what is not listed is unknown. In braces: where a number comes from.
EXPECTED = {
    "07_torchtune_cruijff_fixture_two_epochs": TUNE
    | {
        "recipe": "lora_finetune_single_device",
        "model": "llama3_2_1b",
        "params_b": 1.236,
        "lora_rank": 16,
        "quantize_base": False,
        "batch_size": 32,
        "dtype": "bf16",
        "num_gpus": 1,
        "epochs": 2,
        "steps_done": 500,
        "steps_total": 500,
        # 40 → 250 in 19 → 115 s, 25 → 250 in 11 → 113 s
        "s_per_step": pytest.approx(198 / 435, rel=0.01),
        "it_per_s": pytest.approx(435 / 198, rel=0.01),
        "checkpoint_s": (33.06, 32.51),
        "wall_s": 148 + 146,
        "init_memory_gib": MemoryGib(2.35, 2.35, 2.37),
        "peak_memory_gib": MemoryGib(active=18.77768),
        "state": "completed",
    },
    "09_torchtune_v01_first_finetune": TUNE
    | {
        "recipe": "lora_finetune_single_device",
        "model": "llama2_7b",
        "params_b": 6.738,
        "dtype": "bf16",
        "num_gpus": 1,
        "epochs": 1,
        "steps_done": 52,
        "steps_total": 25880,
        "wall_s": 24,
    },
    "10_torchtune_v05_e2e": TUNE
    | {
        "recipe": "lora_finetune_single_device",
        "model": "llama3_2_3b",
        "params_b": 3.213,
        "dtype": "bf16",
        "activation_checkpointing": True,
        "num_gpus": 1,
        "steps_done": 3,
        "wall_s": 21,
        "init_memory_gib": MemoryGib(6.21, 6.21, 6.27),
    },
    "11_torchtune_v01_qlora_memory_GB": TUNE
    | {
        "steps_done": 228,
        "wall_s": 719,
        "init_memory_gib": MemoryGib(13.96 * GB, 13.96 * GB, 13.98 * GB),
    },
    "12_torchtune_gpu_resources_bytes_lora": TUNE
    | {
        "recipe": "lora_finetune_single_device",
        "model": "llama2_7b",
        "params_b": 6.738,
        "num_gpus": 1,
        "steps_done": 14,
    },
    "13_torchtune_gpu_resources_bytes_full": TUNE | {"steps_done": 8},
    "14_torchtune_v021_step_lines_tps": TUNE
    | {"model": "CodeLlama-7b-hf", "params_b": 6.738, "dtype": "bf16", "steps_done": 12},
    "16_torchtune_v02_memstats_GiB": TUNE | {"init_memory_gib": MemoryGib(6.19, 6.19, 6.27)},
    "17_torchtune_kubeflow_distributed_full": TUNE
    | {
        "recipe": "full_finetune_distributed",
        "epochs": 1,
        "steps_done": 1625,
        "steps_total": 1625,
        "s_per_step": pytest.approx(1314 / 1625, rel=0.001),
        "it_per_s": pytest.approx(1625 / 1314, rel=0.001),
        "checkpoint_s": (6.64,),
        "wall_s": 22 * 60 + 1,
        "init_memory_gib": MemoryGib(2.33, 2.33, 2.34),
        "state": "completed",
    },
    "19_torchtune_v061_rocm_8gpu": TUNE
    | {
        "trainer_version": "0.6.1",
        "steps_done": 80,
        "init_memory_gib": MemoryGib(allocated=0.66),
        "peak_memory_gib": MemoryGib(allocated=4.512502193450928),
    },
    "21_torchtune_v03_90b_checkpoint_lines": TUNE | {"model": "Llama-3.2-90B-Vision-Instruct", "params_b": 88.593},
    "22_torchtune_v02_gemma_lora_checkpoint": TUNE
    | {
        "recipe": "lora_finetune_distributed",
        "model": "gemma_7b",
        "params_b": 8.538,
        "num_gpus": 4,
        "epochs": 1,
    },
    "23_torchtune_feb2024_torchrun": TUNE | {"recipe": "lora_finetune", "num_gpus": 2, "cpus": 1},
    "25_torchtune_lora_dist_vision_oom_header": TUNE
    | {
        "recipe": "lora_finetune_distributed",
        "model": "Llama-3.2-11B-Vision-Instruct",
        "params_b": 10.67,
        "num_gpus": 4,
        "cpus": 1,
        "batch_size": 2,
    },
    "26_oom_torch20_slurm_interleaved_ranks": {"state": "oom"},
    "28_oom_torch25_rank_prefix": {"state": "oom"},
    "29_slurm_time_limit": {"state": "timeout"},
    "30_slurm_oom_kill_new": {"state": "host_oom"},
    "32_slurm_oom_kill_plural": {"state": "host_oom"},
    "33_hf_trainer_dicts_and_eval": {
        "trainer": "hf",
        "steps_done": 136,
        "steps_total": 202,
        "wall_s": 150 * 3600 + 33 * 60 + 44,
        "s_per_step": pytest.approx(542024 / 136),
        "it_per_s": pytest.approx(136 / 542024),
        "state": "unknown",
    },
    "35_hf_liger_callback_memory": {
        "trainer": "hf",
        "tokens_per_s": 18818.86,
        "peak_memory_gib": MemoryGib(allocated=26279.24 / 1024, reserved=47172 / 1024),
        "state": "unknown",
    },
    "36_axolotl_memory_usage": {
        "trainer": "axolotl",
        "params_b": pytest.approx((1_247_086_592 - 11_272_192) / 1e9),
        "init_memory_gib": MemoryGib(allocated=2.355, reserved=3.364),
        "state": "unknown",
    },
    "38_axolotl_progress_and_loss": {
        "trainer": "axolotl",
        "steps_done": 284,
        "steps_total": 873,
        "wall_s": 25 * 60 + 49,
        "s_per_step": pytest.approx(13 / 3),
        "it_per_s": pytest.approx(3 / 13),
        "state": "unknown",
    },
    "40_llama_recipes_summary": {
        "trainer": "llama-recipes",
        "checkpoint_s": (14.03366973111406,),
        "state": "completed",
    },
    "42_torchtune_mps_header": TUNE
    | {
        "recipe": "lora_finetune_single_device",
        "model": "Meta-Llama-3.1-8B-Instruct",
        "params_b": 8.03,
        "batch_size": 1,
        "max_seq_len": 2048,
        "activation_checkpointing": True,
        "compile": False,
        "gpu": "mps",
        "num_gpus": 1,
    },
    "43_torchtune_llama4_lora_dist_header": TUNE
    | {
        "recipe": "lora_finetune_distributed",
        "batch_size": 4,
        "gradient_accumulation_steps": 1,
        "max_seq_len": 2048,
        "packed": True,
        "dtype": "bf16",
        "activation_checkpointing": True,
        "compile": False,
        "num_gpus": 8,
        "dataset": "alpaca_dataset",
    },
    "50_torchtune_v061_cpu_tiny": TUNE
    | {
        "trainer_version": "0.6.1",
        "recipe": "lora_finetune_single_device",
        "model": "Tiny-Llama-3.2",
        "lora_rank": 8,
        "lora_alpha": 16.0,
        "lora_targets": ("q_proj", "v_proj", "output_proj", "mlp"),
        "quantize_base": False,
        "batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_seq_len": 128,
        "packed": False,
        "dtype": "fp32",
        "activation_checkpointing": False,
        "compile": False,
        "gpu": "cpu",
        "num_gpus": 0,
        "dataset": "words.json",
        "epochs": 2,
        "steps_done": 100,
        "steps_total": 100,
        "first_step_s": pytest.approx(1 / 11.30),
        # The last draws before each save, in displayed rates: 37 to 51 it/s, over about one second an epoch.
        "s_per_step": pytest.approx(1 / 44, rel=0.15),
        "it_per_s": pytest.approx(44, rel=0.15),
        "checkpoint_s": (0.01, 0.0),
        "wall_s": 2,
        "state": "completed",
    },
}
REASONS = {
    "26_oom_torch20_slurm_interleaved_ranks": "CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0",
    "28_oom_torch25_rank_prefix": "[rank7]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 18.00 MiB.",
    "29_slurm_time_limit": "JOB 494583 ON ... CANCELLED AT 2024-04-20T09:09:37 DUE TO TIME LIMIT",
    "30_slurm_oom_kill_new": "Detected 1 oom_kill event in StepId=11300781.0",
    "32_slurm_oom_kill_plural": "Detected 2 oom_kill events in StepId=JOBID.4",
}


def test_every_recorded_log_has_an_expectation():
    assert sorted(EXPECTED) == sorted(path.stem for path in LOGS.glob("*.out"))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_recorded_log_says_what_a_reader_finds_in_it(name):
    fields = parse_text((LOGS / f"{name}.out").read_bytes(), f"{name}.out")
    said = {key: fields[key] for key in JSON_KEYS if fields.get(key) not in {None, ()} and key != "reason"}
    assert said == EXPECTED[name]
    assert REASONS.get(name, "") in fields.get("reason", "")
    assert ("reason" in fields) == (name in REASONS)


def test_loading_is_told_where_the_trainer_timed_it():
    loading = {
        name: parse_text((LOGS / f"{name}.out").read_bytes(), f"{name}.out").get("loading_s")
        for name in ("17_torchtune_kubeflow_distributed_full", "19_torchtune_v061_rocm_8gpu")
    }
    assert list(loading.values()) == [17.31, None]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_line_ends_do_not_matter(newline):
    whole = (LOGS / "07_torchtune_cruijff_fixture_two_epochs.out").read_bytes()
    at = whole.find(b"  0%|")
    fields = parse_text(whole[:at] + whole[at:].replace(b"\n", newline))
    assert fields["it_per_s"] == pytest.approx(2.197, rel=0.01)
    assert fields["state"] == "completed"


@settings(max_examples=150)
@given(data=st.binary(max_size=400), cut=st.integers(0, 6000), name=st.sampled_from(sorted(EXPECTED)))
@example(data=b"", cut=0, name="07_torchtune_cruijff_fixture_two_epochs")
def test_damaged_text_never_raises(data, cut, name):
    whole = (LOGS / f"{name}.out").read_bytes()
    for text in (data, whole[:cut] + data + whole[cut:], whole[cut:], whole[:cut], data + whole[:cut][::-1]):
        fields = parse_text(text)
        assert fields is None or fields["state"]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0" * 5000,
        b"hello\n",
        b"Packing dataset: 100%|##| 5/5 [00:01<00:00, 4.0it/s]",
        b"Traceback (most recent call last):\nValueError: no\n",
    ],
)
def test_what_is_no_training_log_is_no_record(text):
    assert parse_text(text) is None


SLURM = b"slurmstepd: error: *** JOB 7 ON node1 CANCELLED AT 2026-01-02T03:04:05 "
HEAD = (
    b"INFO:torchtune.utils._logging:Running LoRAFinetuneRecipeSingleDevice with resolved config:\n\nbatch_size: 2\n\n"
)
DRAW = b"\r1|40|Loss: 1.0:  16%|#6        | 40/250 [00:19<01:44,  2.00it/s]"


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1 GiB", "oom"),
        (b"RuntimeError: CUDA error: out of memory\n", "oom"),
        (b"torch.OutOfMemoryError: HIP out of memory.", "oom"),
        (b"CUDA out of memory.\n" + SLURM + b"DUE TO TIME LIMIT ***", "oom"),
        (b"slurmstepd: error: Detected 1 oom-kill event(s) in step 7.0 cgroup.", "host_oom"),
        (b"RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate", "host_oom"),
        (SLURM + b"DUE TO TIME LIMIT ***", "timeout"),
        (SLURM + b"DUE TO PREEMPTION ***", "preempted"),
        (SLURM + b"DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS ***", "node_fail"),
        (SLURM + b"***", "cancelled"),
        (b"Traceback (most recent call last):\n  File x\nKeyboardInterrupt\n", "cancelled"),
        (b"Traceback (most recent call last):\n  File x\nKeyError: 'input'\n", "failed"),
        (b"I will stop here DUE TO TIME LIMIT of my patience", "unknown"),
    ],
)
def test_endings(text, state):
    assert parse_text(HEAD + DRAW + b"\n" + text)["state"] == state


def test_a_traceback_is_named_by_its_exception():
    text = b"[rank0]: Traceback (most recent call last):\n[rank0]:   File x\n[rank0]: KeyError: 'input'\n"
    assert ending(text, 0, finished=False).reason == "[rank0]: KeyError: 'input'"


def test_a_second_attempt_in_the_same_log_is_the_one_that_counts():
    first = HEAD.replace(b"batch_size: 2", b"batch_size: 16") + b"torch.OutOfMemoryError: CUDA out of memory.\n"
    fields = parse_text(first + HEAD + DRAW)
    assert (fields["batch_size"], fields["state"], fields["oom_batch_sizes"]) == (2, "unknown", (16,))
    failed = HEAD + b"ValueError: no such file\n"
    fields = parse_text(first + failed + first.replace(b"batch_size: 16", b"batch_size: 8") + HEAD + DRAW)
    assert fields["oom_batch_sizes"] == (16, 8)
    assert "oom_batch_sizes" not in parse_text(HEAD + DRAW)
    assert parse_text(HEAD + first)["state"] == "oom"


def test_saving_that_did_not_finish_is_not_completed():
    full = b"\r1|250|Loss: 1.0: 100%|##########| 250/250 [01:55<00:00,  2.00it/s]Starting checkpoint save...\n"
    head = HEAD.replace(b"batch_size: 2", b"batch_size: 2\nepochs: 1")
    assert parse_text(head + DRAW + full)["state"] == "unknown"
    assert parse_text(head + DRAW + full + b"Checkpoint saved in 3.10 seconds.\n")["state"] == "completed"
    assert parse_text(head + DRAW + full + b"Checkpoint saved in 3.10 seconds.\n")["checkpoint_s"] == (3.10,)


NUMBERS = st.sampled_from(["17", "17.", "17.25", "9.5", "1.5e+1", "0.00001", "1e1", "120.0", "2.5e1x"])
COLONS = st.sampled_from([":", "': ", "   "])
THREE = "peak_memory_active:{} peak_memory_alloc:{} peak_memory_reserved:{}"
SAID = st.lists(
    st.one_of(
        st.builds(THREE.format, NUMBERS, NUMBERS, NUMBERS),
        st.builds("peak_memory_{}{}{}".format, st.sampled_from(["active", "alloc", "reserved", "x"]), COLONS, NUMBERS),
        st.sampled_from([" ", "\n", "\r", ", ", "Step 3 | loss:1.0 "]),
    ),
    max_size=20,
)  # fmt: skip


@given(said=SAID)
@example(said=["peak_memory_active:1 peak_memory_alloc:2 peak_memory_reserved:3e5"])
def test_no_peak_is_lost_where_several_are_found_at_once(said):
    text = "".join(said)
    each = {
        kind: [
            float(number) for number in re.findall(rf"peak_memory_{word}['\"]?:? *(\d+(?:\.\d*)?(?:e[+-]?\d+)?)", text)
        ]
        for kind, word in (("allocated", "alloc"), ("active", "active"), ("reserved", "reserved"))
    }
    highest = {kind: max(numbers) for kind, numbers in each.items() if numbers and max(numbers) > 0}
    assert peak_memory(text.encode()) == (MemoryGib(**highest) if highest else None)


LINES = st.lists(
    st.sampled_from(
        ["a:", "b: 1", "  c: x", "  d:", "    - p", "    - q", "- r", "e: [1, 2]", "rank0: f: 1", "rank0:   g: 2",
         "0: h: 3", "0:   k: 4", "INFO:torch: l",
         "no key", "", "  m: null", "n.o: 'p'", "b: 2\r", "\r 5%|# | 1/2", "- s: t"]
    ),
    max_size=16,
)  # fmt: skip


@given(lines=LINES)
def test_sections_kept_from_other_configs_say_what_the_whole_says(lines):
    text = "\n".join(lines).encode()
    keys = [line.partition(":")[0] for line in lines if line[:1].isalpha()]
    assume(len(set(keys)) == len(keys))
    whole = {key: list(value) if isinstance(value, tuple) else value for key, value in _section(text)}
    assert flat_yaml(text) == whole


def test_peak_is_the_highest_logged_one_in_the_unit_of_its_version():
    lines = b"".join(
        b"Step %d | loss:1.0 peak_memory_active:%d.5 peak_memory_reserved:9.0 \n" % (i, i % 7) for i in range(50)
    )
    assert peak_memory(lines) == MemoryGib(active=6.5, reserved=9.0)
    old = (
        b"INFO:torchtune.utils.logging:Memory stats after model init:\n\tGPU peak memory allocation: 1.00 GB\n" + lines
    )
    fields = parse_text(old)
    assert fields["peak_memory_gib"] == MemoryGib(active=6.5 * GB, reserved=9.0 * GB)
    assert fields["init_memory_gib"] == MemoryGib(allocated=GB)
    assert parse_text(lines, "log_1723844072.txt")["peak_memory_gib"].active == pytest.approx(6.5 * GB)
    assert parse_text(lines, "log_1734708879.txt")["peak_memory_gib"].active == 6.5


@given(blocks=st.integers(1 << 21, 1 << 28), gigabytes=st.booleans(), rest=st.integers(1, 400))
def test_a_number_of_whole_blocks_shows_its_unit(blocks, gigabytes, rest):
    shown = f"{512 * blocks / (1e9 if gigabytes else 2**30)}"
    assume(len(shown.partition(".")[2]) >= 6)
    lines = f"Step 1 | loss:1.0 peak_memory_alloc:{shown} peak_memory_reserved:9.0\n".encode()
    assert parse_text(lines)["peak_memory_gib"].allocated == pytest.approx(512 * blocks / 2**30)
    rounded = f"wandb: peak_memory_alloc {(512 * blocks + rest) / 1e9:.5f}\n".encode()
    assert counts_gigabytes(rounded) is None


def test_the_first_block_s_numbers_are_no_peaks_wherever_a_text_begins():
    block = b"{'peak_memory_active': 9.478172672, 'peak_memory_alloc': 8.953868288}\n"
    head = b"Memory Stats after model init:\n" + block
    rest = b"INFO:torchtune.utils.logging:Dataset and Sampler are initialized.\n"
    step = b"Step 1 | loss:1.0 peak_memory_alloc:10.5\n"
    for text in (head + rest, head + head + rest, block + rest, block[5:] + rest):
        assert peak_memory(text) is None
        assert peak_memory(text + step) == MemoryGib(allocated=10.5)
    assert init_memory(b"loss 1.0\n\tGPU peak memory allocation: 6.41 GiB\n") is None


def test_the_words_before_a_signal_tell_the_cause_unless_an_exception_does():
    watchdog = "[rank1]:[E] [Rank 1] Watchdog caught collective operation timeout: WorkNCCL(OpType=ALLREDUCE)\n"
    launcher = "Traceback (most recent call last):\ntorch.errors.ChildFailedError: \n"
    signal = "  traceback : Signal 6 (SIGABRT) received by PID 41\n"
    text = f"1|5|Loss: 1.0: 50%|█| 5/10 [00:05<00:05, 1.0it/s]{watchdog}{launcher}{signal}"
    assert ending(text.encode(), 0, finished=False).state == "failed"
    assert ending(text.encode(), 0, finished=False).reason.endswith(watchdog.strip()[-60:])
    fault = text.replace(watchdog, "Memory access fault by GPU node-4 on address 0x6e000. Reason: Unknown.\n")
    assert "Memory access fault" in ending(fault.encode(), 0, finished=False).reason
    named = text.replace(launcher, f"{launcher}ValueError: bad sample 17\n")
    assert ending(named.encode(), 0, finished=False).reason == "ValueError: bad sample 17"
    assert ending((launcher + signal).encode(), 0, finished=False).reason == signal.strip()


@pytest.mark.parametrize(
    ("command", "recipe"),
    [
        ("tune run lora_dpo_distributed --config c.yaml", "lora_dpo_distributed"),
        ("tune run ./recipes/mine.py --config c.yaml", "mine"),
        ("tune run --nnodes 1 \\   \n  kd_distributed --config c.yaml", "kd_distributed"),
        ("tune run --nnodes 1 \\\nNov 23 00:01 kd_distributed --config c.yaml", "kd_distributed"),
        ("tune run quantize --config c.yaml", "quantize"),
        ("tune run --nproc_per_node 8 full_finetune_\ndistributed --config c.yaml", None),
    ],
)
def test_a_recipe_is_a_name_of_several_words(command, recipe):
    assert command_line(command.encode())[1].get("recipe") == recipe


def test_what_two_ranks_print_of_adapted_modules_counts_once():
    modules = ["q_proj", "q_proj", "v_proj", "v_proj"]
    fields = torchtune_fields({"model.lora_attn_modules": modules, "model.apply_lora_to_mlp": True})
    assert fields["lora_targets"] == ("q_proj", "v_proj", "mlp")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100-80"), ("NVIDIA A100-PCIE-40GB", "a100-40"), ("A100", "A100"),
        ("NVIDIA H100 80GB HBM3", "h100-80"), ("NVIDIA H100 PCIe", "h100-pcie-80"), ("NVIDIA H200", "h200-141"),
        ("Tesla T4", "t4-16"), ("Tesla V100-SXM2-16GB", "v100-16"), ("NVIDIA L40S", "l40s-48"), ("NVIDIA L4", "l4-24"),
        ("NVIDIA A10G", "a10g-24"), ("NVIDIA GeForce RTX 4090", "rtx4090-24"), ("NVIDIA RTX A6000", "rtxa6000-48"),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", "a100-mig-40"), ("AMD Instinct MI300X", "mi300x-192"),
        ("AMD Instinct MI250X", "mi250x-64"), ("AMD Instinct MI300A", "AMD Instinct MI300A"), ("nvidia_a40", "a40-48"),
        ("NVIDIA A30", "a30-24"), ("NVIDIA A30 MIG 1g.6gb", "NVIDIA A30 MIG 1g.6gb"), ("NVIDIA L40", "l40-48"),
        ("NVIDIA H200 MIG 1g.18gb", "NVIDIA H200 MIG 1g.18gb"), ("NVIDIA H100 NVL", "h100-nvl-94"),
        ("H100 94GB", "h100-94"), ("NVIDIA H20", "h20-96"), ("NVIDIA H20-3e",) * 2,
        ("NVIDIA A800-SXM4-80GB", "a100-80"), ("NVIDIA H800",) * 2,
        ("NVIDIA GB200", "gb200-186"), ("NVIDIA B200", "b200-180"), ("NVIDIA B300 SXM6 AC", "b300-270"),
        ("NVIDIA GB300", "NVIDIA GB300"), ("Quadro RTX 6000", "rtx6000-24"), ("rtx6000", "rtx6000"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx6000ada-48"), ("NVIDIA RTX 5000 Ada Generation",) * 2,
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx6000pro-96"), ("NVIDIA RTX A5000", "rtxa5000-24"),
        ("NVIDIA RTX A4000", "rtxa4000-16"), ("Quadro RTX 8000", "rtx8000-48"), ("NVIDIA TITAN RTX", "titanrtx-24"),
        ("NVIDIA GeForce RTX 2080 Ti", "rtx2080ti-11"), ("NVIDIA GeForce RTX 3080 Ti",) * 2,
        ("rtx4090-24", "rtx4090-24"), ("h100", "h100"),
    ],
)  # fmt: skip
def test_gpu_names(text, key):
    assert gpu_key(text) == key


def test_gpu_of_a_table_with_a_cut_name():
    table = b"| N/A   30C    P0    60W / 400W |\n|   0  NVIDIA A100-SXM...  On   | 00000000:07:00.0 Off |\n"
    assert gpu_in_text(table + b"| N/A   31C    P0    61W / 400W |      3MiB / 81920MiB |\n") == "a100-80"
    assert gpu_in_text(b"device: NVIDIA H100 80GB HBM3\n") == "h100-80"
    assert gpu_in_text(b"compares H100 and A100 in section 3") is None


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("--gres=gpu:1", {"num_gpus": 1}),
        ("--gres=gpu:a100:2", {"gpu": "a100", "num_gpus": 2}),
        ("--gpus=h100:4", {"gpu": "h100", "num_gpus": 4}),
        ("--constraint=gpu80", {"gpu": "a100-80"}),
        ("--gres=gpu:a100:1\n#SBATCH --constraint=gpu80", {"gpu": "a100-80", "num_gpus": 1}),
        ("--constraint=gpu80\n#SBATCH --gres=gpu:h100:1", {"gpu": "h100", "num_gpus": 1}),
        ("--constraint=a100|h100", {}),
        ("--constraint=intel", {}),
        ("--mem=32G", {"asked_mem_gib": 32.0}),
        ("--mem 64000M", {"asked_mem_gib": 62.5}),
        ("--mem=0", {}),
        ("--gres=gpu:a100:2 --mem=32G", {"gpu": "a100", "num_gpus": 2, "asked_mem_gib": 32.0}),
        ("--mem-per-gpu=32G", {}),
        ("--mem=lots", {}),
        ("--gres=gpu:nvidia_a100-sxm4-80gb:1", {"gpu": "a100-80", "num_gpus": 1}),
    ],
)
def test_requests_of_job_scripts(line, fields):
    assert script_fields(f"#!/bin/bash\n#SBATCH {line}\n".encode()) == fields


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Llama-3.2-1B-Instruct", 1.236), ("meta-llama/Llama-3.1-8B", 8.03), ("Meta-Llama-3-8B-Instruct", 8.03),
        ("Llama-2-7b-hf", 6.738), ("lora_qwen2_5_1_5b_base", 1.544), ("lora_qwen2_1_5b", 1.544),
        ("gemma-2-9b-it", 9.242), ("Qwen2.5-0.5B-Instruct", 0.494), ("my-model-7B", None), (None, None),
    ],
)  # fmt: skip
def test_known_models_have_their_size_and_others_none(name, billions):
    assert params_b(name) == billions


def test_shipped_configs_name_their_model():
    assert model_from_config_name("llama3_2/3B_lora_single_device") == "llama3_2_3b"
    assert model_from_config_name("./mine/8B.yaml") is None


def test_flat_yaml_reads_what_torchtune_prints():
    text = b"a: 1\nb:\n  _component_: x.y\n  list:\n  - q_proj\n  - v_proj\n  deep:\n    z: 1e-5\nc: null\nd: 'a: b'\n"
    text += b"e: [p, 'q']\nf: true # why\ng: text with spaces\n"
    assert flat_yaml(text) == {
        "a": 1, "b._component_": "x.y", "b.list": ["q_proj", "v_proj"], "b.deep.z": 1e-5, "d": "a: b",
        "e": ["p", "q"], "f": True, "g": "text with spaces",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "quantised"),
    [
        (b"model:\n  _component_: torchtune.models.llama3_1.qlora_llama3_1_8b\n", True),
        (b"model:\n  _component_: torchtune.models.llama3_1.lora_llama3_1_8b\n", False),
        (b"model:\n  _component_: torchtune.models.llama3_2.lora_llama3_2\n  quantize_base: true\n", True),
        (b"model:\n  _component_: torchtune.models.llama3_1.llama3_1_8b\n", None),
        (b"batch_size: 2\n", None),
    ],
)
def test_weights_in_four_bits_are_seen_in_the_builder(text, quantised):
    assert torchtune_fields(flat_yaml(text)).get("quantize_base") is quantised


@pytest.mark.parametrize(
    ("line", "quantised"),
    [
        (b"tune run lora_finetune_single_device --config llama3_1/8B_qlora_single_device", True),
        (b"tune run lora_finetune_single_device --config x.yaml model.quantize_base=True", True),
        (b"tune run lora_finetune_single_device --config x.yaml model=torchtune.models.llama3.qlora_llama3_8b", True),
        (b"tune run lora_finetune_single_device --config x.yaml", None),
    ],
)
def test_weights_in_four_bits_are_seen_in_the_command(line, quantised):
    overrides, fields = command_line(line + b"\n")
    assert (fields | torchtune_fields(overrides)).get("quantize_base") is quantised


@pytest.mark.parametrize(
    ("words", "quantised"),
    [(b"load_in_4bit=True", True), (b'"load_in_4bit": false,', False), (b"load_in_8bit: true", None)],
)
def test_weights_in_four_bits_are_seen_in_other_trainers_settings(words, quantised):
    assert hugging_face_fields(b"x " + words + b" y").get("quantize_base") is quantised


def test_labelled_lines_of_srun_are_read():
    text = b"0: Running LoRAFinetuneRecipeDistributed with resolved config:\n0: \n0: batch_size: 4\n0: epochs: 3\n"
    fields = parse_text(text + b"0: model:\n0:   lora_rank: 8\n0: \n0: Setting manual seed to local seed 1.\n")
    assert (fields["batch_size"], fields["epochs"], fields["lora_rank"]) == (4, 3, 8)


def test_what_slurm_says_behind_a_bar_is_the_reason_alone():
    said = parse_text(b"{'loss': 1.0}\n  5%|#    | 5/100 [00:10<03:10,  2.00s/it]" + SLURM + b"DUE TO TIME LIMIT ***\n")
    assert said["state"] == "timeout"
    assert said["reason"].startswith("slurmstepd: error: *** JOB 7")


def test_a_launcher_s_exception_is_not_the_cause_where_a_process_tells_its_own():
    said = parse_text(
        b"{'loss': 1.0}\nTraceback (most recent call last):\nRuntimeError: DataLoader worker exited unexpectedly\n"
        b"Traceback (most recent call last):\nsubprocess.CalledProcessError: Command 'torchrun' returned 1\n"
    )
    assert said["reason"] == "RuntimeError: DataLoader worker exited unexpectedly"
