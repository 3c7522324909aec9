"""Every file under conf/ composes with the defaults, types and all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from runplan import app
from runplan.compose import Composer
from runplan.paths import CONF_DIR
from runplan.ranges import check_ranges
from runplan.reading import read
from runplan.resolvers import MARKS

if TYPE_CHECKING:
    from collections.abc import Iterator

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
