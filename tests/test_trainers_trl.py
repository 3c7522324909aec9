"""What is written for TRL: finetune.yaml, its rungs, the rows; and what TRL is not asked to do."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace

import pytest
import yaml
from factories import make_config, make_plan, make_run, make_templates
from hypothesis import given
from hypothesis import strategies as st

from runplan.config import DatasetType, Dtype, MetricLogger
from runplan.errors import Problem
from runplan.facts import Status
from runplan.jobs.cells import cell_facts
from runplan.jobs.scripts import job_files
from runplan.paths import RECIPES_DIR
from runplan.plan import Rung
from runplan.recipe import choose_recipe
from runplan.trainers import known, trl, trl_settings
from runplan.trainers.chat import training_template

HOSTILE = 'a\'; echo "x" ${HOME} $(id)\n# é {b: c}'


def planned(**asked):
    return make_run(make_config(trainer="trl", **asked))


def written(run):
    return trl.training_files(make_plan(run), run, make_templates())


def config_of(**asked):
    return yaml.safe_load(written(planned(**asked))["finetune.yaml"])


def test_everything_a_run_needs_is_there():
    run = planned()
    files = written(run)
    programs = {"sft.py", "rows.py", "resume.py"}
    assert files.keys() == {"finetune.yaml", "chat_template.jinja", "rows.json", *programs}
    assert all(files[name] == (RECIPES_DIR / name).read_text() for name in programs)
    assert files["chat_template.jinja"] == training_template("llama3_2", DatasetType.instruct)
    tree = yaml.safe_load(files["finetune.yaml"])
    assert tree["lora_target_modules"] == ["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    expected = {
        "dtype": "bfloat16", "bf16": True, "use_cpu": False, "lora_r": 8, "lora_alpha": 16, "packing": False,
        "gradient_checkpointing": True, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 4,
        "learning_rate": 3e-4, "weight_decay": 0.01, "warmup_steps": 10, "lr_scheduler_type": "cosine",
        "max_grad_norm": 0.0, "eval_strategy": "steps", "eval_steps": 10, "save_strategy": "epoch", "seed": 14,
        "max_steps": -1, "num_train_epochs": 1, "report_to": "none", "assistant_only_loss": True, "max_length": 2048,
        "optim": "adamw_torch_fused", "train_sampling_strategy": "random", "logging_steps": 1,
    }  # fmt: skip
    assert {key: tree[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"dtype": Dtype.fp32}, {"dtype": "float32", "bf16": False}),
        ({"trainer__device": "cpu"}, {"use_cpu": True, "optim": "adamw_torch", "dtype": "float32", "bf16": False}),
        ({"validation": False}, {"eval_strategy": "no"}),
        ({"optimizer__lr_scheduler": "none"}, {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 0}),
        ({"optimizer__clip_grad_norm": 1.0}, {"max_grad_norm": 1.0}),
        ({"trainer__shuffle": False}, {"train_sampling_strategy": "sequential"}),
        ({"dataset__train_on_input": True}, {"assistant_only_loss": False}),
        ({"dataset__type": "text"}, {"assistant_only_loss": False}),
        ({"trainer__max_steps_per_epoch": 7}, {"max_steps": 7}),
        ({"trainer__metric_logger": MetricLogger.wandb}, {"report_to": "wandb"}),
        ({"lora": "attention-only"}, {"lora_target_modules": ["q_proj", "v_proj"]}),
        ({"packed": True, "activation_checkpointing": False}, {"packing": True, "gradient_checkpointing": False}),
    ],
)
def test_settings_become_arguments(asked, expected):
    tree = config_of(**asked)
    assert {key: tree[key] for key in expected} == expected


def test_a_rung_differs_in_its_batch_alone():
    rung = Rung("finetune.rung1.yaml", 2, 8, activation_checkpointing=False)
    files = written(replace(planned(), rungs=(rung,)))
    whole, other = (yaml.safe_load(files[name]) for name in ("finetune.yaml", rung.file))
    assert {key for key in whole if whole[key] != other[key]} == {
        *("per_device_train_batch_size", "per_device_eval_batch_size"),
        *("gradient_accumulation_steps", "gradient_checkpointing"),
    }
    assert (other["per_device_train_batch_size"], other["gradient_accumulation_steps"]) == (2, 8)


@pytest.mark.parametrize(("gpus", "starts"), [(1, "python sft.py --config"), (4, "torchrun --standalone")])
def test_one_process_a_gpu(gpus, starts):
    run = planned(resources__gpus=gpus, site__wandb_project=HOSTILE)
    script = job_files(make_plan(run), run, make_templates())["finetune.slurm"]
    assert f"  run {starts}" in script
    assert ("--nproc_per_node 4" in script) == (gpus == 4)
    assert ("CUDA_VISIBLE_DEVICES=" in script) == (gpus == 1)
    assert "--metrics_dir logs" in script


def test_hostile_texts_stay_texts(tmp_path):
    run = planned(system_prompt=HOSTILE, prompt=f"{HOSTILE} {{input}}", dataset__path=HOSTILE)
    files = written(run)
    assert yaml.safe_load(files["finetune.yaml"])["lora_r"] == 8
    asked = json.loads(files["rows.json"])
    assert (asked["system_prompt"], asked["prompt"]) == (HOSTILE, f"{HOSTILE} {{input}}")


def test_evaluations_load_adapters_on_their_base():
    from job_plans import cell

    facts = cell_facts(planned(), cell(epoch=0))
    assert (facts["weights"], facts["model_path"]) == ("adapter", "artifacts/epoch_0")


@pytest.mark.parametrize(
    ("asked", "where", "fix"),
    [
        ({"lora__apply_to_output": True}, "lora.apply_to_output", "lora.apply_to_output=false"),
        ({"lora": "dora"}, "lora.use_dora", "trainer=torchtune"),
        ({"lora__alpha": 2.5}, "lora.alpha", "lora.alpha=2"),
        ({"lora__attn_modules": [], "lora__apply_to_mlp": False}, "lora.attn_modules", "q_proj"),
        ({"trainer__save_adapter_weights_only": False}, "trainer.save_adapter_weights_only", "=true"),
        ({"epochs": 2, "trainer__max_steps_per_epoch": 5}, "trainer.max_steps_per_epoch", "dataset.train_rows="),
        ({"compile": True}, "compile", "compile=false"),
        ({"trainer__activation_offloading": True}, "trainer.activation_offloading", "=false"),
        ({"max_seq_len": 10**6}, "max_seq_len", "131072"),
        ({"trainer__shuffle": False, "resources__gpus": 2}, "trainer.shuffle", "resources.gpus=1"),
    ],
)
def test_what_trl_cannot_do_is_said_with_what_would_work(asked, where, fix):
    config = make_config(trainer="trl", **asked)
    (problem,) = trl_settings.setting_problems(config, planned().model.architecture)
    assert problem.where == where
    assert fix in problem.fix


def test_nothing_is_wrong_with_the_defaults():
    assert trl_settings.setting_problems(make_config(trainer="trl"), planned().model.architecture) == ()


@pytest.mark.parametrize(
    ("asked", "says", "fix"),
    [
        ({"recipe": "lora_finetune_single_device"}, "is one of torchtune", "recipe=auto"),
        ({"recipe__custom": "mine.py"}, "recipe of torchtune", "trainer=torchtune"),
        ({"trainer__version": "0.9.0"}, "'0.9.0'", "1.16.0"),
        ({"trainer__device": "cpu", "resources__gpus": 2}, "needs trainer.device=cuda", "resources.gpus=1"),
        ({"recipe": "sft", "trainer__device": "cpu", "resources__gpus": 2}, "not cpu", "resources.gpus=1"),
        ({"resources__gpus": 8, "resources__gpus_per_node": 4}, "a node has 4", "resources.gpus=4"),
        ({"lora__quantize_base": True}, "no frozen weights in 4 bits", "trainer=torchtune"),
    ],
)
def test_impossible_recipes_name_what_would_work(asked, says, fix):
    problem = choose_recipe(make_config(trainer="trl", **asked))
    assert isinstance(problem, Problem)
    assert says in problem.what
    assert fix in problem.fix


@given(gpus=st.integers(1, 8), validation=st.booleans(), named=st.booleans())
def test_one_program_does_everything(gpus, validation, named):
    asked = {"recipe__name": "sft"} if named else {}
    recipe = choose_recipe(make_config(trainer="trl", resources__gpus=gpus, validation=validation, **asked))
    assert (recipe.name, recipe.shipped) == ("sft", "sft.py")
    assert (recipe.distributed, recipe.validation) == (gpus > 1, validation)


def test_of_models_that_torchtune_has_not_nothing_refers_to_it():
    shape = planned().model.architecture
    config = make_config(trainer="trl", compile=True)
    (llama, qwen3) = (
        known.TRL.setting_problems(config, replace(shape, family=name))[0].fix for name in ("llama3_2", "qwen3")
    )
    assert llama == "use compile=false, or use trainer=torchtune, which does"
    assert qwen3 == "use compile=false"
    four_bits = make_config(trainer="trl", model="qwen3-4B", lora__quantize_base=True)
    assert choose_recipe(four_bits).fix == "use lora.quantize_base=false"


def test_models_without_a_known_chat_format_are_refused():
    model = planned().model
    assert known.TRL.model_findings(model) == ()
    old = replace(model, architecture=replace(model.architecture, family="llama2"))
    (found,) = known.TRL.model_findings(old)
    assert found.status is Status.invalid
    assert "trainer=torchtune" in found.fix
    assert known.TRL.model_findings(replace(model, architecture=None)) == ()


def rows_of(tmp_path, document, **changes):
    """What rows.py writes."""
    text = document if isinstance(document, str) else json.dumps(document)
    (tmp_path / "data.json").write_text(text, encoding="utf-8")
    asked = {
        "source": str(tmp_path / "data.json"), "type": "instruct", "system_prompt": "", "prompt": "{input}",
        "columns": {"input": "input", "output": "output", "messages": "messages", "text": "text"},
        "splits": {"train": {"field": "train", "rows": None}},
    } | changes  # fmt: skip
    (tmp_path / "rows.json").write_text(json.dumps(asked))
    runpy.run_path(str(RECIPES_DIR / "rows.py"))["main"](tmp_path / "rows.json", tmp_path / "made")
    return {
        path.stem: [json.loads(line)["messages"] for line in path.read_text().splitlines()]
        for path in (tmp_path / "made").iterdir()
    }


PAIR = {"input": "hi", "output": "Hi"}


def said(*turns):
    return [{"role": role, "content": text} for role, text in turns]


def test_rows_are_conversations_with_prompt_and_system_prompt(tmp_path):
    made = rows_of(tmp_path, {"train": [PAIR]}, system_prompt=HOSTILE, prompt="Q: {input}?")
    assert made == {"train": [said(("system", HOSTILE), ("user", "Q: hi?"), ("assistant", "Hi"))]}


def test_rows_of_chat_keep_their_turns_and_take_the_runs_system_prompt(tmp_path):
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    turns = [*said(("system", "old"), ("user", "x"), ("assistant", "y")), {"role": "user", "content": parts}]
    document = {"t": [{"talk": turns}]}
    columns = {"messages": "talk"}
    asked = {"type": "chat", "columns": columns, "splits": {"train": {"field": "t", "rows": None}}}
    kept, ours = (rows_of(tmp_path, document, **asked, system_prompt=text)["train"] for text in ("", "new"))
    assert kept == [said(("system", "old"), ("user", "x"), ("assistant", "y"), ("user", "ab"))]
    assert ours == [said(("system", "new"), ("user", "x"), ("assistant", "y"), ("user", "ab"))]


def test_rows_of_a_list_and_of_json_lines_and_only_the_first(tmp_path):
    whole = {"splits": {"train": {"field": None, "rows": 2}}}
    rows = [PAIR | {"input": str(i)} for i in range(3)]
    lines = "\ufeff" + "\n".join(json.dumps(row) for row in rows)
    for document in (rows, lines):
        made = rows_of(tmp_path, document, **whole)
        assert [row[0]["content"] for row in made["train"]] == ["0", "1"]


def test_rows_of_text_are_one_message_without_a_prompt_of_their_own(tmp_path):
    run = planned(dataset__type="text", prompt="{input}")
    asked = json.loads(written(run)["rows.json"])
    assert asked["splits"].keys() == {"train", "validation"}
    made = rows_of(tmp_path, {"train": [{"text": "All of it."}]}, type="text")
    assert made == {"train": [said(("user", "All of it."))]}
