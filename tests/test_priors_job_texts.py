"""What SLURM's programs said of jobs, in logs and in files beside them: real outputs, and damaged ones.

They are those of public notes (University of Pittsburgh, UCSC, diaries of courses and projects); names are replaced.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.priors.job_texts import jobs_in_text
from runplan.priors.parse import parse_text
from runplan.priors.read import read_priors

ALIGNED = """$ sacct -j 10257782 --format=JobID,JobName,State,Elapsed,MaxRSS,Start,End
JobID           JobName      State    Elapsed     MaxRSS               Start                 End
------------ ---------- ---------- ---------- ---------- ------------------- -------------------
10257782     veremi-de+  COMPLETED   00:14:51            2026-03-04T19:58:41 2026-03-04T20:13:32
10257782.ba+      batch  COMPLETED   00:14:51     46560K 2026-03-04T19:58:41 2026-03-04T20:13:32
10257782.ex+     extern  COMPLETED   00:14:51     19008K 2026-03-04T19:58:41 2026-03-04T20:13:32
10257782.0       python  COMPLETED   00:14:48   6624224K 2026-03-04T19:58:44 2026-03-04T20:13:32
"""
ARRAYS = """JobID             State    Elapsed     MaxRSS  AllocCPUS
------------ ---------- ---------- ---------- ----------
10717885_1    COMPLETED   00:08:37                     4
10717885_1.+  COMPLETED   00:08:37   6261016K          4
10717886_1    COMPLETED   00:06:44                    16
10717886_1.+  COMPLETED   00:06:44  14248144K         16
"""
INDENTED = (
    "       JobID      State    Elapsed     MaxRSS \n------------ ---------- ---------- ---------- \n"
    "1033_1        COMPLETED   00:00:01            \n1033_1.batch  COMPLETED   00:00:01            \n"
    "1033          COMPLETED   00:32:48            \n1033.batch    COMPLETED   00:32:48    882060K \n"
)
WITH_GPUS = """JobID|State|ElapsedRaw|MaxRSS|AllocTRES|
7|TIMEOUT|3600||cpu=8,gres/gpu:a100=2,gres/gpu=2,mem=64G,node=1|
7.batch|CANCELLED|3601|1.5G|cpu=8|
"""
NARROW = """JobID             State    Elapsed
------------ ---------- ----------
7            OUT_OF_ME+   00:01:00
8            CANCELLED+   00:01:00
9               RUNNING   00:01:00
10               PENDI+   00:00:00
"""
PARSABLE = """JobID|State|Elapsed|End
689435_0|COMPLETED|03:15:09|2026-09-13T16:22:31
689435_1|CANCELLED by 81060|04:37:00|2026-09-13T17:44:22
689436_6|CANCELLED by 81060|1-04:37:00|2026-09-13T17:44:22
"""
L40S = """JobId=1153426 JobName=gpus-1
   UserId=someone(152289) GroupId=group(16062) MCS_label=N/A
   Priority=4446 Nice=0 Account=group QOS=gpu-l40s-s
   JobState=RUNNING Reason=None Dependency=(null)
   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:0
   RunTime=00:00:18 TimeLimit=1-00:00:00 TimeMin=N/A
   SubmitTime=2026-08-02T08:24:34 EligibleTime=2026-08-02T08:24:34
   Partition=l40s AllocNode:Sid=login1:3118442
   NumNodes=1 NumCPUs=16 NumTasks=1 CPUs/Task=1 ReqB:S:C:T=0:0:*:*
   ReqTRES=cpu=1,mem=8000M,node=1,billing=8,gres/gpu=1
   AllocTRES=cpu=16,mem=125G,node=1,billing=8,gres/gpu=1
   Socks/Node=* NtasksPerN:B:S:C=1:0:*:* CoreSpec=*
   CpusPerTres=gpu:16
   TresPerNode=gres/gpu:1
"""
SEFF = """Job ID: 402098
Array Job ID: 398476_150
Cluster: hbhpc
User/Group: someone/users
State: COMPLETED (exit code 0)
Nodes: 1
Cores per node: 8
CPU Utilized: 1-06:23:41
CPU Efficiency: 80.49% of 1-13:45:44 core-walltime
Job Wall-clock time: 04:43:13
Memory Utilized: 26.46 GB
Memory Efficiency: 66.15% of 40.00 GB
"""
KIB = 1 / 2**20


@pytest.mark.parametrize(
    ("text", "jobs"),
    [
        (ALIGNED, {"10257782": {"state": "completed", "elapsed_s": 891.0, "max_rss_gib": 6624224 * KIB}}),
        (
            ARRAYS,
            {
                "10717885_1": {"state": "completed", "elapsed_s": 517.0, "max_rss_gib": 6261016 * KIB},
                "10717886_1": {"state": "completed", "elapsed_s": 404.0, "max_rss_gib": 14248144 * KIB},
            },
        ),
        (
            INDENTED,
            {
                "1033_1": {"state": "completed", "elapsed_s": 1.0},
                "1033": {"state": "completed", "elapsed_s": 1968.0, "max_rss_gib": 882060 * KIB},
            },
        ),
        (
            PARSABLE,
            {
                "689435_0": {"state": "completed", "elapsed_s": 11709.0},
                "689435_1": {"state": "cancelled", "elapsed_s": 16620.0},
                "689436_6": {"state": "cancelled", "elapsed_s": 103020.0},
            },
        ),
        (
            WITH_GPUS,
            {
                "7": {
                    "state": "timeout",
                    "elapsed_s": 3600.0,
                    "max_rss_gib": 1.5,
                    "gpu": "a100",
                    "num_gpus": 2,
                    "asked_mem_gib": 64.0,
                }
            },
        ),
        (
            NARROW,
            {
                "7": {"state": "host_oom", "elapsed_s": 60.0},
                "8": {"state": "cancelled", "elapsed_s": 60.0},
                "9": {},
                "10": {},
            },
        ),
        ("JobID|State|Elapsed\n12+0|COMPLETED|00:01:00\n12345_10+|COMPLETED|00:01:00\n[1-9]|PENDING|00:00:00\n", {}),
        ("12|COMPLETED|00:01:00|\n", {}),  # without the header nobody knows which column is which
        ("JobID|Partition\n12|gpu\n", {}),
        (L40S, {"1153426": {"cpus": 16, "num_gpus": 1, "asked_mem_gib": 125.0}}),
        (
            L40S.replace("RUNNING", "TIMEOUT").replace("00:00:18", "1-00:00:25"),
            {"1153426": {"cpus": 16, "num_gpus": 1, "asked_mem_gib": 125.0, "state": "timeout", "elapsed_s": 86425.0}},
        ),
        (
            " ".join(L40S.replace("JobName", "ArrayJobId=1153400 ArrayTaskId=3 JobName").split()) + "\n",
            {name: {"cpus": 16, "num_gpus": 1, "asked_mem_gib": 125.0} for name in ("1153426", "1153400_3")},
        ),
        (
            SEFF,
            {
                name: {"state": "completed", "elapsed_s": 16993.0, "max_rss_gib": 26.46}
                for name in ("402098", "398476_150")
            },
        ),
        (
            SEFF.replace("26.46 GB", "26.46 GB (estimated maximum)").replace("COMPLETED", "RUNNING"),
            {"402098": {}, "398476_150": {}},
        ),
        ("", {}),
    ],
)
def test_outputs_of_slurm_s_programs(text, jobs):
    found = {
        name: {key: one for key, one in job.items() if key != "source"} for name, job in jobs_in_text(text).items()
    }
    assert found == {name: {key: pytest.approx(one) for key, one in job.items()} for name, job in jobs.items()}


def test_a_running_job_s_time_counts_where_its_work_is_over():
    assert jobs_in_text(L40S, over=True)["1153426"]["elapsed_s"] == 18.0
    assert jobs_in_text("JobID|State|Elapsed\n9|RUNNING|00:01:00\n", over=True)["9"] == {
        "source": "sacct",
        "elapsed_s": 60.0,
    }


@given(st.sampled_from([ALIGNED, ARRAYS, PARSABLE, L40S, SEFF]), st.integers(0, 1000), st.text(max_size=20))
def test_damage_invents_no_job(text, at, noise):
    known = jobs_in_text(text).keys()
    for job, said in jobs_in_text(text[:at] + noise + text[at:]).items():
        assert job.replace("_", "").isdigit()
        assert said.get("elapsed_s", 0) >= 0
    assert jobs_in_text(text[:at]).keys() - known == set() or at < len(text)


BAR = "1|40|Loss: 1.25: 100%|####| 40/40 [00:20<00:00,  2.00it/s]\n"
CONFIG = "Running LoRAFinetuneRecipeSingleDevice with resolved config:\n\nbatch_size: 4\nepochs: 1\n\n"
LOG = CONFIG + BAR + "Starting checkpoint save...\nCheckpoint saved in 2.00 seconds.\n"


@pytest.fixture
def logs(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
    (tmp_path / "logs" / "a").mkdir(parents=True)
    return tmp_path / "logs"


def only(logs, **options):
    (run,) = read_priors([str(logs)], None, logs.parent / "cache", logs.parent, **options).runs
    return run


@pytest.mark.parametrize("name", ["sacct.txt", "my_sacct_today", "sacct.out", "../sacct-all.txt"])
@pytest.mark.parametrize("log", ["slurm-10257782.out", "llama-3-8b-10257782.out"])
def test_a_saved_table_counts_for_the_log_whose_job_it_names(logs, name, log):
    (logs / "a" / log).write_text(LOG)
    before = only(logs)
    (logs / "a" / name).write_text(ALIGNED)
    run = only(logs)
    assert (before.wall_s, before.max_rss_gib) == (20.0, None)
    assert (run.state, run.wall_s, run.startup_s) == ("completed", 891.0, 871.0)
    assert run.max_rss_gib == pytest.approx(6624224 * KIB)


@pytest.mark.parametrize("log", ["slurm-10257783.out", "train.out", "slurm-10257782_1.out"])
def test_a_table_of_other_jobs_does_not_count(logs, log):
    (logs / "a" / log).write_text(LOG)
    (logs / "a" / "sacct.txt").write_text(ALIGNED)
    assert (only(logs).wall_s, only(logs).max_rss_gib) == (20.0, None)


def test_a_saved_table_is_read_again_when_it_changed(logs):
    (logs / "a" / "slurm-10257782.out").write_text(LOG)
    (logs / "sacct.txt").write_text(ALIGNED)
    assert only(logs).state == "completed"
    (logs / "sacct.txt").write_text(
        ALIGNED.replace("COMPLETED   00:14:51            ", "TIMEOUT     00:15:51            ")
    )
    os.utime(logs / "sacct.txt", (1e9, 1e9))
    assert (only(logs).state, only(logs).reason, only(logs).wall_s) == ("timeout", "sacct: timeout", 951.0)


def test_a_saved_job_says_threads_before_the_script_and_after_the_log(logs):
    log = logs / "a" / "slurm-1153426.out"
    log.write_text(LOG)
    (logs / "a" / "scontrol.txt").write_text(L40S)
    (logs / "a" / "finetune.slurm").write_text("#SBATCH --cpus-per-task=1\n#SBATCH --gres=gpu:l40s:1\n")
    run = only(logs)
    assert (run.cpus, run.num_gpus, run.gpu, run.asked_mem_gib) == (16, 1, "l40s-48", 125.0)
    log.write_text("OMP_NUM_THREADS=8\n" + LOG)
    assert only(logs).cpus == 8


@pytest.mark.parametrize("name", ["slurm-1153426.out", "train.out"])
def test_a_log_that_begins_with_its_job(name):
    said = parse_text((L40S + LOG).encode(), name)
    assert (said["cpus"], said["job"]) == (
        16,
        {"source": "scontrol", "cpus": 16, "num_gpus": 1, "asked_mem_gib": 125.0},
    )


def test_a_log_that_ends_with_its_job(logs):
    (logs / "a" / "train.out").write_text(LOG + "\n" + L40S.replace("00:00:18", "00:01:18"))
    run = only(logs)
    assert (run.state, run.wall_s, run.startup_s, run.num_gpus) == ("completed", 78.0, 58.0, 1)


def test_a_log_that_ends_with_its_summary(logs):
    (logs / "a" / "slurm-398476_150.out").write_text(LOG + SEFF)
    run = only(logs)
    assert (run.state, run.wall_s, run.max_rss_gib) == ("completed", 16993.0, 26.46)


def test_another_job_s_words_in_a_log_do_not_count():
    assert "job" not in parse_text((L40S + LOG).encode(), "slurm-7.out")
    assert "job" not in parse_text((LOG + ARRAYS).encode(), "train.out")


STEPS = """JobID|JobName|State|Elapsed|NTasks|AllocCPUS
21|train|COMPLETED|01:00:00||16
21.batch|batch|COMPLETED|01:00:00|1|16
21.extern|extern|COMPLETED|01:00:00|1|16
22|train|COMPLETED|01:00:00||16
22.batch|batch|COMPLETED|01:00:00|1|8
22.0|python|COMPLETED|00:59:00|4|16
23|train|COMPLETED|01:00:00||16
23.0|hostname|COMPLETED|00:00:01|1|16
23.1|python|COMPLETED|00:59:00|4|16
24|train|COMPLETED|01:00:00||10
24.0|python|COMPLETED|00:59:00|4|10
25|train|COMPLETED|01:00:00||16
"""
CUT = """JobID             State    Elapsed     MaxRSS  AllocCPUS
------------ ---------- ---------- ---------- ----------
31            COMPLETED   00:08:37                     4
31.batch      COMPLETED   00:08:37   6261016K          4
10257782      COMPLETED   00:14:51                     6
10257782.ba+  COMPLETED   00:14:51     46560K          6
41            COMPLETED   00:14:51                     6
41.batch      COMPLETED   00:14:51     46560K          6
41.0          COMPLETED   00:14:48   6624224K          6
"""


def test_a_task_has_its_part_of_the_cpus_of_its_step():
    found = {name: job.get("cpus") for name, job in jobs_in_text(STEPS).items()}
    assert found == {"21": 16, "22": 4, "23": None, "24": None, "25": None}
    assert {name: job.get("cpus") for name, job in jobs_in_text(CUT).items()} == {"31": 4, "10257782": 6, "41": None}
    assert all("step" not in job for job in jobs_in_text(STEPS + CUT).values())


@pytest.mark.parametrize(
    ("state", "ran", "limit", "told"),
    [
        ("COMPLETING", "1-00:00:12", "1-00:00:00", "timeout"),
        ("COMPLETING", "00:10:00", "1-00:00:00", None),
        ("COMPLETING", "00:10:00", "UNLIMITED", None),
        ("RUNNING", "1-00:00:12", "1-00:00:00", None),
        ("COMPLETED", "1-00:00:12", "1-00:00:00", "completed"),
        ("TIMEOUT", "1-00:00:12", "1-00:00:00", "timeout"),
    ],
)
def test_a_job_that_ends_at_its_limit_was_ended_by_it(state, ran, limit, told):
    text = L40S.replace("=RUNNING", f"={state}").replace("00:00:18", ran).replace("Limit=1-00:00:00", f"Limit={limit}")
    assert jobs_in_text(text)["1153426"].get("state") == told


def test_the_type_of_gpu_that_was_asked_for_counts_where_none_is_accounted():
    block = "JobId=7 JobName=a\n   JobState=COMPLETED\n   AllocTRES=cpu=96,node=1,gres/gpu=4\n   TresPerNode={}\n"
    assert jobs_in_text(block.format("gres/gpu:h100:4"))["7"].items() >= {"gpu": "h100", "num_gpus": 4}.items()
    assert jobs_in_text(block.format("gres:gpu:a100:1"))["7"]["gpu"] == "a100"
    assert "gpu" not in jobs_in_text(block.format("gres/gpu:4"))["7"]
    typed = block.replace("gres/gpu=4", "gres/gpu=4,gres/gpu:a40=4")
    assert jobs_in_text(typed.format("gres/gpu:h100:4"))["7"]["gpu"].startswith("a40")
