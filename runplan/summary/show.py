"""`--show RUN/FILE`: which files of a plan are meant, and their exact text. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from runplan.errors import ConfigError, Problem
from runplan.suggest import did_you_mean
from runplan.summary.readme import visible

OPTION = "--show"
_NAMED = 12
"""Files that are named where nothing fits."""


def split_show(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command line without its `--show` options, and what these ask for.

    Raises:
        ConfigError: the last word is `--show`, or an empty file is asked for.
    """
    rest: list[str] = []
    patterns: list[str] = []
    waiting = iter(words)
    for word in waiting:
        if word != OPTION and not word.startswith(f"{OPTION}="):
            rest.append(word)
            continue
        pattern = next(waiting, "") if word == OPTION else word.removeprefix(f"{OPTION}=")
        if not pattern:
            fix = f"{OPTION} README.md, {OPTION} '*/finetune.slurm', {OPTION} RUN"
            raise ConfigError([Problem(f"{OPTION} needs a file of the plan", OPTION, fix)])
        patterns.append(pattern)
    return rest, patterns


def chosen(paths: Sequence[str], patterns: Sequence[str], directory: str = "") -> list[str]:
    """The paths that patterns mean, each once, in the order of the patterns.

    A pattern is a path, a glob over whole paths, a folder, or the name of a file in any folder; the group's own
    directory may stand in front.

    Raises:
        ConfigError: every pattern that means no file.
    """
    found: dict[str, None] = {}
    problems = []
    for pattern in patterns:
        wanted = pattern.removeprefix(f"{directory}/").removeprefix("./").rstrip("/") if directory else pattern
        matches = _matches(paths, wanted)
        if not matches:
            names = dict.fromkeys([*paths, *(path.rpartition("/")[2] for path in paths)])
            few = ", ".join(visible(path) for path in paths[:_NAMED]) + (", …" if len(paths) > _NAMED else "")
            problems.append(Problem(f"no file of this plan is {pattern!r}", OPTION, did_you_mean(wanted, names, few)))
        found.update(dict.fromkeys(matches))
    if problems:
        raise ConfigError(problems)
    return [*found]


def _matches(paths: Sequence[str], wanted: str) -> list[str]:
    if wanted in paths:
        return [wanted]
    below = [path for path in paths if path.startswith(f"{wanted}/")]
    return (
        below
        or [path for path in paths if fnmatchcase(path, wanted)]
        or [path for path in paths if path.endswith(f"/{wanted}")]
    )


def shown(texts: Mapping[str, str], paths: Sequence[str]) -> str:
    """The text of files: of one as it is, of several with a line above each that names it."""
    if len(paths) == 1:
        return texts[paths[0]]
    return "\n".join(f"==> {visible(path)} <==\n{texts[path]}" for path in paths)
