from __future__ import annotations

from typing import Any

import pytest
from hydra.types import RunMode

from runplan import app
from runplan.resolvers import TEXTS
from runplan.sweep.reading import read
from runplan.sweep.references import STEADY, may_change
from runplan.sweep.run_composer import without_hydra

TREE: dict[str, Any] = {
    "seed": 1,
    "site": {"root": "/a", "user": "${oc.env:USER}", "places": ["${site.root}/b", "c"]},
    "model": {"path": "${site.root}/m", "name": "${rp.folder_name:${.path}}", "full_name": "${.name}"},
    "near": "${.seed}",
    "above": {"key": "${..seed}"},
    "first": "${site.places.0}",
    "parts": ["${.0}"],
    "named": {"a": "${.b}"},
    "clock": "${now:%H}",
    "mixed": "${rp.label:${model.path},x} ${rp.time:}",
    "device": "${rp.device:${site.gpu}}",
    "circle": "${circle}",
}


@pytest.mark.parametrize(
    ("key", "changed", "may"),
    [
        ("model.path", "seed", False),
        ("model.path", "site.root", True),
        ("model.path", "site", True),
        ("model.name", "seed", False),
        ("model.name", "model.path", True),
        ("model.full_name", "site.root", True),
        ("model.full_name", "seed", False),
        ("site.user", "seed", False),
        ("near", "seed", True),
        ("near", "model", False),
        ("above.key", "model", True),  # two steps up are not followed
        ("first", "site.root", True),
        ("first", "seed", False),
        ("parts", "seed", True),
        ("named", "seed", True),
        ("clock", "seed", True),
        ("mixed", "seed", True),  # a mark asks the whole plan
        ("device", "site.gpu", True),
        ("device", "seed", False),
        ("circle", "seed", False),
    ],
)
def test_what_may_change(key: str, changed: str, may: bool) -> None:
    assert may_change(TREE, key, frozenset({changed})) is may


def test_every_resolver_that_computes_text_is_known_as_steady() -> None:
    assert frozenset({*TEXTS, "oc.env"}) == STEADY


@pytest.mark.parametrize("overrides", [[], ["model=hf", "model.path=m"], ["dataset=json", "evaluation=auto"]])
def test_a_swept_seed_has_nothing_of_the_shipped_configuration_resolved_again(overrides: list[str]) -> None:
    with app.started() as made:
        reading = read(without_hydra(made.config_loader.load_configuration("runplan", overrides, RunMode.MULTIRUN)))
    assert reading.referring
    assert [key for key in reading.referring if may_change(reading.tree, key, frozenset({"seed"}))] == []
