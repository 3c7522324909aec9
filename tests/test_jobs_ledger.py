"""What a ledger says: attempts in order, whatever a crash or an editor left of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.jobs.attempts import moment, now, parse_ledger, parse_records
from runplan.jobs.ledger import append, read_ledger, read_records


def line(event, token="t", job_id=None, **more):
    return json.dumps({"event": event, "token": token, "job_id": job_id, "path": "a/b", "time": now(), **more})


def text(*lines):
    return "".join(f"{each}\n" for each in lines)


def test_an_intent_and_its_job_are_one_attempt():
    ledger = parse_ledger(text(line("intent"), line("submitted", job_id="7")))
    assert [attempt.job_id for attempt in ledger.of("t")] == ["7"]
    assert ledger.unsettled == ()
    assert ledger.damaged == ()


def test_an_intent_alone_is_unsettled_until_its_job_is_known():
    ledger = parse_ledger(text(line("intent", options=["--mem=2G"], via="submitit")))
    (attempt,) = ledger.unsettled
    assert (attempt.job_id, attempt.options, attempt.via) == (None, ("--mem=2G",), "submitit")


def test_a_second_intent_takes_the_place_of_one_that_came_to_nothing():
    ledger = parse_ledger(text(line("intent"), line("intent"), line("submitted", job_id="7")))
    assert [attempt.job_id for attempt in ledger.of("t")] == ["7"]


def test_a_refused_submission_leaves_no_attempt():
    assert parse_ledger(text(line("intent"), line("refused"))).of("t") == ()
    ledger = parse_ledger(text(line("intent"), line("submitted", job_id="1"), line("intent"), line("refused")))
    assert ledger.job_ids("t") == {"1"}


def test_a_job_that_is_submitted_again_has_two_attempts_and_the_last_one_counts():
    lines = [line("intent"), line("submitted", job_id="1"), line("intent"), line("submitted", job_id="2")]
    ledger = parse_ledger(text(*lines))
    assert ledger.last("t").job_id == "2"
    assert ledger.job_ids("t") == {"1", "2"}


def test_a_job_recorded_twice_is_one():
    lines = [line("intent"), line("submitted", job_id="1"), line("submitted", job_id="1")]
    assert len(parse_ledger(text(*lines)).of("t")) == 1


@given(st.data())
def test_a_cut_line_spoils_only_itself(data):
    whole = text(line("intent"), line("submitted", job_id="1"), line("intent", token="u"))
    cut = data.draw(st.integers(0, len(whole)))
    ledger = parse_ledger(
        whole[:cut] + "\n" + text(line("intent", token="v"), line("submitted", token="v", job_id="9"))
    )
    assert ledger.last("v").job_id == "9"
    assert len(ledger.damaged) <= 1


@given(st.text())
def test_any_text_is_read(garbage):
    parse_ledger(garbage)
    parse_records(garbage)


@pytest.mark.parametrize(
    "garbage", ["[]", "1", '{"event": "submitted"}', '{"event": "submitted", "token": 1}', '{"token": "t"}']
)
def test_lines_that_are_not_ours_are_numbered(garbage):
    assert parse_ledger(text(line("intent"), garbage)).damaged == (2,)


def test_appending_closes_a_line_that_was_cut_short(tmp_path):
    append(tmp_path, [{"event": "intent", "token": "t"}])
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes() + b'{"event": "subm')
    append(tmp_path, [{"event": "intent", "token": "u"}])
    read = read_ledger(tmp_path)
    assert set(read.attempts) == {"t", "u"}
    assert read.damaged == (2,)


def test_a_full_disk_is_an_error_and_not_a_line(tmp_path):
    (tmp_path / "ledger.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        append(tmp_path, [{"event": "intent", "token": "t"}])


def test_records_of_a_job_are_read_and_a_missing_file_is_none(tmp_path):
    assert read_records(tmp_path / "nowhere") == ()
    (tmp_path / "jobs.jsonl").write_text(
        text(line("started", job_id="5", kind="train"), "{", line("ended", job_id="5", exit_code=3, seconds=9))
    )
    started, ended = read_records(tmp_path)
    assert (started.event, started.more["kind"]) == ("started", "train")
    assert (ended.exit_code, ended.seconds) == (3, 9.0)


def test_times_go_to_text_and_back():
    assert moment(now()).utcoffset().total_seconds() == 0
    assert moment("yesterday") is None
