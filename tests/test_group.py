"""From the command line to a written group, in process and on real files."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from runplan.cli import main

TINY = ["model=tiny", "dataset.create=true", "dataset.n_words=400", "priors.paths=[]", "group.name=words"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))  # no SLURM of this machine's
    return tmp_path


def run(*words) -> int:
    """The exit code of a command line."""
    try:
        return int(main(list(words)) or 0)
    except SystemExit as stop:
        return int(stop.code or 0)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def document(group="words"):
    return json.loads(Path(f"outputs/{group}/plan.json").read_text())


def test_a_sweep_writes_the_whole_group_and_says_it_is_ready(here, capsys):
    assert run("-m", *TINY, "lora.rank=4,64") == 0
    files = tree(here / "outputs" / "words")
    assert {"README.md", "plan.json", "plan.csv", "submit_all.sh", "tiny_rank4/finetune.yaml",
            "tiny_rank4/finetune.slurm", "tiny_rank4/setup_finetune.yaml", "tiny_rank4/.hydra/config.yaml",
            "tiny_rank64/eval/capitalization_epoch0/cell.slurm", "tiny_base/eval/capitalization/eval.yaml",
            } <= files.keys()  # fmt: skip
    assert not any(path.startswith("tiny_base/finetune") for path in files)
    assert {row["status"] for row in document()["verified"]} <= {"ok", "unchecked"}
    assert "Run Plan Summary" in capsys.readouterr().out


def test_planning_again_changes_no_byte(here):
    run(*TINY)
    before = tree(here / "outputs")
    assert run(*TINY) == 0
    assert tree(here / "outputs") == before


def test_planning_again_in_another_order_changes_no_byte(here, capsys):
    words = ["lora.rank=4,64", "dataset.train_rows=100,200", "epochs=1"]
    assert run(*TINY, *words) == 0
    before = tree(here / "outputs")
    capsys.readouterr()
    assert run("epochs=1", *TINY[::-1], *words[:2]) == 0
    assert tree(here / "outputs") == before
    assert "Nothing changed" in capsys.readouterr().out


def test_an_order_that_makes_other_names_is_another_plan(here, capsys):
    assert run(*TINY, "lora.rank=4", "seed=1,2", "dataset.train_rows=100,200") == 0
    capsys.readouterr()
    assert run(*TINY, "lora.rank=4", "dataset.train_rows=100,200", "seed=1,2") == 0
    assert "+ tiny_rank4_train_rows100_seed1" in capsys.readouterr().out


def test_a_preview_shows_everything_and_writes_nothing(here, capsys):
    assert run("-m", *TINY, "lora.rank=4,64", "preview=true") == 0
    assert "tiny_rank64" in capsys.readouterr().out
    assert [path for path in here.rglob("*") if path.is_file()] == []


def test_missing_things_are_no_failure_unless_strict(here, capsys):
    words = ["-m", "model=1B,3B", "priors.paths=[]", "group.name=words"]
    assert run(*words) == 0
    assert "hf download meta-llama/Llama-3.2-3B-Instruct" in capsys.readouterr().out
    assert run(*words, "verify.strict=true") == 3


def test_a_strict_preview_says_whether_the_group_would_be_ready(here, capsys):
    assert run("model=1B", *TINY[1:], "verify.strict=true", "preview=true") == 3
    assert "would not be ready; nothing was written" in capsys.readouterr().err
    assert not (here / "outputs").exists()


def test_impossible_runs_are_all_named_and_nothing_is_written(here, capsys):
    code = run("-m", "model=8B,70B,tiny", "resources=t4-16", "dtype=fp32", "group.name=words", "priors.paths=[]")
    error = capsys.readouterr().err
    assert code == 1
    assert "8B_rank8" in error
    assert "70B_rank8" in error
    assert "Traceback" not in error
    assert not (here / "outputs").exists()


def test_a_priors_folder_that_does_not_exist_is_an_error(here, capsys):
    assert run(*TINY[:3], "priors.paths=[nowhere]") == 2
    assert "nowhere" in capsys.readouterr().err


def test_keys_of_the_group_cannot_be_swept(here, capsys):
    assert run("-m", *TINY, "overwrite=true,false") == 2
    assert "overwrite belongs to the whole group" in capsys.readouterr().err


def test_the_default_name_is_in_the_command_that_plans_again(here):
    run(*TINY[:-1])
    (group,) = (here / "outputs").iterdir()
    assert document(group.name)["command"].endswith(f"group.name={group.name}")


@pytest.mark.parametrize("key", ["hydra.sweep.dir", "hydra.run.dir"])
def test_hydras_directory_is_the_groups(here, key):
    assert run("-m", *TINY[:-1], "lora.rank=4,8", f"{key}='a b/${{site.name}}'") == 0
    plan = json.loads((here / "a b/local/plan.json").read_text())
    assert (plan["group"], plan["command"].partition(key)[2]) == ("local", "='\"'\"'a b/local'\"'\"''")
    assert (here / "a b/local/tiny_rank4/finetune.slurm").is_file()
    assert not (here / "outputs").exists()


def test_files_of_a_directory_that_is_no_group_are_not_written_over(here, capsys):
    mine = here / "mine" / "README.md"
    mine.parent.mkdir()
    mine.write_text("my project")
    words = [*TINY[:-1], "hydra.sweep.dir=mine"]
    for more in ([], ["preview=true"]):
        assert run(*words, *more) == 1
        assert "mine is no group, but has README.md, which would be written over" in capsys.readouterr().err
    assert [path.name for path in mine.parent.iterdir()] == ["README.md"]
    assert run(*words, "overwrite=true") == 0
    assert mine.read_text().startswith("# Run Plan Summary")


def test_two_names_for_a_group_are_one_too_many(here, capsys):
    assert run(*TINY, "hydra.sweep.dir=x/y") == 2
    assert "hydra.sweep.dir=x/y/words" in capsys.readouterr().err
    assert run(*TINY, "hydra.sweep.dir=x/words") == 0


def test_an_unwritable_output_is_one_clear_error(here, capsys):
    Path("outputs").write_text("a file")
    assert run(*TINY) == 1
    error = capsys.readouterr().err
    assert "outputs" in error
    assert "Traceback" not in error


def test_marks_resolve_when_hydra_shows_the_config(here, capsys):
    run("--cfg", "job", "--resolve", *TINY[:4], "lora.rank=4")
    shown = capsys.readouterr().out
    assert "alpha: 8" in shown
    assert "batch_size: 16" in shown


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["group.name=" + "a" * 300], 2, "the name has 300 bytes, file systems take 255"),
        (["site.output_root=" + "a" * 300], 1, "File name too long"),
        (["dataset=json"], 1, "dataset json: neither dataset.path nor dataset.file is set"),
        (["priors.gpu=a100"], 2, "did you mean a100-"),
        (["lora.rank=0", "epochs=x", "prompt=x"], 2, "lora.rank is 0"),
        (["lora.rank=0", "epochs=x", "prompt=x"], 2, "'x' is no whole number"),
        (["lora.rank=0", "epochs=x", "prompt=x"], 2, "prompt 'x' has no {input}"),
        (["site.env={A: 1}"], 2, "add it: ++site.env.A="),
        (["controls=true", "resources.partition=5", "lora.rank=-1,-1,-2"], 2, "lora.rank is -2"),
    ],
)
def test_mistakes_are_said_all_at_once_without_a_traceback(here, capsys, words, code, said):
    assert run("-m", *TINY, *words) == code
    assert said in capsys.readouterr().err
    assert not list((here / "outputs").glob("*"))


def test_a_model_folder_gives_its_name_to_its_runs(here):
    run(*TINY)
    folders = [here / "models" / name for name in ("mine", "yours")]
    for folder in folders:
        shutil.copytree(here / "models" / "Tiny-Llama-3.2", folder)
    paths = ",".join(map(str, folders))
    assert run("-m", *TINY[1:-1], "model=hf", f"model.path={paths}", "group.name=hf") == 0
    runs = document("hf")["runs"]
    assert [one["name"] for one in runs] == ["mine_rank8", "yours_rank8", "mine_base", "yours_base"]
    assert [one["model"] for one in runs] == ["mine", "yours"] * 2


@pytest.mark.parametrize("word", ["verify.strict=true", "submit=sbatch"])
def test_what_is_not_ready_says_why_nothing_was_submitted(here, capsys, word):
    assert run("model=tiny", "dataset.path=nowhere.json", "priors.paths=[]", "group.name=words", word) == 3
    error = capsys.readouterr().err
    assert "not ready: nothing was submitted" in error
    assert "is missing: " in error
    assert "dataset.create=true" in error


def test_a_kept_run_shows_the_level_of_a_factor_that_is_new(here):
    run("-m", *TINY)
    (here / "outputs/words/tiny_rank8/artifacts/epoch_0").mkdir(parents=True)
    (here / "outputs/words/tiny_rank8/artifacts/epoch_0/adapter.pt").write_text("")
    run("-m", *TINY, "lora.rank=8,16")
    table = Path("outputs/words/README.md").read_text()
    assert "| tiny_rank8 | tiny | 8 |" in table
    assert "| tiny_rank16 | tiny | 16 |" in table
    assert "| tiny_base | tiny | - |" in table


def test_one_problem_of_many_runs_is_said_once_with_all_names(here, capsys):
    assert run("-m", *TINY, "recipe.custom=nowhere.py", "lora.rank=4,8") == 1
    error = capsys.readouterr().err
    assert "2 of 3 runs cannot be planned" in error
    assert "tiny_rank4, tiny_rank8: the recipe nowhere.py is not there" in error
    assert error.count("nowhere.py is not there") == 1


def test_a_sweep_with_more_evaluations_than_anybody_wants_is_refused_at_once(here, capsys):
    assert run(*TINY, "epochs=99999,2") == 2
    said = capsys.readouterr().err
    assert "100,001 epochs to evaluate, at most 100,000" in said
    assert "evaluation.epochs=last" in said
    assert not (here / "outputs").exists()
