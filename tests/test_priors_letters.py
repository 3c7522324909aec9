"""What shells, containers and log collectors make of a text is undone before it is read."""

import json
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from runplan.priors.command import JSON_KEYS
from runplan.priors.letters import plain_bytes
from runplan.priors.parse import parse_text

DATA = Path(__file__).parent / "data"
CONFIGS = {
    path.stem: path.read_bytes()
    for path in sorted(DATA.glob("log*/*torchtune*.out"))
    if b" with resolved config:\n\n" in path.read_bytes() and b"\r" not in path.read_bytes()
}
LABELS = {
    "ts": "Nov {day:2d} 00:{minute:02d}:{second:02d} ",
    "ts -s": "00:{minute:02d}:{second:02d} ",
    "ts '[%F %T]'": "[2026-11-{day:02d} 00:{minute:02d}:{second:02d}] ",
    "ts %.s": "17323{day:02d}{minute:02d}0.{second:06d} ",
    "time zone": "2026-04-{day:02d}T01:{minute:02d}:{second:02d}.464773212+02:00 ",
    "containerd": "2026-04-{day:02d}T01:{minute:02d}:{second:02d}.123Z stderr F ",
    "kubectl --prefix": "[pod/tune-node-{second}-0-abcde/trainer] ",
    "docker compose": "trainer-1  | ",
    "journal": "Nov {day:2d} 00:{minute:02d}:{second:02d} node{day} tune[12{second}]: ",
    "pdsh": "node{second}: ",
    "mpirun": "[1,{second}]<stdout>:",
    "sky": "(task, pid=33{second}) ",
    "ray": "(RayTrainWorker pid=3{minute}, ip=10.0.0.{second}) ",
}


def labelled(text, label):
    lines = text.split(b"\n")
    marks = (label.format(day=9 + n // 60, minute=n // 60 % 60, second=n % 60) for n in range(len(lines)))
    return b"\n".join(mark.encode() + line for mark, line in zip(marks, lines, strict=True))


def said(text):
    fields = parse_text(text, "slurm-1.out") or {}
    return {key: fields[key] for key in JSON_KEYS if fields.get(key) not in {None, ()} and key != "reason"}


@pytest.mark.parametrize("label", sorted(LABELS))
def test_whatever_label_stands_before_each_line_is_taken_off(label):
    assert len(CONFIGS) > 15
    for name, text in CONFIGS.items():
        assert said(labelled(text, LABELS[label])) == said(text), name


@settings(max_examples=60)
@given(name=st.sampled_from(sorted(CONFIGS)), label=st.text("abXY019 .:|/-_()[]<>#*+", min_size=1, max_size=40))
@example(name="07_torchtune_cruijff_fixture_two_epochs", label="00 ")
@example(name="306_torchtune_second_run_on_xpu", label="(")
def test_a_label_of_any_letters_is_taken_off(name, label):
    label = label.lstrip()
    assume(label and (not label[-1].isalnum()) and not label.startswith("#"))
    assert said(labelled(CONFIGS[name], label)) == said(CONFIGS[name])


def test_a_text_without_a_label_is_left_as_it_is():
    for text in (
        b"Running X with resolved config:\nWriting logs to /tmp/a/log_1.txt\nseed: 1\n",
        b"[rank0]:Running X with resolved config:\n[rank1]:Running X with resolved config:\n[rank0]:\n",
        b"Running X with resolved config:\n",
        b"Running X with resolved config:",
    ):
        assert plain_bytes(text) == text


def test_docker_s_lines_of_json_are_put_together_again():
    text = CONFIGS["316_torchtune_processes_asked_by_variable"]
    kept = [
        json.dumps({"log": line.decode(), "stream": "stderr", "time": "t"}) for line in text.splitlines(keepends=True)
    ]
    assert plain_bytes("\n".join(kept).encode()) == text
    assert plain_bytes(kept[0].encode() + b'\n{"log": "half of a li') == text.splitlines(keepends=True)[0]
    assert plain_bytes(b'{"log": 7}\n{"other": 1}\n[]\n') == b"7"


@pytest.mark.parametrize("text", ["seed: 1 and all the others\n", "batch_size: 2 · épochs\n" * 3])
def test_letters_of_two_bytes_show_without_a_mark(text):
    data = text.encode("utf-16-le")
    assert plain_bytes(data).decode() == text


def test_line_ends_that_windows_made_twice_are_single():
    assert plain_bytes(b"a: 1\r\r\nb: 2\r\r\n") == b"a: 1\nb: 2\n"
