"""From override lines to every run of the sweep, composed and typed; all that is wrong is said at once."""

from __future__ import annotations

import itertools
import shlex
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runplan.action_keys import is_action
from runplan.errors import ConfigError, Problem
from runplan.paths import CONF_SCHEME
from runplan.plan import Composed
from runplan.progress import counted, forewarn
from runplan.sweep import hydra_errors
from runplan.sweep.compose import Base, Composer, ours, refuse_hydra_groups
from runplan.sweep.exclusion import distinct, evaluated_once, remaining
from runplan.sweep.literally import as_typed
from runplan.sweep.overrides import Axis, axes, combinations, paired, parse
from runplan.sweep.ranges import check_ranges
from runplan.sweep.run_composer import RunComposer, at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

OUTPUT_ROOT = "${site.output_root}"
"""What `conf/runplan.yaml` has for Hydra's directories: not set by the user."""
_DIRECTORIES = ("hydra.sweep.dir=", "hydra.run.dir=")
_NOT_AGAIN = ("hydra.mode=", "hydra.sweep.subdir=")


@dataclass
class Sweep:
    """Every run of a sweep, in Hydra's order."""

    composed: list[Composed]
    command: str = ""
    """The overrides that make this plan again."""
    notes: list[str] = field(default_factory=list)
    """What the user should know, but need not change."""
    directory: str | None = None
    """The group's directory, where Hydra's own `hydra.sweep.dir` or `hydra.run.dir` was set."""

    @property
    def experiment(self) -> str | None:
        """The experiment file that all runs share; None when there is none, or several."""
        names = {run.choices.get("experiment") for run in self.composed}
        return names.pop() if len(names) == 1 else None


def compose_sweep(
    loader: ConfigLoaderImpl, config: DictConfig, params: Mapping[str, str], arguments: Sequence[str]
) -> Sweep:
    """Every run that override lines name.

    Args:
        loader: Hydra's, with the search path.
        config: what Hydra composed from the lines that are not swept, with its `hydra` node.
        params: `hydra.sweeper.params`: more lines, in front; a line of `arguments` replaces that of the same key.
        arguments: override lines without those of Hydra's own keys.

    Raises:
        ConfigError: everything that is wrong with any of the combinations.
    """
    refuse_hydra_groups(config.hydra.runtime.choices)
    searched = list(config.hydra.overrides.hydra) if config.hydra.searchpath else None
    composer = Composer(loader, str(config.hydra.job.config_name), searched)
    overrides = parse([*as_typed([f"{key}={value}" for key, value in params.items()]), *arguments], loader)
    _make_hydra_known(config)
    notes, directory = _where(config)
    named = Counter(line.partition("=")[0].lstrip("+") for line in arguments if "=" in line)
    notes += [f"{key} is named {number} times, the last one counts" for key, number in named.items() if number > 1]
    found = Sweep([], command_line(loader, config, arguments), notes, directory)
    for branch in _branches(composer, overrides, loader):
        given = _given(composer, config, branch, frozenset(arguments))
        part = _compose_branch(RunComposer(composer, branch, given), arguments)
        found.composed += part.composed
        found.notes += part.notes
    found.composed, more = evaluated_once(found.composed)
    found.notes += more
    return found


def _where(config: DictConfig) -> tuple[list[str], str | None]:
    """Notes on Hydra's directories, and the one that was set: a sweep's directory is its group's.

    One run is a sweep of one, so that `hydra.run.dir` counts where `hydra.sweep.dir` was not set.
    """
    hydra, notes = config.hydra, []
    raw: Any = OmegaConf.to_container(hydra, resolve=False)
    if raw["sweep"]["subdir"]:
        notes.append("hydra.sweep.subdir is not used: runs are named by what varies (naming=short or full)")
    if raw["mode"] == RunMode.RUN:
        notes.append("hydra.mode=RUN is not used: every call plans a group, and one run is a group of one")
    for key in ("sweep", "run"):
        node = hydra[key]
        if raw[key]["dir"] != OUTPUT_ROOT:
            try:
                return notes, str(node.dir)
            except OmegaConfBaseException as error:
                what = f"hydra.{key}.dir cannot be worked out: {str(error).splitlines()[0]}"
                raise ConfigError([Problem(what, f"hydra.{key}.dir", "name a folder")]) from error
    return notes, None


def _make_hydra_known(config: DictConfig) -> None:
    """Let `${hydra:runtime.cwd}` and its kin resolve, as they do in a Hydra job."""
    HydraConfig.instance().set_config(config)


def _given(composer: Composer, config: DictConfig, branch: Sequence[Axis], lines: frozenset[str]) -> Base | None:
    """Hydra's composition as a base, if all runs share its groups and its constants may go on first."""
    groups_vary = any(
        composer.chooses_group(override) for axis in branch if axis.swept for level in axis.levels for override in level
    )
    constants = {axis.levels[0][0].input_line for axis in branch if not axis.swept}
    if groups_vary or not constants <= lines or RunComposer(composer, branch).ordered:
        return None
    return Base(config, ours(config.hydra.runtime.choices))


def _branches(composer: Composer, overrides: Sequence[Override], loader: ConfigLoaderImpl) -> Iterator[list[Axis]]:
    """All axes; one set for each swept experiment file that brings sweep parameters of its own."""
    every = axes(overrides)
    groups = [override for axis in every for override in axis.levels[0] if composer.chooses_group(override)]
    swept = [axis for axis in every if axis.swept and any(composer.is_global(level[0]) for level in axis.levels)]
    named = {axis.levels[0][0].get_key_element() for axis in swept}
    fixed = [override for override in groups if override.get_key_element() not in named]
    choices = list(itertools.product(*(axis.levels for axis in swept))) if swept else []
    pinned = [[override for level in choice for override in level] for choice in choices]
    params = [composer.base([*fixed, *pins]).params for pins in pinned]
    if not any(params):
        yield every
        return
    for pins, given in zip(pinned, params, strict=True):
        lines = parse(as_typed([f"{key}={value}" for key, value in given.items()]), loader)
        yield axes([*lines, *overrides], pins)


def _compose_branch(runs: RunComposer, arguments: Sequence[str]) -> Sweep:
    with hydra_errors.translated(arguments):
        base, tree = runs.first()
    crossed = combinations(paired(runs.axes, at(tree, "sweep.zip")))

    def default(key: str) -> Any:
        return base.choices[key] if key in base.choices else at(tree, key)

    kept, notes = remaining(crossed, at(tree, "sweep.exclude"), default)
    kept, more = distinct(kept)
    forewarn(len(kept), " × ".join(f"{'/'.join(axis.keys)} {len(axis.levels)}" for axis in runs.axes if axis.swept))
    problems: dict[str, Problem] = {}
    found = Sweep([], notes=notes + more)
    for combination in counted(kept, "composing {} runs"):
        try:
            composed, missing = runs.compose(combination)
        except (ConfigError, *hydra_errors.TRANSLATED) as error:
            new: Sequence[Problem] = hydra_errors.problems_of(error, arguments)
        else:
            found.composed.append(composed)
            new = missing or check_ranges(composed.config)
        problems |= {str(problem): problem for problem in new}
    if problems:
        raise ConfigError(list(problems.values()))
    return found


def command_line(loader: ConfigLoaderImpl, config: DictConfig, arguments: Sequence[str]) -> str:
    """The overrides that make this plan again, quoted for a shell, with the config folder they need."""
    kept = [line for line in arguments if not is_action(line)]
    given = config.hydra.overrides.hydra
    raw: Any = OmegaConf.to_container(given, resolve=False)
    hydra = [
        given[i] if line.startswith(_DIRECTORIES) else line  # as it is now: `${now:…}` would lead elsewhere later
        for i, line in enumerate(raw)
        if not line.startswith(_NOT_AGAIN)
    ]
    folders = [part.path for part in loader.get_search_path().get_path() if part.provider == "command-line"]
    options = [f"--config-dir={str(folder).removeprefix(CONF_SCHEME)}" for folder in folders]
    return shlex.join([*options, *kept, *hydra])
