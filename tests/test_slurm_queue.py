"""Lines of squeue and sacct."""

from hypothesis import given
from hypothesis import strategies as st

from runplan.slurm.queue import parse_accounting, parse_queue


def test_a_queue_tells_ids_states_and_tokens():
    text = (
        "12|12|PENDING|Resources|2026-01-01T00:00:00|N/A|runplan:abc\n"
        "13_4|15|RUNNING|None|2026-01-01T00:00:00|2026-01-01T00:00:05|\n"
        "slurm_load_jobs error: Unable to contact slurm controller\n"
    )
    jobs = parse_queue(text)
    assert jobs["12"].token == "abc"
    assert (jobs["12"].reason, jobs["12"].start_at, jobs["12"].active) == ("Resources", "", True)
    assert (jobs["13_4"].raw_id, jobs["13_4"].reason, jobs["13_4"].token) == ("15", "", "")
    assert len(jobs) == 2


def test_a_comment_may_hold_the_separator():
    assert parse_queue("1|1|RUNNING|None|a|b|theirs|and more\n")["1"].token == ""


def test_where_a_job_works_is_told_where_slurm_does():
    line = "12|12|PENDING|Resources|2026-01-01T00:00:00|N/A|runplan:abc"
    places = {"|5:00|/g/a run/finetune.slurm": "/g/a run", "|5:00|(null)": "", "|": "", "": ""}
    assert {more: parse_queue(line + more)["12"].place for more in places} == places
    line = "20|20|COMPLETED|0:0|90||2026-01-01T00:00:00|2026-01-01T00:00:05||runplan:abc"
    places = {"|00:05:00|/g/a|run": "/g/a|run", "|": "", "": ""}
    assert {more: parse_accounting(line + more)["20"].place for more in places} == places


def test_a_time_limit_is_told_where_there_is_one():
    line = "12|12|PENDING|Resources|2026-01-01T00:00:00|N/A|runplan:abc"
    limits = {"5:00": 300, "1-02:00:00": 93600, "UNLIMITED": None, "NOT_SET": None, "INVALID": None, "": None}
    assert {text: parse_queue(f"{line}|{text}|/g/x")["12"].limit_s for text in limits} == limits
    line = "20|20|COMPLETED|0:0|90||2026-01-01T00:00:00|2026-01-01T00:00:05||runplan:abc"
    limits = {"00:05:00": 300, "Partition_Limit": None, "": None}
    assert {text: parse_accounting(f"{line}|{text}|/g/x")["20"].limit_s for text in limits} == limits


def test_accounting_takes_the_memory_of_steps():
    text = (
        "20|20|OUT_OF_MEMORY|0:125|90||2026-01-01T00:00:00|2026-01-01T00:00:05||runplan:abc\n"
        "20.batch|20.batch|OUT_OF_MEMORY|0:125|90|2097152K|2026-01-01T00:00:00|2026-01-01T00:00:05||\n"
        "20.extern|20.extern|COMPLETED|0:0|90|1024K|2026-01-01T00:00:00|2026-01-01T00:00:05||\n"
        "21|21|CANCELLED by 0|0:15|5||2026-01-01T00:00:00|Unknown|None|\n"
    )
    jobs = parse_accounting(text)
    assert (jobs["20"].max_rss_gib, jobs["20"].exit_code, jobs["20"].signal, jobs["20"].elapsed_s) == (2, 0, 125, 90)
    assert (jobs["21"].state, jobs["21"].start_at, jobs["21"].max_rss_gib) == ("CANCELLED", "", None)
    assert not jobs["21"].active


@given(st.text())
def test_any_text_is_read(text):
    parse_queue(text)
    parse_accounting(text)
