"""What is wrong with the override lines themselves, all at once and before anything is composed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from runplan.config import iter_keys, open_key
from runplan.errors import ConfigError, Problem
from runplan.pasting import pasted_word
from runplan.progress import counted
from runplan.sweep.compose import apply, refuse_hydra_groups
from runplan.sweep.hydra_errors import key_advice, option_advice, problems_of
from runplan.sweep.overrides import Axis, axes, key_of, parse
from runplan.sweep.torn_overrides import torn_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.config_repository import IConfigRepository
    from hydra.core.override_parser.types import Override


_ONE_AT_A_TIME = frozenset({"model", "dataset", "resources", "trainer"})
"""Groups whose options say all of a thing, so that of several one alone would count."""


class CommandError(ConfigError):
    """Override lines are wrong; `fine` are the others, which may be wrong in ways that only composing shows."""

    def __init__(self, problems: Sequence[Problem], fine: Sequence[str]) -> None:
        super().__init__(problems)
        self.fine = tuple(fine)


def check_command(lines: Sequence[str], loader: ConfigLoaderImpl) -> None:
    """Check grammar, keys, options and types of override lines.

    Raises:
        CommandError: everything that is wrong with them.
    """
    readable: list[Override] = []
    whole, problems = torn_lines(lines)
    for line in whole:
        try:
            readable += parse([line], loader)
        except ConfigError as error:
            problems += error.problems
    fine = [str(override.input_line) for override in readable if not override.is_hydra_override()]
    problems += _hydra_problems(readable)
    ours = [override for override in readable if not override.is_hydra_override()]
    check = _Checker(loader, [str(override.input_line) for override in readable if override.is_hydra_override()])
    problems += check.gpu_names(ours)
    for override in ours:
        found = _line_problems(override, check)
        if found:
            fine.remove(str(override.input_line))
        problems += found
    if problems:
        raise CommandError(list({str(problem): problem for problem in problems}.values()), fine)


def _line_problems(override: Override, check: _Checker) -> Sequence[Problem]:
    try:
        (axis,) = axes([override])
    except ConfigError as error:
        return check.name(override) or error.problems
    return check.name(override) or check.levels(axis)


def _hydra_problems(overrides: Iterable[Override]) -> Iterator[Problem]:
    for override in overrides:
        if not override.is_hydra_override():
            continue
        if override.is_sweep_override():
            yield Problem(
                f"{override.input_line}: Hydra's own keys cannot be swept", key_of(override), "name one value"
            )
            continue
        try:
            refuse_hydra_groups({key_of(override).replace("hydra.", "hydra/", 1).split(".")[0]: override.value()})
        except ConfigError as error:
            yield from error.problems


class _Checker:
    """Groups, options and the typed schema that lines are held against."""

    def __init__(self, loader: ConfigLoaderImpl, hydra_lines: list[str]) -> None:
        self._repository: IConfigRepository = loader.repository
        if any("hydra.searchpath=" in line for line in hydra_lines):
            _, self._repository = loader._parse_overrides_and_create_caching_repo(None, hydra_lines)
        self._keys = tuple(iter_keys())
        self._groups = [name for name in self._repository.get_group_options("", ObjectType.GROUP) if name != "hydra"]
        schema = ConfigStore.instance().load("schema.yaml").node
        assert isinstance(schema, DictConfig)
        OmegaConf.set_struct(schema, value=True)
        self._schema = schema

    def _is_group(self, override: Override) -> bool:
        return override.key_or_group in self._groups or self._repository.group_exists(override.key_or_group)

    def gpu_names(self, overrides: Sequence[Override]) -> list[Problem]:
        """Whether a GPU was named, and its memory and speed left those of another."""
        given = {key_of(override): override for override in overrides}
        if "resources.gpu" not in given or "resources.gpu_memory_gib" in given:
            return []
        kinds = [name for name in self._repository.get_group_options("resources") if not name.startswith("_")]
        named = given["resources.gpu"].get_value_element_as_str()
        near = [kind for kind in kinds if kind.startswith(named.lower())][:3]
        fix = f"choose {' or '.join(f'resources={kind}' for kind in near) or f'resources={kinds[0]}, …'}"
        return [
            Problem(f"resources.gpu={named} names a GPU, and leaves memory and speed as they are", "resources", fix)
        ]

    def name(self, override: Override) -> list[Problem]:
        """Whether the key or group is there."""
        key = override.key_or_group
        if not key:
            return [Problem(f"{override.input_line!r} names no key", override.input_line or "", "write KEY=VALUE")]
        if key in self._keys or self._is_group(override) or open_key(key):
            return []
        return [Problem(f"there is no key {key}", key, key_advice(key, self._groups))]

    def levels(self, axis: Axis) -> list[Problem]:
        """Whether every level fits."""
        found: list[Problem] = []
        for (override,) in counted(axis.levels, "checking {} levels"):
            if override.is_delete():
                found += self._deletion(override)
                continue
            if self._is_group(override) and not isinstance(override.value(), dict):
                found += self._option(override)
            else:
                found += self._value(override)
        return found

    def _deletion(self, override: Override) -> list[Problem]:
        key = override.key_or_group
        if key in self._keys and "." not in key:
            fix = "evaluation=none plans none" if key == "evaluation" else f"choose one: {key}=…"
            return [Problem(f"{key} cannot be left out, every run has it", key, fix)]
        if self._is_group(override) or open_key(key):
            return []
        return [Problem(f"{key} cannot be deleted, every run has it", key, f"set {key}=null if it may be unknown")]

    def _option(self, override: Override) -> list[Problem]:
        group, chosen = override.key_or_group, override.value()
        options = chosen if isinstance(chosen, list) else [] if chosen is None else [chosen]
        known = self._repository.get_group_options(group, ObjectType.CONFIG)
        if len(options) > 1 and group in _ONE_AT_A_TIME:
            line = f"{group}={','.join(map(str, options))}"
            what = f"{group}={override.get_value_string()} lays these over one another, and the last one stays"
            return [Problem(what, group, f"several are {pasted_word(line)}")]
        return [
            Problem(f"{group} has no option {option!r}", group, option_advice(group, str(option), known))
            for option in options
            if not self._repository.config_exists(f"{group}/{option}")
        ]

    def _value(self, override: Override) -> list[Problem]:
        config = (
            copy.deepcopy(self._schema) if isinstance(override.value(), dict) or override.is_add() else self._schema
        )
        try:
            apply([override], config)
        except HydraException as error:
            return list(problems_of(error))
        return []
