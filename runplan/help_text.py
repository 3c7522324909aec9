"""What `runplan --help` prints: usage, examples, verbs, and the options of every config group. Composes nothing."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from runplan.paths import CONF_DIR, user_conf_dirs
from runplan.suggest import by_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HEAD = """\
runplan plans, sizes, checks, writes and submits a group of fine-tuning runs on SLURM.

Usage
  runplan [-m] KEY=VALUE[,VALUE…] …   plan every combination and write the group
"""

_TAIL = """\
  runplan help KEY…                   explain a key, or all keys and options of a group
`runplan VERB --help` lists a verb's options. Exit code: 0 done, 1 impossible or failed, 2 wrong usage, 3 not ready.
"""

_EXAMPLES = """\
Examples
  runplan model=1B,3B lora.rank=4,64                 four fine-tuned runs and two controls
  runplan model=1B optimizer.lr=1e-5,3e-4 seed=1,2   two learning rates, twice each
  runplan model=3B lora.rank=8 preview=true          print summary, files, changes; write nothing
  runplan model=3B --show 3B_rank8/finetune.slurm    print what a file would contain; also '*.slurm', RUN
  runplan +experiment=ranks submit=sbatch            a kept sweep, submitted once written
  runplan submit outputs/ranks --via local           run a group on this machine

Options
  --cfg job [--resolve]    print the config instead of planning
  --config-dir DIR         one more folder of config groups
  --info searchpath        where configs come from
  --hydra-help             Hydra's own options
  -sc install=SHELL        tab completion: eval "$(runplan -sc install=bash)"; zsh alike; fish: … | source
  site=NAME                settings of a cluster; `runplan init` writes them, and makes the first one the default
  hydra.sweep.dir=DIR      the group's directory, instead of site.output_root/group.name
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
    return {name: sorted(options, key=by_size) for name, options in sorted(found.items()) if options}


def named_folders(words: Sequence[str]) -> list[Path]:
    """Folders that `--config-dir` names on a command line."""
    names = {"--config-dir", "-cd"}
    behind = [words[i + 1] for i, word in enumerate(words[:-1]) if word in names]
    joined = [word.partition("=")[2] for word in words if word.startswith("--config-dir=")]
    return [Path(folder) for folder in (*behind, *joined)]


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _usage(verb: str, text: str) -> str:
    arguments, _, meaning = text.partition(": ")
    return f"  runplan {f'{verb} {arguments}':<28}{meaning}"


def help_text(verbs: Mapping[str, tuple[object, str]], more: Sequence[Path] = ()) -> str:
    """The whole help.

    Args:
        verbs: word → (anything, `ARGUMENTS: MEANING`).
        more: folders of config groups beside ours and the user's.
    """
    lines = [_HEAD.rstrip(), *(_usage(verb, text) for verb, (_, text) in verbs.items()), _TAIL, _EXAMPLES]
    lines.append("Config groups (GROUP=OPTION)")
    for name, options in groups(more).items():
        text = textwrap.fill(", ".join(options), 100, initial_indent=f"  {name:<12}", subsequent_indent=" " * 14)
        lines.append(text)
    lines.append(
        "\nKeys: lora.rank, optimizer.lr, epochs, batch_size, seed, group.name, …; `runplan help KEY` explains one,"
        "\n      `runplan --cfg job` prints all with their values"
    )
    return "\n".join(lines)
