"""Which combinations of a sweep are left out: `sweep.exclude`, and those that would do the same twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runplan.config import iter_keys
from runplan.errors import ConfigError, Problem
from runplan.naming import control_key
from runplan.suggest import did_you_mean, listed
from runplan.sweep.overrides import Combination, key_of, same

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from runplan.plan import Composed

WHERE = "sweep.exclude"


def remaining(
    found: Sequence[Combination], conditions: Sequence[Mapping[str, Any]], default: Callable[[str], Any]
) -> tuple[list[Combination], list[str]]:
    """Combinations that no condition names, and a note for each condition that names none.

    Args:
        found: combinations in order.
        conditions: each names a level of one or more keys; it excludes where all of them hold.
        default: value of a key that no combination sets.

    Raises:
        ConfigError: a condition is empty or names an unknown key, or nothing is left.
    """
    problems = [problem for condition in conditions for problem in _problems(condition, found)]
    if problems:
        raise ConfigError(problems)
    used = [0] * len(conditions)
    kept: list[Combination] = []
    for combination in found:
        levels = {key_of(override): override.value() for override in combination}
        hits = [i for i, condition in enumerate(conditions) if _holds(condition, levels, default)]
        for hit in hits:
            used[hit] += 1
        if not hits:
            kept.append(combination)
    if found and not kept:
        raise ConfigError([Problem(f"all {len(found)} combinations are excluded", WHERE, "drop a condition")])
    notes = [
        f"{WHERE}: {_text(condition)} matches none of the {len(found)} combinations"
        for condition, n in zip(conditions, used, strict=True)
        if not n
    ]
    return kept, notes


def _text(condition: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in condition.items()) + "}"


def _problems(condition: Mapping[str, Any], found: Sequence[Combination]) -> Iterable[Problem]:
    if not condition:
        yield Problem("an empty condition would exclude everything", WHERE, "write [{model: 3B, lora.rank: 64}]")
    swept = {key_of(override) for combination in found[:1] for override in combination}
    known = [*swept, *iter_keys()]
    for key in condition:
        if key not in known:
            fix = did_you_mean(key, known, f"keys on the command line: {listed(swept) or 'none'}")
            yield Problem(f"{key} is no key", WHERE, fix)


def _holds(condition: Mapping[str, Any], levels: Mapping[str, Any], default: Callable[[str], Any]) -> bool:
    return all(same(levels[key] if key in levels else default(key), wanted) for key, wanted in condition.items())


def distinct(found: Sequence[Combination]) -> tuple[list[Combination], list[str]]:
    """Combinations without repetitions, in order, and a note when there were any."""
    kept: dict[tuple[tuple[str, str], ...], Combination] = {}
    for combination in found:
        levels = tuple((override.get_key_element(), _level_text(override.value())) for override in combination)
        kept.setdefault(levels, combination)
    dropped = len(found) - len(kept)
    said = "combination was" if dropped == 1 else "combinations were"
    return list(kept.values()), [f"{dropped} {said} named twice, planned once"] if dropped else []


def evaluated_once(composed: Sequence[Composed]) -> tuple[list[Composed], list[str]]:
    """Runs in order without those that (`train=false`) only evaluate what another or a control does; and a note."""
    if all(one.config.train for one in composed):
        return [*composed], []
    measured: set[Hashable] = set()
    controlled = set()
    for one in composed:
        config = one.config
        if config.train and config.controls and config.evaluation.enabled and control_key(one) not in controlled:
            controlled.add(control_key(one))
            measured.add(_measured(one))
    kept = []
    for one in composed:
        if not one.config.train:
            if _measured(one) in measured:
                continue
            measured.add(_measured(one))
        kept.append(one)
    dropped = len(composed) - len(kept)
    said = "combination evaluates" if dropped == 1 else "combinations evaluate"
    return kept, [f"{dropped} {said} with train=false what another run does, planned once"] if dropped else []


def _measured(one: Composed) -> Hashable:
    """What a base model's evaluation gives; the seed counts where answers are drawn."""
    return control_key(one), one.config.seed if one.config.evaluation.temperature > 0 else None


def _level_text(value: Any) -> str:
    return "null" if value is None else str(value)
