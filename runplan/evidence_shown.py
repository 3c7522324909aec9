"""The evidence of all runs of a group as one list; a line that holds for some runs only names them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runplan.blocks import Item
from runplan.units import some_of

EVIDENCE_SHOWN = 20
EVALUATIONS_SHOWN = 5
CAVEATS = ("left out, ", " ran out of memory ", "extrapolates: ", "the interval reaches further")
"""Words of evidence (estimate/evidence.py, estimate/memory/ran_out.py) that a reader must not miss."""
NAMED = 3
"""So many runs are named one by one."""


def evidence_items(trained: Sequence[Mapping[str, Any]]) -> list[Item]:
    """The lines of evidence of trained runs, each once; where they are many, caveats first."""
    said: dict[str, list[Mapping[str, Any]]] = {}
    for run in trained:
        for line in dict.fromkeys(run["estimate"]["evidence"]):
            said.setdefault(line, []).append(run)
    lines = list(said)
    if len(lines) > EVIDENCE_SHOWN:
        lines.sort(key=lambda line: not any(words in line for words in CAVEATS))
    shown = [Item(_of(said[line], trained) + line) for line in lines[:EVIDENCE_SHOWN]]
    if len(lines) > EVIDENCE_SHOWN:
        shown.append(Item(f"… and {len(lines) - EVIDENCE_SHOWN} more in plan.json."))
    return shown or [Item("No earlier log was used.")]


def evaluation_items(runs: Iterable[Mapping[str, Any]]) -> list[Item]:
    """What the times of evaluations were learnt from; nothing where no log of one counts."""
    evaluated = [run for run in runs if any(cell.get("time_evidence") for cell in run["cells"])]
    said: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in evaluated:
        for pair in dict.fromkeys((cell["task"], cell.get("time_evidence")) for cell in run["cells"]):
            if pair[1]:
                said.setdefault(pair, []).append(run)
    items = []
    for (task, text), mine in said.items():
        whose = _of(mine, evaluated).removesuffix(": ")
        items.append(Item(f"Time to evaluate {task}{f' ({whose})' if whose else ''}: {text}."))
    more = [Item("… and others in plan.json.")] if len(items) > EVALUATIONS_SHOWN else []
    return [*items[:EVALUATIONS_SHOWN], *more]


def _of(runs: Sequence[Mapping[str, Any]], trained: Sequence[Mapping[str, Any]]) -> str:
    """Which runs a line is about: nothing where it is all, models where it is all of theirs, else their names."""
    if len(runs) == len(trained):
        return ""
    models = dict.fromkeys(run["model"] for run in runs)
    whole = len(runs) == sum(run["model"] in models for run in trained)
    names = list(models) if whole else [run["name"] for run in runs]
    return f"{some_of(names, NAMED)}: "
