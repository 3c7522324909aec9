"""`runplan help KEY…`: what a key means, its type, its default here; of a group its options, too."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from runplan.errors import ConfigError, Problem
from runplan.help_text import groups
from runplan.keys import Key, default_text, described
from runplan.sweep.hydra_errors import key_advice

WIDTH = 100


def defaults() -> dict[str, Any]:
    """The composed defaults with their marks, as they are where this runs: the user's `conf/` counts."""
    from omegaconf import OmegaConf  # noqa: PLC0415 - start-up time

    from runplan import app  # noqa: PLC0415

    with app.started() as made:
        composed = made.compose_config(
            app.CONFIG_NAME, [], run_mode=_multirun(), with_log_configuration=False, validate_sweep_overrides=False
        )
    tree = OmegaConf.to_container(composed, resolve=False, enum_to_str=True)
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items() if key != "hydra"}


def _multirun() -> Any:
    from hydra.types import RunMode  # noqa: PLC0415 - start-up time

    return RunMode.MULTIRUN


def explain(words: Sequence[str]) -> str:
    """What is to be said about keys and groups, one after another.

    Raises:
        ConfigError: some of them do not exist; all are named.
    """
    known = {key.name: key for key in described()}
    options = groups()
    problems = [
        Problem(f"there is no key {word}", word, key_advice(word, options))
        for word in words
        if word not in known and word not in options
    ]
    if problems:
        raise ConfigError(problems)
    here = defaults()
    return "\n\n".join(_about(word, known, options, here) for word in words)


def _about(word: str, known: Mapping[str, Key], options: Mapping[str, list[str]], here: Mapping[str, Any]) -> str:
    key = known.get(word)
    if key is not None and key.kind:
        return "\n".join(_lines(key, here))
    lines = [f"{word}: {key.meaning}" if key else word]
    if word in options:
        text = ", ".join(options[word])
        lines.append(textwrap.fill(text, WIDTH, initial_indent=f"  {word}=", subsequent_indent="    "))
    inside = [each for name, each in known.items() if name.startswith(f"{word}.")]
    return "\n".join([*lines, *(line for each in inside for line in _lines(each, here, "  "))])


def _lines(key: Key, here: Mapping[str, Any], indent: str = "") -> list[str]:
    kind = f"{key.kind} or null" if key.optional else key.kind
    head = f"{indent}{key.name}   {kind}; default: {default_text(key.name, here)}"
    return [head, textwrap.fill(key.meaning, WIDTH, initial_indent=f"{indent}    ", subsequent_indent=f"{indent}    ")]
