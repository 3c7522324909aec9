from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from runplan import resolvers
from runplan.config import Config, iter_keys

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from runplan.plan import Composed


@pytest.fixture(autouse=True)
def _registered() -> None:
    resolvers.register()
    resolvers.register()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Composed]]:
    """Stands in for planning, and keeps what it was asked."""
    calls: list[tuple[str, Composed]] = []

    def resolve_mark(key: str, composed: Composed) -> Any:
        calls.append((key, composed))
        return {"batch_size": 4, "resources.time": "00:15:00", "resources.mem": "16G"}.get(key, 2)

    module = types.ModuleType("runplan.group")
    module.resolve_mark = resolve_mark
    monkeypatch.setitem(sys.modules, "runplan.group", module)
    return calls


def marked() -> DictConfig:
    config = OmegaConf.structured(Config)
    for mark, key in resolvers.MARKS.items():
        OmegaConf.update(config, key, f"${{{mark}:}}")
    return config


def test_marks_stand_for_keys_of_the_schema() -> None:
    assert set(resolvers.MARKS.values()) <= set(iter_keys())


@pytest.mark.parametrize(("fraction", "said"), [(0.8, 80), (0.29, 29), (1, 100), ("0.57", 57)])
def test_percent(fraction: Any, said: int) -> None:
    config = OmegaConf.create({"part": fraction, "file": "w_${rp.percent:${part}}P"})
    assert config.file == f"w_{said}P"


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("${rp.time:}", "rp.time"),
        ("${rp.batch_size:1,2}", "rp.batch_size"),
        ("${rp.percent:0.8}", None),
        ("x${rp.time:}", None),
        ("${rp.nothing:}", None),
        ("${site.gpu}", None),
        (3, None),
        (None, None),
    ],
)
def test_mark_of(text: Any, mark: str | None) -> None:
    assert resolvers.mark_of(text) == mark


def test_printing_asks_planning(asked: list[tuple[str, Composed]]) -> None:
    config = marked()
    assert config.batch_size == 4
    assert config.resources.time == "00:15:00"
    assert [key for key, _ in asked] == ["batch_size", "resources.time"]


def test_values_that_printing_fills_in_are_not_taken_for_the_users(asked: list[tuple[str, Composed]]) -> None:
    config = marked()
    OmegaConf.resolve(config.lora)
    config.batch_size = config.batch_size
    config.gradient_accumulation_steps  # noqa: B018 - resolves it
    assert len({id(composed) for _, composed in asked}) == 1
    assert all(composed.config.batch_size is None for _, composed in asked)
    assert all("batch_size" in composed.estimated for _, composed in asked)


def test_a_change_by_the_user_is_seen(asked: list[tuple[str, Composed]]) -> None:
    config = marked()
    config.lora.rank = 4
    assert config.batch_size == 4
    config.lora.rank = 8
    assert config.batch_size == 4
    assert [composed.config.lora.rank for _, composed in asked] == [4, 8]


def test_an_unknown_estimate_is_an_error() -> None:
    with pytest.raises(Exception, match=r"rp\.nothing"):
        _ = OmegaConf.create({"a": "${rp.nothing:}"}).a


def test_bad_fractions_name_the_key() -> None:
    with pytest.raises(InterpolationResolutionError) as caught:
        _ = OmegaConf.create({"file": "${rp.percent:many}"}).file
    assert "file" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (None, "none"),
        ("", "none"),
        ("data/french.json", "french"),
        ("french", "french"),
        ("tasks/french/inspect.py", "french"),
        ("french.py", "french"),
        ("inspect.py", "none"),
        ("/data/a b/v1.2.json", "v1.2"),
    ],
)
def test_a_file_is_called_by_its_stem_and_a_task_by_its_folder(path: str | None, name: str) -> None:
    assert resolvers.label(path, "none") == name
    assert OmegaConf.create({"path": path, "name": "${rp.label:${path},none}"}).name == name


@pytest.mark.parametrize(
    ("path", "repository", "name"),
    [("/m/a/", "org/b", "a"), (None, "org/b", "b"), ("a", None, "a"), (None, None, "hf")],
)
def test_a_model_is_called_after_its_folder_or_else_its_repository(path, repository, name):
    assert resolvers.folder_name(path, repository) == name
