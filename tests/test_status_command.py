"""`runplan status` as it is called: exit codes, JSON, watching, wrong usage."""

import codecs
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest
from status_groups import fake_slurm, queue_line, submitted, told, write_group

from runplan.cli import main as runplan
from runplan.status import command

LIMIT_S = 30


@pytest.fixture
def group(tmp_path, monkeypatch):
    """A group of which one training waits."""
    made = write_group(tmp_path / "a group")
    submitted(made, {made.jobs[0].token: "7"})
    fake_slurm(tmp_path / "bin", monkeypatch, queue_line("7", "PENDING", "Priority"))
    return made


def ends(group, code):
    train = group.jobs[0]
    told(train.directory, "started", train.token, "7")
    told(train.directory, "ended", train.token, "7", exit_code=code, seconds=5)
    (group.directory.parent / "bin" / "squeue.txt").write_text("")


@pytest.mark.parametrize(("code", "expected"), [(None, 0), (0, 0), (1, 1)])
def test_the_exit_code_says_whether_something_failed(group, capsys, code, expected):
    if code is not None:
        ends(group, code)
    assert runplan(["status", str(group.directory)]) == expected
    assert "1B_rank4" in capsys.readouterr().out
    assert runplan(["status", "--json", str(group.directory)]) == expected
    assert json.loads(capsys.readouterr().out)["failed"] is bool(expected)


def test_commands_can_be_copied(group, capsys, monkeypatch):
    monkeypatch.chdir(group.directory.parent)
    runplan(["status", "a group"])
    assert "    runplan submit 'a group'\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "GROUP"),
        (["--watch", "1", "g"], "at least 5: SLURM is asked every time"),
        (["--watch", "often", "g"], "not a number of seconds"),
        (["--watch", "inf", "g"], "not a number of seconds"),
        (["nowhere"], "nowhere: no such directory"),
        (["."], "holds no plan.json"),
        (["g", "--loud"], "runplan status does not know '--loud'"),
    ],
)
def test_wrong_usage_is_2(words, said, capsys):
    assert runplan(["status", *words]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""


def test_a_ledger_that_cannot_be_read_is_said(group, capsys):
    (group.directory / "ledger.jsonl").unlink()
    (group.directory / "ledger.jsonl").mkdir()
    assert runplan(["status", str(group.directory)]) == 2
    assert capsys.readouterr().err.endswith("a group/ledger.jsonl: Is a directory\n")


def test_help_says_what_exit_codes_mean(capsys):
    assert runplan(["status", "--help"]) == 0
    assert "1: some job failed" in " ".join(capsys.readouterr().out.split())


def test_watching_ends_by_itself_and_in_a_pipe_prints_one_document_a_line(group, capsys, monkeypatch):
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 2:
            ends(group, 1)

    monkeypatch.setattr(command, "sleep", sleep)
    assert runplan(["status", str(group.directory), "--json", "--watch", "7"]) == 1
    states = [json.loads(line)["runs"][0]["state"] for line in capsys.readouterr().out.splitlines()]
    assert (states, waited) == (["pending", "pending", "failed"], [7.0, 7.0])
    assert runplan(["status", str(group.directory), "--watch"]) == 1
    assert capsys.readouterr().out.count("\n run ") == 1


class Terminal:
    """`runplan status` on a terminal of its own."""

    def __init__(self, *words, rows=30, columns=100):
        self.main, side = pty.openpty()
        environment = os.environ | {"COLUMNS": str(columns), "LINES": str(rows), "TERM": "xterm"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "runplan", "status", *words],
            stdin=side, stdout=side, stderr=side, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(side)
        self.decoder = codecs.getincrementaldecoder("utf-8")()  # a read may end within a character
        self.text = ""

    def until(self, words):
        deadline = time.monotonic() + LIMIT_S
        while words not in self.text and time.monotonic() < deadline:
            self.text += self._more()
        assert words in self.text

    def _more(self):
        if not select.select([self.main], [], [], 0.2)[0]:
            return ""
        try:
            return self.decoder.decode(os.read(self.main, 1 << 16))
        except OSError:  # the other side is closed
            return ""

    def end(self):
        code = self.process.wait(LIMIT_S)
        while more := self._more():
            self.text += more
        os.close(self.main)
        return code


def test_ctrl_c_ends_watching_cleanly(group):
    terminal = Terminal(str(group.directory), "--watch", "60")
    terminal.until("again every 60 s")
    for _ in range(20):  # Python drops an interrupt that falls into what must not raise; people press it again, too
        os.kill(terminal.process.pid, signal.SIGINT)
        try:
            terminal.process.wait(1)
            break
        except subprocess.TimeoutExpired:
            continue
    assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    assert terminal.text.rindex("\x1b[?25h") > terminal.text.rindex("\x1b[?25l"), "the cursor is back"


def test_watching_a_terminal_leaves_the_last_state_on_it(group):
    ends(group, 0)
    (group.directory / "ledger.jsonl").write_text("")
    terminal = Terminal(str(group.directory), "--watch")
    assert terminal.end() == 0
    last = terminal.text.rpartition("again every 10 s")[2]
    assert "1B_rank4" in last
    assert "completed" in last or "trained" in last


def test_a_reader_that_goes_away_is_no_error(group):
    done = subprocess.run(
        f"{sys.executable} -m runplan status '{group.directory}' --json | head -n 1",
        shell=True, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("{\n", "")
