"""What may run side by side on one machine."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from runplan.files.written import Job
from runplan.submit.lanes import Machine, impossible, ready, share_for


def job(token="t", *, gpus=0, cpus=1, mem="1G", after=None):
    resources = {"gpus": gpus, "cpus_per_task": cpus, "mem": mem}
    return Job(
        token, token, "train", None, None, Path("/g"), "finetune.slurm", "t/finetune.slurm", after, resources, {}
    )


@given(
    st.lists(st.builds(job, gpus=st.integers(0, 3), cpus=st.integers(1, 9), mem=st.sampled_from(["1G", "3G", None]))),
    st.integers(0, 4),
    st.integers(1, 8),
)
def test_what_runs_together_never_holds_more_than_there_is(jobs, gpus, cpus):
    machine = Machine(tuple(str(number) for number in range(gpus)), cpus, 8.0)
    held = []
    for each in jobs:
        if impossible(each, machine) is None and (share := share_for(each, machine, held)) is not None:
            held.append(share)
    taken = [gpu for share in held for gpu in share.gpus]
    assert len(taken) == len(set(taken)) <= gpus
    assert sum(share.cpus for share in held) <= cpus
    assert sum(share.memory_gib for share in held) <= 8.0


@given(st.builds(job, gpus=st.integers(0, 9), cpus=st.integers(1, 64), mem=st.sampled_from(["1G", "30G", "8G", None])))
def test_a_job_that_is_not_impossible_fits_an_idle_machine(each):
    machine = Machine(("0", "1"), 4, 8.0)
    assert (impossible(each, machine) is None) == (share_for(each, machine, []) is not None)


def test_a_machine_without_gpus_says_so():
    machine = Machine((), 4, 8.0)
    assert impossible(job(gpus=1), machine) == "asks for 1 GPU, this machine has no GPU"
    assert impossible(job(mem="9G"), machine) == "asks for 9 GiB of memory, this machine has 8.0 GiB"


def test_a_cell_waits_for_its_training_and_is_given_up_with_it():
    cell = job("c", after="t")
    assert ready([cell], {}) == ([], [])
    assert ready([cell], {"t": True}) == ([cell], [])
    assert ready([cell], {"t": False}) == ([], [cell])
