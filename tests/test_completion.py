"""Completion: what is offered for a line, and that a real bash ends up with the words that were meant."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runplan import cli
from runplan.completion.candidates import candidates
from runplan.completion.line import Line, escaped, read_line
from runplan.completion.shells import HOW, INSTALL

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("text", "words", "current"),
    [
        ("", (), ""),
        ("runplan", (), ""),
        ("runplan ", (), ""),
        ("runplan mo", (), "mo"),
        ("runplan  model=1B lora.", ("model=1B",), "lora."),
        ("runplan status my\\ gro", ("status",), "my gro"),
        ("runplan status 'my gro", ("status",), "my gro"),
        ('runplan status "a\\"b c', ("status",), 'a"b c'),
        ("runplan '' x", ("",), "x"),
        ("runplan x\\", (), "x"),
    ],
)
def test_a_line_is_taken_apart_as_a_shell_does(text, words, current):
    assert read_line(text) == Line(words, current)


@pytest.mark.parametrize("word", ["my group/", "a'b", 'a"b', "$(x)", "a;b", "ü", "a\\b", "a&b", "*", "x=[a,b]"])
def test_an_escaped_word_is_read_back_by_bash(word):
    for brackets in (True, False):
        command = f"printf %s {escaped(word, brackets=brackets)}"
        assert subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout == word


def offered(text: str) -> list[str]:
    return candidates(read_line(f"runplan {text}"), cli.VERBS, Path.cwd())


@pytest.mark.parametrize(
    ("text", "some", "none"),
    [
        ("", ["init ", "priors ", "model=", "lora.", "epochs=", "+experiment="], ["experiment=", "--help "]),
        ("in", ["init "], ["model="]),
        ("model=1B in", [], ["init "]),
        ("lora.", ["lora.rank=", "lora.alpha="], ["lora.", "model="]),
        ("lora.ra", ["lora.rank="], ["lora.alpha="]),
        ("e", ["epochs=", "evaluation="], ["+experiment="]),
        ("exp", ["+experiment="], []),
        ("+", ["+experiment=", "+evaluation.args."], ["+epochs=", "+model="]),
        ("~", ["~evaluation "], ["~epochs="]),
        ("model=", ["model=1B", "model=hf"], ["model=_request"]),
        ("model=1B,", ["model=1B,3B"], ["model=1B,1B"]),
        ("resources=h2", ["resources=h200-141"], ["resources=h100-80"]),
        ("+experiment=r", ["+experiment=ranks", "+experiment=replicates"], []),
        ("validation=", ["validation=true", "validation=false"], []),
        ("dtype=", ["dtype=bf16", "dtype=fp32"], []),
        ("naming=s", ["naming=short"], ["naming=full"]),
        ("packed=", ["packed=auto", "packed=true"], []),
        ("evaluation.epochs=", ["evaluation.epochs=all", "evaluation.epochs=last"], []),
        ("activation_checkpointing=", ["activation_checkpointing=true"], []),
        ("priors.gpu=a40", ["priors.gpu=a40-48"], []),
        ("seed=", [], []),
        ("nonsense=", [], []),
        ("nonsense.", [], []),
        ("hydra.sw", ["hydra.sweep.dir="], []),
        ("--sh", ["--show ", "--shell-completion "], ["--help "]),
        ("--cfg ", ["job ", "all "], ["model="]),
        ("--info s", ["searchpath "], ["all "]),
        ("he", ["help "], []),
        ("help lora.r", ["lora.rank "], ["lora.rank="]),
        ("help mod", ["model ", "model."], []),
        ("init --mo", ["--models "], ["--data "]),
        ("priors --", ["--json ", "--refresh "], ["--models "]),
    ],
)
def test_what_is_offered(text, some, none):
    found = offered(text)
    assert [word for word in some if word not in found] == []
    assert [word for word in none if word in found] == []
    assert len(found) == len({*found})


def test_folders_and_files():
    for folder in ("outputs/my group", "other", ".hidden"):
        Path(folder).mkdir(parents=True)
    Path("data.json").touch()
    assert offered("priors ") == ["other/", "outputs/"]
    assert offered("priors outputs/") == ["outputs/my group/"]
    assert offered("priors .") == [".hidden/"]
    assert offered("--config-dir o") == ["other/", "outputs/"]
    assert offered("dataset.path=") == ["dataset.path=data.json", "dataset.path=other/", "dataset.path=outputs/"]
    assert offered("model.path=other,ou") == ["model.path=other,outputs/"]
    assert offered("priors.paths=ou") == ["priors.paths=[outputs/"]
    assert offered("priors.paths=[other,ou") == ["priors.paths=[other,outputs/"]
    assert offered("priors nowhere/") == []


def test_the_users_own_groups_and_options(tmp_path):
    for file in ("conf/model/mine.yaml", "conf/flavour/sweet.yaml", f"{tmp_path}/c d/model/theirs.yaml"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    assert "model=mine" in offered("model=")
    assert offered("+fl") == ["+flavour="]
    assert offered("+flavour=") == ["+flavour=sweet"]
    assert "model=theirs" in offered(f"--config-dir {escaped(str(tmp_path))}/c\\ d model=t")
    assert "model=theirs" in offered(f"'--config-dir={tmp_path}/c d' model=t")


def test_an_options_choices_come_from_the_verbs_own_help(monkeypatch):
    def verb(words):
        import argparse

        parser = argparse.ArgumentParser()
        parser.add_argument("--via", choices=["sbatch", "local"])
        parser.parse_args(words)
        return 0

    monkeypatch.setitem(cli.VERBS, "send", (verb, ""))
    assert offered("send --v") == ["--via "]
    assert offered("send --via s") == ["sbatch "]


@pytest.mark.parametrize("shell", INSTALL)
def test_a_line_to_install_and_to_take_back(shell, capsys):
    assert cli.main(["-sc", f"install={shell}"]) == 0
    assert "runplan" in capsys.readouterr().out
    assert cli.main(["--shell-completion", f"uninstall={shell}"]) == 0
    assert f"install={shell}" in HOW[shell]


@pytest.mark.parametrize("words", [["-sc"], ["-sc", "install=tcsh"], ["-sc", "install"], ["-sc", "model=1B"]])
def test_requests_that_are_none(words, capsys):
    assert cli.main(words) == 2
    assert capsys.readouterr().out == ""


def test_a_query_waits_for_neither_hydra_nor_the_cursor(monkeypatch, capsys):
    monkeypatch.setenv("COMP_LINE", "runplan lora.rank model=1B")
    monkeypatch.setenv("COMP_POINT", str(len("runplan lora.ra")))
    code = "import sys; from runplan.cli import main; main(['-sc', 'query=bash']); print('hydra' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.splitlines() == ["lora.rank=", "False"]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'runplan/_hydra'}"}


@pytest.fixture
def program(tmp_path) -> Path:
    """`runplan` on a PATH: completes as the real one, and else writes down the words it was given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = f"""#!{sys.executable}
import json, pathlib, sys
if "-sc" in sys.argv:
    from runplan.cli import main
    sys.exit(main(sys.argv[1:]))
pathlib.Path({str(tmp_path / "words")!r}).write_text(json.dumps(sys.argv[1:]))
"""
    (folder / "runplan").write_text(script)
    (folder / "runplan").chmod(0o755)
    return folder


def typed(program: Path, keys: str) -> list[str]:
    """The words that a program gets when somebody types `keys` into an interactive bash."""
    words = program.parent / "words"
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(environment() | {"PATH": f"{program}:{os.environ['PATH']}", "PS1": "$ ", "TERM": "dumb"})
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
    try:
        os.write(
            terminal, f'bind "set enable-bracketed-paste off"; eval "$(runplan -sc install=bash)"\n{keys}\n'.encode()
        )
        deadline = time.monotonic() + 30
        while not (words.exists() and words.read_text()) and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.05)[0]:
                os.read(terminal, 4096)
        return json.loads(words.read_text())
    finally:
        os.write(terminal, b"\x03exit\n")
        os.close(terminal)
        os.waitpid(process, 0)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_real_bash_completes_verbs_keys_values_and_folders(program):
    Path("my group").mkdir()
    assert typed(program, "runplan lora.ra\t4 model=1B,qwen2.5-7B-\t +exp\tran\t val\tf\t --sho\tx") == [
        "lora.rank=4",
        "model=1B,qwen2.5-7B-base",
        "+experiment=ranks",
        "validation=false",
        "--show",
        "x",
    ]


def test_a_real_bash_completes_folders_with_spaces(program):
    Path("my group/sub").mkdir(parents=True)
    assert typed(program, "runplan in\t--mo\tmy\ts\t --js\t") == ["init", "--models", "my group/sub/", "--json"]
