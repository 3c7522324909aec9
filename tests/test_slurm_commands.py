"""SLURM is asked with a limit: what hangs, fails or is not there is named, and the rest is known."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from job_plans import fake_program

from runplan.plan import Request
from runplan.slurm import commands as slurm
from runplan.slurm.commands import read_accounting, read_cluster, read_queue, would_take

RECORDED = Path(__file__).parent / "data" / "slurm"
REQUEST = Request("r", 600, 1, 1, 1, partition="gpu", constraint="a&b")


@pytest.fixture
def bin_dir(tmp_path, monkeypatch):
    """A PATH on which SLURM answers with recorded texts."""
    folder = tmp_path / "bin"
    fake_program(folder, "sbatch", 'printf "%s\\n" "$@"')
    fake_program(folder, "sinfo", f"cat '{RECORDED}/sinfo.txt'")
    fake_program(
        folder,
        "scontrol",
        f"case \"$*\" in *partition*) cat '{RECORDED}/partitions.txt' ;; *) cat '{RECORDED}/config.txt' ;; esac",
    )
    fake_program(folder, "sacctmgr", f"cat '{RECORDED}/associations.txt'")
    for name in ("cat", "sleep"):
        (folder / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(folder))  # a real SLURM of this machine must not answer instead
    return folder


def test_all_answers_together(bin_dir):
    cluster = read_cluster()
    assert cluster is not None
    assert (cluster.name, cluster.accounts, cluster.qos) == ("sim", ("lab", "root"), ("normal",))
    assert (cluster.max_array_size, cluster.slow) == (1001, ())
    main = cluster.partition(None)
    assert main is not None
    assert (main.name, main.gpus_per_node, main.time_limit_s) == ("main", 8, 86400)


def test_no_sbatch_no_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_cluster() is None
    assert would_take(REQUEST)[0] is None


def test_a_command_that_hangs_costs_the_limit_once(bin_dir):
    fake_program(bin_dir, "sinfo", "sleep 60")
    fake_program(bin_dir, "sacctmgr", "sleep 60 & sleep 60")
    start = time.monotonic()
    cluster = read_cluster(timeout_s=0.5)
    assert time.monotonic() - start < 5
    assert cluster is not None
    assert cluster.slow == ("sinfo, sacctmgr: no answer in 0.5 s",)
    assert [partition.name for partition in cluster.partitions] == ["main", "short"]
    assert cluster.accounts is None


def test_a_command_that_fails_or_is_not_there(bin_dir):
    fake_program(bin_dir, "sinfo", "echo 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 1")
    (bin_dir / "sacctmgr").unlink()
    cluster = read_cluster()
    assert cluster is not None
    assert "sinfo: slurm_load_partitions: Unable to contact slurm controller" in cluster.slow
    assert any(line.startswith("sacctmgr: No such file") for line in cluster.slow)


def test_a_cluster_without_accounting_is_no_failure(bin_dir):
    fake_program(bin_dir, "sacctmgr", "echo 'You are not running a supported accounting_storage plugin' >&2; exit 1")
    config = "echo 'AccountingStorageType = accounting_storage/none'; echo 'ClusterName = c'"
    fake_program(bin_dir, "scontrol", config)
    cluster = read_cluster()
    assert cluster is not None
    assert (cluster.accounts, cluster.slow) == (None, ())


def test_would_take_passes_the_request_as_it_is(bin_dir):
    ok, text = would_take(REQUEST)
    assert ok is True
    assert text.splitlines()[0] == "--test-only"
    assert {"--partition=gpu", "--constraint=a&b", "--gres=gpu:1", "--time=00:10:00"} <= set(text.splitlines())


def test_a_refusal_is_told_from_silence(bin_dir):
    fake_program(bin_dir, "sbatch", "echo 'allocation failure: Invalid feature specification' >&2; exit 1")
    assert would_take(REQUEST) == (False, "allocation failure: Invalid feature specification")
    hint = "echo \"sbatch: unrecognized option '--foo'\" >&2; echo 'Try \"sbatch --help\" for more' >&2; exit 1"
    fake_program(bin_dir, "sbatch", hint)
    assert would_take(REQUEST) == (False, "sbatch: unrecognized option '--foo'")
    fake_program(bin_dir, "sbatch", "echo 'allocation failure: Unable to contact slurm controller' >&2; exit 1")
    assert would_take(REQUEST)[0] is None
    assert would_take(replace(REQUEST, qos="a\nb"))[0] is None
    fake_program(bin_dir, "sbatch", "sleep 60")
    assert would_take(REQUEST, timeout_s=0.3) == (None, "no answer in 0.3 s")


AWAY = "echo 'Slurmctld(primary) at one is DOWN'; echo 'Slurmctld(backup) at two is DOWN'"


def test_a_controller_that_is_away_is_not_waited_for(bin_dir, monkeypatch, capsys):
    monkeypatch.setattr(slurm, "PATIENCE_S", 0.1)
    for name in ("squeue", "sinfo"):
        fake_program(bin_dir, name, "sleep 60")
    fake_program(bin_dir, "scontrol", f'[ "$1" = ping ] && {{ {AWAY}; exit 1; }}; sleep 60')
    start = time.monotonic()
    assert slurm.controller_is_down()
    assert read_queue() is None
    cluster = read_cluster()
    assert time.monotonic() - start < 5
    assert cluster is not None
    assert cluster.slow == ("sinfo, scontrol show partition, scontrol show config: " + slurm.AWAY,)
    assert cluster.accounts is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "ping", ["echo 'Slurmctld(primary) at one is UP'", f"{AWAY}; echo 'at three is UP'", "sleep 60"]
)
def test_a_slow_controller_is_waited_for_and_it_is_said(ping, bin_dir, monkeypatch, capsys):
    monkeypatch.setattr(slurm, "PATIENCE_S", 0.05)
    monkeypatch.setattr(slurm, "PING_S", 0.2)
    fake_program(bin_dir, "squeue", "sleep 0.5")
    fake_program(bin_dir, "scontrol", ping)
    assert read_queue() == {}
    assert capsys.readouterr().err == "runplan: waiting for SLURM (squeue), 30 s at most\n"


def test_it_is_said_at_once_even_where_the_ping_takes_long(bin_dir, monkeypatch):
    monkeypatch.setattr(slurm, "TELL_S", 0.05)
    monkeypatch.setattr(slurm, "PING_S", 0.6)
    fake_program(bin_dir, "scontrol", "sleep 60")
    began, told = time.monotonic(), []
    assert not slurm.controller_is_down(lambda: told.append(time.monotonic() - began))
    assert told[0] < 0.4
    assert time.monotonic() - began < 2


def test_a_slow_accounting_is_waited_for_and_it_is_said(bin_dir, monkeypatch, capsys):
    monkeypatch.setattr(slurm, "PATIENCE_S", 0.05)
    fake_program(bin_dir, "sacct", "sleep 0.3")
    assert read_accounting(datetime.now(UTC), timeout_s=5) == {}
    assert capsys.readouterr().err == "runplan: waiting for SLURM (sacct), 5 s at most\n"


def test_jobs_in_hidden_partitions_are_seen(bin_dir):
    line = "7|7|PENDING|None|2026-01-01T00:00:00|N/A|runplan:x"
    fake_program(bin_dir, "squeue", f'[[ " $* " != *" -a "* ]] || echo "{line}"')
    assert {*(read_queue() or ())} == {"7"}


def test_what_a_user_wants_to_see_of_the_queue_hides_nothing(bin_dir, monkeypatch):
    monkeypatch.setenv("SQUEUE_PARTITION", "short")
    line = "7|7|PENDING|None|2026-01-01T00:00:00|N/A|runplan:x"
    fake_program(bin_dir, "squeue", f'[ -n "$SQUEUE_PARTITION" ] || echo "{line}"')
    assert {*(read_queue() or ())} == {"7"}


def test_a_user_whom_squeue_does_not_know_is_no_empty_queue(bin_dir):
    fake_program(bin_dir, "squeue", "echo 'squeue: error: Invalid user: 4242' >&2")
    assert read_queue() is None
    fake_program(bin_dir, "squeue", "")
    assert read_queue() == {}
