"""The numbers of conf/model and conf/resources, held against themselves and against what each other says."""

import re

import pytest
from factories import make_architecture, make_config, option

from runplan.facts import Architecture
from runplan.paths import CONF_DIR
from runplan.trainers import trl_settings
from runplan.trainers.builders import FAMILIES, builder, builder_problems

MODELS = sorted(path.stem for path in (CONF_DIR / "model").glob("*.yaml"))
DESCRIBED = [name for name in MODELS if name != "hf"]
RESOURCES = sorted(path.stem for path in (CONF_DIR / "resources").glob("*.yaml") if not path.stem.startswith("_"))
GPUS = [name for name in RESOURCES if name != "cpu"]
NO_BF16 = {"t4", "v100", "rtx2080ti", "titanrtx", "rtx6000", "rtx8000"}  # Turing and Volta

# Parameters as the model cards give them, in billions, counted without the tied output head.
PUBLISHED = {
    "1B": 1.24,
    "3B": 3.21,
    "8B": 8.03,
    "70B": 70.6,
    "mistral-7B": 7.25,
    "qwen2.5-0.5B": 0.49,
    "qwen2.5-1.5B": 1.54,
    "qwen2.5-3B": 3.09,
    "qwen2.5-7B": 7.61,
    "qwen3-0.6B": 0.596,
    "qwen3-1.7B": 1.72,
    "qwen3-4B": 4.02,
    "qwen3-8B": 8.19,
    "qwen3-14B": 14.8,
    "qwen3-32B": 32.8,
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_parameters_follow_from_the_dimensions(name):
    config = make_config(model=name)
    assert make_architecture(config).params / 1e9 == pytest.approx(config.model.params_b, rel=0.005)
    card = PUBLISHED.get(name.removesuffix("-base"))
    assert card is None or card == pytest.approx(config.model.params_b, rel=0.01)


@pytest.mark.parametrize("name", [name for name in DESCRIBED if name.startswith("qwen3-")])
def test_models_without_a_builder_are_for_trl(name):
    architecture = make_architecture(make_config(model=name))
    (found,) = builder_problems(architecture)
    assert "no LoRA builder for qwen3 models" in found.detail
    assert found.fix.startswith("use trainer=trl, which can, or one of ")
    assert architecture.family in trl_settings.FAMILIES


@pytest.mark.parametrize("name", [name for name in DESCRIBED if not name.startswith("qwen3-")])
def test_every_other_model_has_a_builder_without_objections(name):
    config = make_config(model=name)
    assert config.model.family in FAMILIES
    assert builder_problems(make_architecture(config)) == ()
    named = not builder(make_architecture(config)).arguments
    assert named == (name not in {"tiny", "mistral-7B", "mistral-7B-base"})  # torchtune's 7B is v0.1


@pytest.mark.parametrize("name", MODELS)
def test_a_model_file_is_whole_and_says_where_its_numbers_are_from(name):
    text = (CONF_DIR / "model" / f"{name}.yaml").read_text()
    keys = option("model", name)
    assert "defaults" not in text
    assert len(text.splitlines()) <= 25
    assert keys["name"] == name or (name == "hf" and "rp.folder_name" in keys["name"])
    assert set(Architecture.__dataclass_fields__) - {"sliding_window"} <= set(keys)
    assert text.startswith(f"# https://huggingface.co/{keys['repo_id']}/" if keys["repo_id"] else "# ")


def test_base_models_differ_from_their_instruct_versions_in_name_only():
    for name in (name for name in DESCRIBED if name.endswith("-base")):
        base, tuned = option("model", name), option("model", name.removesuffix("-base"))
        differing = {key for key in base if base[key] != tuned[key]}
        assert differing <= {"name", "full_name", "repo_id", "folder", "instruct", "family", "max_position_embeddings"}
        assert base["instruct"] is False
        assert tuned["instruct"] is True


@pytest.mark.parametrize("name", GPUS)
def test_a_gpu_is_named_after_its_memory_which_a_process_does_not_get_whole(name):
    keys = option("resources", name)
    assert keys["gpu"] == name
    assert 0.9 < keys["gpu_memory_gib"] / float(name.rsplit("-", 1)[1]) < 1.0


@pytest.mark.parametrize("name", GPUS)
def test_a_gpu_file_is_complete_and_sourced(name):
    text = (CONF_DIR / "resources" / f"{name}.yaml").read_text()
    config = make_config(resources=name)
    assert re.match(r"# https://\S+\n", text)
    assert config.resources.bf16_tflops > config.resources.fp32_tflops
    assert config.resources.memory_bandwidth_gb_per_s >= 150
    assert config.resources.supports_bf16 == (name.split("-")[0] not in NO_BF16)
    assert config.resources.gpus == 1


@pytest.mark.parametrize("gpu", ["a100", "h100"])
def test_mig_slices_are_parts_of_their_gpu(gpu):
    whole = option("resources", f"{gpu}-80")
    for size, sevenths, eighths in ((10, 1, 1), (20, 2, 2), (40, 3, 4)):
        part = option("resources", f"{gpu}-mig-{size}")
        assert part["memory_bandwidth_gb_per_s"] == pytest.approx(
            whole["memory_bandwidth_gb_per_s"] * eighths / 8, rel=0.01
        )
        assert part["bf16_tflops"] == pytest.approx(whole["bf16_tflops"] * sevenths / 7, rel=0.16)
        assert part["bf16_tflops"] / whole["bf16_tflops"] == pytest.approx(
            part["fp32_tflops"] / whole["fp32_tflops"], rel=0.01
        )


@pytest.mark.parametrize("name", ["default", "attention-only", "all-linear", "dora", "qlora"])
def test_adapter_choices_are_complete(name):
    lora = make_config(lora=name).lora
    assert lora.attn_modules
    assert lora.alpha == 2 * lora.rank
    assert lora.use_dora == (name == "dora")
    assert lora.quantize_base == (name == "qlora")
