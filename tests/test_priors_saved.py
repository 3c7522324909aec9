"""What trainers save beside their logs: adapters' configurations of PEFT and torchtune, ms-swift's arguments."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.priors.argument_files import arguments_of
from runplan.priors.read import read_priors
from runplan.priors.saved import adapter_fields, results_fields, swift_fields

ALL = ("q_proj", "k_proj", "v_proj", "output_proj", "mlp")
PEFT = {
    "alpha_pattern": {}, "auto_mapping": None, "base_model_name_or_path": "meta-llama/Llama-3.2-1B-Instruct",
    "bias": "none", "fan_in_fan_out": False, "inference_mode": True, "init_lora_weights": True, "layers_pattern": None,
    "lora_alpha": 32, "lora_dropout": 0.05, "modules_to_save": None, "peft_type": "LORA", "r": 16, "rank_pattern": {},
    "revision": None, "target_modules": ["v_proj", "down_proj", "q_proj", "o_proj", "k_proj", "up_proj", "gate_proj"],
    "task_type": "CAUSAL_LM", "use_dora": False, "use_rslora": False,
}  # fmt: skip
TORCHTUNE = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj", "o_proj"], "peft_type": "LORA"}
SWIFT = {
    "output_dir": "/data/output/v0-20250526-162705", "do_train": False, "per_device_train_batch_size": 2,
    "per_device_eval_batch_size": 1, "gradient_accumulation_steps": 8, "num_train_epochs": 3.0, "max_steps": -1,
    "bf16": True, "fp16": False, "gradient_checkpointing": True, "model": "Qwen/Qwen2.5-7B-Instruct",
    "model_type": "qwen2_5", "torch_dtype": "bfloat16", "max_length": 2048, "packing": False,
    "dataset": ["AI-ModelScope/alpaca-gpt4-data-en#500"], "quant_method": None, "quant_bits": None,
    "train_type": "lora", "target_modules": ["all-linear"], "lora_rank": 8, "lora_alpha": 32, "lora_dropout": 0.05,
    "rank": -1, "local_rank": -1, "global_world_size": 1, "local_world_size": 1, "model_suffix": "Qwen2.5-7B-Instruct",
}  # fmt: skip
LOG = """{'loss': 1.2, 'grad_norm': 0.4, 'learning_rate': 1e-05, 'epoch': 0.5}
100%|##########| 40/40 [01:20<00:00,  2.00s/it]
{'train_runtime': 80.5, 'train_samples_per_second': 4.0, 'train_steps_per_second': 0.497, 'train_loss': 1.1, 'epoch': 1}
"""
STEPS = "".join(
    json.dumps({
        "loss": 1.5, "token_acc": 0.6, "grad_norm": 0.9, "learning_rate": 1e-5, "memory(GiB)": 20.1,
        "train_speed(iter/s)": 0.25, "epoch": 0.1 * step, "global_step/max_steps": f"{step}/10",
        "percentage": f"{10 * step}.00%", "elapsed_time": f"{4 * step}s", "remaining_time": f"{40 - 4 * step}s",
    }) + "\n"
    for step in (1, 5, 10)
)  # fmt: skip


def adapter(**changes):
    return adapter_fields(json.dumps(PEFT | changes).encode())


def swift(**changes):
    return swift_fields(json.dumps(SWIFT | changes).encode())


def test_adapters_say_what_they_sit_on_and_how_large_they_are():
    assert adapter() == {
        "model": "Llama-3.2-1B-Instruct", "params_b": 1.236, "lora_rank": 16, "lora_alpha": 32.0, "lora_targets": ALL,
    }  # fmt: skip
    assert adapter_fields(json.dumps(TORCHTUNE).encode()) == {
        "lora_rank": 8, "lora_alpha": 16.0, "lora_targets": ("q_proj", "v_proj", "output_proj"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("modules", "targets"),
    [
        (r"^(model(?=\.).*\.(k_proj|up_proj|v_proj|down_proj|gate_proj|o_proj|q_proj))$", ALL),
        (r"^(?!.*visual).*(?:o_proj|up_proj|v_proj|down_proj|k_proj|q_proj|gate_proj).*", ALL),
        (r"(?:.*?(?:self_attn|mlp).*?(?:k_proj|fc1).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:mlp)\.(?:(?:q_proj|v_proj)))",
         ("q_proj", "v_proj")),
        (r"^(model)(?!.*(lm_head|output|emb|wte|shared)).*", None),
        (r".*\.(self_attn|mlp)$", None),
        ("all-linear", ALL),
        (["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"], ("q_proj",)),
        (["query_key_value", "q_proj"], None),
        (None, None),
        ([], None),
    ],
)  # fmt: skip
def test_modules_as_lists_and_as_expressions(modules, targets):
    assert adapter(target_modules=modules).get("lora_targets") == targets


def test_what_is_not_the_same_everywhere_or_not_known_is_not_said():
    assert "lora_rank" not in adapter(rank_pattern={"model.layers.0.q_proj": 4})
    assert "lora_alpha" not in adapter(alpha_pattern={"model.layers.0.q_proj": 4})
    assert "model" not in adapter(base_model_name_or_path="/scratch/me/base")
    assert adapter(base_model_name_or_path=None)["lora_rank"] == 16
    assert adapter(peft_type="PREFIX_TUNING") == {}
    assert adapter(base_model_name_or_path="unsloth/Meta-Llama-3.1-8B-bnb-4bit")["quantize_base"] is True
    unknown = adapter(target_modules="all-linear", base_model_name_or_path="microsoft/Phi-3-mini-4k-instruct")
    assert "lora_targets" not in unknown


def test_arguments_of_swift():
    assert swift() == {
        "model": "Qwen2.5-7B-Instruct", "params_b": 7.616, "lora_rank": 8, "lora_alpha": 32.0, "lora_targets": ALL,
        "batch_size": 2, "gradient_accumulation_steps": 8, "max_seq_len": 2048, "packed": False, "dtype": "bf16",
        "activation_checkpointing": True, "dataset": "AI-ModelScope/alpaca-gpt4-data-en", "epochs": 3,
    }  # fmt: skip
    whole = swift(train_type="full", global_world_size=4, max_steps=200, dataset=["a", "b"], quant_bits=4)
    assert whole["num_gpus"] == 4
    assert whole["quantize_base"] is True
    assert not {"lora_rank", "lora_alpha", "lora_targets", "epochs", "dataset"} & whole.keys()
    assert "epochs" not in swift(num_train_epochs=0.5)


# As ms-swift 1.6 saved it; 2.x had the same names.
OLD_SWIFT = {
    "model_type": "qwen-1_8b", "model_id_or_path": "qwen/Qwen-1_8B", "sft_type": "lora", "tuner_backend": "swift",
    "dtype": "bf16", "dataset": ["jd-sentiment-zh"], "max_length": 2048, "quantization_bit": 0,
    "lora_target_modules": ["c_attn"], "lora_rank": 8, "lora_alpha": 32, "gradient_checkpointing": True,
    "batch_size": 1, "eval_batch_size": 1, "num_train_epochs": 1, "max_steps": -1, "gradient_accumulation_steps": 16,
    "per_device_train_batch_size": None, "torch_dtype": "torch.bfloat16", "bf16": True, "load_in_4bit": False,
}  # fmt: skip


def old_swift(**changes):
    return swift_fields(json.dumps(OLD_SWIFT | changes).encode())


def test_arguments_of_ms_swift_before_3():
    assert old_swift() == {
        "model": "Qwen-1_8B", "lora_rank": 8, "lora_alpha": 32.0, "batch_size": 1, "gradient_accumulation_steps": 16,
        "max_seq_len": 2048, "dtype": "bf16", "activation_checkpointing": True, "dataset": "jd-sentiment-zh",
        "epochs": 1,
    }  # fmt: skip
    large = old_swift(model_id_or_path="qwen/Qwen2-7B-Instruct", lora_target_modules=["ALL"], quantization_bit=4)
    assert (large["lora_targets"], large["quantize_base"]) == (ALL, True)
    assert old_swift(world_size=4)["num_gpus"] == 4
    assert "lora_rank" not in old_swift(sft_type="full")


def test_arguments_of_other_programs_say_nothing():
    other = {key: value for key, value in SWIFT.items() if key != "train_type"}
    assert swift_fields(json.dumps(other).encode()) == {}
    assert swift_fields(b'{"lr": 0.1, "batch_size": 32, "hidden": 128}') == {}


@given(st.binary(max_size=40) | st.sampled_from([b"[]", b"null", b'{"peft_type": "LORA"}', b"{" * 9999, b"[" * 99999]))
def test_damaged_files_say_nothing(text):
    assert adapter_fields(text) == swift_fields(text) == {}


def read(root):
    runs = read_priors([str(root)], None, root.parent / "cache", root).runs
    return {run.path.removeprefix(f"{root}/"): run for run in runs}


@pytest.mark.parametrize("folder", ["", "checkpoint-40/", "epoch_0/"])
def test_adapters_saved_beside_the_only_log_of_a_folder_are_its_own(tmp_path, folder):
    place = f"{folder}adapter_config.json"
    run = tmp_path / "runs" / "one"
    (run / place).parent.mkdir(parents=True, exist_ok=True)
    (run / "train.log").write_text(LOG)
    (run / place).write_text(json.dumps(PEFT))
    record = read(tmp_path / "runs")["one/train.log"]
    assert (record.lora_rank, record.lora_alpha, record.lora_targets) == (16, 32.0, ALL)
    assert (record.model, record.params_b, record.steps_done) == ("Llama-3.2-1B-Instruct", 1.236, 40)


def test_adapters_of_other_runs_are_nobodys(tmp_path):
    root = tmp_path / "runs"
    (root / "below").mkdir(parents=True)
    (root / "adapter_config.json").write_text(json.dumps(PEFT))
    (root / "below" / "train.log").write_text(LOG)
    assert read(root)["below/train.log"].lora_rank is None
    (root / "slurm-1.out").write_text(LOG)
    assert read(root)["slurm-1.out"].lora_rank == 16
    (root / "slurm-2.out").write_text(LOG)
    assert {run.lora_rank for run in read(root).values()} == {None}


def test_adapters_that_contradict_the_log_or_are_younger_are_another_runs(tmp_path):
    (tmp_path / "train.log").write_text("--lora_r 8 --per_device_train_batch_size 2\n" + LOG)
    saved = tmp_path / "adapter_config.json"
    saved.write_text(json.dumps(PEFT))
    record = read(tmp_path)["train.log"]
    assert (record.lora_rank, record.lora_alpha, record.model) == (8, None, None)
    saved.write_text(json.dumps(PEFT | {"r": 8}))
    assert read(tmp_path)["train.log"].lora_alpha == 32.0
    written = (tmp_path / "train.log").stat().st_mtime
    os.utime(saved, (written + 3600, written + 3600))
    assert read(tmp_path)["train.log"].lora_alpha is None


def test_a_model_that_a_log_names_is_not_given_the_size_of_another(tmp_path):
    (tmp_path / "train.log").write_text("--model_name_or_path me/own-model --lora_alpha 32\n" + LOG)
    (tmp_path / "adapter_config.json").write_text(json.dumps(PEFT))
    record = read(tmp_path)["train.log"]
    assert (record.model, record.params_b, record.lora_rank) == ("own-model", None, 16)


def test_arguments_beside_steps_of_swift(tmp_path):
    folder = tmp_path / "v0-20250526-162705"
    folder.mkdir()
    (folder / "logging.jsonl").write_text(STEPS)
    (folder / "args.json").write_text(json.dumps(SWIFT))
    record = read(tmp_path)["v0-20250526-162705/logging.jsonl"]
    assert (record.model, record.lora_rank, record.batch_size) == ("Qwen2.5-7B-Instruct", 8, 2)
    assert (record.steps_total, record.max_seq_len, record.dtype) == (10, 2048, "bf16")


def test_arguments_beside_steps_of_swift_before_3(tmp_path):
    folder = tmp_path / "v0-20240128-024328"
    folder.mkdir()
    steps = [{"loss": 1.5, "acc": 0.6, "train_speed(iter/s)": 0.25, "epoch": 0.1, "global_step": i} for i in (1, 5, 10)]
    (folder / "logging.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    (folder / "sft_args.json").write_text(json.dumps(OLD_SWIFT))
    record = read(tmp_path)["v0-20240128-024328/logging.jsonl"]
    assert (record.trainer, record.model, record.lora_rank, record.batch_size) == ("swift", "Qwen-1_8B", 8, 1)
    assert (record.steps_done, record.steps_total) == (10, None)


RUNNING = """[INFO|2025-04-29 14:31:38] logging.py:143 >> trainable params: 32,112,640 || all params: 14,800,419,840
[INFO|2025-04-29 14:31:39] trainer.py:2414 >> ***** Running training *****
[INFO|2025-04-29 14:31:39] trainer.py:2415 >>   Num examples = 28,762
[INFO|2025-04-29 14:31:39] trainer.py:2416 >>   Num Epochs = 3
[INFO|2025-04-29 14:31:39] trainer.py:2417 >>   Instantaneous batch size per device = 2
[INFO|2025-04-29 14:31:39] trainer.py:2420 >>   Total train batch size (w. parallel, distributed & accumulation) = 112
[INFO|2025-04-29 14:31:39] trainer.py:2421 >>   Gradient Accumulation steps = 8
[INFO|2025-04-29 14:31:39] trainer.py:2422 >>   Total optimization steps = 768
[INFO|2025-04-29 16:11:20] trainer.py:2681 >>\nTraining completed. Do not forget to share your model on a hub
"""
ARGUMENTS = """bf16: true
cutoff_len: 32768
finetuning_type: lora
gradient_accumulation_steps: 8
lora_alpha: 16  # twice the rank
lora_rank: 8
model_name_or_path: /dev/shm/Qwen/Qwen3-14B
num_train_epochs: 3.0
packing: false
per_device_train_batch_size: 2
# learning_rate: 1.0
"""
RESULTS = {"epoch": 2.9965936739659367, "train_loss": 0.97, "train_runtime": 5980.6912, "train_steps_per_second": 0.128}


def test_the_folder_of_llama_factory_tells_what_its_log_does_not(tmp_path):
    (tmp_path / "running_log.txt").write_text(RUNNING)
    (tmp_path / "training_args.yaml").write_text(ARGUMENTS)
    (tmp_path / "llamaboard_config.yaml").write_text("top.model_name: Qwen3-14B\ntrain.batch_size: 2\n")
    (tmp_path / "train_results.json").write_text(json.dumps(RESULTS))
    record = read(tmp_path)["running_log.txt"]
    assert (record.model, record.params_b, record.num_gpus) == ("Qwen3-14B", 14.768307, 7)
    assert (record.lora_rank, record.lora_alpha, record.max_seq_len, record.packed) == (8, 16.0, 32768, False)
    assert (record.steps_done, record.steps_total, record.wall_s, record.state) == (768, 768, 5980.6912, "completed")
    assert record.s_per_step == pytest.approx(5980.6912 / 768)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("other.yaml", ARGUMENTS.replace("lora_rank: 8", "lora_rank: 64")),  # which one was it?
        ("slurm-8.out", LOG),  # whose arguments are they?
    ],
)
def test_arguments_that_may_be_another_run_s_say_nothing(tmp_path, name, text):
    (tmp_path / "slurm-7.out").write_text(RUNNING)
    (tmp_path / "training_args.yaml").write_text(ARGUMENTS)
    assert read(tmp_path)["slurm-7.out"].lora_rank == 8
    (tmp_path / name).write_text(text)
    assert read(tmp_path)["slurm-7.out"].lora_rank is None


def test_results_of_a_run_that_stopped_early_or_goes_on_tell_no_speed(tmp_path):
    (tmp_path / "slurm-7.out").write_text(RUNNING)
    (tmp_path / "all_results.json").write_text(json.dumps(RESULTS | {"epoch": 1.5}))
    record = read(tmp_path)["slurm-7.out"]
    assert (record.wall_s, record.steps_done, record.s_per_step) == (5980.6912, None, None)
    (tmp_path / "slurm-7.out").write_text(RUNNING.partition("Training completed")[0])
    assert read(tmp_path)["slurm-7.out"].wall_s is None


@given(st.binary(max_size=40) | st.sampled_from([b"[]", b'{"train_runtime": "x", "epoch": 1}', b"{" * 9999]))
def test_damaged_results_say_nothing(text):
    assert results_fields(text) == {}


AXOLOTL = "base_model: NousResearch/Llama-3.2-1B\nadapter: {}\nlora_r: 16\nmicro_batch_size: 2\nload_in_4bit: true\n"


def test_arguments_of_axolotl():
    said = arguments_of([AXOLOTL.format("qlora").encode()])
    assert said.items() >= {"model": "Llama-3.2-1B", "lora_rank": 16, "batch_size": 2, "quantize_base": True}.items()
    assert "lora_rank" not in arguments_of([AXOLOTL.format("").encode()])
    assert "lora_rank" not in arguments_of([b"per_device_train_batch_size: 1\nfinetuning_type: full\nlora_rank: 8\n"])
