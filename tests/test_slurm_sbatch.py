"""One request in SLURM's three ways, which must agree."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_plans import fake_program
from submitit import AutoExecutor
from submitit.slurm.slurm import _make_sbatch_string

from runplan.errors import ConfigError, SubmitError
from runplan.plan import Request
from runplan.slurm.sbatch import directives, quote_directive, sbatch_options, submitit_parameters, value_problems

FULL = Request(
    job_name="1B rank4",
    time_s=5400,
    mem_gib=64,
    cpus_per_task=8,
    gpus=2,
    partition="gpu",
    account="lab",
    qos="high",
    constraint="a100&gpu80",
    exclude="n[1-2]",
    extra=("--mail-type=END", "--no-kill"),
)
NAME = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=20)


def test_every_key_of_a_request_is_an_option():
    assert sbatch_options(FULL, "tok") == (
        "--job-name=1B rank4",
        "--comment=runplan:tok",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=8",
        "--gres=gpu:2",
        "--mem=64G",
        "--time=01:30:00",
        "--partition=gpu",
        "--account=lab",
        "--qos=high",
        "--constraint=a100&gpu80",
        "--exclude=n[1-2]",
        "--output=slurm-%j.out",
        "--open-mode=append",
        "--requeue",
        "--mail-type=END",
        "--no-kill",
    )


def test_what_is_not_asked_for_is_not_there():
    options = sbatch_options(Request("r", 60, None, 1, 0))
    assert not any(option.startswith(("--mem", "--gres", "--partition", "--comment")) for option in options)
    assert "--gres=gpu:a100:1" in sbatch_options(Request("r", 60, None, 1, 2, gres="gpu:a100:1"))


def test_directives_say_the_same_as_options():
    lines = directives(FULL, "tok")
    assert all(line.startswith("#SBATCH ") for line in lines)
    words = [word for line in lines for word in shlex.split(line.removeprefix("#SBATCH "))]
    assert tuple(words) == sbatch_options(FULL, "tok")


@given(NAME)
def test_a_directive_is_one_line_and_one_word(name):
    (line, *_) = directives(Request(name, 60, None, 1, 0), "t")
    assert len(line.splitlines()) == 1 or not name.isprintable()
    assert "\n" not in line
    quoted = quote_directive(name)
    assert shlex.split(quoted) == [name.replace("\\", "\\\\")]  # SLURM takes one layer of backslashes away


def test_an_extra_option_is_as_on_the_command_line():
    request = Request("r", 60, None, 1, 0, extra=("--licenses='two words'", "--mail-user me"))
    assert directives(request, "")[-2:] == ("#SBATCH '--licenses=two words'", "#SBATCH --mail-user me")
    assert sbatch_options(request)[-3:] == ("--licenses=two words", "--mail-user", "me")


@pytest.mark.parametrize("change", [{"partition": "a\nb"}, {"extra": ("--x='",)}, {"extra": ("echo",)}])
def test_what_cannot_be_written_is_an_error_with_its_key(change):
    with pytest.raises(ConfigError, match=r"resources\.(partition|extra_sbatch)"):
        sbatch_options(Request("r", 60, None, 1, 0, **change))


def test_submitit_asks_for_the_same(tmp_path, monkeypatch):
    fake_program(tmp_path / "bin", "srun", "true")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    executor = AutoExecutor(tmp_path, cluster="slurm")
    executor.update_parameters(**submitit_parameters(FULL, "tok"))
    text = _make_sbatch_string("true", tmp_path, **executor._executor.parameters)
    lines = {word for line in text.splitlines() if line.startswith("#SBATCH") for word in shlex.split(line)[1:]}
    ours = set(sbatch_options(FULL, "tok"))
    renamed = {"--mem=64G": "--mem=64GB", "--time=01:30:00": "--time=90", "--ntasks=1": "--ntasks-per-node=1"}
    expected = {renamed.get(option, option) for option in ours} - {"--output=slurm-%j.out"}
    assert expected <= lines


def test_submitit_takes_whole_minutes_and_long_options_only():
    assert submitit_parameters(Request("r", 61, None, 1, 0))["timeout_min"] == 2
    with pytest.raises(SubmitError, match="long options"):
        submitit_parameters(Request("r", 60, None, 1, 0, extra=("-L gpu",)))


@pytest.mark.parametrize(("text", "key"), [("--time=1", "resources.time"), ("-p gpu", "resources.partition"),
                                           ("--comment=x", "token")])  # fmt: skip
def test_an_option_that_the_job_has_anyway_is_refused(text, key):
    (problem,) = value_problems(replace(FULL, extra=(text,)))
    assert key in problem.fix
    assert value_problems(replace(FULL, extra=("--mail-type=END", "--timestamp"))) == ()
