from __future__ import annotations

import yaml
from factories_plan import make_plan
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from runplan import yaml_text
from runplan.files.provenance import hydra_files, tree_text


def test_the_composed_tree_keeps_its_marks():
    plan = make_plan()
    files = hydra_files(plan, plan.runs[1])
    assert sorted(files) == [".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml"]
    tree = OmegaConf.create(files[".hydra/config.yaml"])
    assert OmegaConf.is_interpolation(tree, "batch_size")
    assert tree.lora.rank == 64
    assert yaml.safe_load(files[".hydra/config.yaml"]) == plan.runs[1].composed.tree
    assert yaml.safe_load(files[".hydra/overrides.yaml"]) == ["model=1B", "lora.rank=64"]


def test_the_hydra_node_says_choices_overrides_and_place():
    plan = make_plan({"prompt": ["a: b\n'#\u2028\x85", "c"]})
    node = yaml.safe_load(hydra_files(plan, plan.runs[0])[".hydra/hydra.yaml"])["hydra"]
    assert node["runtime"]["choices"]["model"] == "1B"
    assert node["overrides"]["task"] == list(plan.runs[0].composed.overrides)
    assert node["sweep"] == {"dir": plan.directory, "subdir": plan.runs[0].name}
    assert node["job"]["name"] == "runplan"


def test_an_empty_tree_and_no_overrides():
    assert yaml.safe_load(tree_text({})) == {}
    plan = make_plan({})
    assert yaml.safe_load(hydra_files(plan, plan.runs[0])[".hydra/overrides.yaml"]) == []


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1, max_size=5), values, max_size=4))
def test_sections_put_together_are_the_whole(tree):
    assert tree_text(tree) == yaml_text.dump(tree)


def test_the_cache_tells_equal_numbers_of_different_types_apart():
    assert [tree_text({"a": value}) for value in (1, 1.0, True, "1")] == ["a: 1\n", "a: 1.0\n", "a: true\n", "a: '1'\n"]
