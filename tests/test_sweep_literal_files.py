"""Text in the user's config files arrives as it was typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from runplan.app import compose
from runplan.sweep.literal_files import taken_literally

SITE = """
defaults: [_site, _self_]
name: 007
account: 1e5
partition: 0x1F
qos: 1_000
constraint: no
conda_env: 3.10
gpu: null
modules: [gcc, 12.30]
env: {SALT: 007, PORT: "08"}
"""


def taken(text, package=""):
    return OmegaConf.to_container(taken_literally(OmegaConf.create(text), text, package))


@pytest.fixture
def site(tmp_path, monkeypatch):
    (tmp_path / "conf/site").mkdir(parents=True)
    (tmp_path / "conf/site/mine.yaml").write_text(SITE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("folder", [None, "conf"])
def test_names_that_look_like_numbers_stay(site, folder):
    found = compose(["site=mine"], site / folder if folder else None).composed[0].config.site
    assert (found.name, found.account, found.partition, found.qos) == ("007", "1e5", "0x1F", "1_000")
    assert (found.constraint, found.conda_env, found.gpu) == ("no", "3.10", None)
    assert found.modules == ["gcc", "12.30"]
    assert found.env == {"SALT": "007", "PORT": "08"}


def test_parameters_of_an_experiment_are_lines_as_typed(site):
    (site / "conf/experiment").mkdir()
    lines = ["# @package _global_", "hydra: {sweeper: {params: {resources.account: 1e5, seed: 1_0}}}"]
    lines.append("resources: {time: 1:30:00}")
    (site / "conf/experiment/mine.yaml").write_text("\n".join(lines))
    [run] = compose(["+experiment=mine"]).composed
    assert (run.config.resources.account, run.config.seed, run.config.resources.time) == ("1e5", 10, "1:30:00")


def test_numbers_stay_numbers():
    text = "lora: {rank: 1_0}\noptimizer: {lr: 1e-5}\npacked: yes\nevaluation: {args: {shots: 0x1F}}"
    assert taken(text) == OmegaConf.to_container(OmegaConf.create(text))


@pytest.mark.parametrize("text", ["", "- 1e5", "1: 2", "a: &x 1e5\nb: *x", "account: {a: 1e5}", "account: ${gpu}"])
def test_whatever_else_a_file_holds_stays(text):
    assert taken(text, "site") == OmegaConf.to_container(OmegaConf.create(text))


def test_a_value_that_is_named_twice_is_text_where_text_belongs():
    assert taken("seed: &x 007\nsystem_prompt: *x") == {"seed": 7, "system_prompt": "007"}


@given(
    st.text("0123456789_.:+-exEnofyaslrut", min_size=1, max_size=8).filter(
        lambda word: word.lower() not in {"null", "~"}
    )
)
def test_every_word_stays(word):
    try:
        OmegaConf.create(f"account: {word}")
    except Exception:  # noqa: BLE001 - what YAML cannot read is said elsewhere
        return
    if isinstance(OmegaConf.create(f"account: {word}").account, (str, int, float, bool)):
        assert taken(f"account: {word}", "site") == {"account": word}
