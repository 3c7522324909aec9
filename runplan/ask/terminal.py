"""Asking with menus and a line editor (prompt_toolkit): arrows, space, Enter; Esc goes back, Ctrl-C stops."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from runplan.ask.lines import Answer
from runplan.ask.plain import screen_width
from runplan.ask.prompt import BACK_WORD, Prompt, read_answer
from runplan.ask.questions import Kind
from runplan.ask.typed import NotUnderstood

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.styles import Style

BACK = object()
ESCAPE_S = 0.05
"""How long Esc waits for the rest of an arrow key; over a slow line its bytes still come together."""
ROWS = 12
"""Most rows of a menu that show at once."""
HELP = f"Enter goes on, Esc or {BACK_WORD} goes back, Ctrl-C stops; nothing is written before the end."


class MenuAsker:
    """Shows each question as a menu or a line to edit, and leaves one line with the answer."""

    help = HELP

    def ask(self, prompt: Prompt) -> Answer | None:
        """The answer; None to go back.

        Raises:
            KeyboardInterrupt: the user stops.
        """
        found = _line(prompt) if prompt.kind is Kind.typed else _Menu(prompt).run()
        if found is BACK:
            return None
        answer: Answer = found
        from prompt_toolkit import print_formatted_text  # noqa: PLC0415 - heavy

        said = [
            ("class:mark", "✓ "),
            ("class:question", prompt.text),
            ("", " "),
            ("class:answer", prompt.labels(answer)),
        ]
        print_formatted_text(_fragments(said), style=_style())
        return answer


def _fragments(parts: list[tuple[str, str]]) -> Any:
    from prompt_toolkit.formatted_text import FormattedText  # noqa: PLC0415 - heavy

    return FormattedText(parts)


def _beside(text: str, detail: str, style: str, detail_style: str = "detail") -> list[tuple[str, str]]:
    """A text with its detail: on one line where both fit, else on lines of their own, broken at words and indented."""
    from prompt_toolkit.utils import get_cwidth  # noqa: PLC0415 - heavy

    width = screen_width() or 80
    styles = [f"class:{name}" if name else "" for name in (style, detail_style)]
    if get_cwidth(f"{text}  {detail}") <= width or not detail:
        return [(styles[0], text), (styles[1], f"  {detail}" if detail else "")]
    lines = textwrap.wrap(detail, max(width - 6, 10), break_long_words=False, break_on_hyphens=False)
    rest = "\n      ".join(lines)
    return [(styles[0], text), (styles[1], f"\n      {rest}" if text else f"  {rest}")]


def _style() -> Style:
    from prompt_toolkit.styles import Style  # noqa: PLC0415 - heavy

    return Style.from_dict(
        {
            "mark": "ansigreen", "question": "bold", "answer": "ansicyan", "note": "ansibrightblack", "here": "bold",
            "detail": "ansibrightblack", "wrong": "ansired", "bottom-toolbar": "noreverse ansibrightblack",
        }
    )  # fmt: skip


def _bindings() -> KeyBindings:
    """What every question understands."""
    from prompt_toolkit.key_binding import KeyBindings  # noqa: PLC0415 - heavy

    keys = KeyBindings()

    @keys.add("escape", eager=True)
    def _back(event: Any) -> None:
        event.app.exit(result=BACK)

    @keys.add("c-c", eager=True)
    @keys.add("<sigint>")
    def _stop(event: Any) -> None:
        event.app.exit(exception=KeyboardInterrupt())

    return keys


def _line(prompt: Prompt) -> Any:
    """The answer to a question that is typed, or BACK."""
    from prompt_toolkit import PromptSession  # noqa: PLC0415 - heavy
    from prompt_toolkit.validation import ValidationError, Validator  # noqa: PLC0415 - heavy

    class Answers(Validator):
        def validate(self, document: Any) -> None:
            if document.text.strip() == BACK_WORD:
                return
            try:
                read_answer(document.text, prompt)
            except NotUnderstood as error:
                raise ValidationError(len(document.text), str(error)) from error

    message = _beside(f"? {prompt.text}", prompt.note and f"({prompt.note})", "question")
    takes = f"Enter takes {prompt.default_text}, " if prompt.default_text else ""
    tab = "Tab completes, " if prompt.words or prompt.completes_paths else ""
    message += [("", "\n"), *_beside("", f"{takes}{tab}Esc back", ""), ("", "\n")]
    message.append(("class:answer", f"[{prompt.default_text}] " if prompt.default_text else "> "))
    session: PromptSession[Any] = PromptSession(
        message=_fragments(message),
        style=_style(),
        validator=Answers(),
        validate_while_typing=False,
        completer=_completer(prompt),
        key_bindings=_bindings(),
        erase_when_done=True,
        reserve_space_for_menu=5 if prompt.words or prompt.completes_paths else 0,
    )
    session.app.ttimeoutlen = ESCAPE_S
    try:
        text = session.prompt()
    except EOFError:
        raise KeyboardInterrupt from None
    return BACK if text is BACK or text.strip() == BACK_WORD else read_answer(text, prompt)


def _completer(prompt: Prompt) -> Completer | None:
    from prompt_toolkit.completion import PathCompleter, WordCompleter  # noqa: PLC0415 - heavy

    if prompt.completes_paths:
        return PathCompleter(expanduser=True)
    return WordCompleter(list(prompt.words), WORD=True) if prompt.words else None


class _Menu:
    """A list to choose from: one, or any number with space."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt
        self.values = [choice.value for choice in prompt.choices]
        self.checked = {value for value in prompt.default if value in self.values}
        self.at = next((i for i, value in enumerate(self.values) if value in self.checked), 0)
        self.wrong = ""

    def run(self) -> Any:
        """The answer, or BACK."""
        from prompt_toolkit.application import Application  # noqa: PLC0415 - heavy
        from prompt_toolkit.layout import HSplit, Layout, Window  # noqa: PLC0415 - heavy
        from prompt_toolkit.layout.controls import FormattedTextControl  # noqa: PLC0415 - heavy
        from prompt_toolkit.layout.dimension import Dimension  # noqa: PLC0415 - heavy

        rows = FormattedTextControl(self._rows, focusable=True, show_cursor=False)
        parts = [
            Window(FormattedTextControl(self._head), wrap_lines=True, dont_extend_height=True),
            Window(rows, wrap_lines=True, height=Dimension(max=ROWS), dont_extend_height=True),
            Window(FormattedTextControl(self._foot), wrap_lines=True, dont_extend_height=True),
        ]
        layout = Layout(HSplit(parts), focused_element=rows)
        app: Application[Any] = Application(layout, key_bindings=self._keys(), style=_style(), erase_when_done=True)
        app.ttimeoutlen = ESCAPE_S
        return app.run()

    @property
    def _answer(self) -> Answer:
        if self.prompt.kind is Kind.one:
            return (self.values[self.at],)
        return tuple(value for value in self.values if value in self.checked)

    def _head(self) -> Any:
        return _fragments(_beside(f"? {self.prompt.text}", self.prompt.note and f"({self.prompt.note})", "question"))

    def _rows(self) -> Any:
        parts: list[tuple[str, str]] = []
        for i, choice in enumerate(self.prompt.choices):
            here = i == self.at
            parts += [("[SetCursorPosition]", "")] if here else []
            box = ("[x] " if choice.value in self.checked else "[ ] ") if self.prompt.kind is Kind.many else ""
            row = f"{'>' if here else ' '} {box}{choice.label}"
            parts += _beside(row, choice.detail, "here" if here else "")
            parts.append(("", "\n" if i + 1 < len(self.values) else ""))
        return _fragments(parts)

    def _foot(self) -> Any:
        if self.wrong:
            return _fragments(_beside("", self.wrong, "", "wrong"))
        hint = "space chooses, Enter goes on" if self.prompt.kind is Kind.many else "Enter chooses"
        more = f"{self.at + 1} of {len(self.values)} · " if len(self.values) > ROWS else ""
        return _fragments(_beside("", f"{more}↑↓ move, {hint}, Esc back", ""))

    def _keys(self) -> KeyBindings:
        keys = _bindings()

        def add(*names: str) -> Any:
            def bind(action: Any) -> None:
                for name in names:
                    keys.add(name)(action)

            return bind

        add("up", "k", "c-p", "s-tab")(lambda _: self._move(-1))
        add("down", "j", "c-n", "tab")(lambda _: self._move(1))
        add("pageup")(lambda _: self._move(1 - ROWS, stop=True))
        add("pagedown")(lambda _: self._move(ROWS - 1, stop=True))
        add("home")(lambda _: self._move(-self.at))
        add("end")(lambda _: self._move(len(self.values) - 1 - self.at))
        add("left", BACK_WORD)(lambda event: event.app.exit(result=BACK))
        add("c-d")(lambda event: event.app.exit(exception=KeyboardInterrupt()))
        add("space")(lambda _: self._toggle())
        add("enter")(self._accept)
        return keys

    def _move(self, steps: int, *, stop: bool = False) -> None:
        last = len(self.values) - 1
        self.at = min(max(self.at + steps, 0), last) if stop else (self.at + steps) % (last + 1)
        self.wrong = ""

    def _toggle(self) -> None:
        if self.prompt.kind is Kind.many:
            self.checked ^= {self.values[self.at]}
        self.wrong = ""

    def _accept(self, event: Any) -> None:
        self.wrong = self.prompt.refused(self._answer)
        if not self.wrong:
            event.app.exit(result=self._answer)
