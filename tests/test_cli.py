"""The command line: what it says, to whom, and with which exit code."""

from __future__ import annotations

import gc
import io
import logging
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from omegaconf import OmegaConf

from runplan import cli, paths
from runplan.errors import PlanError, Problem, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runplan.plan import Composed

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Hydra leaves a handler on a stream that pytest then closes."""
    before = [*logging.root.handlers]
    yield
    logging.root.handlers[:] = before


class Planner:
    """Stands in for planning and keeps what it was given."""

    def __init__(self) -> None:
        self.composed: list[Composed] = []
        self.command = ""
        self.experiment: str | None = None
        self.error: BaseException | None = None

    def plan_group(self, composed: Sequence[Composed], command: str, experiment: str | None, **more: Any) -> int:
        self.more = more
        self.composed, self.command, self.experiment = list(composed), command, experiment
        if self.error:
            raise self.error
        return 0

    def resolve_mark(self, key: str, composed: Composed) -> object:
        return {"batch_size": 4, "gradient_accumulation_steps": 16 // (composed.config.batch_size or 4)}.get(key, 7)


@pytest.fixture
def planner(monkeypatch: pytest.MonkeyPatch) -> Planner:
    made = Planner()
    module = types.ModuleType("runplan.group")
    module.plan_group, module.resolve_mark = made.plan_group, made.resolve_mark
    monkeypatch.setitem(sys.modules, "runplan.group", module)
    return made


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.main(list(words))
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.err if code else captured.out


def write(path: str, text: str) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_plans_every_combination(planner: Planner) -> None:
    assert cli.main(["-m", "model=1B,3B", "lora.rank=4,64"]) == 0
    assert len(planner.composed) == 4
    assert planner.command == "model=1B,3B lora.rank=4,64"


@pytest.mark.parametrize("flags", [[], ["-m"], ["-r"], ["hydra.mode=RUN"], ["hydra.mode=MULTIRUN"]])
def test_a_single_run_is_a_group_of_one(planner: Planner, flags: list[str]) -> None:
    assert cli.main([*flags, "model=3B"]) == 0
    assert [run.choices["model"] for run in planner.composed] == ["3B"]
    assert planner.command == "model=3B"
    assert not list(Path.cwd().iterdir())


def test_options_may_stand_between_overrides(planner: Planner) -> None:
    assert cli.main(["model=3B", "-m", "seed=1,2"]) == 0
    assert len(planner.composed) == 2


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["lora.rnak=4"], ["no key lora.rnak", "did you mean lora.rank?"]),
        (["rank=4"], ["no key rank", "lora.rank"]),
        (["model=1C"], ["model has no option '1C'", "1B"]),
        (["modle=1B"], ["no key modle", "did you mean model"]),
        (["model=1B,3C", "lora.rnak=1", "lora.rank=a,b", "epochs=x"], ["3C", "lora.rnak", "'a'", "'b'", "epochs: 'x'"]),
        (["lora.rank=abc"], ["lora.rank: 'abc' is no whole number", "`runplan help lora.rank` says what it takes"]),
        (["sweep.zip=lora.rank"], ["sweep.zip takes a list", "sweep.zip=[[model,optimizer.lr]]"]),
        (["seed=1", "sweep.exclude=3"], ["sweep.exclude takes a list", "{model: 3B, lora.rank: 64}"]),
        (["=3"], ["'=3' names no key", "write KEY=VALUE"]),
        (["lora.rank=4.5"], ["lora.rank: '4.5' is no whole number"]),
        (["validation=maybe"], ["validation", "neither true nor false"]),
        (["dtype=fp16"], ["dtype", "bf16"]),
        (["lora.rank=-4"], ["lora.rank is -4, must be at least 1"]),
        (["+foo=1"], ["no key foo"]),
        (["~lora.rank"], ["lora.rank cannot be deleted"]),
        (["~model"], ["model cannot be left out"]),
        (["~evaluation"], ["evaluation=none plans none"]),
        (["system_prompt=a=b", "epochs=0x&"], ["'system_prompt=a=b' cannot be read", "epochs", "quote text"]),
        (["prompt={input}"], ["prompt", "quote text for the shell and for Hydra: 'prompt=\"{input}\"'"]),
        (["prompt={input:x}"], ["prompt", "quote text"]),
        (["prompt=nothing"], ["has no {input}"]),
        (["hydra/launcher=submitit_slurm"], ["submit=sbatch"]),
        (["hydra.launcher.timeout_min=5"], ["submit=sbatch"]),
        (["hydra/sweeper=basic"], ["hydra/sweeper"]),
        (["hydra.verbose=true,false"], ["cannot be swept"]),
        (["model=1B", "sweep"], ["'sweep' is no override"]),
        (["prirs", "x"], ["did you mean priors?"]),
        (["launch"], ["no verb", "priors"]),
        (["--prevew"], ["no option --prevew"]),
        (["--preview"], ["no option --preview", "write preview=true"]),
        (["--lora.rank=4"], ["write lora.rank=4"]),
        (["model=tyni"], ["did you mean tiny?"]),
        (["model=meta-llama/Llama-3.1-8B-Instruct"], ["did you mean 8B?"]),
        (["learning_rate=1e-4"], ["did you mean optimizer.lr?"]),
        (["lora.targets=x"], ["`runplan help lora` lists its keys"]),
        (["lora.rank=[4,64]"], ["several are lora.rank=4,64"]),
        (
            ["resources.gpu=h100"],
            ["leaves memory and speed", "resources=h100-80 or resources=h100-94 or resources=h100-mig-10"],
        ),
        (["lora.rank=4,", "64"], ["spaces around a comma", "write lora.rank=4,64"]),
        (["--cfg", "jobb"], ["jobb"]),
        (["--config-dir", "/nowhere/at all"], ["no folder /nowhere/at all"]),
        (["resources.time=90"], ["90 minutes", "01:30:00 or 00:01:30"]),
        (["experiment=x"], ["experiment"]),
        (["model.name=???"], ["model.name has no value"]),
        (["site.partition=${site.nope}"], ["site.partition"]),
        (["site.account=${oc.env:NO_SUCH_VARIABLE}"], ["NO_SUCH_VARIABLE", "site.account"]),
    ],
    ids=lambda value: " ".join(value[:1]),
)
def test_mistakes_of_the_command_line(
    planner: Planner, capsys: pytest.CaptureFixture[str], words: list[str], parts: list[str]
) -> None:
    code, text = said(capsys, *words)
    assert code == 2
    for part in parts:
        assert part in text
    assert not planner.composed


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "rnak: 4\nalpah: 3\nrank: four\n",
            ["lora.rnak", "line 1", "lora.rank?", "lora.alpah", "line 2", "four", "line 3"],
        ),
        ("defaults: [default]\nrank: [4\n", ["broken YAML", "mine.yaml, line 3"]),
        ("defaults: [defualt]\n", ["no option 'defualt'", "did you mean default?", "lora/mine"]),
        ("defaults: [default]\nrank: 0\n", ["lora.rank is 0"]),
        ("dropout: 0.1\n", ["lora.rank has no value", "lora.apply_to_mlp has no value"]),
        ("- a\n- b\n", ["lora/mine"]),
        ("defaults: nothing\n", ["lora/mine"]),
        ("\x00\x01", ["broken YAML", "lora/mine.yaml"]),
    ],
)
@pytest.mark.parametrize("words", [["lora=mine"], ["lora=default,mine"]], ids=["alone", "swept"])
def test_mistakes_of_a_users_file(
    planner: Planner, capsys: pytest.CaptureFixture[str], words: list[str], text: str, parts: list[str]
) -> None:
    write("conf/lora/mine.yaml", text)
    code, answer = said(capsys, *words)
    assert code == 2
    for part in parts:
        assert part in answer


def test_files_that_name_each_other_in_a_circle(planner: Planner, capsys: pytest.CaptureFixture[str]) -> None:
    write("conf/site/local.yaml", "defaults: [lab]\n")
    write("conf/site/lab.yaml", "defaults: [local, _self_]\nname: lab\n")
    for words in ([], ["site=lab"], ["site=local,lab"], ["--cfg", "job"]):
        code, text = said(capsys, *words)
        assert code == 2
        assert "site/lab → site/local → site/lab" in text
        assert "begins with _site" in text


def test_unquoted_time_in_yaml(planner: Planner, capsys: pytest.CaptureFixture[str]) -> None:
    write("conf/resources/mine.yaml", "defaults: [a100-80]\ntime: 12:30:00\n")
    assert said(capsys, "resources=mine")[0] == 0
    assert planner.composed[0].config.resources.time == "12:30:00"


def test_the_users_conf_adds_and_overrides(planner: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "a b"
    write(f"{here}/conf/model/mine.yaml", "defaults: [1B]\nname: mine\n")
    write(
        f"{here}/conf/site/local.yaml",
        "defaults: [_site, _self_]\nname: local\nmodels_dir: mm\n",
    )
    monkeypatch.chdir(here)
    assert cli.main(["model=mine,1B"]) == 0
    assert [run.config.model.name for run in planner.composed] == ["mine", "1B"]
    assert {run.config.site.models_dir for run in planner.composed} == {"mm"}


@pytest.mark.parametrize("name", ["config", "runplan", "schema"])
def test_a_strangers_primary_config_changes_nothing(
    planner: Planner, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    write(f"conf/{name}.yaml", "defaults: [nonsense]\nepochs: 99\n")
    assert cli.main([]) == 0
    assert planner.composed[0].config.epochs == 1
    assert ("RUNPLAN_CONF" in capsys.readouterr().err) == (name == "runplan")


def test_runplan_conf_may_replace_the_primary_config(
    planner: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    primary = (paths.CONF_DIR / "runplan.yaml").read_text()
    write(f"{tmp_path}/my conf/runplan.yaml", primary.replace("\nepochs: 1\n", "\nepochs: 5\n"))
    write(f"{tmp_path}/second/model/other.yaml", "defaults: [3B]\nname: other\n")
    monkeypatch.setenv("RUNPLAN_CONF", f"{tmp_path}/my conf{os.pathsep}{tmp_path}/second")
    assert cli.main(["model=other"]) == 0
    assert planner.composed[0].config.epochs == 5
    monkeypatch.setenv("RUNPLAN_CONF", f"{tmp_path}/gone")
    code, text = said(capsys)
    assert code == 2
    assert "RUNPLAN_CONF" in text


def test_config_dir_and_search_path(planner: Planner, tmp_path: Path) -> None:
    write(f"{tmp_path}/x y/model/other.yaml", "defaults: [3B]\nname: other\n")
    assert cli.main(["--config-dir", f"{tmp_path}/x y", "model=other"]) == 0
    assert planner.command == f"'--config-dir={tmp_path}/x y' model=other"
    assert cli.main([f"hydra.searchpath=['file://{tmp_path}/x y']", "model=other,1B"]) == 0
    assert [run.choices["model"] for run in planner.composed] == ["other", "1B"]


def test_a_plan_that_fails_says_so_with_its_own_code(planner: Planner, capsys: pytest.CaptureFixture[str]) -> None:
    planner.error = PlanError([Problem("does not fit", "batch_size", "use another GPU", "1B_rank4")], 1)
    code, text = said(capsys, "model=1B")
    assert code == 1
    assert "1 of 1 runs cannot be planned" in text


def test_a_defect_of_ours_is_not_taken_for_a_mistake_of_the_users(planner: Planner) -> None:
    planner.error = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug"):
        cli.main(["model=1B"])


def test_interruption_is_quiet(planner: Planner, capsys: pytest.CaptureFixture[str]) -> None:
    planner.error = KeyboardInterrupt()
    assert cli.main(["model=1B"]) == 130
    assert capsys.readouterr().err == ""


def test_traceback_on_request(
    planner: Planner, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert cli.main(["lora.rnak=1"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_notes_go_to_stderr(planner: Planner, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["seed=1,1"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("note: ")


def test_help_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    write("conf/model/mymodel.yaml", "defaults: [1B]\n")
    for words in (["--help"], ["-h"], ["model=1B", "--help"]):
        code, text = said(capsys, *words)
        assert code == 0
        assert "runplan model=1B,3B lora.rank=4,64" in text
        assert "priors" in text
        assert "mymodel" in text
        assert "della" in text
        assert "_request" not in text


def test_help_knows_a_folder_that_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write(f"{tmp_path}/a b/model/theirs.yaml", "")
    for words in (["--config-dir", f"{tmp_path}/a b", "--help"], [f"--config-dir={tmp_path}/a b", "-h"]):
        assert "theirs" in said(capsys, *words)[1]
    assert said(capsys, "--help", "--config-dir", "/nowhere")[0] == 0


@pytest.mark.parametrize("shown", ["job", "hydra", "all"])
def test_every_config_is_shown(planner: Planner, capsys: pytest.CaptureFixture[str], shown: str) -> None:
    code, text = said(capsys, "--cfg", shown, "model=3B", "hydra.sweep.dir=/x/y")
    assert code == 0
    assert ("hydra" in OmegaConf.create(text)) == (shown != "job")
    assert ("dir: /x/y" in text) == (shown != "job")


@pytest.mark.parametrize("about", ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"])
def test_every_information_of_hydras(capsys: pytest.CaptureFixture[str], about: str) -> None:
    assert said(capsys, "--info", about, "+experiment=ranks")[0] == 0


def test_an_experiment_of_the_users_and_options_of_a_named_folder(planner: Planner, tmp_path: Path) -> None:
    write("conf/experiment/mine.yaml", "# @package _global_\nepochs: 3\nhydra:\n  sweep:\n    dir: here/mine\n")
    assert cli.main(["+experiment=mine", "seed=1,2"]) == 0
    assert [run.config.epochs for run in planner.composed] == [3, 3]
    assert planner.experiment == "mine"
    assert planner.more["directory"] == "here/mine"


def test_show_config(planner: Planner, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "-m", "--cfg", "job", "model=3B", "lora.rank=4")
    assert code == 0
    config = OmegaConf.create(text)
    assert config.model.name == "3B"
    assert config.lora.rank == 4
    assert "hydra" not in config
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_what_is_shown_of_a_named_folder_is_what_is_planned(
    planner: Planner, capsys: pytest.CaptureFixture[str]
) -> None:
    write("D/experiment/e.yaml", "# @package _global_\nsite:\n  account: 007\nresources:\n  time: 12:30:00\n")
    words = ["--config-dir", "D", "+experiment=e"]
    text = said(capsys, *words, "--cfg", "job")[1]
    shown = OmegaConf.create(text)
    assert cli.main([*words]) == 0
    (run,) = planner.composed
    assert (shown.site.account, shown.resources.time) == (run.config.site.account, run.config.resources.time)
    assert shown.site.account == "007"
    assert "account: '007'" in said(capsys, *words, "--info", "config")[1]
    assert said(capsys, "--cfg", "job", "--package", "nowhere")[0] == 1
    assert said(capsys, "--cfg", "job", "--config-dir", "nowhere")[0] == 2


def test_show_resolved_config(planner: Planner, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "--cfg", "job", "--resolve")
    assert code == 0
    config = OmegaConf.create(text)
    assert (config.batch_size, config.gradient_accumulation_steps) == (4, 4)
    assert "${" not in text


@pytest.mark.parametrize(
    "words", [["--cfg", "job", "lora.rank=1,2"], ["--cfg", "job", "lora.rnak=2"], ["--cfg", "job", "model=1C"]]
)
def test_show_config_says_mistakes_too(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    code, text = said(capsys, *words)
    assert code == 2
    assert text.startswith("runplan:")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--info", "searchpath"], str(paths.CONF_DIR)),
        (["--info", "defaults"], "model/1B"),
        (["--hydra-help"], "Hydra"),
        (["-sc", "install=bash"], "complete"),
        (["--version"], "runplan"),
    ],
)
def test_hydras_own_commands(capsys: pytest.CaptureFixture[str], words: list[str], part: str) -> None:
    code, text = said(capsys, *words)
    assert code == 0
    assert part in text


def test_completion_knows_options_and_keys(
    planner: Planner, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for line, part in (("runplan model=", "model=3B"), ("runplan lora.ra", "lora.rank=")):
        monkeypatch.setenv("COMP_LINE", line)
        monkeypatch.setenv("COMP_POINT", str(len(line)))
        code, text = said(capsys, "-sc", "query=bash")
        assert code == 0
        assert part in text


def test_priors_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[list[str]] = []
    module = types.ModuleType("runplan.priors.command")
    module.main = lambda argv: got.append(argv) or 3
    monkeypatch.setitem(sys.modules, "runplan.priors.command", module)
    assert cli.main(["priors", "logs", "--json"]) == 3
    assert got == [["logs", "--json"]]


def test_a_file_that_is_no_text(planner: Planner, capsys: pytest.CaptureFixture[str]) -> None:
    write("conf/lora/mine.yaml", "").write_bytes(b"rank: \xff\xfe")
    code, text = said(capsys, "lora=mine")
    assert code == 2
    assert "not UTF-8" in text
    assert "lora/mine.yaml" in text


def run(*words: str, cwd: Path, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'runplan/_hydra'}", "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )


def test_as_a_module_from_any_folder(tmp_path: Path) -> None:
    done = run("-m", "runplan", "lora.rnak=4", "model=1C", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "lora.rnak" in done.stderr
    assert "'1C'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("--cfg", "job"), ("--info", "searchpath")])
def test_a_closed_pipe_is_quiet(tmp_path: Path, words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run("-m", "runplan", *words, cwd=tmp_path, stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_does_not_wait_for_hydra(tmp_path: Path) -> None:
    done = run("-X", "importtime", "-m", "runplan", "--help", cwd=tmp_path)
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"hydra", "omegaconf", "yaml", "pandas", "rich", "jinja2", "numpy"}


def test_other_hydra_applications_are_left_alone(tmp_path: Path) -> None:
    write(f"{tmp_path}/their/config.yaml", "epochs: 3\n")
    write(f"{tmp_path}/conf/config.yaml", "epochs: 4\n")
    program = write(
        f"{tmp_path}/app.py",
        "import sys, hydra\n"
        "@hydra.main(config_path='their', config_name='config', version_base='1.3')\n"
        "def main(cfg): print(cfg.epochs, 'runplan.sweep.runs' in sys.modules, 'runplan.config' in sys.modules)\n"
        "main()\n",
    )
    done = run(str(program), cwd=tmp_path)
    assert done.stdout.strip() == "3 False False", done.stderr


def test_a_caller_keeps_its_garbage_collection() -> None:
    assert gc.isenabled()
    assert cli.main(["--version"]) == 0
    assert gc.isenabled()


def test_ctrl_c_while_omegaconf_holds_a_value_is_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumbling(_: object) -> int:
        try:
            raise KeyboardInterrupt
        finally:
            raise UnboundLocalError("old")

    monkeypatch.setattr(cli, "_dispatch", stumbling)
    assert cli.main(["model=1B"]) == 130
    monkeypatch.setattr(cli, "_dispatch", lambda _: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["model=1B"])


def test_help_may_be_asked_for_as_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["help"], ["help", "--help"], ["help", "-h"]):
        assert cli.main(words) == 0
        assert "Config groups" in capsys.readouterr().out


GROUP = str(ROOT / "tests" / "data" / "collected_group")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    ("buffering", "words"),
    [
        (-1, ["--help"]), (0, ["model=1B", "preview=true", "priors.paths=[]"]), (0, ["--cfg", "job"]),
        (0, ["status", GROUP]), (-1, ["status", GROUP]), (0, ["status", "--json", GROUP]), (-1, ["status", "--help"]),
        (0, ["priors", "--json", GROUP]), (0, ["submit", "--test-only", GROUP]),
    ],
)  # fmt: skip
def test_a_full_disk_behind_the_output_is_said(
    buffering: int, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if words[0] == "submit":
        (tmp_path / "sbatch").symlink_to("/bin/true")
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        words = [*words[:-1], str(shutil.copytree(GROUP, tmp_path / "group"))]
    monkeypatch.chdir(tmp_path)
    with Path("/dev/full").open("wb", buffering) as full, io.TextIOWrapper(full, write_through=not buffering) as text:
        monkeypatch.setattr("sys.stdout", text)
        assert cli.main(words) == 1
    assert capfd.readouterr().err == (
        "runplan: the output cannot be written: No space left on device; free some space, or write it elsewhere\n"
    )


def test_a_reader_that_has_enough_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        assert cli.main(["status", GROUP]) == 0


def test_what_else_went_wrong_is_said_although_the_output_fails_too(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def failing(_: object) -> int:
        sys.stdout.write("half a table")
        raise StoreError("the group is damaged")

    monkeypatch.setattr(cli, "_dispatch", failing)
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert cli.main([]) == 1
    assert capfd.readouterr().err == "runplan: the group is damaged\n"


def test_without_an_output_the_exit_code_is_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert cli.main(["--help"]) == 0
    assert sys.stdout is None


@pytest.mark.parametrize("word", ["system_prompt=a\udcffb", "site.output_root=/a\udcff"])
def test_bytes_that_are_no_text_are_refused(capsys, word):
    assert cli.main([word, "preview=true"]) == 2
    error = capsys.readouterr().err
    assert "is not UTF-8 text   @ " + word.partition("=")[0] in error


def test_a_folder_that_is_no_text_or_gone_is_refused(tmp_path, monkeypatch, capsys):
    odd = tmp_path / "a\udcff"
    odd.mkdir()
    monkeypatch.chdir(odd)
    assert cli.main(["preview=true"]) == 2
    assert "is not UTF-8 text   @ current folder" in capsys.readouterr().err
    odd.rmdir()
    for words in (["preview=true"], ["status", "g"]):
        assert cli.main(words) == 2
        assert "the current folder is gone" in capsys.readouterr().err


class TestPathsWithHomesAndVariables:
    """`~nobody` is a folder of that name; a user without a home has no cache, and everything else."""

    @pytest.mark.parametrize(
        "words", [["priors", "~no.such.user/x"], ["recipe.custom=~no.such.user/x.py", "dataset.create=true"]]
    )
    def test_a_home_of_nobody_is_no_traceback(self, words, capsys, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        assert cli.main(words) in {1, 2}
        assert "~no.such.user/x" in capsys.readouterr().err

    def test_conf_folders_of_nobody_are_not_there(self, monkeypatch):
        monkeypatch.setenv("RUNPLAN_CONF", "~no.such.user/conf")
        assert [path.name for path in paths.named_conf_dirs()] == ["conf"]

    def test_a_user_without_a_home_keeps_nothing(self, monkeypatch):
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)
        assert str(paths.cache_dir()) == "/.cache/runplan"

    def test_earlier_logs_are_found_below_an_output_root_with_a_variable(self, capsys, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("RUNS_OF_MINE", str(tmp_path / "runs"))
        (tmp_path / "runs").mkdir()
        cli.main(["site.output_root='$RUNS_OF_MINE'", "dataset.create=true", "preview=true"])
        said = capsys.readouterr().err
        assert "nothing at" not in said
        assert "no training log in 0 files of priors.paths" in said
