"""Where a site's environment is and what is installed in it, by what installers leave there."""

from pathlib import Path

import pytest
from factories import make_config

from runplan.read.environment import conda_prefix, installed, installed_here, read_environment

PACKAGES = ("torchtune-0.6.1.dist-info", "torch-2.13.0+cu126.dist-info", "inspect_ai-0.3.285.dist-info",
            "Foo.Bar-1.0-py3.11.egg-info", "pip-25.1.dist-info")  # fmt: skip


def environment(prefix, packages=PACKAGES, python="python3.11", lib="lib", conda=False):
    folder = prefix / lib / python / "site-packages"
    folder.mkdir(parents=True)
    for name in packages:
        (folder / name).mkdir()
    (prefix / "bin").mkdir(exist_ok=True)
    names = ["python"] if conda else ["python", "activate"]
    for name in names:
        (prefix / "bin" / name).touch()
    return prefix


def site(**keys):
    return make_config(**{f"site__{key}": value for key, value in keys.items()}).site


def test_without_an_environment_of_its_own_there_is_none(tmp_path):
    assert read_environment(site(), tmp_path) is None


def test_what_installers_left_is_found_by_any_spelling(tmp_path):
    found = read_environment(site(venv=str(environment(tmp_path / "my env"))), tmp_path)
    assert found.versions == {
        "torchtune": "0.6.1", "torch": "2.13.0+cu126", "inspect-ai": "0.3.285", "foo-bar": "1.0", "pip": "25.1",
    }  # fmt: skip
    assert (found.lacks, found.open_to) == ("", "")
    assert found.label == "site.venv"


def test_a_relative_path_begins_where_the_plan_is_made(tmp_path):
    environment(tmp_path / ".venv")
    assert read_environment(site(venv=".venv"), tmp_path).prefix == f"{tmp_path}/.venv"


def test_the_virtual_environment_is_activated_last_and_counts(tmp_path):
    venv = environment(tmp_path / "v", ())
    found = read_environment(site(venv=str(venv), conda_env="base"), tmp_path)
    assert (found.key, found.versions) == ("site.venv", {})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda prefix: prefix.rename(prefix.with_name("moved")), "is not there"),
        (lambda prefix: (prefix / "bin/activate").unlink(), "has no bin/activate"),
        (lambda prefix: (prefix / "bin/python").unlink(), "has no bin/python"),
        (lambda prefix: ((prefix / "bin/activate").unlink(), (prefix / "conda-meta").mkdir()),
         "name it with site.conda_env"),
        (lambda prefix: ((prefix / "bin/python").unlink(), (prefix / "bin/python").symlink_to("/gone/python3")),
         "leads nowhere"),
    ],
)  # fmt: skip
def test_what_cannot_be_activated_is_said(tmp_path, spoil, said):
    prefix = environment(tmp_path / "v")
    spoil(prefix)
    found = read_environment(site(venv=str(prefix)), tmp_path)
    assert said in found.lacks
    assert found.versions is None


def test_of_several_pythons_the_one_that_runs_counts(tmp_path):
    prefix = environment(tmp_path / "v", ("torchtune-0.5.0.dist-info",), "python3.10")
    other = tmp_path / "usr/bin/python3.11"
    other.parent.mkdir(parents=True)
    other.touch()
    (prefix / "bin/python").unlink()
    (prefix / "bin/python").symlink_to(other)
    folder = prefix / "lib/python3.11/site-packages"
    (folder / "torchtune-0.6.1.dist-info").mkdir(parents=True)
    assert read_environment(site(venv=str(prefix)), tmp_path).versions == {"torchtune": "0.6.1"}


def test_an_environment_without_a_folder_of_packages_cannot_be_looked_into(tmp_path):
    (tmp_path / "v/bin").mkdir(parents=True)
    for name in ("activate", "python"):
        (tmp_path / "v/bin" / name).touch()
    found = read_environment(site(venv=str(tmp_path / "v")), tmp_path)
    assert (found.lacks, found.versions) == ("", None)


def test_a_virtual_environment_that_shares_its_python_s_packages(tmp_path):
    prefix = environment(tmp_path / "v", ("trl-1.16.0.dist-info",))
    environment(tmp_path / "usr", ("torchtune-0.6.1.dist-info", "trl-0.1.dist-info"))
    config = f"home = {tmp_path}/usr/bin\ninclude-system-site-packages = true\n"
    (prefix / "pyvenv.cfg").write_text(config)
    found = read_environment(site(venv=str(prefix)), tmp_path)
    assert found.versions == {"trl": "1.16.0", "torchtune": "0.6.1"}
    assert "system" in found.open_to
    (prefix / "pyvenv.cfg").write_text(config.replace("true", "false"))
    assert read_environment(site(venv=str(prefix)), tmp_path).versions == {"trl": "1.16.0"}


@pytest.mark.parametrize(
    ("modules", "opens"),
    [
        (["cuda/12.8", "anaconda3/2025.6", "devel/cudatoolkit/12"], ""),
        (["cuda/12.8", "PyTorch/2.3.0-foss"], "site.modules bring it (PyTorch/2.3.0-foss)"),
    ],
)
def test_modules_that_may_bring_packages_are_named(tmp_path, modules, opens):
    found = read_environment(site(venv=str(environment(tmp_path / "v")), modules=modules), tmp_path)
    assert found.open_to == opens


def test_a_python_path_may_bring_packages(tmp_path):
    found = read_environment(site(venv=str(environment(tmp_path / "v")), env={"PYTHONPATH": "/x"}), tmp_path)
    assert "PYTHONPATH" in found.open_to


def test_a_conda_environment_by_its_folder(tmp_path):
    prefix = environment(tmp_path / "envs/tune", conda=True)
    found = read_environment(site(conda_env=str(prefix)), tmp_path)
    assert (found.key, found.versions["torchtune"], found.lacks) == ("site.conda_env", "0.6.1", "")
    assert read_environment(site(conda_env=f"{tmp_path}/nowhere"), tmp_path).lacks == "is not there"


def test_a_conda_environment_by_name_is_looked_for_where_conda_keeps_them(tmp_path, monkeypatch):
    for name in ("CONDA_EXE", "CONDA_ROOT", "MAMBA_ROOT_PREFIX", "CONDA_ENVS_PATH", "CONDA_ENVS_DIRS"):
        monkeypatch.delenv(name, raising=False)
    home = Path.home()
    assert conda_prefix("tune") is None
    assert conda_prefix("./tune") is None
    remembered = environment(tmp_path / "far/envs/tune", conda=True)
    (home / ".conda").mkdir(parents=True, exist_ok=True)
    (home / ".conda/environments.txt").write_text(f"{tmp_path}/gone/envs/tune\n{remembered}\n\x00nonsense\n")
    assert conda_prefix("tune") == remembered
    own = environment(home / ".conda/envs/tune", conda=True)
    assert conda_prefix("tune") == own
    in_home = environment(home / "miniforge3/envs/tune", conda=True)
    assert conda_prefix("tune") == in_home
    configured = environment(tmp_path / "scratch/tune", conda=True)
    (home / ".condarc").write_text(f"envs_dirs:\n  - {tmp_path}/scratch\n  - 3\n")
    assert conda_prefix("tune") == configured
    monkeypatch.setenv("CONDA_ENVS_PATH", f":{tmp_path}/here")
    told = environment(tmp_path / "here/tune", conda=True)
    assert conda_prefix("tune") == told
    (home / "miniforge3/conda-meta").mkdir()
    assert conda_prefix("base") == home / "miniforge3"


@pytest.mark.parametrize("text", ["envs_dirs: 3", "envs_dirs", "[envs_dirs]", "envs_dirs: [", "\x00envs_dirs"])
def test_conda_s_own_settings_may_be_anything(text):
    (Path.home() / ".condarc").write_text(text)
    assert conda_prefix("no such environment") is None


def test_the_user_s_own_packages_come_before_a_conda_environment_s(tmp_path):
    prefix = environment(tmp_path / "envs/tune", conda=True)
    own = Path.home() / ".local/lib/python3.11/site-packages/torchtune-0.5.0.dist-info"
    own.mkdir(parents=True)
    assert read_environment(site(conda_env=str(prefix)), tmp_path).versions["torchtune"] == "0.5.0"
    alone = site(conda_env=str(prefix), env={"PYTHONNOUSERSITE": "1"})
    assert read_environment(alone, tmp_path).versions["torchtune"] == "0.6.1"


def test_nothing_of_an_environment_is_executed(tmp_path):
    prefix = environment(tmp_path / "v")
    for name in ("python", "activate"):
        (prefix / "bin" / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (prefix / "bin" / name).chmod(0o755)
    read_environment(site(venv=str(prefix)), tmp_path)
    assert not (tmp_path / "ran").exists()


def test_packages_of_this_environment():
    assert installed_here()["pytest"] == pytest.__version__


def test_leftovers_are_no_packages(tmp_path):
    for name in ("~orchtune-0.6.1.dist-info", "torchtune", "x-.dist-info", "torchtune-0.6.1.dist-info.bak"):
        (tmp_path / name).mkdir()
    assert installed([tmp_path, tmp_path / "nowhere"]) == {}
