"""The pure middle: configs and facts in, one plan or all problems out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from factories import make_architecture, make_config

from runplan.errors import PlanError
from runplan.estimate import calibrated
from runplan.estimate.workload import Gpu
from runplan.facts import (
    CREATE_DATASET,
    DatasetFacts,
    DiskFacts,
    Facts,
    Finding,
    Lengths,
    ModelFacts,
    Split,
    Status,
    TaskFacts,
    TrainerFacts,
)
from runplan.files.document import plan_document
from runplan.locate import place_of
from runplan.plan import Composed, Plan, RunType
from runplan.planning import World, make_plan
from runplan.priors.record import MemoryGib, PriorRun
from runplan.slurm.cluster import Cluster, NodeShape, Partition

CWD = Path("/home/ada")
OPEN = ("batch_size", "gradient_accumulation_steps", "lora__alpha", "optimizer__num_warmup_steps",
        "trainer__run_val_every_n_steps")  # fmt: skip
H200 = Gpu("h200-141", 139.8, 4800, 989, 67)


def composed(factors=None, **overrides) -> Composed:
    """A run as Hydra would compose it, every mark open."""
    overrides = dict.fromkeys(OPEN) | {"dataset__path": "/data/words.json"} | overrides
    factors = factors or {}
    config = make_config(**overrides | {key.replace(".", "__"): value for key, value in factors.items()})
    return Composed(config, frozenset(), (), factors, {"model": "1B"}, {})


def world(runs, *, rows=8000, longest=40, status=Status.ok, cluster=None, priors=()) -> World:
    places = tuple(place_of(item.config, CWD, lambda _: False) for item in runs)
    models = {
        place.model: ModelFacts(place.model, Status.ok, make_architecture(item.config))
        for item, place in zip(runs, places, strict=True)
    }
    splits = {"train": Split("train", rows), "validation": Split("validation", 1000), "test": Split("test", 1000)}
    findings = () if status is Status.ok else (Finding(status, "not there", CREATE_DATASET),)
    roles = {role: role for role in splits}
    data = {place.dataset: DatasetFacts(place.dataset, status, 10**5, splits=splits, fields=roles, findings=findings)
            for place in places}  # fmt: skip
    lengths = {
        key: Lengths(((longest // 2, splits[role].rows - 1), (longest, 1)))
        for place in places for role, key in place.lengths.items()
    }  # fmt: skip
    tasks = {place.script: TaskFacts(place.script, Status.ok, ("capitalization",)) for place in places if place.script}
    facts = Facts(models, data, lengths, tasks, TrainerFacts("torchtune", "0.6.1"), DiskFacts("/out", 10**15), places)
    return World(facts, cluster, priors, {"h200-141": H200}, {})


def plan(*runs, **known) -> Plan:
    return make_plan("words", "/out/words", "model=1B", runs, world(runs, **known))


def crossed():
    return [composed({"model": model, "lora.rank": rank}) for model in ("1B", "3B") for rank in (4, 64)]


def test_four_runs_and_a_control_for_each_base_model():
    made = plan(*crossed())
    assert [run.name for run in made.runs] == ["1B_rank4", "1B_rank64", "3B_rank4", "3B_rank64", "1B_base", "3B_base"]
    assert len(made.of_type(RunType.fine_tuned)) == 4
    assert len(made.of_type(RunType.control)) == 2
    assert made.design.factors == {"model": ("1B", "3B"), "lora.rank": (4, 64)}
    assert made.ready


def test_controls_have_no_training_and_one_cell():
    control = plan(composed()).of_type(RunType.control)[0]
    assert control.sizing is None
    assert control.request is None
    assert [cell.dir for cell in control.cells] == ["eval/capitalization"]


def test_every_saved_epoch_has_a_cell():
    run = plan(composed(epochs=3)).runs[0]
    assert [cell.dir for cell in run.cells] == [f"eval/capitalization_epoch{i}" for i in range(3)]


def test_what_was_open_is_filled_in_and_what_was_set_stays():
    run = plan(composed(batch_size=2, lora__alpha=5.0, optimizer__num_warmup_steps=7)).runs[0]
    config = run.config
    assert (config.batch_size, config.gradient_accumulation_steps) == (2, 1)
    assert (config.lora.alpha, config.optimizer.num_warmup_steps) == (5.0, 7)
    open_run = plan(composed(lora__rank=4)).runs[0].config
    assert open_run.lora.alpha == 8
    assert open_run.batch_size * open_run.gradient_accumulation_steps == 16
    assert open_run.optimizer.num_warmup_steps == 50
    assert open_run.resources.time.count(":") == 2


def test_processors_that_a_job_asks_for_merge_its_adapters():
    asked = [None, 1, 4, 16]
    runs = [plan(composed(resources__cpus_per_task=cpus, resources__gpu="a100-80")).runs[0] for cpus in asked]
    usual, *saves = (run.sizing.parts_s["checkpoints"] for run in runs)
    assert usual == saves[1]
    assert saves == sorted(saves, reverse=True)
    assert saves[0] > 1.5 * saves[2]


def test_the_plan_never_changes_the_config_it_was_given():
    item = composed()
    before = repr(item.config)
    plan(item)
    assert repr(item.config) == before


def test_all_problems_of_all_runs_are_raised_at_once():
    small = {"resources": "t4-16", "dtype": "fp32"}
    bad = [composed({"model": "70B"}, **small), composed({"model": "8B"}, **small), composed({"model": "1B"})]
    with pytest.raises(PlanError) as raised:
        plan(*bad)
    text = str(raised.value)
    assert raised.value.n_runs == 6
    assert "2 of 6 runs cannot be planned, nothing was written" in text
    assert "70B_rank8: " in text
    assert "8B_rank8: " in text
    assert "GiB" in text


def test_a_run_says_what_is_wrong_with_its_recipe_and_its_memory_at_once():
    with pytest.raises(PlanError) as raised:
        plan(composed({"model": "70B"}, resources="t4-16", dtype="fp32", recipe="lora_finetune_distributed"))
    assert {problem.where for problem in raised.value.problems} == {"recipe", "resources, max_seq_len"}


@pytest.mark.parametrize("train", [True, False])
def test_what_the_cluster_lacks_is_said_with_what_the_run_needs(train):
    """A run whose time is too long, and which asks for more GPUs than a node has."""
    run = composed(epochs=400 if train else 1, resources__gpus=4, train=train)
    shape = NodeShape(4, 64, 500.0, 0 if not train else 2)
    cluster = Cluster("c", (Partition("gpu", default=True, time_limit_s=600, shapes=(shape,)),))
    with pytest.raises(PlanError) as raised:
        plan(run, cluster=cluster)
    wheres = {problem.where for problem in raised.value.problems}
    assert "resources.gpus" in wheres
    assert ("resources.partition, resources.time" in wheres) == train


@pytest.mark.parametrize("train", [True, False])
def test_a_broken_dataset_is_said_once_and_not_as_too_few_rows(train):
    run = composed(train=train)
    known = world([run], status=Status.invalid)
    ((path, broken),) = known.facts.datasets.items()
    finding = Finding(Status.invalid, "is not JSON: line 1")
    for lengths in (known.facts.lengths, {}):
        datasets = {path: replace(broken, findings=(finding,), splits={})}
        facts = replace(known.facts, datasets=datasets, lengths=lengths)
        with pytest.raises(PlanError) as raised:
            make_plan("words", "/out/words", "model=1B", [run], replace(known, facts=facts))
        (problem,) = raised.value.problems
        assert problem.what == f"{broken.path}: is not JSON: line 1"
        assert problem.fix


def test_an_empty_test_split_is_a_problem_of_the_run_that_is_evaluated_on_it():
    run = composed()
    known = world([run])
    datasets = {
        path: replace(data, splits={**data.splits, "test": Split("test", 0)})
        for path, data in known.facts.datasets.items()
    }
    lengths = {**known.facts.lengths, known.facts.places[0].lengths["test"]: Lengths(())}
    tasks = {path: replace(task, parameters={"capitalization": ("split",)}) for path, task in known.facts.tasks.items()}
    facts = replace(known.facts, datasets=datasets, lengths=lengths, tasks=tasks)
    with pytest.raises(PlanError, match="has no rows in its split 'test'"):
        make_plan("words", "/out/words", "model=1B", [run], replace(known, facts=facts))


@pytest.mark.parametrize("word", ["controls=true", "++controls=true"])
def test_a_control_that_was_asked_for_where_nothing_is_evaluated(word):
    silent = composed(evaluation__enabled=False)
    asked = replace(silent, overrides=("model=1B", word))
    (risk,) = [risk for risk in plan(asked).risks if "controls" in risk.where]
    assert risk.what.startswith("controls=true plans no control:")
    evaluated = replace(composed(), overrides=asked.overrides)
    unwanted = replace(composed(evaluation__enabled=False, controls=False), overrides=("controls=false",))
    assert not any("controls" in risk.where for run in (silent, evaluated, unwanted) for risk in plan(run).risks)


def test_an_evaluation_takes_as_few_gpus_as_hold_the_model():
    def gpus(model, **more):
        made = plan(composed({"model": model}, **{"resources": "t4-16", "train": False, **more}))
        assert made.risks == ()
        return [cell.request.gpus for run in made.runs for cell in run.cells]

    assert gpus("3B") == [1]
    assert gpus("8B") == [2]
    assert gpus("8B", **{"evaluation.gpus": 4}) == [4]
    assert gpus("70B", resources="a100-80") == [2]
    assert gpus("8B", resources="cpu") == [0]


def test_an_evaluation_that_does_not_fit_is_a_risk_that_is_said():
    def said(**more):
        return [
            risk for risk in plan(composed({"model": "8B"}, resources="t4-16", **more)).risks if "eval" in risk.where
        ]

    few = {"resources.gpus_per_node": 1}
    for more in ({"train": False}, {"lora": "qlora", "dtype": "fp32"}):
        (risk,) = said(**more, **few)
        assert (
            "one GPU, 15.0 GiB of it for weights and the rest for 1 answer at a time; t4-16 has 14.6 GiB" in risk.what
        )
        assert "evaluation=none" in risk.fix
        assert "batch_size" not in risk.fix
    alone = Partition("gpu", default=True, gpus_per_node=1, cpus_per_node=64, memory_gib_per_node=500.0, nodes=4)
    made = plan(composed({"model": "8B"}, resources="t4-16", train=False), cluster=Cluster("c", (alone,)))
    assert [(cell.request.gpus) for run in made.runs for cell in run.cells] == [1]
    (risk,) = (risk for risk in made.risks if risk.where == "evaluation, resources")
    assert "evaluation.gpus" not in risk.fix  # no node has more
    (risk,) = said(train=False, **{"evaluation.batch_size": 2048})
    assert "for 2048 answers at a time" in risk.what
    assert risk.fix.startswith("choose evaluation.batch_size=")
    assert said(lora="qlora", dtype="fp32", evaluation="none", **few) == []


def test_p95_above_the_partitions_limit_is_a_risk_and_p50_impossible():
    slow = composed(epochs=40)
    needed = plan(slow).runs[0].sizing.time_s
    between = (needed.p50 + needed.p95) / 2
    cluster = Cluster("c", (Partition("gpu", default=True, time_limit_s=int(between), gpus_per_node=8,
                                      cpus_per_node=64, memory_gib_per_node=500.0, nodes=4),))  # fmt: skip
    made = plan(slow, cluster=cluster)
    assert made.runs[0].request.time_s == int(between)
    assert any("risk of being cut off" in risk.what for risk in made.risks)
    short = replace(cluster, partitions=(replace(cluster.partitions[0], time_limit_s=int(needed.p50 / 2)),))
    with pytest.raises(PlanError, match="allows"):
        plan(slow, cluster=short)


def test_fewer_rows_than_a_step_is_impossible():
    with pytest.raises(PlanError, match="0 steps"):
        plan(composed(), rows=10)


def test_a_missing_dataset_that_can_be_made_is_offered_with_the_whole_command():
    made = plan(composed(), status=Status.missing)
    assert not made.ready
    fixes = [check.fix for check in made.checks if check.kind == "dataset"]
    assert fixes == ["python -m runplan -m model=1B dataset.create=true"]


def test_seeds_and_ranks_share_a_control_and_system_prompts_do_not():
    seeds = plan(composed({"seed": 1}), composed({"seed": 2}))
    prompts = plan(composed({"system_prompt": "a"}), composed({"system_prompt": "b"}))
    assert len(seeds.of_type(RunType.control)) == 1
    assert len(prompts.of_type(RunType.control)) == 2


def test_no_controls_without_evaluation_or_when_not_wanted():
    assert plan(composed(controls=False)).of_type(RunType.control) == ()
    assert plan(composed(evaluation="none")).of_type(RunType.control) == ()


def test_without_training_models_are_only_evaluated():
    made = plan(composed(train=False))
    assert [run.type for run in made.runs] == [RunType.eval_only]
    assert made.runs[0].cells[0].epoch is None


def test_the_hand_rules_use_the_first_log():
    log = PriorRun("/logs/a.out", model="llama3_2_1b", params_b=1.24, batch_size=1, it_per_s=4.34,
                   init_memory_gib=MemoryGib(2.4, 2.4, 2.4))  # fmt: skip
    sizing = plan(composed(estimator="rules", epochs=2, batch_size=4), priors=[log]).runs[0].sizing
    assert sizing.source == "rules"
    assert sizing.steps_per_epoch == 2000
    assert sizing.time_s.p50 == pytest.approx(2 * 2000 / 4.34)


def test_gpu_hours_of_a_group_are_no_sum_of_p95s():
    made = plan(*crossed())
    assert made.gpu_hours.p50 == pytest.approx(sum(run.gpu_hours.p50 for run in made.runs), rel=0.05)
    assert made.gpu_hours.p95 < sum(run.gpu_hours.p95 for run in made.runs)


def test_tokens_differ_between_runs_and_stay_the_same():
    first, second = plan(*crossed()), plan(*crossed())
    tokens = [run.token for run in first.runs]
    assert len(set(tokens)) == len(tokens)
    assert tokens == [run.token for run in second.runs]


def test_a_model_that_torchtune_cannot_build_is_invalid_and_says_why_once():
    item = composed()
    known = world([item])
    ((path, model),) = known.facts.models.items()
    odd = replace(model, architecture=replace(model.architecture, attention_bias=True))
    known = replace(known, facts=replace(known.facts, models={path: odd}))
    (check,) = [check for check in make_plan("words", "/out", "", [item], known).checks if check.kind == "model"]
    assert check.status is Status.invalid
    assert check.detail.count("has biases in attention") == 1


def test_runs_that_differ_in_their_seed_alone_are_sized_once(monkeypatch):
    asked = []
    size = calibrated.size
    monkeypatch.setattr(calibrated, "size", lambda workload, learnt: asked.append(workload) or size(workload, learnt))
    runs = [composed({"lora.rank": rank, "seed": seed}) for rank in (4, 8) for seed in range(5)]
    made = plan(*runs)
    assert [workload.adapter.rank for workload in asked] == [4, 8]
    assert [run.sizing for run in made.runs[:10]] == [plan(run).runs[0].sizing for run in runs]


@pytest.mark.parametrize(("takes", "controls"), [((), ["-"]), (("data_path",), ["/data/a.json", "/data/b.json"])])
def test_a_control_is_shared_where_the_task_brings_its_own_data(takes, controls):
    runs = [composed({"dataset.path": path}) for path in ("/data/a.json", "/data/b.json")]
    known = world(runs)
    tasks = {
        path: replace(task, parameters=dict.fromkeys(task.tasks, takes)) for path, task in known.facts.tasks.items()
    }
    made = make_plan("g", "/g", "", runs, replace(known, facts=replace(known.facts, tasks=tasks)))
    document = plan_document(made)
    found = [run["factors"].get("dataset.path", "-") for run in document["runs"] if run["type"] == "control"]
    assert found == controls
    assert all(cell["takes_data"] is bool(takes) for run in document["runs"] for cell in run["cells"])
