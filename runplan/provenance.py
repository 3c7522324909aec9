"""`.hydra/`: what was composed for a run, marks unresolved, as Hydra itself would have written it.

A sweep's runs share most of their text, so every section is turned into YAML once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from runplan import yaml_text
from runplan.naming import relevant_overrides

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runplan.plan import Plan, PlannedRun

REMEMBERED = 4096


class _Section:
    """A top-level key with its value; equal when both print alike, so that a cache can find its text."""

    __slots__ = ("data", "key")

    def __init__(self, name: str, value: Any) -> None:
        self.data = {name: value}
        self.key = repr(self.data)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Section) and self.key == other.key


@lru_cache(maxsize=REMEMBERED)
def _section_text(section: _Section) -> str:
    return yaml_text.dump(section.data)


def tree_text(tree: Mapping[str, Any]) -> str:
    """A mapping as YAML, the same text as `yaml_text.dump`, section by section."""
    if not tree:
        return yaml_text.dump({})
    return "".join(_section_text(_Section(name, value)) for name, value in tree.items())


def hydra_files(plan: Plan, run: PlannedRun) -> dict[str, str]:
    """`.hydra/{config,hydra,overrides}.yaml` of a run: no clock, no version, no current folder."""
    composed = run.composed
    overrides = list(relevant_overrides(composed, trained=run.sizing is not None))
    hydra = {
        "mode": "MULTIRUN",
        "sweep": {"dir": plan.directory, "subdir": run.name},
        "job": {"name": "runplan", "config_name": "runplan"},
        "overrides": {"task": overrides},
        "runtime": {"choices": dict(composed.choices)},
    }
    return {
        ".hydra/config.yaml": tree_text(composed.tree),
        ".hydra/hydra.yaml": "hydra:\n" + "".join(_indented(name, value) for name, value in hydra.items()),
        ".hydra/overrides.yaml": yaml_text.dump(overrides),
    }


def _indented(name: str, value: Any) -> str:
    """A section one level down; no value of ours spans lines, so two blanks before each line suffice."""
    return "".join(f"  {line}\n" for line in _section_text(_Section(name, value)).removesuffix("\n").split("\n"))
