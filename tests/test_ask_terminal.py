"""The interview in a real terminal (a pty): what is typed, what is shown, and what is left behind."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect

ROOT = Path(__file__).parents[1]
ENTER, ESC, CTRL_C, CTRL_D, UP, DOWN, SPACE = "\r", "\x1b", "\x03", "\x04", "\x1b[A", "\x1b[B", " "
ON_DEFAULTS = (
    "What do you want to vary?",
    "Which model?",
    "Which dataset?",
    "Something is missing. Go on?",
    "GPUs for each job?",
    "Validation and controls?",
    "Anything else to set?",
    "Is this the plan?",
)
FEW_WORDS = ("--set", "dataset.n_words=400")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7])(?:;\d+)*m")


class Terminal:
    """`runplan ask` on a pty, with what it has shown so far."""

    def __init__(self, *words, verb="ask", columns=100, **env):
        base = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
        # Nobody answers prompt_toolkit's question for the cursor's position here.
        env = {**base, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", **env}
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "runplan/_hydra"), env.get("PYTHONPATH", "")])
        arguments = ["-m", "runplan", verb, *words]
        self.child = pexpect.spawn(
            sys.executable, arguments, env=env, dimensions=(40, columns), encoding="utf-8", timeout=30
        )
        self.child.delaybeforesend = 0.02
        self.shown = ""

    def sees(self, *texts):
        """Wait until all these texts were shown, one after the other."""
        for text in texts:
            self.child.expect_exact(text)
            self.shown += self.child.before + self.child.after
        return self

    def asked(self, question):
        """Wait until a question is there and takes keys: its last part is on the screen."""
        self.sees(f"? {question}")
        return (
            self.sees("] ")
            if question in {"GPUs for each job?", "LoRA rank?", "Which LoRA ranks?"}
            else self.sees("back")
        )

    def types(self, *keys):
        for key in keys:
            self.child.send(key)
        return self

    def ends(self):
        """The exit code."""
        self.child.expect(pexpect.EOF)
        self.shown += self.child.before
        self.child.close()
        return self.child.exitstatus

    @property
    def text(self):
        """All that was shown, without control sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[=>]", "", self.shown).replace("\r", "")


def snapshot():
    return {str(path): path.read_bytes() for path in sorted(Path().rglob("*")) if path.is_file()}


def test_defaults_write_a_plan_in_nine_answers_and_the_command_writes_the_same():
    terminal = Terminal()
    for question in ON_DEFAULTS:
        terminal.asked(question).types(ENTER)
    assert terminal.ends() == 0
    assert len(ON_DEFAULTS) <= 9
    assert Path("outputs/1B_rank8/plan.json").is_file()
    for part in (
        *("hf download meta-llama/Llama-3.2-1B-Instruct", "8000 train / 1000 validation", "Evaluation capitalization"),
        *("they measure the effect of fine-tuning", "Run Plan Summary", "Total GPU hours", "├── 1B_rank8/"),
    ):
        assert part in terminal.text, part
    first = snapshot()
    line = terminal.text[terminal.text.rindex("python -m runplan -m ") :].split("\n")[0]
    assert line == "python -m runplan -m model=1B dataset.create=true group.name=1B_rank8"
    shutil.rmtree("outputs")
    shutil.rmtree("tasks")
    subprocess.run([sys.executable, *shlex.split(line)[1:]], check=True, capture_output=True)
    assert snapshot() == first


def test_an_empty_folder_holds_a_plan_after_twelve_answers():
    answers = 0
    looking = Terminal(verb="init")
    while looking.child.expect_exact(["[Y/n] ", pexpect.EOF]) == 0:
        looking.types(ENTER)
        answers += 1
    assert looking.ends() == 0
    (site,) = [path.stem for path in Path("conf/site").iterdir() if path.stem != "local"]
    terminal = Terminal()
    while terminal.child.expect([r"\? [^\r\n]+\?(?s:.*?)Esc back", r"\? GPUs[^\r\n]+\] ", pexpect.EOF]) != 2:
        terminal.types(ENTER)
        answers += 1
    assert terminal.ends() == 0
    assert answers <= 12, terminal.text
    assert Path("outputs/1B_rank8/plan.json").is_file()
    assert site


def test_factors_are_chosen_gone_back_to_and_changed_at_the_end():
    terminal = Terminal()
    vary, model, dataset, missing, gpus, measure, more, approve = ON_DEFAULTS
    terminal.asked(vary).types(DOWN, SPACE, ENTER).asked(model).types(ESC)
    terminal.asked(vary).types(DOWN, DOWN, SPACE, DOWN, SPACE, SPACE, ENTER)  # the rank and, after all, no dataset
    terminal.asked(model).types("<").asked(vary).types(DOWN, DOWN, SPACE, ENTER)
    terminal.asked(model).types(ENTER).asked("Which LoRA ranks?").types("4,x", ENTER).sees("'x' is no whole number")
    terminal.types("\x7f", "64", ENTER).asked(dataset).types(ENTER).asked(missing).types(ENTER)
    terminal.asked(gpus).types("2 h100-8", ENTER).sees("did you mean h100-80").types("0", ENTER)
    terminal.asked(measure).types(DOWN, SPACE, ENTER).asked(more).types(ENTER)
    terminal.asked(approve)
    assert "write and submit" not in terminal.text  # the model is missing
    terminal.types(UP, UP, ENTER).asked("Which answer?").types(DOWN, DOWN, ENTER)
    terminal.asked("Which LoRA ranks?").types("4,16", ENTER).asked(approve).types(UP, ENTER)
    assert terminal.ends() == 0
    assert "2 fine-tuned" in terminal.text
    assert terminal.text.rstrip().endswith(
        "python -m runplan -m model=1B lora.rank=4,16 dataset.create=true resources=h100-80 resources.gpus=2"
        " controls=false group.name=1B_rank4-16"
    )
    assert "Nothing was written" in terminal.text
    assert not [*Path.cwd().iterdir()]


def test_stopping_leaves_nothing_behind_at_any_stage():
    stages = [Terminal(*FEW_WORDS) for _ in ON_DEFAULTS]  # they start together: starting is most of the time
    for last, terminal in enumerate(stages):
        for question in ON_DEFAULTS[:last]:
            terminal.asked(question).types(ENTER)
        terminal.asked(ON_DEFAULTS[last]).types(CTRL_D if last == 1 else CTRL_C)
        assert terminal.ends() == 130
        assert "Stopped: nothing was written." in terminal.text
        assert "Traceback" not in terminal.text
        assert COLOUR.search(terminal.shown)
        assert not [*Path.cwd().iterdir()], ON_DEFAULTS[last]


def test_a_narrow_terminal_without_colours_shows_all():
    terminal = Terminal(columns=60, NO_COLOR="1")
    for question in ON_DEFAULTS[:5]:
        terminal.asked(question).types(ENTER)
    terminal.asked(ON_DEFAULTS[5])
    assert not COLOUR.search(terminal.shown)
    menus = [line for line in terminal.text.split("\n") if line.lstrip().startswith((">", "[ ]", "[x]"))]
    assert len(menus) > 10
    assert max(map(len, menus)) <= 60
    flat = re.sub(r"\s+", " ", terminal.text)
    assert "controls: each base model without fine-tuning they measure the effect of fine-tuning" in flat
    assert terminal.types(CTRL_C).ends() == 130


def test_what_is_ready_can_be_submitted(tmp_path):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f"#!/bin/sh\necho x >> {tmp_path}/calls\necho 17\n")
    sbatch.chmod(0o755)
    given = (*FEW_WORDS, "model=tiny", "model.create=true", "validation=false")
    terminal = Terminal(*given, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for question in (ON_DEFAULTS[0], *ON_DEFAULTS[2:-1]):
        terminal.asked(question).types(ENTER)
    terminal.asked(ON_DEFAULTS[-1]).types(DOWN, ENTER)
    assert terminal.ends() == 0
    assert "Given: model=tiny dataset.n_words=400 model.create=true validation=false" in terminal.text
    assert Path("outputs/tiny_rank8/plan.json").is_file()
    assert len((tmp_path / "calls").read_text().split()) >= 3  # training, its evaluation, the control


def test_a_dumb_terminal_is_asked_line_by_line():
    terminal = Terminal(*FEW_WORDS, "controls=false", TERM="dumb", columns=60)
    for keys in ("2", "1B", "<", "", "4,64", "", "", "", "", "", ""):
        terminal.sees("] > ").types(f"{keys}\r")
    assert terminal.ends() == 0
    assert "\x1b" not in terminal.shown
    assert Path("outputs/1B_rank4-64/1B_rank64/finetune.slurm").is_file()
    assert not Path("outputs/1B_rank4-64/1B_base").exists()


def test_lines_can_be_asked_for_and_end_with_the_input():
    terminal = Terminal("--plain").sees("] > ").types(CTRL_D)
    assert terminal.ends() == 130
    assert not [*Path.cwd().iterdir()]
