"""Whether what jobs activate has what they need."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from factories import make_config
from test_verify_needs import the_facts

from runplan.environment import EnvironmentFacts, key_of
from runplan.facts import Status
from runplan.plan import Composed
from runplan.verify.environment import INSPECT_VERSION
from runplan.verify.needs import check_things

ALL = {"torchtune": "0.6.1", "torch": "2.13.0", "torchao": "0.13.0", "inspect-ai": INSPECT_VERSION, "pip": "25.1",
       "transformers": "5.23.0", "accelerate": "1.15.0"}  # fmt: skip
FOUND = EnvironmentFacts("site.venv", "/v", "/v", versions=ALL)


def rows(found, *configs):
    """Rows about environments, by kind; every configuration has the same one."""
    configs = configs or (make_config(site__venv="/v"),)
    facts = replace(the_facts(*configs), environments={key_of(config.site): found for config in configs})
    checks = check_things([Composed(config, frozenset(), (), {}, {}, {}) for config in configs], facts)
    return {check.kind: check for check in checks if check.path == found.prefix}


def without(*names):
    return replace(FOUND, versions={name: version for name, version in ALL.items() if name not in names})


def test_all_is_there():
    found = rows(FOUND)
    assert {(row.kind, row.name, row.status, row.detail) for row in found.values()} == {
        ("trainer", "torchtune", Status.ok, "version 0.6.1 in site.venv"),
        ("evaluation", "inspect-ai", Status.ok, f"version {INSPECT_VERSION} in site.venv"),
    }


def test_what_is_not_there_is_missing_with_the_command_that_installs_it():
    found = rows(without("torchtune", "torchao", "inspect-ai", "accelerate"))
    assert {row.status for row in found.values()} == {Status.missing}
    assert found["trainer"].detail == "torchtune and torchao are not in site.venv"
    assert found["trainer"].fix == "/v/bin/python -m pip install torchtune==0.6.1 torchao"
    assert found["evaluation"].fix == f"/v/bin/python -m pip install inspect-ai=={INSPECT_VERSION} accelerate"


def test_what_a_trainer_cannot_do_without_is_missing_beside_it():
    row = rows(without("torchao"))["trainer"]
    assert (row.status, row.detail) == (Status.missing, "version 0.6.1, but torchao is not in site.venv")
    assert row.fix == "/v/bin/python -m pip install torchao"


def test_another_version_of_the_trainer_is_missing_and_both_ways_out_are_said():
    row = rows(replace(FOUND, versions=ALL | {"torchtune": "0.5.0"}))["trainer"]
    assert (row.status, row.detail) == (Status.missing, "0.5.0 is in site.venv, trainer.version is 0.6.1")
    assert row.fix == "/v/bin/python -m pip install torchtune==0.6.1, or set trainer.version=0.5.0"


def test_a_build_of_the_version_is_the_version():
    assert rows(replace(FOUND, versions=ALL | {"torchtune": "0.6.1+cu126"}))["trainer"].status is Status.ok


def test_another_version_of_inspect_is_said_and_will_do():
    row = rows(replace(FOUND, versions=ALL | {"inspect-ai": "0.3.100"}))["evaluation"]
    assert row.status is Status.ok
    assert row.detail == f"version 0.3.100 in site.venv; cells are tried with {INSPECT_VERSION}"


def test_an_environment_that_is_not_there_is_missing_and_can_be_made():
    place = EnvironmentFacts("site.venv", "/my v", "/my v", lacks="is not there")
    row = rows(place)["trainer"]
    assert (row.status, row.detail) == (Status.missing, "site.venv is not there")
    assert row.fix.startswith("make it: python3 -m venv '/my v' && '/my v/bin/python' -m pip install torchtune==0.6.1")
    conda = replace(place, key="site.conda_env")
    assert "conda create -y -p '/my v' python pip && " in rows(conda)["trainer"].fix


def test_an_environment_that_cannot_be_looked_into_blocks_nothing():
    row = rows(EnvironmentFacts("site.conda_env", "tune"))["trainer"]
    assert (row.status, row.path) == (Status.unchecked, "")
    assert row.detail == "0.6.1 is expected in the jobs' site.conda_env=tune, which could not be looked into"


def test_what_a_module_may_bring_is_unchecked():
    row = rows(replace(without("torchtune"), open_to="site.modules bring it (PyTorch/2)"))["trainer"]
    assert row.status is Status.unchecked
    assert row.detail == "torchtune is not in site.venv, unless site.modules bring it (PyTorch/2)"


def test_an_environment_without_pip_is_installed_into_from_outside():
    assert rows(without("pip", "torchao"))["trainer"].fix == "uv pip install --python /v/bin/python torchao"


@pytest.mark.parametrize("needs", [{"trainer": "trl"}, {"trainer__save_adapter_weights_only": True}])
def test_cells_of_adapters_need_peft(needs):
    config = make_config(site__venv="/v", **needs)
    versions = ALL | {"trl": "1.16.0"}
    assert rows(replace(FOUND, versions=versions), config)["evaluation"].status is Status.missing
    found = rows(replace(FOUND, versions=versions | {"peft": "0.21.2"}), config)
    assert {row.status for row in found.values()} == {Status.ok}


def test_wandb_is_needed_where_metrics_go_there():
    config = make_config(site__venv="/v", trainer__metric_logger="wandb")
    assert rows(FOUND, config)["trainer"].detail == "version 0.6.1, but wandb is not in site.venv"


def test_without_evaluation_its_library_is_not_needed():
    assert set(rows(without("inspect-ai"), make_config(site__venv="/v", evaluation="none"))) == {"trainer"}


def test_each_environment_has_its_row():
    configs = [make_config(site__venv=venv) for venv in ("/v", "/w", "/v")]
    facts = the_facts(*configs)
    environments = {key_of(each.site): replace(FOUND, name=each.site.venv, prefix=each.site.venv) for each in configs}
    checks = check_things([Composed(config, frozenset(), (), {}, {}, {}) for config in configs],
                          replace(facts, environments=environments))  # fmt: skip
    assert [(row.kind, row.path) for row in checks if row.path in {"/v", "/w"}] == [
        ("trainer", "/v"), ("trainer", "/w"), ("evaluation", "/v"), ("evaluation", "/w"),
    ]  # fmt: skip


def test_the_version_of_inspect_is_the_one_that_is_installed_for_tests():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert f"inspect-ai=={INSPECT_VERSION}" in project["optional-dependencies"]["evaluation"]
