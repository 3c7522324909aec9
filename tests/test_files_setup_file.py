from __future__ import annotations

import yaml
from factories_plan import make_plan
from omegaconf import OmegaConf

from runplan.files.setup_file import setup_finetune

KEYS = [
    "my_wandb_project", "my_wandb_run_name", "input_formatting", "dataset_label", "dataset_ext", "input_dir_base",
    "output_dir_base", "models_dir", "batch_size", "gradient_accumulation_steps", "epochs", "lora_rank", "lr",
    "num_warmup_steps", "lr_scheduler", "dataset_type", "max_steps_per_epoch", "log_every_n_steps",
    "run_val_every_n_steps", "system_prompt", "train_on_input", "time", "gpus", "conda_env", "account", "partition",
    "constraint", "custom_recipe",
]  # fmt: skip


def read(plan, index=0):
    return yaml.safe_load(setup_finetune(plan, plan.runs[index]))


def test_flat_keys_with_the_values_a_set_up_script_expects():
    values = read(make_plan())
    assert list(values)[: len(KEYS)] == KEYS
    assert not any(isinstance(value, dict) for value in values.values())
    assert values["input_dir_base"] + values["dataset_label"] + values["dataset_ext"] == "/data/words_8L_80P_10000.json"
    assert values["models_dir"] + values["model_checkpoint"] == "/models/Llama-3.2-1B-Instruct"
    assert values["output_dir_base"] == "/out/ranks/"
    assert (values["lr"], values["time"], values["lora_rank"]) == (3e-4, "00:30:00", 4)
    assert values["lr_scheduler"] == "get_cosine_schedule_with_warmup"
    assert values["dataset_type"] == "instruct_dataset"
    assert values["custom_recipe"] == "lora_finetune_single_device_val"


def test_small_learning_rates_stay_numbers_for_every_reader():
    plan = make_plan({"optimizer.lr": [1e-5]})
    text = setup_finetune(plan, plan.runs[0])
    assert yaml.safe_load(text)["lr"] == OmegaConf.create(text).lr == 1e-5


def test_without_validation_its_interval_is_0():
    assert read(make_plan({"validation": [False]}))["run_val_every_n_steps"] == 0
    assert read(make_plan())["run_val_every_n_steps"] == 50


def test_times_that_yaml_would_read_as_numbers_stay_text():
    plan = make_plan()
    plan.runs[0].config.resources.time = "12:30:00"
    text = setup_finetune(plan, plan.runs[0])
    assert yaml.safe_load(text)["time"] == OmegaConf.create(text).time == "12:30:00"


def test_hostile_prompts_survive():
    hostile = 'a\'; echo x\n# {input}: "%" \t日本'
    assert read(make_plan({"system_prompt": [hostile]}))["system_prompt"] == hostile
