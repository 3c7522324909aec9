"""Which of torchtune's builders makes a model, and whether torchtune agrees."""

from dataclasses import replace

import pytest
from factories import make_architecture, make_config

from runplan.facts import Architecture, Status
from runplan.trainers.builders import FIXED, builder, builder_problems


def arch(**changes):
    return replace(make_architecture(make_config()), **changes)


def test_one_number_that_differs_takes_the_builder_by_dimensions():
    assert builder(arch()).component.endswith("lora_llama3_2_1b")
    other = builder(arch(intermediate_size=4096))
    assert other.component.endswith(".lora_llama3_2")
    assert dict(other.arguments)["intermediate_dim"] == 4096


@pytest.mark.parametrize(
    ("changes", "component"),
    [
        ({}, "llama3_2.lora_llama3_2"),
        ({"rope_scaling_factor": None}, "llama3_2.lora_llama3_2"),
        ({"tie_word_embeddings": False}, "llama3_1.lora_llama3_1"),
        ({"tie_word_embeddings": False, "rope_scaling_factor": None}, "llama3.lora_llama3"),
        ({"family": "qwen2_5", "attention_bias": True}, "qwen2.lora_qwen2"),
        ({"family": "mistral", "tie_word_embeddings": False}, "mistral.lora_mistral"),
    ],
)
def test_the_shape_decides_between_component_builders(changes, component):
    assert builder(arch(num_hidden_layers=3, **changes)).component == f"torchtune.models.{component}"


def test_no_scaling_is_a_factor_of_one():
    assert dict(builder(arch(rope_scaling_factor=None)).arguments)["scale_factor"] == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"family": "gemma3"}, "gemma3"),
        ({"head_dim": 128}, "32 heads of 128 make 4096, the hidden size is 2048"),
        ({"num_key_value_heads": 5}, "32 query heads cannot share 5"),
        ({"attention_bias": True}, "has biases"),
        ({"family": "qwen2_5"}, "has no biases"),
        ({"family": "mistral", "attention_bias": True}, "has biases"),
        ({"family": "mistral"}, "shares its output head"),
    ],
)
def test_what_torchtune_cannot_build_is_said(changes, says):
    found = builder_problems(arch(**changes))
    assert says in " ".join(finding.detail for finding in found)
    assert all(finding.status is Status.invalid and finding.fix for finding in found)


@pytest.mark.trainer
@pytest.mark.filterwarnings("ignore")
def test_fixed_builders_make_what_the_table_says():
    import torch
    from torchtune.config._utils import _get_component_from_path

    for _, component, shape in FIXED:
        architecture = Architecture(family="", **shape)
        with torch.device("meta"):
            made = _get_component_from_path(component)(lora_attn_modules=["q_proj"], lora_rank=1)
        params = {name: p for name, p in made.named_parameters() if "lora" not in name}
        assert sum(p.numel() for p in params.values()) == architecture.params, component
        assert made.max_seq_len == architecture.max_position_embeddings
        assert (made.num_heads, made.head_dim) == (architecture.num_attention_heads, architecture.head_dim)
        assert made.layers[0].attn.num_kv_heads == architecture.num_key_value_heads
        rope = made.layers[0].attn.pos_embeddings
        assert rope.base == architecture.rope_theta, component
        assert getattr(rope, "scale_factor", None) == architecture.rope_scaling_factor, component
        assert made.norm.eps == architecture.rms_norm_eps
