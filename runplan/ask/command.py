"""`runplan ask`: asks, shows the whole plan, and writes what is approved."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runplan.arguments import Arguments
from runplan.ask.dialogue import Asker, Dialogue
from runplan.ask.given import given_state
from runplan.ask.survey import Survey
from runplan.errors import ConfigError, Problem

_DESCRIPTION = "Asks what to vary and what is left open, shows the whole plan, and writes it once it is approved."
_EPILOG = """\
A file of answers has one key per line, with a list for a key that is varied. Other keys are asked, or, with --yes, left
at their defaults:
  model: [1B, 3B]
  lora.rank: [4, 64]
  controls: true
"""


def main(argv: Sequence[str]) -> int:
    """Run `runplan ask` with the words after the verb; returns the exit code.

    Raises:
        RunplanError: what is wrong with given answers, the config files or the plan.
    """
    try:
        options = _parser().parse_args(argv)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 2
    if not options.yes and not (sys.stdin.isatty() and sys.stdout.isatty()):
        fix = "add --yes to take what is not given at its default, or plan directly: runplan model=1B,3B lora.rank=4,64"
        raise ConfigError([Problem("there is no terminal to ask on", "runplan ask", fix)])
    if options.config_dir is not None and not options.config_dir.is_dir():
        raise ConfigError(
            [Problem(f"there is no folder {options.config_dir}", "--config-dir", "name an existing folder")]
        )
    document = _read(options.answers) if options.answers else None
    state, problems = given_state(document, [*options.set, *options.overrides], str(options.answers))
    try:
        dialogue = Dialogue(Survey(Path.cwd(), options.config_dir), state)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from error
    if problems:
        raise ConfigError(problems)
    if options.yes:
        return dialogue.take_defaults()
    return dialogue.hold(_asker(plain=options.plain))


def _asker(*, plain: bool) -> Asker:
    """Menus where the terminal can show them, lines where it cannot."""
    if plain or os.environ.get("TERM", "").lower() in {"", "dumb", "unknown"}:
        from runplan.ask.plain import PlainAsker  # noqa: PLC0415 - one of the two is needed

        return PlainAsker()
    from runplan.ask.terminal import MenuAsker  # noqa: PLC0415 - same

    return MenuAsker()


def _read(path: Path) -> Any:
    import yaml  # noqa: PLC0415 - only for a file of answers

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError([Problem(f"{path} cannot be read: {reason}", "--answers", "name a YAML file")]) from error
    except yaml.YAMLError as error:
        said = getattr(error, "problem", None) or "it cannot be read"
        mark = getattr(error, "problem_mark", None)
        said += f", line {mark.line + 1}" if mark else ""
        raise ConfigError(
            [Problem(f"{path} is no YAML: {said}", "--answers", "write KEY: VALUE, a line each")]
        ) from None


def _parser() -> argparse.ArgumentParser:
    parser = Arguments(
        prog="runplan ask",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="answers, as with --set")
    parser.add_argument("--answers", type=Path, metavar="FILE", help="YAML file of answers")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE[,VALUE…]", help="an answer")
    parser.add_argument("--yes", action="store_true", help="ask nothing: defaults for what is not given, then write")
    parser.add_argument("--plain", action="store_true", help="line by line, without menus")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="one more folder of config groups")
    return parser
