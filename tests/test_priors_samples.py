"""Recordings of `nvidia-smi dmon` and `dcgmi dmon`: as public notes show them, damaged, and of other jobs."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.priors.files import one_file
from runplan.priors.log import read_log
from runplan.priors.samples import recording_fields

DMON = """# gpu     fb   bar1   ccpm     sm    mem    enc    dec    jpg    ofa
# Idx     MB     MB     MB      %      %      %      %      %      %
    0   1031      4      0     15      0      0      0      0      0
    1   1031      4      0     39      0      0      0      0      0
"""
TIMED = """#Date       Time        gpu     fb   bar1   ccpm     sm    mem    enc    dec    jpg    ofa   mclk   pclk
#YYYYMMDD   HH:MM:SS    Idx     MB     MB     MB      %      %      %      %      %      %    MHz    MHz
 20240104   13:54:35      0   2390      3      0      6      1      0      0      0      0   6250   1695

 20240104   13:54:36      0     74     10      0      0      0      0      0      0      0   6250   1695
"""
DCGM = """#Entity   GPUTL             MCUTL             POWER             TMPTR        ESVTL        EDVTL        FBUSD
ID                                             W                 C
GPU 0     75                42                185.300           68           0            0            28456
GPU 0     0                 0                 20.986            22           0            0            0
"""
OTHERS = """# gpu    pwr  gtemp  mtemp     sm    mem
# Idx      W      C      C      %      %
    0     21     37      -      0      0
"""


@pytest.mark.parametrize(
    ("text", "peak_mib", "gpus"),
    [
        (DMON, 1031, 2),
        (DMON + DMON.replace("1031", "2048"), 2048, 2),
        (TIMED, 2390, 1),
        (DMON.replace("# gpu", "#gpu").replace("# Idx", "#Idx").replace("   1031 ", ", 1031,"), 1031, 2),
        ("#gpu, fb, bar1\n#Idx, MB, MB\n0, 4096, 4\n0, 5000, 4\n", 5000, 1),
        (DCGM, 28456, 1),
        (DCGM + "GPU 1     0 0 0 0 0 0 100\n", 28456, 1),
        (DCGM + "GPU 1     0 0 0 0 0 0 30000\n", 30000, 2),
        (DCGM.replace("28456", "N/A"), None, None),
        ("# Entity   FBUSD\n     Id\nGPU-I 4     9000\n", 9000, 1),
        (DMON.replace("Idx     MB", "Idx     GB"), None, None),
        (OTHERS, None, None),
        ("    0   1031      4\n", None, None),
        ("", None, None),
    ],
)
def test_tables_of_memory_in_use(text, peak_mib, gpus):
    said = {} if peak_mib is None else {"process_peak_gib": peak_mib / 1024, "sampled_gpus": gpus}
    assert recording_fields(text.encode()) == said


@given(st.sampled_from([DMON, TIMED, DCGM]), st.integers(0, 400), st.binary(max_size=9))
def test_damage_is_no_error(text, at, noise):
    said = recording_fields(text.encode()[:at] + noise + text.encode()[at:])
    assert all(value > 0 for value in said.values())
    cut = recording_fields(text.encode()[:at])
    assert cut.get("process_peak_gib", 0) <= recording_fields(text.encode())["process_peak_gib"]


CONFIG = "Running {} with resolved config:\n\nbatch_size: 4\n\n"
BAR = "1|40|Loss: 1.25: 100%|####| 40/40 [00:20<00:00,  2.00it/s]\n"
ONE, SEVERAL = "LoRAFinetuneRecipeSingleDevice", "LoRAFinetuneRecipeDistributed"


def peak(folder, recipe=ONE, log="slurm-4711.out"):
    (folder / log).write_text(CONFIG.format(recipe) + BAR)
    return read_log(one_file(str(folder / log))).get("process_peak_gib")


@pytest.mark.parametrize("name", ["dmon.txt", "gpu_dmon.log", "nvidia-dmon-4711.csv", "dcgm_4711"])
def test_a_recording_beside_a_log_counts(tmp_path, name):
    (tmp_path / name).write_text(DCGM if "dcgm" in name else TIMED)
    assert peak(tmp_path) == (28456 if "dcgm" in name else 2390) / 1024


def test_one_of_another_job_does_not(tmp_path):
    (tmp_path / "dmon_4712.txt").write_text(TIMED)
    assert peak(tmp_path) is None


def test_one_of_more_gpus_than_the_run_had_does_not(tmp_path):
    (tmp_path / "dmon.txt").write_text(DMON)
    assert peak(tmp_path) is None
    assert peak(tmp_path, SEVERAL) is None  # nobody says how many it had
    (tmp_path / "finetune.slurm").write_text("#SBATCH --gres=gpu:2\n")
    assert peak(tmp_path, SEVERAL) == 1031 / 1024


def test_one_that_went_on_long_after_does_not(tmp_path):
    (tmp_path / "dmon.txt").write_text(TIMED)
    later = time.time() + 3600
    os.utime(tmp_path / "dmon.txt", (later, later))
    assert peak(tmp_path) is None


def test_samples_of_our_own_jobs_count_first(tmp_path):
    (tmp_path / "dmon.txt").write_text(TIMED)
    (tmp_path / "gpu_metrics.csv").write_text("timestamp, memory.used [MiB]\n1, 3072 MiB\n")
    assert peak(tmp_path) == 3.0
