"""Why a job waits, in words."""

import pytest

from runplan.status.reasons import is_held, lacks_something, waiting_for


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Resources", "waiting for free resources"),
        ("ReqNodeNotAvail, UnavailableNodes:n3", "the nodes it needs are not available (UnavailableNodes:n3)"),
        ("AssocMaxJobsLimit", "its account or QOS has as much as it may at a time (AssocMaxJobsLimit)"),
        ("QOSMaxGRESPerUser", "its account or QOS has as much as it may at a time (QOSMaxGRESPerUser)"),
        ("AssocGrpGRES", "its account or QOS has as much as it may at a time (AssocGrpGRES)"),
        ("AssocMaxWallDurationPerJobLimit", "its account or QOS allows no job such a request"),
        ("QOSMaxGRESPerJob", "its account or QOS allows no job such a request (QOSMaxGRESPerJob)"),
        ("QOSMinGRES", "its account or QOS allows no job such a request (QOSMinGRES)"),
        ("AssocGrpCPUMinutesLimit", "its account has used up what it may use"),
        ("AssocGrpBillingMinutes", "its account has used up what it may use"),
        ("QOSGrpGRESMinutes", "its account has used up what it may use"),
    ],
)
def test_what_slurm_s_words_mean(reason, words):
    assert waiting_for(reason).startswith(words)


def test_a_word_that_nobody_knows_stays():
    assert waiting_for("FrontEndDown, really") == "FrontEndDown, really"
    assert waiting_for("") == ""


def test_who_is_held_is_told_how_it_is_released():
    for reason in ("JobHeldUser", "job requeued in held state", "launch failed requeued held", "JobHoldMaxRequeue"):
        assert is_held(reason)
        assert "scontrol release" in waiting_for(reason)
    assert is_held("JobHeldAdmin")
    assert not is_held("BeginTime")


@pytest.mark.parametrize(
    ("reason", "code", "lacks"),
    [
        ("exit code 127", 127, True),
        ("ModuleNotFoundError: No module named 'torchtune'", 1, True),
        ("ImportError: cannot import name 'x' from 'torchtune'", 1, True),
        ("finetune.slurm: line 3: nvidia-smi: command not found", None, True),
        ("finetune.slurm: no tune on PATH: install torchtune there", None, True),
        ("ValueError: no", 1, False),
        ("", None, False),
    ],
)
def test_what_an_environment_lacks_is_known_by_the_reason(reason, code, lacks):
    assert lacks_something(reason, code) is lacks
