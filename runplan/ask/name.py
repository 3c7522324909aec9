"""A name for the group, from what varies in it. Pure."""

from __future__ import annotations

from runplan.ask.known import Known
from runplan.ask.questions import State
from runplan.ask.settings import BY_KEY
from runplan.naming import SHORT_KEYS, level_text, safe_name

LONGEST = 60


def suggested_name(state: State, known: Known) -> str:
    """`1B-3B_rank4-64`: models, ranks, and what else varies; with a number where a group of that name is there."""
    model = state.answers.get("model") or (known.chosen.get("model", "runs"),)
    rank = state.answers.get("lora.rank") or (known.values.get("lora.rank", ""),)
    parts = ["-".join(level_text("model", level, {}) for level in model), "rank" + "-".join(rank)]
    for key in ("dataset", *(key for key in BY_KEY if key != "lora.rank")):
        levels = state.answers.get(key, ())
        if len(levels) > 1:
            prefix = "" if key == "dataset" else SHORT_KEYS.get(key, key.rpartition(".")[2])
            parts.append(prefix + "-".join(level_text(key, level, {}) for level in levels))
    name = safe_name(known.experiment or "_".join(parts))[:LONGEST].rstrip("-._") or "runs"
    free, number = name, 1
    while free in known.taken:
        number += 1
        free = f"{name}-{number}"
    return free
