"""What torchtune's recipes default to and what they would refuse."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from factories import make_architecture, make_config, make_plan, make_run, make_templates

from runplan.config import Dtype
from runplan.paths import CONF_DIR
from runplan.trainers.settings import complete_trainer_defaults, setting_problems
from runplan.trainers.torchtune import training_files

MODELS = sorted(path.stem for path in (CONF_DIR / "model").glob("*.yaml"))
MODELS = [name for name in MODELS if name != "hf" and not name.startswith("qwen3-")]  # which torchtune has not


def arch(**changes):
    return replace(make_architecture(make_config()), **changes)


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"lora__attn_modules": []}, "lora.attn_modules"),
        ({"lora__apply_to_output": True}, "lora.apply_to_output"),
        ({"max_seq_len": 200000}, "max_seq_len"),
        ({"trainer__activation_offloading": True}, "trainer.activation_offloading"),
        ({"lora__quantize_base": True, "resources__gpus": 3}, "lora.quantize_base, resources.gpus"),
        (
            {"lora__quantize_base": True, "lora__use_dora": True, "resources__gpus": 2},
            "lora.use_dora, resources.gpus",
        ),
    ],
)
def test_settings_that_torchtune_would_refuse(settings, where):
    (problem,) = setting_problems(make_config(**settings), arch())
    assert problem.where == where
    assert problem.fix


def test_a_model_that_torchtune_has_no_builder_of_is_refused_with_what_trains_it():
    (problem,) = setting_problems(make_config(), arch(family="qwen3", head_dim=128))
    assert problem.what == "torchtune 0.6.1 has no qwen3 models"
    assert problem.fix == "use trainer=trl, which has"


def test_a_prompt_that_is_omegaconfs_missing_value_is_refused():
    config = replace(make_config(), system_prompt="???")
    assert [problem.where for problem in setting_problems(config, arch())] == ["system_prompt"]


def test_a_model_too_narrow_for_four_bits_is_refused():
    (problem,) = setting_problems(make_config(lora__quantize_base=True), arch(hidden_size=64, head_dim=2))
    assert problem.where == "lora.quantize_base"
    assert "64 x 64" in problem.what
    (problem,) = setting_problems(make_config(lora__quantize_base=True, resources__gpus=6), arch())
    assert problem.fix == "use resources.gpus=4"


def test_good_settings_have_no_problems():
    assert setting_problems(make_config(), arch()) == ()
    assert setting_problems(make_config(lora="qlora", resources__gpus=8), arch()) == ()
    assert setting_problems(make_config(lora="qlora", lora__use_dora=True, dtype=Dtype.fp32), arch()) == ()
    settings = {"trainer__activation_offloading": True, "activation_checkpointing": True}
    assert setting_problems(make_config(**settings), arch()) == ()


@pytest.mark.parametrize(
    ("model", "gpus", "checkpointing"),
    [
        ("1B", 1, False),
        ("3B", 1, True),
        ("8B", 1, True),
        ("8B", 4, False),
        ("70B", 8, True),
        ("qwen2.5-1.5B", 1, False),
    ],
)
def test_checkpointing_follows_upstream(model, gpus, checkpointing):
    config = make_config(model=model, resources__gpus=gpus)
    assert complete_trainer_defaults(config, make_architecture(config)).activation_checkpointing is checkpointing


def test_what_the_user_set_stays():
    config = make_config(model="8B", activation_checkpointing=False, compile=True, dtype=Dtype.fp32)
    complete = complete_trainer_defaults(config, make_architecture(config))
    assert (complete.activation_checkpointing, complete.compile, complete.dtype) == (False, True, Dtype.fp32)


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [({}, Dtype.bf16), ({"resources": "t4-16"}, Dtype.fp32), ({"trainer__device": "cpu"}, Dtype.fp32)],
)
def test_bf16_where_there_is_hardware_for_it(settings, dtype):
    assert complete_trainer_defaults(make_config(**settings), arch()).dtype is dtype


def upstream():
    tune = pytest.importorskip("torchtune", reason="torchtune is not installed in this environment")
    return Path(tune.__file__).parent.parent / "recipes"


@pytest.mark.trainer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", MODELS)
def test_defaults_are_those_of_the_recipes_own_configurations(model):
    size = model.removesuffix("-base").split("-")[-1]
    config = make_config(model=model)
    folder = upstream() / "configs" / config.model.family
    found = 0
    for gpus, suffix in ((1, "_lora_single_device"), (2, "_lora")):
        file = folder / f"{size}{suffix}.yaml"
        if not file.is_file():
            continue
        found += 1
        theirs = yaml.safe_load(file.read_text())
        ours = complete_trainer_defaults(replace_gpus(config, gpus), make_architecture(config))
        assert ours.activation_checkpointing == theirs["enable_activation_checkpointing"]
        assert ours.compile == theirs["compile"]
        assert ours.dtype.value == theirs["dtype"]
        run = written(model=model, resources__gpus=gpus)
        assert run["loss"] == theirs["loss"]
        assert run["checkpointer"]["model_type"] == theirs["checkpointer"]["model_type"]
        if not model.startswith("mistral") and not model.endswith("-base"):  # theirs are of v0.1, with fewer tokens
            assert run["model"]["_component_"] == theirs["model"]["_component_"]
    assert found or model == "tiny"


def replace_gpus(config, gpus):
    return replace(config, resources=replace(config.resources, gpus=gpus))


def written(**settings):
    run = make_run(make_config(**settings))
    return yaml.safe_load(training_files(make_plan(run), run, make_templates())["finetune.yaml"])
