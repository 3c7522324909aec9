"""Errors of Hydra, OmegaConf and YAML, translated into problems that say what, where, and what to do."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import yaml
from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from runplan.config import open_key
from runplan.errors import ConfigError, Problem, RunplanError
from runplan.keys import described
from runplan.meant import several
from runplan.pasting import pasted_word
from runplan.suggest import QUOTING, did_you_mean, listed
from runplan.sweep.check_files import file_problems, find_circle, option_files, options_that_say, undecodable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

TRANSLATED = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, AssertionError, OSError)
"""What Hydra raises for a user's mistake, some of it by assert."""

_FULL_KEY = re.compile(r"^\s*full_key: (\S+)", re.MULTILINE)
_UNKNOWN = re.compile(r"Key '([^']*)' (?:is )?not in (?:'(\w+)'|struct)")
_IN_FILE = re.compile(r"^In '([^']+)':")
_NOT_IN_DEFAULTS = re.compile(r"Could not override '([^']+)'\. No match in the defaults list")
_TO_APPEND = re.compile(r"To append to your default list use (\S+)")
_CONVERTED = re.compile(
    r"Value '(.*)' of type '(\w+)' (?:could not be converted to|is not a subclass of) (.*)", re.DOTALL
)
_NOT_VALID = re.compile(r"Value '(.*)' is not a valid (\w+)", re.DOTALL)
_NOT_OF_THESE = re.compile(r"Invalid value '(.*)', expected one of", re.DOTALL)
_NOT_A_LIST = re.compile(r"\w+ is not a ListConfig, list or tuple")
_LISTS = {
    "sweep.zip": "sweep.zip=[[model,optimizer.lr]]: factors that go together",
    "sweep.exclude": "sweep.exclude=[{model: 3B, lora.rank: 64}]: combinations to leave out",
}
_FEW = 3
"""So many other names are suggested; more would be a list."""
_SEVERAL = re.compile(r"Ambiguous value for argument '([^']*)'|Sweep parameters '([^']*)' requires --multirun")


@contextmanager
def translated(lines: Sequence[str] = ()) -> Iterator[None]:
    """Raise what Hydra complains about as a `ConfigError`.

    Args:
        lines: the words of the command, so that advice can repeat one of them.
    """
    try:
        yield
    except RunplanError:
        raise
    except RecursionError:
        circle = find_circle()
        if not circle:
            raise
        raise ConfigError([_circle_problem(circle)]) from None
    except TRANSLATED as error:
        raise ConfigError(problems_of(error, lines)) from error


def _circle_problem(circle: Sequence[str]) -> Problem:
    what = f"config files name each other in a circle: {' → '.join(circle)}"
    base = "; a site begins with _site" if circle[0].startswith("site/") else ""
    return Problem(what, f"{circle[-2]}.yaml", f"take {circle[-1].rpartition('/')[2]} out of its defaults{base}")


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return found


def problems_of(error: BaseException, lines: Sequence[str] = ()) -> tuple[Problem, ...]:
    """The problems behind an exception; one of ours that it wraps is passed on.

    Args:
        error: what was raised.
        lines: the words of the command, so that advice can repeat one of them.
    """
    chain = _chain(error)
    for cause in chain:
        if isinstance(cause, ConfigError):
            return cause.problems
        if isinstance(cause, yaml.YAMLError):
            return (_broken_yaml(cause),)
        if isinstance(cause, UnicodeDecodeError):
            return tuple(Problem(f"not UTF-8 text: {cause}", str(path), "save it as UTF-8") for path in undecodable())
        if isinstance(cause, MissingConfigException):
            return (_missing_file(cause),)
    text = "\n".join(str(cause) for cause in chain)
    inside = _IN_FILE.search(text)
    return tuple(file_problems(inside[1])) if inside and file_problems(inside[1]) else (_by_text(text, lines),)


def _broken_yaml(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
    place = f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(getattr(error, "name", ""))
    return Problem(f"broken YAML: {reason}", place, "mend the line, or quote its text")


def _missing_file(error: MissingConfigException) -> Problem:
    group, _, option = str(error.missing_cfg_file or "").rpartition("/")
    options = [str(name) for name in error.options or option_files(group)]
    if group == "hydra/launcher":
        what = f"hydra/launcher={option} is not used: runplan writes first, then submits the group"
        return Problem(what, group, "choose submit=sbatch, submitit or local instead")
    where = _IN_FILE.match(str(error))
    named = f" (named in {where[1]})" if where and where[1] != "runplan" else ""
    if not group:
        return Problem(f"there is no config {option!r}{named}", option, "look for it with --info searchpath")
    if not options:
        return Problem(f"there is no {group}/{option}{named}", group, "look for it with --info searchpath")
    return Problem(f"{group} has no option {option!r}{named}", group, option_advice(group, option, options))


def option_advice(group: str, option: str, options: list[str]) -> str:
    """Near options of a group, else those whose file names it otherwise (`model=Llama-3.2-1B`), else all.

    Files such as `_request.yaml` are parts of others.
    """
    options = [name for name in options if not name.startswith("_")]
    called = [name for name in options_that_say(group, option) if name in options]
    split = several(group, option)
    if split and set(split.partition("=")[2].split(",")) <= set(options):
        return f"several have commas between them, and no quotes for Hydra: {split}"
    otherwise = f"did you mean {' or '.join(called)}?" if 0 < len(called) <= _FEW else f"options: {listed(options)}"
    return did_you_mean(option, options, otherwise)


def unknown_key(key: str, where: str = "") -> Problem:
    """A key that the schema does not have."""
    return Problem(f"there is no key {key}", where or key, key_advice(key))


def key_advice(key: str, more: Iterable[str] = ()) -> str:
    """Near keys, else those whose meaning has the words, else where its group's or all keys are listed.

    Args:
        key: what there is not.
        more: names beside the schema's keys that may be meant.
    """
    known = described()
    words = key.rpartition(".")[2].replace("_", " ").replace("-", " ").lower()
    meant = [each.name for each in known if each.kind and re.search(rf"\b{re.escape(words)}\b", each.meaning.lower())]
    group = key.rpartition(".")[0]
    lists = f"`runplan help {group}` lists its keys" if group in {each.name for each in known if not each.kind} else ""
    otherwise = f"did you mean {' or '.join(meant)}?" if 0 < len(meant) <= _FEW else lists
    return did_you_mean(key, [*(each.name for each in known), *more], otherwise or "`runplan --cfg job` lists all keys")


def wrong_value(key: str, text: str, where: str = "") -> Problem:
    """A value that does not fit its key, from OmegaConf's words."""
    match = _CONVERTED.search(text)
    invalid = _NOT_VALID.search(text)
    not_a_list = _NOT_A_LIST.search(text)
    if "is not Optional" in text:
        return Problem(f"{key} is null, but every run needs a value", where or key, f"`runplan help {key}` says which")
    line = text.splitlines()[0] if text else "the value does not fit"
    if not_a_list:
        example = _LISTS.get(key, f"{key}=[A] or {key}=[A,B]")
        return Problem(f"{key} takes a list, not one value", where or key, f"write {example}")
    if match:
        line = f"{key}: {match[1]!r} is no {_KINDS.get(match[3].splitlines()[0], match[3].splitlines()[0])}"
    elif invalid and invalid[2] == "bool":
        line = f"{key}: {invalid[1]!r} is neither true nor false"
    elif key and not line.startswith(key):
        line = f"{key}: {line}"
    if match and match[1].startswith("["):
        return Problem(
            line, where or key, f"brackets make one value; several are {key}={match[1][1:-1].replace(' ', '')}"
        )
    wrong = match or invalid or _NOT_OF_THESE.search(text)
    if wrong and (split := several(key, wrong[1])):
        return Problem(line, where or key, f"several have commas between them, and no quotes for Hydra: {split}")
    fix = QUOTING if "dict" in line or "list" in line.lower() else f"`runplan help {key}` says what it takes"
    return Problem(line, where or key, fix)


_KINDS = {"Integer": "whole number", "Float": "number", "Boolean": "true or false"}


def _added(group: str, text: str, lines: Sequence[str]) -> str:
    """How to add a choice of a group: its line with `+`, else Hydra's own words, which know one level of a sweep."""
    line = next((line for line in reversed(lines) if line.partition("=")[0] == group), None)
    said = _TO_APPEND.search(text)
    return f"write {pasted_word(f'+{line}' if line else said[1] if said else f'+{group}=…')}"


def _by_text(text: str, lines: Sequence[str]) -> Problem:
    inside = _IN_FILE.search(text)
    file = f"{inside[1]}.yaml" if inside and inside[1] != "runplan" else ""
    full_key = _FULL_KEY.search(text)
    unknown = _UNKNOWN.search(text)
    if unknown and full_key and open_key(full_key[1]):
        return Problem(f"{full_key[1]} is not there to be set", full_key[1], f"add it: ++{full_key[1]}=…")
    if unknown and not unknown[1].startswith("hydra"):
        return unknown_key(full_key[1] if full_key else unknown[1], file)
    several = _SEVERAL.search(text)
    if several:
        line = next(part for part in several.groups() if part)
        fix = "name one value, or write a list as key=[a,b]"
        return Problem(f"{line} names several values, and only planning takes a sweep", line.partition("=")[0], fix)
    group = _NOT_IN_DEFAULTS.search(text)
    if group:
        return Problem(f"{group[1]} is not among the defaults", group[1], _added(group[1], text, lines))
    if full_key:
        said = text[: text.index(full_key[0])].rstrip().splitlines()
        reason = next((line for line in reversed(said) if line.strip()), "the value does not fit")
        return wrong_value(full_key[1], reason, file)
    lines = [line for line in text.splitlines() if line.strip()]
    return Problem(lines[0] if lines else "the configuration cannot be composed", file, " ".join(lines[1:3]))
