"""CPU threads of a run: what its log, SLURM and its job script say of them, the nearest to the process first."""

from __future__ import annotations

import pytest

from runplan.priors.files import one_file
from runplan.priors.log import read_log
from runplan.priors.parse import parse_text
from runplan.priors.siblings import script_fields
from runplan.priors.threads import threads_in_text

BAR = b"1|40|Loss: 1.25: 100%|####| 40/40 [00:20<00:00,  2.00it/s]\n"
# github.com/It4innovations/hyperqueue's test of a job at CINECA; a page of the HPC group at Area Science Park.
SERIAL = b"   NumNodes=1 NumCPUs=4 NumTasks=1 CPUs/Task=1 ReqB:S:C:T=0:0:*:*\n   TRES=cpu=4,node=1,billing=4\n"
SEVERAL = b"  NumNodes=2 NumCPUs=4 NumTasks=4 CPUs/Task=1 ReqB:S:C:T=0:0:*:* \n  TRES=cpu=4,mem=4G,node=2,billing=4 \n"
TORCHRUN = (
    b"W0606 11:12:45.781000 12152 torch/distributed/run.py:793] Setting OMP_NUM_THREADS environment variable for each "
    b"process to be 1 in default, to avoid your system being overloaded\n"
)
ACCELERATE = b"\t`--num_cpu_threads_per_process` was set to `48` to improve out-of-box performance when training\n"


@pytest.mark.parametrize(
    ("text", "threads"),
    [
        (b"export OMP_NUM_THREADS=8\n", 8),
        (b"+ OMP_NUM_THREADS=8\n", 8),
        (b"OMP_NUM_THREADS: 8\n", 8),
        (b'{"OMP_NUM_THREADS": "8", "A": "b"}\n', 8),
        (b"OMP_NUM_THREADS=8 torchrun --nproc_per_node 2 train.py\n", 8),
        (b"export A=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-8} B=2\n", 8),
        (TORCHRUN, 1),
        (ACCELERATE, 48),
        (SERIAL, 4),
        (SEVERAL, None),
        (b"NumNodes=1 NumCPUs=16 NumTasks=2 CPUs/Task=8 ReqB:S:C:T=0:0:*:*\n", 8),
        (b"NumNodes=1 NumCPUs=8 NumTasks=1 CPUs/Task=N/A ReqB:S:C:T=0:0:*:*\n", 8),
        (b"NumNodes=1 NumCPUs=1 CPUs/Task=1 ReqB:S:C:T=0:0:*:*\n", 1),
        (b"NumNodes=1 NumCPUs=8 CPUs/Task=1 ReqB:S:C:T=0:0:*:*\n", None),
        (b"SLURM_CPUS_PER_TASK=6\n", 6),
        (b"CPUs per task: 6\n", 6),
        (b"#SBATCH --cpus-per-task=6\n", 6),
        (b"#SBATCH --cpus-per-task 6\n", 6),
        (b"#SBATCH -c 6\n", 6),
        (b"##SBATCH --cpus-per-task=6\n", None),
        (b"# export OMP_NUM_THREADS=8\n#SBATCH --cpus-per-task=6\n", 6),
        (b"export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK\n#SBATCH --cpus-per-task=6\n", 6),
        (b"You can avoid it by setting the environment variable OMP_NUM_THREADS=1.\n", None),
        (b"MY_OMP_NUM_THREADS=8\n", None),
        (b"OMP_NUM_THREADS=8.5\n", None),
        (b"OMP_NUM_THREADS=1", None),
        (b"OMP_NUM_THREADS=123456\n", None),
        (b"OMP_NUM_THREADS=\n8\n", None),
        (b"", None),
    ],
)
def test_threads_that_a_text_tells(text, threads):
    assert threads_in_text(text) == threads


def test_what_openmp_was_told_counts_more_than_the_job_and_that_more_than_the_request():
    request, job, told = b"#SBATCH --cpus-per-task=16\n", SERIAL, b"OMP_NUM_THREADS=2\n"
    assert threads_in_text(request + job + told) == 2
    assert threads_in_text(request + job) == 4
    assert threads_in_text(request) == 16


def test_a_log_is_believed_before_the_script_beside_it(tmp_path):
    (tmp_path / "finetune.slurm").write_bytes(b"#!/bin/bash\n#SBATCH --cpus-per-task=16\ntune run x\n")
    log = tmp_path / "slurm-1.out"
    log.write_bytes(BAR)
    assert read_log(one_file(str(log)))["cpus"] == 16
    log.write_bytes(TORCHRUN + BAR)
    assert read_log(one_file(str(log)))["cpus"] == 1


def test_an_appended_log_tells_it_once_for_all_attempts():
    attempt = b"Running LoRAFinetuneRecipeSingleDevice with resolved config:\n\nbatch_size: 4\n\n" + BAR
    assert parse_text(b"OMP_NUM_THREADS=3\n" + attempt + attempt)["cpus"] == 3
    assert parse_text(b"OMP_NUM_THREADS=3\n" + attempt + b"OMP_NUM_THREADS=5\n" + attempt)["cpus"] == 3
    assert "cpus" not in parse_text(b"OMP_NUM_THREADS=0\n" + attempt)


def test_our_own_scripts_tell_theirs():
    script = (
        b"#SBATCH --cpus-per-task=8\n#SBATCH --gres=gpu:a100:2\nexport X=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-4} Y\n"
    )
    assert script_fields(script) == {"gpu": "a100", "num_gpus": 2, "cpus": 4}
