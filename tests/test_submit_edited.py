"""Job scripts that somebody edited."""

from __future__ import annotations

import pytest
import real_groups

from runplan.files.written import read_group
from runplan.submit.due import Due
from runplan.submit.edited import edited_note


@pytest.fixture
def due(tmp_path):
    place = tmp_path / "a'; echo x"
    group = real_groups.group(
        place, "tok", 5, 1, name="a 'run", gpus=2, constraint="a&b", extra=("--mail-type=END", "--nice 5")
    )
    return [Due(job) for job in read_group(group).jobs]


def edit(due: Due, old: str, new: str) -> None:
    script = due.job.directory / due.job.script
    text = script.read_text()
    assert old in text
    script.write_text(text.replace(old, new))


def test_scripts_as_they_were_written_are_not_named(due):
    assert edited_note(due) == ""


def test_another_request_is_named_with_what_is_asked_for(due):
    edit(due[0], "--time=00:05:00", "--time=08:00:00")
    note = edited_note(due)
    assert note.startswith(f"{due[0].job.path}: the #SBATCH lines are not as plan.json has them (--time=08:00:00).")
    assert "--via sbatch" in note


def test_a_line_that_was_added_or_removed_is_named(due):
    edit(due[0], "#SBATCH --nodes=1\n", "#SBATCH --nodes=1\n#SBATCH --exclusive\n")
    assert "(--exclusive)" in edited_note(due)
    edit(due[2], "#SBATCH '--constraint=a&b'\n", "")
    assert "(without '--constraint=a&b')" in edited_note(due[2:])


def test_of_many_some_are_named(due):
    for each in due:
        edit(each, "--mem=1G", "--mem=2G")
    assert "and 8 more: " in edited_note(due)


def test_a_script_that_is_gone_is_told_of_elsewhere(due):
    (due[0].job.directory / due[0].job.script).unlink()
    assert edited_note(due) == ""
