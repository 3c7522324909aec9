"""YAML out, in one way: what PyYAML and OmegaConf both read back as what went in.

PyYAML writes 1e-5 as `1.0e-05` and the string "1e-5" bare, and OmegaConf reads `12:30:00` as a number: so
numbers get representers of their own and every string that is not plainly a word is quoted.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
REMEMBERED = 4096
_WORD = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*")
_NOT_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity"})
_NON_ASCII = re.compile(r"[^\x20-\x7e]")


class _TextDumper(_Dumper):  # type: ignore[misc]
    """Dumper with our numbers and strings; aliases are never written."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the base class's signature
        return True


def _float_text(value: float) -> str:
    """A float as `0.0003`, `1.0e-5`, `.inf`: with a dot and no padded exponent, so that YAML 1.1 reads a float."""
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    text = repr(float(value))
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
    return f"{mantissa}e{int(exponent):+d}"


def _string_style(text: str) -> str | None:
    if _WORD.fullmatch(text) and text.lower() not in _NOT_WORDS:
        return None
    return '"' if _NON_ASCII.search(text) else "'"


def _represent_str(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=_string_style(text))


def _represent_float(dumper: Any, value: float) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:float", _float_text(value))


_TextDumper.add_representer(str, _represent_str)
_TextDumper.add_representer(float, _represent_float)
_TextDumper.add_representer(tuple, lambda dumper, value: dumper.represent_list(list(value)))


def dump(data: Mapping[str, Any] | list[Any], header: str = "") -> str:
    """A YAML document of `data` in its own order, with `header` as comment lines above it."""
    comment = "".join(f"# {line}\n" if line else "#\n" for line in header.splitlines())
    text: str = yaml.dump(
        data, Dumper=_TextDumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=10**9
    )
    return comment + text


def scalar(value: Any) -> str:
    """One value as YAML that fits behind `key: ` on one line; lists and mappings in flow style."""
    return _repeated(value) if value is None or isinstance(value, str | int) else _repeated_alike(_Printed(value))


def flat(data: Mapping[str, Any] | list[Any]) -> str:
    """As `dump` of words with scalars behind them, or of scalars: a text that is put together from remembered lines."""
    if isinstance(data, list):
        return "".join(f"- {scalar(value)}\n" for value in data) or "[]\n"
    return "".join(f"{key}: {scalar(value)}\n" for key, value in data.items()) or "{}\n"


def section(name: str, value: Any) -> str:
    """As `dump` of one key with its value, remembered."""
    return _section(_Printed({name: value}))


class _Printed:
    """A value; equal to one that prints alike, so that a cache can find its text: 0.0 equals -0.0, lists have no hash.

    Only for plain data, whose print says all.
    """

    __slots__ = ("key", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.key = repr(value)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Printed) and self.key == other.key


def _one_line(value: Any) -> str:
    text: str = yaml.dump(
        value, Dumper=_TextDumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=10**9
    )
    return text.removesuffix("\n").removesuffix("\n...")


# The runs of a sweep share most of their values; `typed`, for True equals 1.
_repeated = lru_cache(maxsize=REMEMBERED, typed=True)(_one_line)
_repeated_alike = lru_cache(maxsize=REMEMBERED)(lambda printed: _one_line(printed.value))
_section = lru_cache(maxsize=REMEMBERED)(lambda printed: dump(printed.value))


def load(text: str) -> dict[str, Any]:
    """The mapping that a text of ours holds; an empty one when somebody made something else of it."""
    try:
        tree = yaml.load(text, Loader=_Loader)  # noqa: S506 - the safe loader, in C where it is there
    except yaml.YAMLError:
        return {}
    return tree if isinstance(tree, dict) else {}


def with_values(text: str, values: Mapping[str, Any]) -> str:
    """A YAML text with other values in the lines of some top-level keys; keys that it lacks are not added."""
    keys = "|".join(map(re.escape, values))
    return re.sub(rf"^({keys}): .*$", lambda line: f"{line[1]}: {scalar(values[line[1]])}", text, flags=re.MULTILINE)
