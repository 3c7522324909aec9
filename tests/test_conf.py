"""Every file under conf/ composes with the defaults, types and all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from runplan import app
from runplan.cli import main
from runplan.paths import CONF_DIR
from runplan.resolvers import MARKS
from runplan.sweep.compose import Composer
from runplan.sweep.ranges import check_ranges
from runplan.sweep.reading import read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPTIONS = sorted(
    f"{path.parent.relative_to(CONF_DIR).as_posix()}={path.stem if path.suffix == '.yaml' else path.name}"
    for path in CONF_DIR.glob("*/*.yaml")
    if not path.name.startswith("_")
)
"""`group=option` of everything that is shipped."""


@pytest.fixture(scope="module")
def composer() -> Iterator[Composer]:
    with app.started() as made:
        yield Composer(made.config_loader, "runplan")


@pytest.fixture(autouse=True)
def _user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "ada")


def test_there_are_options() -> None:
    assert "model=1B" in OPTIONS
    assert "resources=a100-80" in OPTIONS
    assert len({option.partition("=")[0] for option in OPTIONS}) >= 11


@pytest.mark.parametrize("option", OPTIONS)
def test_composes_complete_and_in_range(composer: Composer, option: str) -> None:
    line = f"+{option}" if option.startswith("experiment=") else option
    reading = read(composer.base(OverridesParser.create().parse_overrides([line])).config)
    assert reading.problems == []
    assert check_ranges(reading.config) == []


EXPERIMENTS = {"ranks": (6, 2), "learning_rates": (4, 1), "replicates": (6, 2)}
"""Kept sweeps: fine-tuned runs and controls."""


def test_every_kept_sweep_is_counted_here() -> None:
    assert set(EXPERIMENTS) == {path.stem for path in (CONF_DIR / "experiment").glob("*.yaml")}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_kept_sweep_plans_by_the_command_at_its_head(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # no SLURM of this machine's
    package, command, *_ = (CONF_DIR / "experiment" / f"{name}.yaml").read_text().splitlines()
    program, *words = command.removeprefix("# ").split()
    assert (package, program, words[0]) == ("# @package _global_", "runplan", f"+experiment={name}")
    assert main([*words, "preview=true", "priors.paths=[]"]) == 0
    runs, controls = EXPERIMENTS[name]
    said = capsys.readouterr().out
    assert f"Total Runs: {runs + controls} ({runs} fine-tuned + {controls} control" in said
    assert f"group.name={name}" in said or f"outputs/{name}" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("line", "name", "kind"), [("json", "french", "instruct"), ("chat", "french", "chat")])
def test_a_dataset_of_any_kind_is_called_after_its_file(line: str, name: str, kind: str) -> None:
    lines = [
        f"dataset={line}",
        "dataset.path=data/french.json",
        "evaluation=script",
        "evaluation.script=t/fr/inspect.py",
    ]
    with app.started() as made:
        (run,) = made.multirun("runplan", lambda _: None, lines, with_log_configuration=False).composed
    config = run.config
    assert (config.dataset.name, config.dataset.type.value, config.dataset.generator) == (name, kind, None)
    assert config.evaluation.name == "fr"


def test_every_mark_is_used_where_it_stands_for(composer: Composer) -> None:
    reading = read(composer.base([]).config)
    assert reading.estimated == set(MARKS.values())


def test_names_of_models_and_gpus_are_their_files(composer: Composer) -> None:
    for option in OPTIONS:
        group, _, name = option.partition("=")
        if group not in {"model", "resources"}:
            continue
        config = read(composer.base(OverridesParser.create().parse_overrides([option])).config).config
        assert (config.model.name if group == "model" else config.resources.gpu) == name
