"""docs/commands.md says of every verb and of planning each option, in the words of `--help`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hydra._internal.utils import get_args_parser

from runplan import cli

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
HEAD = ["| option | does |", "|---|---|"]


def rows(help_text: str) -> list[str]:
    """The arguments and options of an argparse help as rows of a table."""
    found: list[list[str]] = []
    for line in re.split(r"^(?:positional arguments|options):\n", help_text, maxsplit=1, flags=re.MULTILINE)[
        1
    ].splitlines():
        item = re.match(r"  (\S.*?)(?:\s{2,}(\S.*))?$", line)
        if item:
            found.append([item[1], item[2] or ""])
        elif line.startswith("   ") and found:
            found[-1][1] += f" {line.strip()}"
        elif line and not line.endswith(":"):
            break  # what is said after the options
    cells = [(name.replace("|", "\\|"), text.strip().replace("|", "\\|")) for name, text in found]
    return [f"| `{name}` | {text} |" for name, text in cells if name != "-h, --help"]


def section(page: str, verb: str) -> str:
    return page.split(f"\n## runplan {verb}\n", 1)[1].split("\n## ", 1)[0]


def help_of(verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main([verb, "--help"]) == 0
    return capsys.readouterr().out


def with_table(page: str, verb: str, table: Sequence[str]) -> str:
    old = section(page, verb)
    text = old[: old.index(HEAD[0])] if HEAD[0] in old else old
    return page.replace(old, f"{text.rstrip()}\n\n" + "\n".join([*HEAD, *table]) + "\n", 1)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_a_verbs_options_are_those_of_its_help(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    table = rows(help_of(verb, capsys))
    assert table
    page = PAGE.read_text(encoding="utf-8")
    if os.environ.get("RUNPLAN_REGEN"):
        page = with_table(page, verb, table)
        PAGE.write_text(page, encoding="utf-8")
    said = [line for line in section(page, verb).splitlines() if line.startswith("| `")]
    assert said == table, "RUNPLAN_REGEN=1 python -m pytest tests/test_commands_page.py rewrites docs/commands.md"


def test_options_of_planning_are_said() -> None:
    page = PAGE.read_text(encoding="utf-8").split("\n## runplan help", 1)[0]
    options = [
        option for action in get_args_parser()._actions for option in action.option_strings if option[:2] == "--"
    ]
    assert "--cfg" in options
    assert [option for option in options if f"`{option}" not in page] == []


def test_short_help_names_every_verb_and_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert [verb for verb in (*cli.VERBS, "help") if not re.search(rf"^  runplan {verb}\b", text, re.MULTILINE)] == []
    assert [line for line in text.splitlines() if len(line) > 120] == []
    assert len(text.splitlines()) <= 66
