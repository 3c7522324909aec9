"""Where a value stands that a problem is about: which file of the user's, which line. An edge.

What a cluster refuses is asked for in `resources.*`, but most of it was written once, in the file of the site.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from runplan.errors import ConfigError, PlanError, Problem
from runplan.naming import run_names
from runplan.paths import CONF_DIR
from runplan.sweep.check_files import find

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runplan.plan import Composed

_GROUPS = ("resources", "priors")
_OF_SITE = re.compile(r"\$\{site\.(\w+)\}")


@contextmanager
def with_origins(composed: Sequence[Composed]) -> Iterator[None]:
    """Problems of a plan name, beside a key of `resources` or `priors`, the key and the file that its value comes from.

    Args:
        composed: the runs of the plan.
    """
    try:
        yield
    except PlanError as error:
        raise PlanError(_all_placed(error.problems, composed), error.n_runs) from None
    except ConfigError as error:
        raise ConfigError(_all_placed(error.problems, composed)) from None


def _all_placed(problems: Sequence[Problem], composed: Sequence[Composed]) -> list[Problem]:
    runs = dict(zip(run_names(composed), composed, strict=True))
    return [_placed(problem, runs.get(problem.run, composed[0])) for problem in problems]


def _placed(problem: Problem, run: Composed) -> Problem:
    return replace(problem, where=", ".join(_origin(key, run) for key in problem.where.split(", ")))


def _origin(key: str, run: Composed) -> str:
    """The key itself, or where its value stands, if that is a file of the user's."""
    group, _, name = key.partition(".")
    held = run.tree.get(group) if group in _GROUPS else None
    if not isinstance(held, dict) or name not in held:
        return key
    referred = _OF_SITE.fullmatch(str(held[name]))
    if referred:
        group, name = "site", referred[1]
    if any(line.lstrip("+").startswith(f"{group}.{name}=") for line in run.overrides):
        return f"{group}.{name}"
    file = _written(group, run.choices.get(group), name)
    return f"{group}.{name} in {file}" if file else key


def _written(group: str, option: str | None, name: str, seen: frozenset[str] = frozenset()) -> str:
    """File and line of a key in an option of a group or in those that it begins with, if they are the user's own."""
    path = find(f"{group}/{option}") if option and option not in seen else None
    if path is not None and path.is_relative_to(CONF_DIR):
        return ""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader) if path else None
    except (yaml.YAMLError, OSError, UnicodeDecodeError):
        return ""
    entries: dict[str, Any] = {}
    if isinstance(root, yaml.MappingNode):
        entries = {inner.value: (inner, value) for inner, value in root.value}
    if name in entries:
        inner, value = entries[name]
        is_null = value.tag.endswith(":null")
        return "" if is_null else f"{path}, line {inner.start_mark.line + 1}"
    others = entries["defaults"][1].value if "defaults" in entries else []
    names = [other.value for other in others if isinstance(other, yaml.ScalarNode) and other.value != "_self_"]
    found = (_written(group, other, name, seen | {str(option)}) for other in reversed(names))
    return next((place for place in found if place), "")
