"""Names that are not ASCII where the locale is, and names that are not UTF-8: no traceback, and nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runplan import cli
from runplan.utf8 import SHOWN

ROOT = Path(__file__).parents[1]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A locale of ASCII, without what Python does about it by itself."""


def call(words, folder, **environment):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "runplan" / "_hydra")])
    done = subprocess.run(
        [sys.executable, "-m", "runplan", *words], cwd=folder, capture_output=True, check=False,
        env=os.environ | {"PYTHONPATH": paths, "XDG_CACHE_HOME": str(folder / "cache")} | environment,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("größe")
    rows = {role: [{"input": f"{role} {i}", "output": "é"} for i in range(40)] for role in ("train", "validation")}
    (made / "dätä.json").write_text(json.dumps(rows), encoding="utf-8")
    done = call([*WORDS, "group.name=süß"], made, **ASCII)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return made


LOG = "07_torchtune_cruijff_fixture_two_epochs.out"
WORDS = ["model=tiny", "dataset=json", "dataset.path=dätä.json", "evaluation=none", "effective_batch_size=2"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--help"], 0, "…"),
        ([*WORDS, "preview=true"], 0, "dätä.json"),
        (["status", "outputs/süß"], 0, "outputs/süß"),
        (["collect", "outputs/süß", "--json"], 1, "größe"),
        (["priors", "outputs/süß"], 0, "searched 0 files"),
    ],
)
def test_every_verb_works_in_a_locale_of_ascii(folder, words, code, said):
    done = call(words, folder, **ASCII)
    assert (done.returncode, said in done.stdout.decode()) == (code, True), done


@pytest.mark.parametrize("locale", [{"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "latin-1"}])
def test_a_name_that_is_no_utf8_is_shown_as_it_is(tmp_path, locale):
    logs = os.fsencode(tmp_path) + b"/l\xf6gs"
    Path(os.fsdecode(logs)).mkdir()
    done = call(["priors", os.fsdecode(logs)], tmp_path, **locale)
    assert (done.returncode, b"searched 0 files" in done.stdout) == (0, True)
    (Path(os.fsdecode(logs)) / "slurm-\udcf6.out").write_text((ROOT / "tests/data/logs" / LOG).read_text())
    (record,) = json.loads(call(["priors", "--json", os.fsdecode(logs)], tmp_path, **locale).stdout)
    assert record["path"].endswith("/l\udcf6gs/slurm-\udcf6.out")
    for words in (["status", os.fsdecode(logs)], ["model=tiny", f"dataset.path={os.fsdecode(logs)}"]):
        assert call(words, tmp_path, **locale).returncode == 2
    assert call(["ask", "--yes", f"dataset={os.fsdecode(logs)}"], tmp_path, **locale).returncode == 2


def test_characters_that_a_screen_lacks_are_question_marks_and_bytes_stay():
    assert "a\u2026\udcff\ud800é".encode("ascii", SHOWN) == b"a?\xff??"
    assert "\udcc3…".encode("utf-8", SHOWN) == b"\xc3" + "…".encode()
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", SHOWN)


def test_a_text_that_cannot_be_written_is_named(monkeypatch, capsys):
    monkeypatch.setattr(cli, "_dispatch", lambda _: "a\udcff".encode())
    assert cli.main(["x"]) == 2
    assert "'a\\udcff' is not utf-8 text; use UTF-8 names" in capsys.readouterr().err
