"""What `runplan --help` prints: usage, examples, verbs, and the options of every config group. Composes nothing."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from runplan.paths import CONF_DIR, user_conf_dirs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HEAD = """\
runplan plans, sizes, checks and writes a group of fine-tuning runs.

Usage
  runplan [-m] KEY=VALUE[,VALUE…] …     plan every combination and write the group
"""

_EXAMPLES = """\
Examples
  runplan model=1B,3B lora.rank=4,64                 four fine-tuned runs and two controls
  runplan model=1B optimizer.lr=1e-5,3e-4 seed=1,2   two learning rates, twice each
  runplan model=3B lora.rank=8 preview=true          print the summary, write nothing
  runplan +experiment=NAME submit=sbatch             a kept sweep, submitted when written

Options
  --cfg job [--resolve]    print the config instead of planning
  --config-dir DIR         one more folder of config groups
  --info searchpath        where configs come from
  --hydra-help             Hydra's own options; completion: eval "$(runplan -sc install=bash)"
  --version
"""


def groups(more: Sequence[Path] = ()) -> dict[str, list[str]]:
    """Config group → its options, from our conf folder, the user's, and more folders where they exist."""
    found: dict[str, set[str]] = {}
    for folder in (CONF_DIR, *(conf.path for conf in user_conf_dirs()), *filter(Path.is_dir, more)):
        for group in _subfolders(folder):
            files = (file for file in group.rglob("*.yaml") if not file.name.startswith("_"))
            options = (file.relative_to(group).as_posix().removesuffix(".yaml") for file in files)
            found.setdefault(group.name, set()).update(options)
    return {name: sorted(options) for name, options in sorted(found.items()) if options}


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def help_text(verbs: Mapping[str, tuple[object, str]]) -> str:
    """The whole help."""
    lines = [_HEAD.rstrip(), *(f"  runplan {verb:<30}{text}" for verb, (_, text) in verbs.items()), "", _EXAMPLES]
    lines.append("Config groups (GROUP=OPTION)")
    for name, options in groups().items():
        text = textwrap.fill(", ".join(options), 100, initial_indent=f"  {name:<12}", subsequent_indent=" " * 14)
        lines.append(text)
    lines.append(
        "\nKeys: lora.rank, optimizer.lr, epochs, batch_size, seed, group.name, …; `runplan help KEY` explains one, or"
        "\n      all of a group, and `runplan --cfg job` prints all with their values"
    )
    return "\n".join(lines)
