"""Keys that say what to do with a plan, not what is planned: they leave no trace in the files of a group.

So a preview, the first write and a later `submit=sbatch` all make the same files.
"""

from __future__ import annotations

import shlex
from dataclasses import replace

from runplan.pasting import pasted
from runplan.plan import Composed

ACTION_KEYS = frozenset({"preview", "overwrite", "submit"})


def is_action(line: str) -> bool:
    """Whether an override line says what to do: `preview=true`, `submit.via=local`."""
    return line.partition("=")[0].lstrip("+~").partition(".")[0] in ACTION_KEYS


def without_actions(composed: Composed) -> Composed:
    """A combination without action keys; its typed config keeps them."""
    return replace(
        composed,
        overrides=tuple(line for line in composed.overrides if not is_action(line)),
        choices={group: choice for group, choice in composed.choices.items() if group not in ACTION_KEYS},
        tree={key: value for key, value in composed.tree.items() if key not in ACTION_KEYS},
    )


def plan_command(command: str) -> str:
    """An override line, to be pasted into a shell, that makes the same plan again and does nothing else."""
    return pasted(word for word in shlex.split(command) if not is_action(word))
