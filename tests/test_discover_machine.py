"""Asking a machine: its environments, modules and commands, each of which may be missing, wrong or silent."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import pytest

from runplan.discover import machine
from runplan.discover.environments import environments
from runplan.discover.found import Discovered, Wishes
from runplan.discover.modules import is_told, parse_modules

ANY = Wishes()
DATA = Path(__file__).parent / "data/slurm"


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path) -> Path:
    """A machine with nothing: programs come from the folder that is handed back."""
    for name in [*os.environ]:
        if name.startswith(("CONDA", "VIRTUAL_ENV", "HF_", "LMOD", "MODULE", "LOADED", "BASH_FUNC", "SCRATCH", "WORK")):
            monkeypatch.delenv(name)
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(machine, "_SCRATCH_FOLDERS", ())
    monkeypatch.setattr(machine, "_MODULE_PROFILES", ())
    monkeypatch.setattr("sys.prefix", "/usr")
    monkeypatch.setattr("sys.base_prefix", "/usr")
    monkeypatch.setattr(machine, "read_cluster", lambda _limit: None)
    return programs


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def environment(path: Path, torchtune: str | None = None, *, venv: bool = False) -> Path:
    packages = path / "lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    if torchtune:
        (packages / f"torchtune-{torchtune}.dist-info").mkdir()
    if venv:
        (path / "bin").mkdir()
        (path / "bin/activate").touch()
    return path


def read(wishes: Wishes = ANY, limit_s: float = 5.0) -> Discovered:
    return machine.read_machine(wishes, Path.cwd(), {"Llama-3.2-1B": "1B-base"}, limit_s)


def test_a_machine_with_nothing():
    found = read()
    assert (found.cluster, found.environments, found.modules, found.models, found.unknown) == (None, (), (), (), ())
    assert found.host


def test_conda_environments_from_all_that_know_them(tmp_path, monkeypatch):
    root = environment(tmp_path / "miniforge3")
    tune = environment(root / "envs/tune", "0.6.1")
    mine = environment(tmp_path / "my env")
    far = environment(tmp_path / "x/envs/far", "0.5.0")
    (Path.home() / ".conda").mkdir()
    (Path.home() / ".conda/environments.txt").write_text(f"{mine}\n{tmp_path}/gone\n\nnonsense\n")
    monkeypatch.setenv("CONDA_EXE", f"{root}/bin/conda")
    monkeypatch.setenv("CONDA_PREFIX", str(mine))
    said = json.dumps({"envs": [str(root), str(far), 3]})
    found = {item.path: item for item in environments(said, Path.cwd())}
    assert found.keys() == {str(root), str(far), str(mine), str(tune)}
    assert found[str(root)].name == "base"
    assert (found[str(tune)].name, found[str(tune)].torchtune) == ("tune", "0.6.1")
    assert (found[str(far)].name, found[str(far)].torchtune) == ("far", "0.5.0")
    assert (found[str(mine)].name, found[str(mine)].torchtune, found[str(mine)].active) == (str(mine), None, True)


@pytest.mark.parametrize("said", ["", "{", "[]", "null", '{"envs": 3}', '{"envs": [null]}', "[" * 100_000])
def test_what_conda_says_may_be_anything(said):
    assert environments(said, Path.cwd()) == ()


def test_virtual_environments_of_the_shell_and_of_the_folder(tmp_path, monkeypatch):
    here = environment(Path.cwd() / ".venv", "0.6.1", venv=True)
    active = environment(tmp_path / "v", venv=True)
    environment(Path.cwd() / "venv")  # no bin/activate: something else
    monkeypatch.setenv("VIRTUAL_ENV", str(active))
    found = environments("", Path.cwd())
    assert [(item.path, item.torchtune, item.active) for item in found] == [
        (str(active), None, True),
        (str(here), "0.6.1", False),
    ]


def test_modules_of_lmod_and_of_tcl():
    text = (DATA / "modules_lmod.txt").read_text()
    assert parse_modules(text) == (
        "anaconda3/2024.10", "anaconda3/2025.6", "cudatoolkit/12.6", "cudatoolkit/12.8", "python/3.11",
    )  # fmt: skip
    assert parse_modules("cuda/12.8   gcc/13\nLmod has detected an error\n\x00\n") == ()
    assert is_told("devel/cuda/12.8")
    assert not is_told("gcc/13")


def test_commands_are_asked(bare, monkeypatch):
    monkeypatch.setenv("MODULESHOME", str(bare))
    (bare / "init").mkdir()
    (bare / "init/bash").write_text("module() { printf 'cuda/12.8\\ngcc/1\\n' >&2; }\n")
    monkeypatch.setenv("LOADEDMODULES", "gcc/1:cuda/12.8")
    program(bare, "nvidia-smi", "echo 'NVIDIA H100 80GB HBM3'; echo 'NVIDIA H100 80GB HBM3'")
    tune = environment(bare / "envs/tune", "0.6.1")
    program(bare, "conda", f"echo '{json.dumps({'envs': [str(tune)]})}'")
    found = read()
    assert found.modules == found.loaded_modules == ("cuda/12.8",)
    assert found.gpus_here == ("NVIDIA H100 80GB HBM3",) * 2
    assert [item.name for item in found.environments] == ["tune"]


def test_commands_that_hang_or_fail_cost_their_limit_and_are_named(bare, monkeypatch):
    monkeypatch.setattr(machine, "COMMAND_S", 0.3)
    program(bare, "nvidia-smi", "echo 'NVIDIA-SMI has failed because it could not communicate'; exit 9")
    program(bare, "conda", "sleep 30")
    begin = time.monotonic()
    found = read()
    assert time.monotonic() - begin < 3
    assert found.gpus_here == ()
    assert [line.partition(":")[0] for line in found.unknown] == ["conda", "nvidia-smi"]
    assert "no answer in 0.3 s" in found.unknown[0]


def test_folders_that_were_named_are_looked_through_instead_of_the_usual(tmp_path):
    usual = machine.roots(Wishes(), Path("/w"), "me")
    assert {"/w/models", "/w/data", "/w/logs", "/w"} <= {root.path for root in usual}
    assert any(root.path.endswith("/huggingface/hub") for root in usual)
    named = machine.roots(Wishes(models=("m",), logs=("/l",)), Path("/w"), "me")
    assert [(root.path, set(root.kinds)) for root in named if root.named] == [("/w/m", {"models"}), ("/l", {"logs"})]
    assert all(root.kinds == {"data"} for root in named if not root.named)
    everything = machine.roots(Wishes(models=("m",), data=("d",), logs=("l",)), Path("/w"), "me")
    assert all(root.named for root in everything)


def test_the_hub_is_where_its_variables_say(monkeypatch):
    monkeypatch.setenv("HF_HOME", "/big/hf")
    assert "/big/hf/hub" in {root.path for root in machine.roots(Wishes(), Path("/w"), "me")}
    monkeypatch.setenv("HF_HUB_CACHE", "/cache")
    assert "/cache" in {root.path for root in machine.roots(Wishes(), Path("/w"), "me")}


def test_large_file_systems(tmp_path, monkeypatch):
    scratch, shared = tmp_path / "s", tmp_path / "gpfs"
    (scratch / "outputs").mkdir(parents=True)
    (shared / "me").mkdir(parents=True)
    monkeypatch.setattr(machine, "_SCRATCH_FOLDERS", (str(shared),))
    monkeypatch.setattr(machine, "_user", lambda: "me")
    monkeypatch.setenv("SCRATCH", str(scratch))
    monkeypatch.setenv("WORK", str(tmp_path / "gone"))
    assert read().scratch == ((str(scratch), "$SCRATCH"), (f"{shared}/me", f"{shared} has a folder me"))


def test_logs_below_outputs_are_runplans_own():
    for folder in ("outputs/g/1B", "old"):
        Path(folder).mkdir(parents=True)
        Path(folder, "slurm-1.out").write_text("torchtune\n")
    assert [folder.path for folder in read().logs] == [f"{Path.cwd()}/old"]


def test_many_unreadable_folders_are_told_in_few_lines(tmp_path):
    wishes = Wishes(models=tuple(str(tmp_path / f"gone{i}") for i in range(9)))
    assert len(read(wishes).unknown) == 4
    assert read(wishes).unknown[-1] == "and 6 folders more"
