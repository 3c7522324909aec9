"""Asking line by line: for terminals that can do nothing else, and for those who have a screen read to them."""

from __future__ import annotations

import os
import sys
import textwrap

from runplan.ask.lines import Answer
from runplan.ask.prompt import BACK_WORD, Prompt, read_answer
from runplan.ask.questions import Kind
from runplan.ask.typed import NotUnderstood
from runplan.summary.screen import encodable

HELP = f"Enter takes what stands in brackets, {BACK_WORD} goes back, Ctrl-C stops; nothing is written before the end."


def screen_width() -> int | None:
    """Columns of the terminal, as it is now; None where there is none."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):
        return None


def say(text: str = "", indent: str = "") -> None:
    """Print a paragraph with signs that the screen can show, broken at words; what has no space in it stays whole.

    Args:
        text: one line.
        indent: in front of every line but the first.
    """
    width = screen_width()
    wraps = width is not None and len(text) > width
    shown = textwrap.wrap(
        text,
        width or len(text) + 1,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    for line in shown if wraps else [text]:
        print(encodable(line, sys.stdout.encoding))  # noqa: T201 - the user's screen is the place


class PlainAsker:
    """Prints each question with its choices numbered, and reads a line."""

    help = HELP

    def ask(self, prompt: Prompt) -> Answer | None:
        """The answer; None to go back.

        Raises:
            KeyboardInterrupt: the user stops.
        """
        say()
        say(prompt.text + (f" ({prompt.note})" if prompt.note else ""), "  ")
        for number, choice in enumerate(prompt.choices, 1):
            mark = "*" if choice.value in prompt.default else " "
            detail = f" - {choice.detail}" if choice.detail else ""
            say(f" {mark}{number:>3} {choice.label}{detail}", "      ")
        default = prompt.default_text if prompt.kind is Kind.typed else prompt.labels(prompt.default)
        while True:
            try:
                text = input(f"[{default}] > ")
            except EOFError:
                raise KeyboardInterrupt from None
            if text.strip() == BACK_WORD:
                return None
            try:
                return read_answer(text, prompt)
            except NotUnderstood as error:
                say(f"  {error}", "  ")
