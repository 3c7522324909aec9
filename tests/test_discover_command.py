"""`runplan init`: what it writes, where, and that it never writes over anything."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from runplan import cli
from runplan.discover import command
from runplan.discover.found import Discovered, Environment, LogFolder, ModelFolder
from runplan.slurm.cluster import Cluster, parse_sinfo

SITE = Path("conf/site/sim.yaml")
POINTER = Path("conf/site/local.yaml")
FOUND = Discovered(
    "box",
    "me",
    Cluster(
        "sim", parse_sinfo("gpu|gpu|up|1-00:00:00|2|8|64000|gpu:h200:4|rh9\ncpu|cpu*|up|1:00|2|8|64000|(null)|x\n")
    ),
    models=(ModelFolder("/m/Llama-3.2-1B-Instruct", "llama", "1B"),),
    logs=(LogFolder("/logs", 3),),
)


@pytest.fixture(autouse=True)
def found(monkeypatch) -> list[Discovered]:
    """What the machine says; tests may put something else there."""
    said = [FOUND]
    monkeypatch.setattr(command, "read_machine", lambda *_args: said[0])
    return said


def init(capsys, *words: str) -> tuple[int, str, str]:
    code = cli.main(["init", *words])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_writes_the_site_and_makes_it_the_default(capsys):
    code, out, err = init(capsys)
    assert code == 0
    assert out == SITE.read_text()
    assert "wrote conf/site/sim.yaml" in err
    assert err.endswith("next: runplan model=1B dataset.create=true preview=true\n")
    assert cli.main(["--cfg", "job", "model=1B"]) == 0
    config = OmegaConf.create(capsys.readouterr().out)
    assert (config.site.name, config.site.models_dir, config.site.partition) == ("sim", "/m", "gpu")
    assert config.resources.gpu == "h200-141"


def test_a_site_with_trl_alone_trains_with_it(capsys, found):
    found[0] = replace(FOUND, environments=(Environment("venv", "/v", "/v", None, trl="1.16.0"),))
    init(capsys)
    assert cli.main(["--cfg", "job", "model=1B"]) == 0
    config = OmegaConf.create(capsys.readouterr().out)
    assert (config.trainer.name, config.trainer.version, config.site.venv) == ("trl", "1.16.0", "/v")
    assert cli.main(["--cfg", "job", "model=1B", "trainer=torchtune"]) == 0
    assert OmegaConf.create(capsys.readouterr().out).trainer.name == "torchtune"


def test_a_site_with_both_trainers_names_the_other_in_a_comment(capsys, found):
    found[0] = replace(FOUND, environments=(Environment("venv", "/v", "/v", "0.6.1", trl="1.16.0"),))
    _, out, _ = init(capsys)
    assert "  # - override /trainer@_global_.trainer: trl  # torchtune 0.6.1, trl 1.16.0 in /v\n" in out
    assert cli.main(["--cfg", "job", "model=1B"]) == 0
    assert OmegaConf.create(capsys.readouterr().out).trainer.name == "torchtune"


def test_again_changes_nothing(capsys):
    init(capsys)
    before = SITE.stat().st_mtime_ns, POINTER.stat().st_mtime_ns
    code, out, err = init(capsys)
    assert (code, out) == (0, "")
    assert "says the same" in err
    assert (SITE.stat().st_mtime_ns, POINTER.stat().st_mtime_ns) == before


def test_never_writes_over_and_shows_the_difference(capsys):
    init(capsys)
    SITE.write_text(SITE.read_text().replace("models_dir: /m ", "models_dir: /mine "))
    edited = SITE.read_text()
    code, out, err = init(capsys, "--yes")
    assert code == 1
    assert "-models_dir: /mine" in err
    assert "+models_dir: /m " in err
    assert "was not changed" in err
    assert "next:" not in err
    assert (out, SITE.read_text()) == ("", edited)


def test_another_site_leaves_the_default_as_it_is(capsys):
    init(capsys)
    code, _, err = init(capsys, "other")
    assert code == 0
    assert Path("conf/site/other.yaml").is_file()
    assert POINTER.read_text().endswith("- sim\n")
    assert err.endswith("next: runplan site=other model=1B dataset.create=true preview=true\n")


def test_a_local_site_of_the_users_own_stays(capsys):
    POINTER.parent.mkdir(parents=True)
    POINTER.write_text("defaults: [_site]\nname: mine\n")
    assert "next: runplan site=sim " in init(capsys)[2]
    assert POINTER.read_text() == "defaults: [_site]\nname: mine\n"


def test_a_named_conf_folder_decides_which_site_is_the_default(capsys, monkeypatch, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/local.yaml").write_text("defaults: [_site]\nname: theirs\n")
    monkeypatch.setenv("RUNPLAN_CONF", str(tmp_path))
    assert "next: runplan site=sim " in init(capsys)[2]


def test_an_experiment_and_the_command_line_have_more_to_say_than_the_site(capsys):
    init(capsys)
    Path("conf/experiment").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /resources: l4-24\n"
    Path("conf/experiment/small.yaml").write_text(text)
    for words, gpu in ((["+experiment=small"], "l4-24"), (["+experiment=small", "resources=a40-48"], "a40-48")):
        assert cli.main(["--cfg", "job", *words]) == 0
        assert OmegaConf.create(capsys.readouterr().out).resources.gpu == gpu


def test_print_writes_nothing(capsys):
    code, out, err = init(capsys, "--print")
    assert (code, err) == (0, "")
    assert "name: sim" in out
    assert not Path("conf").exists()


def test_json(capsys):
    code, out, _ = init(capsys, "--json", "--print")
    said = json.loads(out)
    assert (code, said["site"], said["written"]) == (0, "sim", False)
    assert said["settings"]["partition"] == {
        "value": "gpu", "found": "the only one with GPUs (sinfo)", "alternatives": [],
    }  # fmt: skip
    assert said["settings"]["resources"]["value"] == "h200-141"
    assert said["models"][0]["option"] == "1B"
    assert not Path("conf").exists()
    code, out, _ = init(capsys, "--json")
    assert (code, json.loads(out)["written"], json.loads(out)["text"]) == (0, True, SITE.read_text())
    SITE.write_text("name: sim\n")
    code, out, _ = init(capsys, "--json")
    assert (code, json.loads(out)["written"]) == (1, False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


ANSWERS = {"\n": True, "y\n": True, "n\n": False, "": False, "x\n": False}


@pytest.mark.parametrize(("answer", "written"), ANSWERS.items())
def test_on_a_terminal_it_asks(monkeypatch, answer, written):
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    assert cli.main(["init"]) == (0 if written else 1)
    assert "write conf/site/sim.yaml? [Y/n]" in screen.getvalue()
    assert SITE.exists() == written


def test_yes_asks_nothing(monkeypatch):
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    monkeypatch.setattr("sys.stderr", Terminal())
    assert cli.main(["init", "--yes"]) == 0
    assert SITE.exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--models", "/nowhere"], "there is no folder /nowhere"),
        (["--partition", "gpuu"], "did you mean gpu"),
        (["--nonsense"], "--nonsense"),
        (["a", "b"], "does not know 'b'"),
        (["local"], "cannot name a site"),
        (["--seconds", "soon"], "invalid float"),
    ],
)
def test_mistakes(capsys, words, part):
    code, out, err = init(capsys, *words)
    assert (code, out) == (2, "")
    assert part in err
    assert not Path("conf").exists()


def test_help(capsys):
    code, out, _ = init(capsys, "--help")
    assert code == 0
    for word in ("--models", "site=NAME", "RUNPLAN_CONF", "local.yaml", "never overwritten"):
        assert word in out


def test_a_folder_that_cannot_be_written(capsys):
    Path("conf").write_text("a file")
    code, _, err = init(capsys)
    assert code == 1
    assert "--print" in err


def test_a_screen_that_knows_ascii_only(monkeypatch, found):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    found[0] = Discovered("box", "me", models=(ModelFolder("/modèles/a", "llama"),))
    assert cli.main(["init", "--print"]) == 0
    assert b"name: box" in raw.getvalue()


def test_no_hydra_before_the_file_is_written():
    import subprocess
    import sys

    code = "import sys; from runplan.discover import command; print(*{'hydra', 'rich', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_progress_is_one_line_that_goes_away_and_nothing_without_a_terminal():
    from runplan.discover.folders import Search
    from runplan.discover.progress import Progress

    screen = Terminal()
    with Progress(screen) as progress:
        progress(Search(now="/a\nb", folders=3))
    assert "looking through /a\\nb: 3 folders" in screen.getvalue()
    assert "\n" not in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[K")
    pipe = io.StringIO()
    with Progress(pipe) as progress:
        progress(Search(now="/a", folders=3))
    assert pipe.getvalue() == ""
