"""Keys that say what to do with a plan, not what the plan is: they leave no trace in the files of a group.

So a preview, a first writing and a later `submit=sbatch` all make the same files.
"""

from __future__ import annotations

import shlex
from dataclasses import replace

from runplan.pasting import pasted
from runplan.plan import Composed

DEEDS = frozenset({"preview", "overwrite", "submit"})


def without_deeds(composed: Composed) -> Composed:
    """A combination without the keys that say what to do with it; its typed config keeps them."""
    return replace(
        composed,
        overrides=tuple(line for line in composed.overrides if not _is_deed(line)),
        choices={group: choice for group, choice in composed.choices.items() if group not in DEEDS},
        tree={key: value for key, value in composed.tree.items() if key not in DEEDS},
    )


def plan_command(command: str) -> str:
    """An override line, to be pasted into a shell, that makes the same plan again and does nothing else."""
    return pasted(word for word in shlex.split(command) if not _is_deed(word))


def _is_deed(line: str) -> bool:
    return line.partition("=")[0].lstrip("+~").partition(".")[0] in DEEDS
