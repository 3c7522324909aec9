"""Composes the runs of a sweep: each choice of config groups once, then the scalar overrides of run after run."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from runplan.plan import Composed
from runplan.sweep.compose import Base, Composer, apply
from runplan.sweep.overrides import Axis, Combination, key_of, line_of
from runplan.sweep.reading import Reading, affected, leaf_of, read, reread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

    from runplan.errors import Problem


class ReusedConfig:
    """The config of one choice of groups, reused for every combination of scalar overrides.

    Scalars and lists are set in place, because every combination sets the same keys; whatever adds, deletes or merges
    keys gets a copy of its own.
    """

    def __init__(self, config: DictConfig, constant: Sequence[Override]) -> None:
        """`constant` overrides are applied to a copy of `config`."""
        self._pristine = without_hydra(config) if constant else config
        apply(constant, self._pristine)
        self._work: DictConfig | None = None
        self._first: Reading | None = None
        self._affected: dict[tuple[str | None, ...], frozenset[str]] = {}

    def read_with(self, varying: Sequence[Override]) -> Reading:
        """The config with these overrides applied, as plain data.

        Raises:
            ConfigCompositionException: as Hydra raises it.
        """
        if not all(_replaces(override) for override in varying):
            return self._apart(varying)
        if not varying:
            return read(self._pristine)
        if self._work is None or self._first is None:
            self._work = without_hydra(self._pristine)
            apply(varying, self._work)
            self._first = read(self._work)
            return self._first
        leaves = tuple(leaf_of(override.key_or_group, self._first.leaves) for override in varying)
        if None in leaves:
            return self._apart(varying)
        if leaves not in self._affected:
            self._affected[leaves] = affected(self._first, filter(None, leaves))
        apply(varying, self._work)
        return reread(self._first, self._affected[leaves])

    def _apart(self, varying: Sequence[Override]) -> Reading:
        config = without_hydra(self._pristine)
        apply(varying, config)
        return read(config)


def _replaces(override: Override) -> bool:
    return not (override.is_delete() or override.is_add() or isinstance(override.value(), dict))


def _overlap(one: Override, other: Override) -> bool:
    a, b = one.key_or_group, other.key_or_group
    return a == b or a.startswith(f"{b}.") or b.startswith(f"{a}.")


def at(tree: Any, key: str) -> Any:
    """The value at a dotted key of plain data; None where there is none."""
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


class RunComposer:
    """Composes the combinations of a sweep that all set the same keys."""

    def __init__(self, composer: Composer, axes: Sequence[Axis], given: Base | None = None) -> None:
        """`given`: Hydra's own composition with all constants, where no combination chooses other groups."""
        self._composer = composer
        self.axes = axes
        self._given = given
        self._configs: dict[tuple[str, ...], ReusedConfig] = {}
        """By the group overrides that chose them."""
        # A swept group may have levels that choose an option and levels that merge values: lora=dora,{rank:4}.
        swept = [override for axis in axes if axis.swept for level in axis.levels for override in level]
        fixed = [override for axis in axes if not axis.swept for override in axis.levels[0]]
        constant = [override for override in fixed if not composer.chooses_group(override)]
        varying = {o.key_or_group: o for o in swept if not composer.chooses_group(o)}.values()
        self.ordered = any(_overlap(a, b) for a in constant for b in varying)
        """Whether a constant overlaps a swept key, so that all must be applied in the order of the command line."""
        self._constant = [] if self.ordered else constant
        self._swept = [key for axis in axes if axis.swept for key in axis.keys]

    def first(self) -> tuple[Base, dict[str, Any]]:
        """The first choice of groups, and the plain config with the constants that say how to sweep."""
        overrides = [override for axis in self.axes for override in axis.levels[0]]
        base = self.base(overrides)
        config = base.config
        if self._given is None:
            config = without_hydra(config)
            constants = [axis.levels[0][0] for axis in self.axes if not axis.swept]
            apply([override for override in constants if not self._composer.chooses_group(override)], config)
        return base, read(config).tree

    def base(self, combination: Sequence[Override]) -> Base:
        """The composed groups of a combination."""
        if self._given is not None:
            return self._given
        return self._composer.base(override for override in combination if self._composer.chooses_group(override))

    def compose(self, combination: Combination) -> tuple[Composed, list[Problem]]:
        """One run, and what it lacks.

        Raises:
            ConfigCompositionException: as Hydra raises it, for a group option or value that does not exist.
        """
        groups = tuple(str(o.input_line) for o in combination if self._composer.chooses_group(o))
        base = self.base(combination)
        if groups not in self._configs:
            self._configs[groups] = ReusedConfig(base.config, [] if self._given else self._constant)
        done = {id(override) for override in self._constant}
        varying = [o for o in combination if id(o) not in done and not self._composer.chooses_group(o)]
        reading = self._configs[groups].read_with(varying)
        composed = Composed(
            config=reading.config,
            estimated=reading.estimated,
            overrides=tuple(line_of(o) for o in combination if not o.key_or_group.startswith("sweep")),
            factors=self._factors(combination, base, reading),
            choices=base.choices,
            tree=reading.tree,
        )
        return composed, reading.problems

    def _factors(self, combination: Combination, base: Base, reading: Reading) -> Mapping[str, Any]:
        """Swept key → level, in order of the command line; also where pairing put keys together."""
        levels: dict[str, Any] = {}
        for override in combination:
            key = key_of(override)
            if self._composer.chooses_group(override):
                levels[key] = base.choices.get(key, override.value())
            else:
                levels[key] = at(reading.tree, override.key_or_group)
        return {key: levels[key] for key in self._swept if key in levels}


def composed_of(config: DictConfig) -> Composed:
    """A composed config as a run of its own; problems are left to planning."""
    reading = read(config)
    choices: Mapping[str, str | None] = {}
    return Composed(reading.config, reading.estimated, (), {}, choices, reading.tree)


def without_hydra(config: DictConfig) -> DictConfig:
    """A copy of a composed config without its `hydra` node, which is most of it."""
    content: dict[str, Any] = config._content  # type: ignore[assignment]
    hydra = content.pop("hydra", None)
    try:
        return copy.deepcopy(config)
    finally:
        if hydra is not None:
            content["hydra"] = hydra
