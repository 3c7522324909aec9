"""Jobs that work in copies of directories."""

from __future__ import annotations

import shutil

import pytest
import real_groups

from runplan.files.written import read_group
from runplan.jobs.attempts import Attempt, Ledger
from runplan.jobs.copies import copy_note, works_elsewhere
from runplan.jobs.observe import SlurmJobs
from runplan.slurm.queue import SlurmJob


@pytest.fixture
def group(tmp_path):
    return read_group(real_groups.group(tmp_path / "g", "tok", 1, 1, base=False))


@pytest.fixture
def job(group):
    return group.jobs[0]


def test_a_job_that_works_in_a_copy_of_a_run_is_not_that_run_s(job, tmp_path):
    copy, link = tmp_path / "copy", tmp_path / "link"
    shutil.copytree(job.directory, copy)
    link.symlink_to(job.directory.parent)
    edited = tmp_path / "edited"
    shutil.copytree(job.directory, edited)
    (edited / job.script).write_text("token=other\n")
    places = {
        copy: True, job.directory: False, link / job.run: False, edited: False,
        tmp_path / "gone": False, tmp_path: False, "": False,
    }  # fmt: skip
    found = {place: SlurmJob("5", "5", "PENDING", token=job.token, place=str(place)) for place in places}
    assert {place: works_elsewhere(job, each) for place, each in found.items()} == places


def test_a_task_of_an_array_is_known_by_the_array_s_token(job):
    assert not works_elsewhere(job, SlurmJob("5_0", "6", "PENDING", token="array-1", place="/g/.submitit"))


def test_a_group_that_was_copied_with_its_ledger_says_so(group, job, tmp_path):
    shutil.copytree(group.directory, tmp_path / "copy")
    copy = read_group(tmp_path / "copy")
    ledger = Ledger({each.token: (Attempt(each.token, "", f"{number}"),) for number, each in enumerate(group.jobs, 5)})
    known = SlurmJobs({"5": SlurmJob("5", "5", "PENDING", token=job.token, place=str(job.directory))})
    assert copy_note(group, ledger, known) == ""
    assert copy_note(copy, ledger, known).startswith(f"r0/finetune.slurm is job 5, which works in {job.directory}: ")
    assert copy_note(copy, ledger, SlurmJobs(None)) == copy_note(copy, Ledger(), known) == ""
    shutil.rmtree(group.directory)  # it was moved
    assert copy_note(copy, ledger, known) == ""


def test_a_place_that_this_locale_cannot_name_is_no_copy(job, monkeypatch):
    def refuse(*_):
        "ü".encode("ascii")

    found = SlurmJob("5", "5", "PENDING", token=job.token, place="/data/my sweep ü")
    monkeypatch.setattr(type(job.directory), "samefile", refuse)
    assert not works_elsewhere(job, found)
