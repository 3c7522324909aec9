from __future__ import annotations

import io

import pytest

from runplan import progress
from runplan.progress import LEAST, MANY, counted, forewarn, phase


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def a_terminal(monkeypatch) -> Terminal:
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    made = Terminal()
    monkeypatch.setattr("sys.stderr", made)
    return made


def test_every_item_comes_and_the_line_is_gone_at_the_end(monkeypatch):
    terminal = a_terminal(monkeypatch)
    assert list(counted(range(LEAST), "composing {} runs")) == list(range(LEAST))
    said = terminal.getvalue()
    assert said.startswith(f"\r\x1b[Kcomposing 0 of {LEAST} runs")
    assert f"composing {LEAST - 1} of {LEAST} runs" in said
    assert said.endswith("\r\x1b[K")


def test_the_line_is_gone_when_something_fails(monkeypatch):
    terminal = a_terminal(monkeypatch)

    def fail() -> None:
        with phase("planning {} runs", 12_000):
            assert terminal.getvalue().endswith("planning 12,000 runs")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_nothing_is_said_of_few_or_without_a_terminal(monkeypatch):
    terminal = a_terminal(monkeypatch)
    assert list(counted(range(LEAST - 1), "{}")) == list(range(LEAST - 1))
    monkeypatch.setattr("sys.stderr", other := io.StringIO())
    with phase("{}", LEAST):
        assert len(list(counted(range(LEAST), "{}"))) == LEAST
    assert terminal.getvalue() + other.getvalue() == ""


def test_very_many_runs_are_said_before_they_are_planned(capsys):
    forewarn(MANY - 1, "seed 4999")
    assert capsys.readouterr().err == ""
    for _ in range(2):
        forewarn(100_000, "seed 100000")
    assert capsys.readouterr().err == (
        "note: 100,000 runs are asked for (seed 100000): planning them takes about 4min and 6.0 GB of memory; "
        "Ctrl-C stops, nothing is written before all are planned\n"
    )


def test_nobody_is_told_where_there_is_no_screen(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    forewarn(MANY, "seed 5000")
