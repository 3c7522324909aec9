"""From a composed `DictConfig` to plain data and to the typed `Config`, in one walk.

Past this file no `DictConfig` exists. What `OmegaConf.to_object` would make is made here, with two differences: keys
that hold an `rp.*` mark become None, and everything that is missing or does not resolve is collected, not raised.
"""

from __future__ import annotations

import functools
import re
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from omegaconf import Container, DictConfig, Node, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from runplan.config import Config
from runplan.errors import Problem, RunplanError
from runplan.resolvers import mark_of
from runplan.sweep.references import may_change

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MISSING = "???"


@dataclass
class Reading:
    """What one walk over a composed config found."""

    config: Config
    tree: dict[str, Any]
    """Plain data, interpolations unresolved, enums by name."""
    estimated: frozenset[str]
    """Keys that hold an `rp.*` mark."""
    problems: list[Problem]
    """Keys without a value, and interpolations that do not resolve."""
    leaves: Mapping[str, tuple[DictConfig, str]]
    """Key → the node that holds it, and its name there."""
    referring: frozenset[str]
    """Keys whose value comes from other keys."""


@dataclass
class _Walk:
    estimated: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    leaves: dict[str, tuple[DictConfig, str]] = field(default_factory=dict)
    referring: list[str] = field(default_factory=list)


@functools.cache
def _declared(cls: type) -> tuple[tuple[str, bool], ...]:
    """Fields of a schema class, and whether each has to be given a value."""
    return tuple(
        (item.name, item.default == _MISSING or (item.default is NO_DEFAULT and item.default_factory is NO_DEFAULT))
        for item in fields(cls)
    )


def plain(node: Any) -> Any:
    """A node as plain data: interpolations as text, enums by name, containers as dicts and lists."""
    if isinstance(node, Container):
        if node._is_interpolation() or node._is_missing() or node._is_none():
            return node._value()
        return OmegaConf.to_container(node, resolve=False, enum_to_str=True)
    value = node._value()
    return value.name if isinstance(value, Enum) else value


def _resolved(parent: DictConfig, key: str, where: str, walk: _Walk) -> Any:
    """A leaf's final value, typed; None with a problem noted when it has none."""
    try:
        value = parent[key]
        return OmegaConf.to_object(value) if isinstance(value, Container) else value
    except OmegaConfBaseException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, RunplanError):
                raise cause from error
            cause = cause.__cause__
        walk.problems.append(_unresolved(error, where))
        return None


_LACKING = re.compile(r"Environment variable '(\w+)' not found")
"""As OmegaConf's `oc.env` says it."""


def _unresolved(error: OmegaConfBaseException, where: str) -> Problem:
    text = str(error).splitlines()[0]
    if isinstance(error, InterpolationToMissingValueError):
        return Problem(f"{where} takes its value from a key that has none: {text}", where, "give that key a value")
    lacking = _LACKING.search(text)
    if lacking:
        what = f"{where} cannot be worked out: there is no environment variable {lacking[1]}"
        return Problem(what, where, f"export {lacking[1]}=…, or set {where}=…")
    return Problem(f"{where} cannot be worked out: {text}", where, f"set {where}=… or mend what it refers to")


def _leaf(parent: DictConfig, key: str, node: Any, where: str, walk: _Walk) -> tuple[Any, Any]:
    """Plain and final value of one leaf."""
    raw = node._value()
    if isinstance(raw, Node):  # a union (`packed`) holds a node, not a value
        raw = raw._value()
    walk.leaves[where] = (parent, key)
    if isinstance(node, Container):
        if "${" in str(raw):
            walk.referring.append(where)
        return plain(node), _resolved(parent, key, where, walk)
    if isinstance(raw, str):
        if raw == _MISSING:
            walk.problems.append(Problem(f"{where} has no value", where, _value_advice(where)))
            return raw, None
        if "${" in raw:
            if mark_of(raw):
                walk.estimated.append(where)
                return raw, None
            walk.referring.append(where)
            return raw, _resolved(parent, key, where, walk)
    return (raw.name if isinstance(raw, Enum) else raw), raw


def _value_advice(key: str) -> str:
    """How a key gets its value; a site has them all from the one that it begins with."""
    base = ", or let the file of the site begin with `defaults: [_site, _self_]`" if key.startswith("site.") else ""
    return f"set {key}=…{base}"


def _children(node: DictConfig) -> Iterable[tuple[str, Any]]:
    content: Any = node._content
    return [(key, node._get_node(key)) for key in content]


def _group(node: DictConfig, cls: type, prefix: str, walk: _Walk) -> tuple[dict[str, Any], Any]:
    tree: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for key, child in _children(node):
        if key == "hydra" and not prefix:
            continue
        where = f"{prefix}{key}"
        kind = child._metadata.object_type if isinstance(child, DictConfig) else None
        if isinstance(kind, type) and is_dataclass(kind) and isinstance(child._content, dict):
            tree[key], values[key] = _group(child, kind, f"{where}.", walk)
        else:
            tree[key], values[key] = _leaf(node, key, child, where, walk)
    given: dict[str, Any] = {}
    for name, required in _declared(cls):
        if name in values:
            given[name] = values[name]
        elif required:
            walk.problems.append(Problem(f"{prefix}{name} has no value", f"{prefix}{name}", "it was deleted with ~"))
    return tree, cls(**given)


def read(composed: DictConfig) -> Reading:
    """Config, plain tree, estimated keys and problems of a composed config; its `hydra` node is left out.

    Raises:
        RunplanError: one that a resolver raised.
    """
    walk = _Walk()
    tree, config = _group(composed, Config, "", walk)
    return Reading(config, tree, frozenset(walk.estimated), walk.problems, walk.leaves, frozenset(walk.referring))


_PLAIN = frozenset({str, int, float, bool, type(None)})


def _fresh(value: Any) -> Any:
    """A copy of schema objects, lists and dicts that shares nothing changeable with the original."""
    if isinstance(value, list):
        return [_fresh(part) for part in value]
    if isinstance(value, dict):
        return {key: _fresh(part) for key, part in value.items()}
    if not hasattr(value, "__dataclass_fields__"):
        return value
    made = object.__new__(type(value))  # `copy.copy` takes ten times as long
    for name, part in vars(value).items():  # one by one: an object that is given its `__dict__` is twice as large
        setattr(made, name, part if part.__class__ in _PLAIN else _fresh(part))
    return made


def leaf_of(key: str, leaves: Mapping[str, Any]) -> str | None:
    """The leaf that is or holds a dotted key: `evaluation.args` for `evaluation.args.shots`; None for groups."""
    while key and key not in leaves:
        key = key.rpartition(".")[0]
    return key or None


def affected(before: Reading, changed: Iterable[str]) -> frozenset[str]:
    """Leaves that may have other values once these have: they themselves, and what refers to them."""
    touched = frozenset(changed)
    return touched.union(key for key in before.referring - touched if may_change(before.tree, key, touched))


def reread(before: Reading, again: Iterable[str]) -> Reading:
    """As `read` of the same config after leaves of it were changed in place, at a fraction of the cost.

    Args:
        before: how `read` found it.
        again: what `affected` says of the leaves that were changed.
    """
    walk = _Walk()
    tree = dict(before.tree)
    config = _fresh(before.config)
    for where in again:
        parent, name = before.leaves[where]
        raw, value = _leaf(parent, name, parent._get_node(name), where, walk)
        held, target = tree, config
        for part in where.split(".")[:-1]:
            held[part] = dict(held[part])
            held, target = held[part], getattr(target, part)
        held[name] = raw
        setattr(target, name, value)
    return Reading(
        config,
        tree,
        before.estimated.difference(again).union(walk.estimated),
        [problem for problem in before.problems if problem.where not in again] + walk.problems,
        before.leaves,
        before.referring.difference(again).union(walk.referring),
    )
