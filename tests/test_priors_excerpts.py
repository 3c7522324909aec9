"""Excerpts of public logs, each against what a person reads in it (tests/data/log_excerpts/expected.yaml)."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from runplan.priors.command import JSON_KEYS
from runplan.priors.parse import parse_text
from runplan.priors.record import MemoryGib

EXCERPTS = Path(__file__).parent / "data" / "log_excerpts"
EXPECTED: dict[str, dict[str, Any]] = yaml.safe_load((EXCERPTS / "expected.yaml").read_text())
GB = 1e9 / 2**30


def gib(value: float | str | None) -> float | None:
    if isinstance(value, str):
        return float(value.removeprefix("gb ")) * GB
    return value


def expected(name: str) -> dict[str, Any]:
    values = {"state": "unknown", **EXPECTED[name]}
    for key in ("peak_memory_gib", "init_memory_gib"):
        if key in values:
            values[key] = MemoryGib(*map(gib, values[key]))
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    if "params_b" in values:
        values["params_b"] = pytest.approx(values["params_b"], abs=1e-6)
    if "s_per_step" in values:
        values["it_per_s"] = pytest.approx(1 / values["s_per_step"], rel=0.01)
        values["s_per_step"] = pytest.approx(values["s_per_step"], rel=0.01)
    return {key: value for key, value in values.items() if key not in {"source", "reason", "unread"}}


def said(data: bytes, name: str = "slurm-1.out") -> dict[str, Any] | None:
    fields = parse_text(data, name)
    if fields is None:
        return None
    return {key: fields[key] for key in JSON_KEYS if fields.get(key) not in {None, ()} and key != "reason"}


def test_every_excerpt_has_an_expectation_and_a_source():
    assert sorted(EXPECTED) == sorted(path.stem for path in EXCERPTS.glob("*.out"))
    assert all(one["source"] for one in EXPECTED.values())


def test_what_is_noted_as_unread_is_not_read():
    for name, one in EXPECTED.items():
        found = said((EXCERPTS / f"{name}.out").read_bytes()) or {}
        assert all(found.get(key) != value for key, value in one.get("unread", {}).items()), name


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_excerpt_says_what_a_reader_finds_in_it(name):
    data = (EXCERPTS / f"{name}.out").read_bytes()
    if EXPECTED[name].get("record") == "none":
        assert said(data) is None
        return
    assert said(data) == expected(name)
    reason = (parse_text(data) or {}).get("reason")
    assert (reason is not None) == ("reason" in EXPECTED[name]), reason
    assert EXPECTED[name].get("reason", "") in (reason or "")


def lines_with(prefix: bytes, end: bytes = b"\n"):
    return lambda text: b"".join(prefix + line.rstrip(b"\n") + end for line in text.splitlines(keepends=True))


# What shells, terminals, launchers, log collectors and file systems do to a text.
COSMETICS = {
    "windows": lines_with(b"", b"\r\n"),
    "powershell": lambda text: b"\xff\xfe" + text.decode().encode("utf-16-le"),
    "powershell, other end first": lambda text: b"\xfe\xff" + text.decode().encode("utf-16-be"),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "lost blocks": lines_with(b"\0\0\0\0"),
    "windows twice": lines_with(b"", b"\r\r\n"),
    "rank": lines_with(b"[rank0]:"),
    "ray": lines_with(b"(task, pid=3369) "),
    "srun --label": lines_with(b"0: "),
    "collector's time": lines_with(b"2026-04-29T01:46:33.4647732Z "),
    "colours": lines_with(b"\x1b[32m", b"\x1b[0m\n"),
    "indented": lines_with(b"  "),
    "quoted": lines_with(b"> "),
    "prolog": lambda text: b"##### prolog: job 7 on node1\nSLURM_JOB_ID=7\nLoading module cuda/12.4\n" + text,
}
# A prefix that is indented; a text that PowerShell wrote itself.
BEYOND = {"07_torchtune_multinode_tee_prefix", "118_powershell_character_model"}
TEXTS = sorted(path for folder in (EXCERPTS, EXCERPTS.parent / "logs") for path in folder.glob("*.out"))


@pytest.mark.parametrize("change", sorted(COSMETICS))
def test_what_happens_to_a_text_on_its_way_changes_nothing_that_it_says(change):
    for path in TEXTS:
        if path.stem not in BEYOND:
            text = path.read_bytes()
            assert said(COSMETICS[change](text)) == said(text), path.stem
