"""Asking line by line: for terminals that can do nothing else, and for those who have a screen read to them."""

from __future__ import annotations

from runplan.ask.lines import Answer
from runplan.ask.prompt import BACK_WORD, Prompt, read_answer
from runplan.ask.questions import Kind
from runplan.ask.typed import NotUnderstood

HELP = f"Enter takes what stands in brackets, {BACK_WORD} goes back, Ctrl-C stops; nothing is written before the end."


class PlainAsker:
    """Prints each question with its choices numbered, and reads a line."""

    help = HELP

    def ask(self, prompt: Prompt) -> Answer | None:
        """The answer; None to go back.

        Raises:
            KeyboardInterrupt: the user stops.
        """
        print(f"\n{prompt.text}" + (f" ({prompt.note})" if prompt.note else ""))  # noqa: T201 - the user's screen
        for number, choice in enumerate(prompt.choices, 1):
            mark = "*" if choice.value in prompt.default else " "
            detail = f" - {choice.detail}" if choice.detail else ""
            print(f" {mark}{number:>3} {choice.label}{detail}")  # noqa: T201
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
                print(f"  {error}")  # noqa: T201
