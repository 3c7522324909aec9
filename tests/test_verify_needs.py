from dataclasses import replace

import pytest
from factories import make_architecture, make_config

from runplan.facts import (
    DatasetFacts,
    DiskFacts,
    Facts,
    Finding,
    LengthKey,
    Lengths,
    ModelFacts,
    Place,
    Split,
    Status,
    TaskFacts,
    TrainerFacts,
)
from runplan.paths import TASKS_DIR
from runplan.plan import Composed
from runplan.turns import BadTurns
from runplan.verify.needs import check_run, check_things, checkpoint_bytes, size_text

SCRIPT = "/tasks/capitalization/inspect.py"


def a_model(config, **changes):
    model = ModelFacts(
        path="/models/m",
        status=Status.ok,
        architecture=make_architecture(config),
        shards=("a", "b"),
        size_bytes=int(2.3 * 2**30),
        dtype="bf16",
    )
    return replace(model, **changes)


def a_dataset(**changes):
    splits = {"train": Split("train", 8000), "validation": Split("validation", 1000), "test": Split("test", 1000)}
    dataset = DatasetFacts("/data/words.json", Status.ok, 655_000, "instruct", splits, {role: role for role in splits})
    return replace(dataset, **changes)


def a_task(**changes):
    task = TaskFacts(SCRIPT, Status.ok, ("capitalization",), {"capitalization": ("data_path", "split", "prompt")})
    return replace(task, **changes)


def the_facts(*configs, model=None, dataset=None, task=None, trainer="0.6.1", free=10**15):
    """Facts in which every combination has the same things."""
    dataset, task = dataset or a_dataset(), task or a_task()
    model = model or a_model(configs[0])
    key = LengthKey(dataset.path, model.path, "instruct", "train")
    place = Place(model.path, dataset.path, task.path, {"train": key})
    return Facts(
        models={model.path: model},
        datasets={dataset.path: dataset},
        lengths={key: Lengths(((20, 7999), (37, 1)))},
        tasks={task.path: task},
        trainer=TrainerFacts("torchtune", trainer),
        disk=DiskFacts("/out", free),
        places=(place,) * len(configs),
    )


def the_checks(*configs, **changes):
    facts = the_facts(*configs, **changes)
    composed = [Composed(config, frozenset(), (), {}, {}, {}) for config in configs]
    return {check.kind: check for check in check_things(composed, facts)}


def test_one_row_for_each_distinct_thing_of_a_sweep():
    configs = [make_config(lora__rank=rank) for rank in (4, 8, 16)]
    facts = the_facts(*configs)
    checks = check_things([Composed(config, frozenset(), (), {}, {}, {}) for config in configs], facts)
    assert [check.kind for check in checks] == ["model", "dataset", "evaluation", "trainer", "disk"]
    assert {check.status for check in checks} == {Status.ok}


def test_models_come_in_the_order_of_the_sweep():
    configs = [make_config(model="3B"), make_config(), make_config(model="3B", lora__rank=4)]
    facts = the_facts(*configs)
    big, small = replace(facts.models["/models/m"], path="/models/3B"), a_model(configs[1], path="/models/1B")
    places = [replace(facts.places[0], model=model.path) for model in (big, small, big)]
    facts = replace(facts, models={small.path: small, big.path: big}, places=tuple(places))
    checks = check_things([Composed(config, frozenset(), (), {}, {}, {}) for config in configs], facts)
    assert [(check.name, check.path) for check in checks if check.kind == "model"] == [
        ("Llama-3.2-3B-Instruct", "/models/3B"),
        ("Llama-3.2-1B-Instruct", "/models/1B"),
    ]


def test_details_are_short_and_useful():
    checks = the_checks(make_config())
    assert checks["model"].detail == "2 shards, 2.3 GiB, bf16"
    assert checks["dataset"].detail == "8000 train / 1000 validation / 1000 test, longest 37 tokens, 655 kB"
    assert checks["evaluation"].detail == "task capitalization"
    assert checks["trainer"].detail == "version 0.6.1"


def test_what_is_missing_is_said_with_every_fix_once():
    config = make_config()
    findings = (
        Finding(Status.missing, "a is not there", "get all"),
        Finding(Status.missing, "b is not there", "get all"),
        Finding(Status.invalid, "c is cut short", "get c"),
        Finding(Status.ok, "a note"),
    )
    check = the_checks(config, model=a_model(config, status=Status.invalid, findings=findings))["model"]
    assert check.detail == "a is not there; b is not there; c is cut short"
    assert check.fix == "get all; get c"
    assert check.status is Status.invalid


def test_notes_stand_behind_what_the_thing_is_like():
    dataset = a_dataset(findings=(Finding(Status.ok, "3 test rows are train rows, too"),))
    check = the_checks(make_config(), dataset=dataset)["dataset"]
    assert check.status is Status.ok
    assert check.detail.endswith("655 kB; 3 test rows are train rows, too")


def test_what_will_be_made_is_missing_but_described():
    dataset = a_dataset(status=Status.missing, findings=(Finding(Status.missing, "will be made", "run it"),))
    check = the_checks(make_config(), dataset=dataset)["dataset"]
    assert check.detail.startswith("will be made; 8000 train")
    assert (check.status, check.fix) == (Status.missing, "run it")


def test_guessed_lengths_say_about():
    config = make_config()
    facts = the_facts(config)
    guessed = {key: replace(lengths, measured=False) for key, lengths in facts.lengths.items()}
    checks = check_things([Composed(config, frozenset(), (), {}, {}, {})], replace(facts, lengths=guessed))
    assert "longest about 37 tokens" in checks[1].detail


def test_runplans_own_task_is_said_to_be_its_own():
    own = a_task(path=f"{TASKS_DIR}/capitalization/inspect.py")
    assert "runplan's own" in the_checks(make_config(), task=own)["evaluation"].detail


def test_without_evaluation_there_is_no_row_for_it():
    config = make_config(evaluation="none")
    facts = the_facts(config)
    facts = replace(facts, places=(replace(facts.places[0], script=None),))
    kinds = [check.kind for check in check_things([Composed(config, frozenset(), (), {}, {}, {})], facts)]
    assert "evaluation" not in kinds


@pytest.mark.parametrize(
    ("seen", "site", "status", "said"),
    [
        ("0.6.1", {}, Status.ok, "version 0.6.1"),
        (
            None,
            {},
            Status.unchecked,
            "not installed in this environment; jobs have this one, as the site names no other",
        ),
        (None, {"site__modules": ["tune/1"]}, Status.unchecked, "not installed in this environment; site.modules may"),
        ("0.5.0", {}, Status.unchecked, "0.5.0 is installed here, trainer.version is 0.6.1"),
        ("0.5.0", {"site__conda_env": "tune"}, Status.unchecked, "0.6.1 is expected in the jobs' site.conda_env=tune"),
    ],
)
def test_the_trainers_version(seen, site, status, said):
    check = the_checks(make_config(**site), trainer=seen)["trainer"]
    assert check.status is status
    assert said in check.detail


def test_a_program_that_jobs_would_not_find_is_said():
    composed = Composed(config := make_config(), frozenset(), (), {}, {}, {})
    facts = replace(the_facts(config), trainer=TrainerFacts("torchtune", "0.6.1", program="tune"))
    (check,) = (check for check in check_things([composed], facts) if check.kind == "trainer")
    assert (check.status, "tune is not on PATH" in check.detail) == (Status.unchecked, True)
    assert "site.venv" in check.fix


# --- disk


def test_trl_saves_adapters_in_fp32_and_one_checkpoint_to_go_on_from():
    model = a_model(make_config())
    one, three = (checkpoint_bytes(make_config(trainer="trl", epochs=epochs), model) for epochs in (1, 3))
    assert (three - one) % 2 == 0
    each = (three - one) // 2
    assert one == 4 * each
    assert one < model.architecture.params


def test_what_trl_needs_is_installed_with_it():
    check = the_checks(make_config(trainer="trl"), trainer=None)["trainer"]
    assert check.name == "trl"
    assert check.fix.startswith("pip install trl==1.16.0 peft==")


def test_the_forecast_grows_with_epochs_and_runs_and_shrinks_without_merged_weights():
    config, model = make_config(), a_model(make_config())
    one = checkpoint_bytes(config, model)
    assert one > 2 * model.architecture.params
    assert checkpoint_bytes(make_config(epochs=3), model) > 3 * one
    adapters = checkpoint_bytes(make_config(trainer__save_adapter_weights_only=True), model)
    assert one - adapters == 2 * model.architecture.params
    # rank 8 on q, v, output and the MLP of Llama-3.2-1B: 5,308,416 parameters, in bf16, saved twice
    assert adapters == 2 * 2 * 5_308_416


def test_too_little_space_names_both_numbers():
    config = make_config()
    need = checkpoint_bytes(config, a_model(config))
    check = the_checks(config, config, free=need)["disk"]
    assert check.status is Status.invalid
    again = f"; a run that is trained again keeps up to {size_text(need)} more in attempts/"
    assert check.detail == f"checkpoints of 2 runs need about {size_text(2 * need)}, more than is free{again}"
    assert "save_adapter_weights_only=true" in check.fix


def test_free_space_is_not_said_where_it_suffices_so_that_plans_repeat():
    config = make_config()
    assert the_checks(config, free=10**13)["disk"] == the_checks(config, free=10**14)["disk"]


def test_unknown_sizes_and_unseen_disks_are_said():
    config = make_config()
    checks = the_checks(config, model=a_model(config, architecture=None), free=None)
    assert checks["disk"].status is Status.unchecked
    assert "1 of unknown model size not counted" in checks["disk"].detail


def test_evaluation_only_needs_no_space():
    assert the_checks(make_config(train=False), free=0)["disk"].status is Status.ok


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 kB"), (655_360, "655 kB"), (12_300_000, "12.3 MB"), (2.3 * 2**30, "2.3 GiB")]
)
def test_sizes_as_people_say_them(size, text):
    assert size_text(size) == text


# --- runs


def problems(config, **changes):
    facts = the_facts(config, **changes)
    return check_run(config, facts, facts.places[0], "1B_rank8")


def without(*roles):
    whole = a_dataset()
    splits = {role: split for role, split in whole.splits.items() if role not in roles}
    return replace(whole, splits=splits, fields={role: role for role in splits})


def test_a_run_with_all_it_needs_has_no_problem():
    assert problems(make_config()) == []


def test_a_missing_split_is_a_problem_where_it_is_used():
    (problem,) = problems(make_config(), dataset=without("validation"))
    assert "no validation split 'validation'; its splits are train, test" in problem.what
    assert (problem.run, problem.where) == ("1B_rank8", "dataset.validation_split")
    assert problems(make_config(validation=False), dataset=without("validation")) == []


def test_without_training_rows_nothing_trains():
    (problem,) = problems(make_config(), dataset=without("train"))
    assert "no train split" in problem.what
    assert problems(make_config(train=False), dataset=without("train")) == []


def test_a_task_that_reads_columns_needs_rows_that_have_them():
    task = a_task(parameters={"capitalization": ("data_path", "split", "input_column")})
    (problem,) = problems(make_config(dataset="chat", dataset__path="/data/talk.json"), task=task)
    assert "chat rows" in problem.what
    assert "evaluation=none" in problem.fix
    assert problems(make_config(dataset="json", dataset__path="/data/talk.json"), task=task) == []
    own = make_config(
        dataset="chat", dataset__path="/data/talk.json", evaluation__args={"data_path": "/data/other.json"}
    )
    assert problems(own, task=task) == []


def test_a_conversation_at_which_torchtune_stops_is_refused_where_it_is_used():
    def said(bad, **values):
        config = make_config(dataset="chat", dataset__path="/data/talk.json", evaluation="none", **values)
        return [problem.what for problem in problems(config, dataset=a_dataset(bad_turns=(bad,)))]

    one = BadTurns("train", 1, 5, "has 1 message", without_prompt=False)
    assert said(one) == ["/data/words.json: train row 5 (from 0) has 1 message: torchtune would stop there"]
    assert said(one, dataset__train_rows=6)
    assert said(one, dataset__train_rows=5) == []
    assert said(one, trainer="trl") == []
    several = one._replace(role="validation", rows=3)
    assert "3 of 1000 validation rows, first validation row 5 (from 0), each has" in said(several)[0]
    assert said(several, validation=False) == said(one._replace(role="test")) == []
    late = one._replace(without_prompt=True)
    assert said(late)
    assert said(late, system_prompt="Be brief.") == []


def test_a_task_that_takes_a_split_needs_the_test_rows():
    (problem,) = problems(make_config(), dataset=without("test"))
    assert problem.where == "dataset.test_split"
    assert problems(make_config(), dataset=without("test"), task=a_task(parameters={"capitalization": ()})) == []


def test_more_rows_than_there_are_name_both_numbers():
    (problem,) = problems(make_config(dataset__train_rows=9000))
    assert problem.what == "9000 training rows were asked for, /data/words.json has 8000"
    assert problems(make_config(dataset__train_rows=8000)) == []


def test_a_broken_dataset_is_a_problem_a_missing_one_is_not():
    broken = a_dataset(status=Status.invalid, findings=(Finding(Status.invalid, "is not JSON: line 1", "mend it"),))
    (problem,) = problems(make_config(), dataset=broken)
    assert (problem.what, problem.fix) == ("/data/words.json: is not JSON: line 1", "mend it")
    missing = a_dataset(status=Status.missing, splits={}, fields={})
    assert problems(make_config(), dataset=missing) == []


def test_arguments_that_the_task_does_not_take():
    config = make_config()
    config.evaluation.args = {"split": "test", "tempo": 3}
    (problem,) = problems(config)
    assert "takes no argument 'tempo'; it takes data_path, split, prompt" in problem.what
    assert problems(config, task=a_task(parameters={"capitalization": ("split", "**")})) == []


@pytest.mark.parametrize(
    ("logger", "there", "status"),
    [("wandb", False, Status.missing), ("wandb", True, Status.ok), ("disk", False, Status.ok)],
)
def test_a_logger_that_is_not_installed_is_said_before_the_job_waits(logger, there, status):
    configs = [make_config(), make_config(trainer__metric_logger=logger)]
    facts = the_facts(*configs)
    facts = replace(facts, trainer=replace(facts.trainer, wandb=there))
    composed = [Composed(config, frozenset(), (), {}, {}, {}) for config in configs]
    (check,) = (check for check in check_things(composed, facts) if check.kind == "trainer")
    assert (check.status, check.fix) == (status, "pip install wandb" if status is Status.missing else "")
