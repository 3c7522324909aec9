"""`--show`: which files are meant, and that what is shown is what is written, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from runplan import cli
from runplan.errors import ConfigError
from runplan.summary.show import chosen, shown, split_show

PATHS = ["README.md", "plan.json", "a/finetune.yaml", "a/eval/t/cell.slurm", "b/finetune.yaml", "b[1]/finetune.yaml"]


@pytest.mark.parametrize(
    ("words", "rest", "patterns"),
    [
        (["model=1B"], ["model=1B"], []),
        (["--show", "README.md", "model=1B", "--show=a/*"], ["model=1B"], ["README.md", "a/*"]),
        (["--show", "--help"], [], ["--help"]),
    ],
)
def test_the_option_may_stand_anywhere(words, rest, patterns):
    assert split_show(words) == (rest, patterns)


@pytest.mark.parametrize("words", [["--show"], ["--show="], ["--show", ""]])
def test_it_needs_a_file(words):
    with pytest.raises(ConfigError, match="needs a file"):
        split_show(words)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("README.md", ["README.md"]),
        ("a/finetune.yaml", ["a/finetune.yaml"]),
        ("/o/g/a/finetune.yaml", ["a/finetune.yaml"]),
        ("./plan.json", ["plan.json"]),
        ("a", ["a/finetune.yaml", "a/eval/t/cell.slurm"]),
        ("a/", ["a/finetune.yaml", "a/eval/t/cell.slurm"]),
        ("*.slurm", ["a/eval/t/cell.slurm"]),
        ("?/finetune.yaml", ["a/finetune.yaml", "b/finetune.yaml"]),
        ("b[1]/finetune.yaml", ["b[1]/finetune.yaml"]),
        ("cell.slurm", ["a/eval/t/cell.slurm"]),
        ("t/cell.slurm", ["a/eval/t/cell.slurm"]),
    ],
)
def test_what_a_pattern_means(pattern, found):
    assert chosen(PATHS, [pattern], "/o/g") == found


def test_each_file_once_and_all_that_is_not_there_is_told():
    assert chosen(PATHS, ["README.md", "R*", "README.md"], "/o/g") == ["README.md"]
    with pytest.raises(ConfigError, match=r"did you mean README\.md") as caught:
        chosen(PATHS, ["REDME.md", "x", "plan.json"], "/o/g")
    assert len(caught.value.problems) == 2


def test_one_file_is_its_text_and_several_are_headed():
    texts = {"a": "1\n", "b\n": "2"}
    assert shown(texts, ["a"]) == "1\n"
    assert shown(texts, ["a", "b\n"]) == "==> a <==\n1\n\n==> b\\n <==\n2"


WORDS = ("model=1B", "lora.rank=4,8", "dataset.create=true", "group.name=g", 'system_prompt="ü$x"')


def test_what_is_shown_is_what_is_written(capsysbinary):
    assert cli.main([*WORDS, "--show", "1B_rank4/finetune.slurm"]) == 0
    script = capsysbinary.readouterr().out
    assert cli.main([*WORDS, "--show", "README.md", "preview=false", "submit=sbatch"]) == 0
    readme = capsysbinary.readouterr().out
    assert not list(Path.cwd().iterdir())
    assert cli.main([*WORDS]) == 0
    capsysbinary.readouterr()
    assert Path("outputs/g/1B_rank4/finetune.slurm").read_bytes() == script
    assert Path("outputs/g/README.md").read_bytes().splitlines()[0] == readme.splitlines()[0] == b"# Run Plan Summary"


def test_of_a_run_that_stays_the_old_file_is_shown(capsysbinary):
    assert cli.main([*WORDS]) == 0
    Path("outputs/g/1B_rank4/slurm-1.out").touch()
    capsysbinary.readouterr()
    file = Path("outputs/g/1B_rank4/finetune.yaml")
    file.write_bytes(old := file.read_bytes() + b"# what ran\n")
    assert cli.main([*WORDS, "epochs=3", "preview=true"]) == 1  # a key of a run that ran may not change
    assert cli.main([*WORDS, "--show", "1B_rank4/finetune.yaml"]) == 0
    assert capsysbinary.readouterr().out == old


def test_a_preview_says_what_changes_key_by_key_and_writes_nothing(capsys):
    assert cli.main([*WORDS]) == 0
    before = {path: path.read_bytes() for path in Path("outputs").rglob("*") if path.is_file()}
    capsys.readouterr()
    words = [word for word in WORDS if not word.startswith("lora.rank")]
    assert cli.main([*words, "lora.rank=4,16", "optimizer.lr=1e-3", "epochs=2", "preview=true"]) == 0
    out = capsys.readouterr().out
    assert "+ 1B_rank16" in out
    assert "  ~ 1B_rank4\n" in out
    assert "config.epochs 1 → 2" in out
    assert "? 1B_rank8: no longer planned" in out
    assert "├── 1B_rank4/   changes" in out
    assert "1B_rank16/   new" in out
    assert before == {path: path.read_bytes() for path in Path("outputs").rglob("*") if path.is_file()}


def test_it_is_no_companion_of_options_that_only_print(capsys):
    assert cli.main(["--cfg", "job", "--show", "README.md"]) == 2
    assert "use one at a time" in capsys.readouterr().err
