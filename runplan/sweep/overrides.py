"""From override lines to the combinations of a sweep: Hydra's grammar and order, then pairs, exclusions, duplicates.

Lines are parsed by Hydra, and expanded as its BasicSweeper does: a later line of a key replaces the earlier one in
its place, the last key varies fastest. Every level becomes an override line of its own, which is parsed again as
Hydra would when it composes the run.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException

from runplan.errors import ConfigError, Problem
from runplan.meant import meant
from runplan.pasting import has_control
from runplan.progress import counted, forewarn
from runplan.suggest import did_you_mean, listed, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hydra.core.config_loader import ConfigLoader

MOST_LEVELS = 100_000
"""More levels of a key, or combinations in all, are taken for a mistake; SLURM's queues hold fewer."""

Combination = tuple[Override, ...]


@dataclass(frozen=True)
class Axis:
    """Keys that change together, and their levels in order."""

    keys: tuple[str, ...]
    swept: bool
    levels: tuple[Combination, ...]


def parse(lines: Iterable[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Override lines, parsed by Hydra; `glob` needs the `loader`.

    Raises:
        ConfigError: lines that Hydra's grammar cannot read, all of them.
    """
    parser = OverridesParser.create(config_loader=loader)
    parsed: list[Override] = []
    problems: list[Problem] = []
    for line in counted(list(lines), "reading {} levels"):
        try:
            parsed.extend(parser.parse_overrides([line]))
        except HydraException as error:
            problems.append(_unreadable(line, str(error)))
    if problems:
        raise ConfigError(problems)
    return parsed


def _unreadable(line: str, reason: str) -> Problem:
    key, equals, _ = line.partition("=")
    if not equals and not line.startswith("~"):
        return Problem(f"{line!r} is no override", line, f"write {line}=VALUE, or ~{line} to delete the key")
    key = key.lstrip("+~")
    if has_control(line):
        what = f"{line!r} holds characters that cannot be seen, such as a newline or a tab"
        return Problem(what, key, "use letters, digits and blanks" if key == "group.name" else quoted(line))
    if found := meant(line):
        return Problem(f"{line!r} {found[0]}", key.strip(), found[1])
    detail = next((text for text in reason.splitlines() if text and not text.startswith("See ")), "")
    if detail.startswith("LexerNoViableAlt"):
        detail = "a quote or a sign in it is part of no text without quotes"
    return Problem(f"{line!r} cannot be read: {detail}", key, quoted(line))


def key_of(override: Override) -> str:
    """The key or group that an override is about, without `+` and `~`."""
    return override.get_key_element().lstrip("+~")


def axes(overrides: Sequence[Override], pinned: Sequence[Override] = ()) -> list[Axis]:
    """One axis a key, in order of first mention; later lines of the same key replace earlier ones.

    Args:
        overrides: parsed lines.
        pinned: one level each of some swept keys, to be used instead of all.

    Raises:
        ConfigError: swept keys whose levels cannot be listed, all of them.
    """
    found: dict[str, Axis] = {}
    problems: list[Problem] = []
    pins = {override.get_key_element(): override for override in pinned}
    for override in overrides:
        element = override.get_key_element()
        if not override.is_sweep_override():
            found[element] = Axis((key_of(override),), swept=False, levels=((override,),))
            continue
        levels = [pins[element]] if element in pins else parse(_level_lines(override, problems))
        found[element] = Axis((key_of(override),), swept=True, levels=tuple((level,) for level in levels))
    if problems:
        raise ConfigError(problems)
    return list(found.values())


def _level_lines(override: Override, problems: list[Problem]) -> list[str]:
    key = key_of(override)
    if override.is_interval_sweep():
        fix = f"list the levels ({key}=0.1,0.2) or step through them ({key}=range(0.1,1,0.1))"
        problems.append(Problem(f"{override.input_line}: an interval has no levels to plan", key, fix))
        return []
    try:
        levels = list(itertools.islice(override.sweep_string_iterator(), MOST_LEVELS + 1))
        if override.value_type is ValueType.GLOB_CHOICE_SWEEP:
            # Files such as resources/_request.yaml are parts of others, no options.
            levels = [level for level in levels if not level.startswith("_")]
    except (HydraException, ValueError) as error:
        problems.append(Problem(f"{override.input_line}: {error}", key, "mend the range"))
        return []
    if not levels:
        problems.append(Problem(f"{override.input_line} has no levels", key, f"give {key} at least one value"))
    if len(levels) > MOST_LEVELS:
        problems.append(Problem(f"{override.input_line} has over {MOST_LEVELS} levels", key, "sweep in parts"))
        return []
    forewarn(len(levels), f"{key} {len(levels)}")  # they are parsed one by one, which takes its time
    return [f"{override.get_key_element()}={level}" for level in levels]


def paired(found: Sequence[Axis], zips: Sequence[Sequence[str]]) -> list[Axis]:
    """Axes with the keys of each group in `zips` merged into one, at the place of the first.

    Raises:
        ConfigError: a key that is not swept or is paired twice, or levels of unequal number.
    """
    by_key = {key: axis for axis in found if axis.swept for key in axis.keys}
    problems = [problem for keys in zips for problem in _pairing_problems(keys, by_key)]
    named = [key for keys in zips for key in keys]
    problems += [
        Problem(f"{key} is paired twice", "sweep.zip", "name each key once")
        for key in dict.fromkeys(named)
        if named.count(key) > 1
    ]
    if problems:
        raise ConfigError(problems)
    merged: dict[str, Axis] = {}
    for keys in zips:
        merged |= dict.fromkeys(keys, _zipped([by_key[key] for key in keys]))
    result = [merged.get(axis.keys[0], axis) if axis.swept else axis for axis in found]
    return list({id(axis): axis for axis in result}.values())


def _pairing_problems(keys: Sequence[str], by_key: Mapping[str, Axis]) -> list[Problem]:
    unknown = [key for key in keys if key not in by_key]
    if unknown:
        swept = f"swept keys: {listed(by_key) or 'none'}"
        return [
            Problem(f"{key} is paired but not swept", "sweep.zip", did_you_mean(key, by_key, swept)) for key in unknown
        ]
    counts = {key: len(by_key[key].levels) for key in keys}
    if len(set(counts.values())) < 2:
        return []
    said = ", ".join(f"{key} has {n} levels" for key, n in counts.items())
    return [Problem(f"pairs need equally many levels: {said}", "sweep.zip", "add or drop levels")]


def _zipped(parts: Sequence[Axis]) -> Axis:
    levels = tuple(
        tuple(itertools.chain.from_iterable(level)) for level in zip(*(axis.levels for axis in parts), strict=True)
    )
    return Axis(tuple(key for axis in parts for key in axis.keys), swept=True, levels=levels)


def combinations(found: Sequence[Axis]) -> list[Combination]:
    """The product of all axes; the last varies fastest.

    Raises:
        ConfigError: there are more than `MOST_LEVELS`.
    """
    total = math.prod(len(axis.levels) for axis in found)
    if total > MOST_LEVELS:
        raise ConfigError(
            [
                Problem(
                    f"the sweep has {total} combinations, at most {MOST_LEVELS} are planned at once",
                    listed(key for axis in found if axis.swept for key in axis.keys),
                    "sweep in parts",
                )
            ]
        )
    return [
        tuple(itertools.chain.from_iterable(levels)) for levels in itertools.product(*(axis.levels for axis in found))
    ]


def line_of(override: Override) -> str:
    """An override of one combination as BasicSweeper writes it."""
    if override.is_delete() and "=" not in str(override.input_line):
        return str(override.input_line)
    return f"{override.get_key_element()}={override.get_value_element_as_str()}"


def same(level: Any, wanted: Any) -> bool:
    """Whether a level is what a condition names: equal, or written alike (`1e-5` and `1.0e-05`, `3B`)."""
    if isinstance(level, bool) or isinstance(wanted, bool):
        return str(level).lower() == str(wanted).lower()
    return bool(level == wanted) or str(level) == str(wanted)
