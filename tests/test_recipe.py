"""Which recipe is chosen, and what is said when none can be."""

from dataclasses import replace

import pytest
from factories import make_config
from hypothesis import given
from hypothesis import strategies as st

from runplan.config import Dtype
from runplan.errors import Problem
from runplan.plan import Recipe
from runplan.recipe import CAPABILITIES, choose_recipe, unmet


def recipe(**settings):
    return choose_recipe(make_config(**settings))


@pytest.mark.parametrize(
    ("gpus", "validation", "name", "shipped"),
    [
        (1, False, "lora_finetune_single_device", None),
        (2, False, "lora_finetune_distributed", None),
        (1, True, "lora_finetune_single_device_val", "lora_finetune_single_device_val.py"),
        (8, True, "lora_finetune_distributed_val", "lora_finetune_distributed_val.py"),
    ],
)
def test_auto_follows_gpus_and_validation(gpus, validation, name, shipped):
    assert recipe(resources__gpus=gpus, validation=validation) == Recipe(name, gpus > 1, validation, shipped)


def test_a_distributed_recipe_runs_on_one_gpu_when_asked():
    chosen = recipe(recipe="lora_finetune_distributed", validation=False)
    assert chosen == Recipe("lora_finetune_distributed", distributed=True, validation=False)


@pytest.mark.parametrize(
    ("settings", "says", "fix"),
    [
        (
            {"recipe": "lora_finetune_single_device", "resources__gpus": 2, "validation": False},
            "runs on 1 GPU, resources.gpus=2",
            "recipe=lora_finetune_distributed ",
        ),
        (
            {"recipe": "lora_finetune_single_device"},
            "has no validation",
            "recipe=lora_finetune_single_device_val (or recipe=auto) does it; or set validation=false",
        ),
        ({"recipe": "lora_finetune_distributed_val", "validation": False}, "validates", "set validation=true"),
        ({"resources__gpus": 2, "trainer__device": "cpu"}, "needs trainer.device=cuda", "resources.gpus=1"),
        ({"recipe__name": "lora_finetune_singel_device"}, "lora_finetune_singel_device", "lora_finetune_single_device"),
        ({"trainer__version": "0.7.0"}, "'0.7.0'", "0.6.1"),
        ({"trainer__name": "axolotl"}, "'axolotl'", "torchtune"),
        ({"dtype": Dtype.bf16, "resources": "v100-32"}, "v100-32 has no bf16", "dtype=fp32"),
        ({"resources__gpus": 0}, "at least 1", "resources.gpus=1"),
        ({"resources__gpus": 8, "resources__gpus_per_node": 4}, "a node has 4", "resources.gpus=4"),
        ({"recipe": "lora_finetune_distributed", "recipe__custom": "x.py"}, "two different", "keep one"),
        ({"recipe__custom": "no/such.py"}, "no/such.py is not there", "correct the path"),
        (
            {"trainer__device": "cpu", "epochs": 2, "validation": False},
            "each of 2 epochs",
            "trainer.save_adapter_weights_only=true",
        ),
    ],
)
def test_an_impossible_wish_names_what_would_work(settings, says, fix):
    found = recipe(**settings)
    assert isinstance(found, Problem)
    assert says in found.what
    assert fix in found.fix
    assert found.where


def test_one_epoch_or_adapters_alone_are_safe_on_a_cpu():
    for safe in ({"epochs": 1}, {"epochs": 2, "trainer__save_adapter_weights_only": True}):
        assert isinstance(recipe(trainer__device="cpu", validation=False, **safe), Recipe)


def test_weights_in_four_bits_need_a_recipe_that_has_them():
    wish = make_config(lora__quantize_base=True)
    assert all(not unmet(row, wish) for row in CAPABILITIES if row.name == "lora_finetune_single_device_val")
    without = replace(CAPABILITIES[0], quantised_base=False, validation=True)
    assert unmet(without, wish) == ["has no frozen weights in 4 bits, lora.quantize_base=true asks for them"]
    # Their merged copies are new tensors; an adapted output head stays whole, and would be changed.
    saved = {"trainer__device": "cpu", "epochs": 2, "validation": False, "lora__quantize_base": True}
    assert isinstance(recipe(**saved), Recipe)
    assert isinstance(recipe(**saved, lora__apply_to_output=True), Problem)


def test_a_custom_file_is_taken_and_its_validation_is_not_vouched_for(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("")
    chosen = recipe(recipe__custom=str(file), resources__gpus=2)
    assert (chosen.name, chosen.custom, chosen.distributed, chosen.shipped) == (str(file), True, True, None)
    assert "cannot be seen" in chosen.note
    without = recipe(recipe__custom=str(file), validation=False).note
    assert "no smaller batch" in without
    assert "cannot be seen" not in without


def test_a_custom_module_is_not_looked_for():
    assert recipe(recipe__custom="lab.recipes.lora").name == "lab.recipes.lora"


def test_a_file_that_cannot_be_imported_by_name_is_refused(tmp_path):
    file = tmp_path / "lora.v2.py"
    file.write_text("")
    assert "no module's name" in recipe(recipe__custom=str(file)).what


@given(
    gpus=st.integers(1, 16),
    validation=st.booleans(),
    device=st.sampled_from(["cuda", "cpu"]),
    name=st.sampled_from(["auto", *(row.name for row in CAPABILITIES)]),
)
def test_what_is_chosen_does_what_is_asked(gpus, validation, device, name):
    config = make_config(resources__gpus=gpus, validation=validation, trainer__device=device, recipe__name=name)
    chosen = choose_recipe(config)
    if isinstance(chosen, Problem):
        assert chosen.fix
        return
    row = next(row for row in CAPABILITIES if row.name == chosen.name)
    assert chosen.validation == validation
    assert device in row.devices
    assert row.distributed or gpus == 1
    assert name in {"auto", chosen.name}


def test_of_rows_with_one_name_the_nearest_says_what_is_in_the_way():
    found = recipe(trainer="trl", lora__quantize_base=True, validation=True)
    assert isinstance(found, Problem)
    assert "4 bits" in found.what
    assert "validation" not in found.what
