"""Asks a machine everything at once: SLURM, nvidia-smi, conda, modules; and looks through folders meanwhile."""

from __future__ import annotations

import getpass
import grp
import os
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runplan.discover.environments import environments
from runplan.discover.folders import NAMED_DEPTH, Root, Search, search
from runplan.discover.found import Discovered, LogFolder, Wishes
from runplan.discover.modules import is_told, parse_modules
from runplan.slurm.commands import Answer, read_cluster, run_commands

COMMAND_S = 10.0
"""Seconds that commands are waited for."""
SEARCH_S = 20.0
"""Seconds that folders are looked through, unless the user says."""
_SCRATCH_VARIABLES = ("SCRATCH", "PSCRATCH", "CSCRATCH", "WORK", "PROJECT", "PROJECTS")
_SCRATCH_FOLDERS = (
    "/scratch", "/scratch/gpfs", "/scratch/network", "/scratch/users", "/global/scratch/users", "/work", "/lustre",
    "/gpfs", "/projects", "/project", "/data",
)  # fmt: skip
"""Where clusters keep large files; the user's and the user's groups' folders in them are looked through."""
_MODULE_PROFILES = ("modules.sh", "lmod.sh", "z00_lmod.sh", "00-modulepath.sh")


def read_machine(
    wishes: Wishes,
    cwd: Path,
    options: Mapping[str, str],
    limit_s: float = SEARCH_S,
    progress: Callable[[Search], None] | None = None,
) -> Discovered:
    """Everything that can be found out here; what cannot is named in `unknown`, and nothing raises.

    Args:
        wishes: folders that the user named are looked through instead of those that would be guessed.
        cwd: the current folder.
        options: name of a model's folder → option of `conf/model`.
        limit_s: seconds for folders.
        progress: called while folders are looked through.
    """
    user = _user()
    with ThreadPoolExecutor(2) as pool:
        cluster = pool.submit(read_cluster, COMMAND_S)
        answers = pool.submit(run_commands, _commands(), COMMAND_S)
        found = search(roots(wishes, cwd, user), dict(options), limit_s, progress)
    said = answers.result()
    slow = [f"{name}: {answer.failure}" for name, answer in said.items() if answer.failure]
    slurm = cluster.result()
    loaded = [name for name in os.environ.get("LOADEDMODULES", "").split(":") if name and is_told(name)]
    return Discovered(
        host=socket.gethostname(),
        user=user,
        cluster=slurm,
        gpus_here=tuple(filter(None, map(str.strip, _text(said, "nvidia-smi").splitlines()))),
        environments=environments(_text(said, "conda"), cwd),
        modules=parse_modules(_text(said, "module")),
        loaded_modules=tuple(loaded),
        models=tuple(found.models.values()),
        data=tuple(found.data.values()),
        logs=_logs(found, cwd),
        scratch=tuple(found.scratch),
        unknown=(*(slurm.slow if slurm else ()), *slow, *_unreadable(found)),
    )


def roots(wishes: Wishes, cwd: Path, user: str) -> list[Root]:
    """Where to look: folders that were named, then the usual ones for what was not."""
    named = {"models": wishes.models, "data": wishes.data, "logs": wishes.logs}
    open_kinds = frozenset(kind for kind, paths in named.items() if not paths)
    found = [
        Root(str(_absolute(path, cwd)), frozenset({kind}), NAMED_DEPTH, named=True)
        for kind, paths in named.items()
        for path in paths
    ]
    found += [Root(str(cwd / kind), frozenset({kind})) for kind in named if kind in open_kinds]
    if "models" in open_kinds:
        found.append(Root(_hub(), frozenset({"models"}), 3))
    if open_kinds:
        found.append(Root(str(cwd), open_kinds, 3))
        found += [Root(path, open_kinds, scratch=how) for path, how in _scratch(user).items()]
    return found


def _absolute(path: str, cwd: Path) -> Path:
    return Path(os.path.normpath(cwd / path))


def _hub() -> str:
    """Hugging Face's cache of models, by its own variables."""
    home = os.environ.get("HF_HOME") or str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    return os.path.expanduser(os.environ.get("HF_HUB_CACHE") or f"{home}/hub")  # noqa: PTH111 - `~` may have no home


def _scratch(user: str) -> dict[str, str]:
    """Folders for large files that may be the user's → how each was found."""
    found = {path: f"${name}" for name in _SCRATCH_VARIABLES if (path := os.environ.get(name, "")).startswith("/")}
    for folder in _SCRATCH_FOLDERS:
        for name in (user, *_groups()):
            found.setdefault(f"{folder}/{name}", f"{folder} has a folder {name}")
    return found


def _groups() -> list[str]:
    names = []
    for number in os.getgroups():
        try:
            names.append(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return list(dict.fromkeys([*names, *(name.upper() for name in names)]))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def _commands() -> dict[str, list[str]]:
    """What is asked beside SLURM; only what seems to be there."""
    found = {}
    conda = os.environ.get("CONDA_EXE") or _on_path("conda")
    if conda:
        found["conda"] = [conda, "env", "list", "--json"]
    if _on_path("nvidia-smi"):
        found["nvidia-smi"] = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    if os.environ.get("LMOD_CMD") or os.environ.get("MODULESHOME") or "BASH_FUNC_module%%" in os.environ:
        begin = '[ -r "$MODULESHOME/init/bash" ] && . "$MODULESHOME/init/bash"; '
        found["module"] = ["bash", "-c", f"{begin}module -t avail 2>&1"]
    elif any(Path("/etc/profile.d", name).exists() for name in _MODULE_PROFILES):
        found["module"] = ["bash", "-lc", "module -t avail 2>&1"]
    return found


def _on_path(program: str) -> str | None:
    import shutil  # noqa: PLC0415 - only here

    return shutil.which(program)


def _text(answers: Mapping[str, Answer], name: str) -> str:
    answer = answers.get(name)
    return answer.text if answer is not None and not answer.failure else ""


def _logs(found: Search, cwd: Path) -> tuple[LogFolder, ...]:
    """Folders with logs, without the one that runplan writes to by default: `priors` has it anyway."""
    return tuple(folder for folder in found.log_folders() if folder.path != str(cwd / "outputs"))


def _unreadable(found: Search) -> list[str]:
    """What could not be looked through; of many folders the first and the number."""
    lines = [f"{path}: {reason}" for path, reason in list(found.unreadable.items())]
    return [*lines[:3], f"and {len(lines) - 3} folders more"] if len(lines) > 4 else lines
