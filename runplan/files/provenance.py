"""`.hydra/`: what was composed for a run, marks unresolved, as Hydra itself would have written it.

A sweep's runs share most of their text, so every section is turned into YAML once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runplan import yaml_text
from runplan.files.file_names import COMPOSED_CONFIG
from runplan.naming import relevant_overrides

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runplan.plan import Plan, PlannedRun


def tree_text(tree: Mapping[str, Any]) -> str:
    """A mapping as YAML, the same text as `yaml_text.dump`, section by section."""
    if not tree:
        return yaml_text.dump({})
    return "".join(yaml_text.section(name, value) for name, value in tree.items())


def hydra_files(plan: Plan, run: PlannedRun) -> dict[str, str]:
    """`.hydra/{config,hydra,overrides}.yaml` of a run: no clock, no version, no current folder."""
    composed = run.composed
    overrides = list(relevant_overrides(composed, trained=run.sizing is not None))
    lines = yaml_text.flat(overrides)
    sections = {
        "sweep": yaml_text.flat({"dir": plan.directory, "subdir": run.name}),
        "job": yaml_text.flat({"name": "runplan", "config_name": "runplan"}),
        "overrides": f"task:\n{lines}" if overrides else "task: []\n",
        "runtime": yaml_text.section("choices", dict(composed.choices)),
    }
    return {
        COMPOSED_CONFIG: tree_text(composed.tree),
        ".hydra/hydra.yaml": "hydra:\n  mode: MULTIRUN\n"
        + "".join(f"  {name}:\n{_indented(text)}" for name, text in sections.items()),
        ".hydra/overrides.yaml": lines,
    }


def _indented(text: str) -> str:
    """A text two levels down; no value of ours spans lines, so four blanks before each line suffice."""
    return "    " + text.removesuffix("\n").replace("\n", "\n    ") + "\n"
