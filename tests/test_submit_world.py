"""A group before anything is submitted."""

from __future__ import annotations

import shutil

import pytest
import real_groups

from runplan.queue import SlurmJob
from runplan.submit.world import works_elsewhere
from runplan.written import read_group


@pytest.fixture
def job(tmp_path):
    return read_group(real_groups.group(tmp_path / "g", "tok", 1, 0, base=False)).jobs[0]


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
