"""Every configuration key with its type and meaning, from the schema's own text: nothing here can lag behind it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from omegaconf import MISSING

from runplan import config
from runplan.units import short_number

WORKED_OUT = "worked out"
BY_OPTION = "set by the option"


@dataclass(frozen=True)
class Key:
    """One key, or one group of keys."""

    name: str
    """Dotted: `lora.rank`."""
    kind: str
    """Its type as users write it: `int`, `text`, `bf16 or fp32`; empty for groups."""
    meaning: str
    optional: bool = False
    """Whether null is a value."""


@cache
def described() -> tuple[Key, ...]:
    """Every key and group of the schema, in its order."""
    classes = {node.name: node for node in ast.parse(inspect.getsource(config)).body if isinstance(node, ast.ClassDef)}
    return tuple(_keys(classes, classes["Config"], ""))


def _keys(classes: Mapping[str, ast.ClassDef], of: ast.ClassDef, prefix: str) -> Iterator[Key]:
    groups = []
    for item, after in zip(of.body, [*of.body[1:], None], strict=True):
        if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
            continue
        name, kind = f"{prefix}{item.target.id}", ast.unparse(item.annotation)
        if kind in classes and not _is_enum(classes[kind]):
            groups.append((name, classes[kind]))
            continue
        meaning = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
        parts = [part.strip() for part in kind.split("|")]
        words = [_word(part, classes) for part in parts if part != "None"]
        yield Key(name, " or ".join(words), _one_line(str(meaning)), "None" in parts)
    for name, node in groups:
        yield Key(name, "", _one_line(ast.get_docstring(node) or ""))
        yield from _keys(classes, node, f"{name}.")


def _is_enum(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base) == "Enum" for base in node.bases)


def _word(kind: str, classes: Mapping[str, ast.ClassDef]) -> str:
    """A type as people say it."""
    if kind in classes:
        values = [ast.literal_eval(item.value) for item in classes[kind].body if isinstance(item, ast.Assign)]
        return " or ".join(str(value) for value in values)
    plain = {"str": "text", "bool": "true or false", "int": "int", "float": "number"}
    if kind.startswith(("list", "tuple")):
        return "list"
    return plain.get(kind, "mapping" if kind.startswith("dict") else kind)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def default_text(key: str, defaults: Mapping[str, Any]) -> str:
    """The default of a key as a command line would have it, from a composed tree with its marks."""
    value: Any = defaults
    for part in key.split("."):
        value = value.get(part, MISSING) if isinstance(value, Mapping) else MISSING
    if value == MISSING:
        return BY_OPTION
    if isinstance(value, str):
        return WORKED_OUT if "${rp." in value else value or '""'
    if isinstance(value, list | tuple):
        return f"[{','.join(str(each) for each in value)}]"
    if isinstance(value, float):
        return short_number(value)
    plain = {"None": "null", "True": "true", "False": "false"}
    return plain.get(str(value), str(value))


def markdown(defaults: Mapping[str, Any]) -> str:
    """The reference of all keys as a page: a table for each group."""
    lines = ["# Every key", "", *_INTRODUCTION]
    table = ("| key | type | default | meaning |", "|---|---|---|---|")
    top = [key for key in described() if "." not in key.name and key.kind]
    lines += ["", "## Keys of a run", "", *table, *(_row(key, defaults) for key in top)]
    for group in (key for key in described() if not key.kind):
        inside = [key for key in described() if key.name.startswith(f"{group.name}.")]
        lines += ["", f"## {group.name}", "", group.meaning, "", *table, *(_row(key, defaults) for key in inside)]
    return "\n".join(lines) + "\n"


_INTRODUCTION = (
    "Written from the schema in `runplan/config.py` and the defaults in `conf/`. `runplan help KEY` shows the same for",
    "one key or group. A key is set with `KEY=VALUE`; commas sweep. *Worked out*: runplan finds the value; one that",
    "you set instead is checked, never changed.",
)


def _row(key: Key, defaults: Mapping[str, Any]) -> str:
    default = default_text(key.name, defaults)
    shown = default if default in {WORKED_OUT, BY_OPTION} else f"`{default}`"
    cells = (f"`{key.name}`", key.kind, shown, key.meaning)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
