"""benchmarks/: what counts as held, and that `make bench` runs every one of them."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = {"cases", "later", "measure", "milabench", "published", "rivals", "transformers_runs"}
"""What the benchmarks share."""


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch):
    # by its file: benchmarks/gpu has a module of that name, too
    spec = importlib.util.spec_from_file_location("benchmarks_measure", ROOT / "benchmarks/measure.py")
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, made)
    spec.loader.exec_module(made)
    return made


def test_a_missed_target_is_said_and_fails(measure, capsys):
    rows = [measure.Row("fast", 1.0, 4.0, "the rival", 2.0, "s"), measure.Row("slow", 3.0, 4.0, "the rival", 2.0, "s")]
    measure.show("Title", rows[:1])
    with pytest.raises(SystemExit) as ended:
        measure.show("Title", rows)
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 1
    assert lines[-2].split() == ["fast", "1", "s", "4", "s", "0.25", "0.5", "the", "rival:", "holds"]
    assert lines[-1].split()[-1] == "MISSED"
    assert "0.75" in lines[-1]


def test_what_a_command_took_is_told(measure, tmp_path):
    busy, idle = (
        measure.take(["-c", code], tmp_path) for code in ("sum(range(10**7))", "import time; time.sleep(0.3)")
    )
    assert busy.cpu > 0.02
    assert idle.wall > 0.3
    assert idle.cpu < idle.wall
    with pytest.raises(SystemExit, match="exited 3"):
        measure.take(["-c", "raise SystemExit(3)"], tmp_path)


def test_make_bench_runs_all():
    named = re.search(r"^BENCHMARKS := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert named
    assert sorted(named[1].split()) == sorted({path.stem for path in (ROOT / "benchmarks").glob("*.py")} - PARTS)


def test_every_script_and_part_is_on_the_page():
    page = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    assert all(f"`{path.name}`" in page for path in (ROOT / "benchmarks").glob("*.py"))
    programs = [path for path in (ROOT / "benchmarks").rglob("*.py") if "argparse" in path.read_text(encoding="utf-8")]
    assert all(f"`{path.relative_to(ROOT / 'benchmarks')}`" in page for path in programs)
