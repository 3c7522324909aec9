"""The evidence of all runs of a group as one list; a line that holds for some runs only names them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runplan.summary.blocks import Item
from runplan.units import some_of

EVIDENCE_SHOWN = 20
EVALUATIONS_SHOWN = 5
CAVEATS = ("left out, ", " ran out of memory ", "extrapolates: ", "the interval reaches further")
"""Words of evidence (estimate/evidence.py, estimate/memory/ran_out.py) that a reader must not miss."""
_LOG = re.compile(r"(?P<log>.* it/s(?: \(median of \d+ logs of this setting\))?); (?P<counts>.*)", re.DOTALL)
"""A line of estimate/evidence.py about one log."""
_VARYING = re.compile(r"(?<= of )\d+(?= tokens)|(?<=but )[\d.]+(?:e[+-]?\d+)?(?= times the step time)")
"""What of such a line is another in every run: lengths that are assumed as those of its rows, and how far off it is."""
NAMED = 3
"""So many runs are named one by one."""


def evidence_items(trained: Sequence[Mapping[str, Any]]) -> list[Item]:
    """The lines of evidence of trained runs, each once and each log once; where they are many, caveats first."""
    said: dict[str, list[Mapping[str, Any]]] = {}
    for run in trained:
        for line in dict.fromkeys(run["estimate"]["evidence"]):
            said.setdefault(line, []).append(run)
    alike: dict[str, list[str]] = {}
    for line in said:
        alike.setdefault(_VARYING.sub("", _split(line)[0]), []).append(line)
    lines = [_together(group, said, trained) for group in alike.values()]
    if len(lines) > EVIDENCE_SHOWN:
        lines.sort(key=lambda line: not any(words in line for words in CAVEATS))
    shown = [Item(line) for line in lines[:EVIDENCE_SHOWN]]
    if len(lines) > EVIDENCE_SHOWN:
        shown.append(Item(f"… and {len(lines) - EVIDENCE_SHOWN} more in plan.json."))
    return shown or [Item("No earlier log was used.")]


def _split(line: str) -> tuple[str, str]:
    """What a log says, and how much that counts for a run; the whole line and nothing, where it is about no log."""
    found = _LOG.fullmatch(line)
    return (found["log"], found["counts"]) if found else (line, "")


def _together(
    lines: Sequence[str], said: Mapping[str, Sequence[Mapping[str, Any]]], trained: Sequence[Mapping[str, Any]]
) -> str:
    """Lines about one log as one: it counts more for some runs than for others.

    Args:
        lines: alike but for what varies between runs.
        said: line → the runs that it is about.
        trained: all runs.
    """
    counts: dict[str, list[str]] = {}
    for line in lines:
        counts.setdefault(_VARYING.sub("", _split(line)[1]), []).append(line)
    runs = {how: [run for line in mine for run in said[line]] for how, mine in counts.items()}
    everyone = [run for mine in runs.values() for run in mine]
    parts = [_ranged([_split(line)[0] for line in lines])]
    for how, mine in counts.items():
        whose = _of(runs[how], trained) if len(counts) > 1 else ""
        parts.append(whose + _ranged([_split(line)[1] for line in mine]))
    return (_of(everyone, trained) if len(counts) == 1 else "") + "; ".join(filter(None, parts))


def _ranged(texts: Sequence[str]) -> str:
    """Texts that are alike but for some numbers as one: `14 to 18 tokens`."""
    columns = list(zip(*(_VARYING.findall(text) for text in texts), strict=True))
    spans = iter([(min(column, key=float), max(column, key=float)) for column in columns])
    return _VARYING.sub(lambda _: " to ".join(dict.fromkeys(next(spans))), texts[0])


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
