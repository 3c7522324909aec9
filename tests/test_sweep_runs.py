"""The sweep as a whole: equal to Hydra's own composition, for every form of override."""

from __future__ import annotations

import copy
import dataclasses
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from runplan import app, progress
from runplan.errors import ConfigError, Problem
from runplan.resolvers import mark_of
from runplan.sweep.hydra_errors import translated
from runplan.sweep.overrides import _level_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hydra._internal.hydra import Hydra

    from runplan.sweep.runs import Sweep


@pytest.fixture(scope="module")
def hydra_app() -> Iterator[Hydra]:
    """Hydra, which reads each file once: the hundred compositions that ours are compared with are slow enough."""
    read: dict[tuple[str, str], Any] = {}
    load = FileConfigSource.load_config

    def load_once(self: FileConfigSource, config_path: str) -> Any:
        if (self.path, config_path) not in read:
            read[self.path, config_path] = load(self, config_path)
        return copy.deepcopy(read[self.path, config_path])

    with pytest.MonkeyPatch.context() as patch, app.started() as made:
        patch.setattr(FileConfigSource, "load_config", load_once)
        yield made


def ours(made: Hydra, *lines: str) -> Sweep:
    return made.multirun("runplan", lambda _: None, list(lines), with_log_configuration=False)


def hydras(made: Hydra, *lines: str) -> list[DictConfig]:
    """What Hydra itself makes of a sweep: split by BasicSweeper, each combination composed from scratch."""
    overrides = OverridesParser.create(config_loader=made.config_loader).parse_overrides(list(lines))
    (batch,) = BasicSweeper.split_arguments(overrides, None)
    composed = [made.config_loader.load_configuration("runplan", list(each), RunMode.RUN) for each in batch]
    for config in composed:
        OmegaConf.set_struct(config, None)
        config._content.pop("hydra")
    return composed


def final(config: DictConfig) -> dict[str, Any]:
    """Resolved by OmegaConf, marks as None."""
    for key, value in leaves(OmegaConf.to_container(config, resolve=False)):
        if mark_of(value):
            OmegaConf.update(config, key, None)
    return OmegaConf.to_container(config, resolve=True, enum_to_str=True)


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def data(value: Any) -> Any:
    """A Config as plain data."""
    if dataclasses.is_dataclass(value):
        return {item.name: data(getattr(value, item.name)) for item in dataclasses.fields(value)}
    return value.name if isinstance(value, Enum) else value


def typed(value: Any) -> Any:
    """Values with their types, so that 4 and 4.0 and True differ."""
    if isinstance(value, dict):
        return {key: typed(part) for key, part in value.items()}
    return [typed(part) for part in value] if isinstance(value, list) else (type(value).__name__, value)


def assert_equal(made: Hydra, *lines: str) -> Sweep:
    found, expected = ours(made, *lines), hydras(made, *lines)
    assert len(found.composed) == len(expected)
    for run, config in zip(found.composed, expected, strict=True):
        tree = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
        assert typed(dict(run.tree)) == typed(tree)
        marks = {key for key, value in leaves(tree) if mark_of(value)}
        assert run.estimated == marks
        assert typed(data(run.config)) == typed(final(config))
    return found


FORMS = [
    (),
    ("lora.rank=4,64", "model=1B,3B"),
    ("model=3B",),
    ("lora.rank=choice(4,8)", "epochs=2"),
    ("lora.rank=range(1,3)",),
    ("optimizer.lr=range(0.1,0.3,0.1)",),
    ("lora.rank=sort(16,4,reverse=true)",),
    ("lora.rank=tag(size,choice(4,8))",),
    ("model=glob(1*)", "epochs=2"),
    ("model=glob([t*,3*],exclude=*base)",),
    ("optimizer.lr=1e-5,3.0E-4,1",),
    ("lora.alpha=null,16",),
    ("++lora.rank=4,8",),
    ("++lora.rank=4", "lora.dropout=0.1,0.2"),
    ("+evaluation.args.shots=0,5",),
    ("+evaluation.args={shots:3,names:[a,b]}",),
    ("++evaluation.args.shots=1", "evaluation.limit=10,20"),
    ("+site.env.TOKENIZERS_PARALLELISM=false", "seed=1,2"),
    ("+evaluation.args={shots:3,k:4}", "~evaluation.args.shots", "seed=1,2"),
    ("lora={rank:4,dropout:0.5}",),
    ("lora={rank:4}", "lora.rank=8,16"),
    ("lora.rank=8,16", "lora={dropout:0.25}"),
    ("lora={rank:4},{rank:8}",),
    ("batch_size=1", "lora={rank:4},dora"),
    ("lora=dora,{rank:4}", "lora.rank=8"),
    ("lora.rank=8", "lora=dora,{rank:4}", "model=1B,3B"),
    ("lora.attn_modules=[q_proj]",),
    ("lora.attn_modules=[q_proj],[q_proj,v_proj]",),
    ("priors.paths=[]", "seed=1,2"),
    ("site.priors=[a,'b c']", "seed=1,2"),
    ("site.priors=[a],[b]",),
    ("site.partition=gpu,cpu",),
    ("resources.partition=gpu,null",),
    ("resources.partition=${site.account}", "site.account=a,b"),
    ("site.data_dir=${site.models_dir}/x", "site.models_dir=m1,m2"),
    ("dataset.n_words=100,200", "dataset.train_fraction=0.5,0.9"),
    ("batch_size=4,8", "gradient_accumulation_steps=null"),
    ("batch_size=${epochs}",),
    ("batch_size=4,${rp.batch_size:}",),
    ("dtype=bf16,fp32,null",),
    ("naming=full",),
    ("packed=auto,true,false",),
    ("compile=true,false,null",),
    ("system_prompt='a,b',\"c=d\"",),
    ('prompt="Q: {input}"', "seed=1,2"),
    ("prompt='{input} ${seed}'", "seed=1,2"),
    ("system_prompt='it\\'s $(x) ü; # &'",),
    ("system_prompt=a\\ b\\,c",),
    ("group.name='004'",),
    ("group.name=004",),
    ("dataset.file=str(12)",),
    ("epochs=int(2.0)",),
    ("seed=1,2", "epochs=1,2", "model=1B,3B"),
    ("seed=1", "seed=2,3"),
    ("seed=2,3", "seed=1"),
    ("site=della", "lora.rank=4,8"),
    ("evaluation=none,capitalization",),
    ("estimator=rules,calibrated", "submit=sbatch"),
    ("model=3B", "model.params_b=3,4"),
    ("model=1B,3B", "model.hidden_size=2048"),
    ("resources=a100-80,h100-80", "resources.gpus=1,2"),
]


@pytest.mark.parametrize("lines", FORMS, ids=" ".join)
def test_equals_hydras_own_composition(
    hydra_app: Hydra, lines: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "ada")
    assert_equal(hydra_app, *lines)


def quoted(text: str) -> str:
    escaped = text.replace("\\", "").replace("'", "\\'").replace("${", "{")
    return f"'{escaped}'"


SCALARS = {
    "lora.rank": st.integers(1, 512).map(str),
    "optimizer.lr": st.floats(1e-8, 1.0).map(repr),
    "lora.dropout": st.floats(0, 0.99).map(lambda value: f"{value:.3e}"),
    "batch_size": st.sampled_from(["1", "2", "null", "${rp.batch_size:}"]),
    "group.name": st.text("ab c=,'\"\\$(){}ü", max_size=6).map(quoted),
    "dataset.word_length": st.integers(1, 9).map(str),
    "lora": st.sampled_from(["default", "dora", "{rank:3}"]),
    "evaluation": st.sampled_from(["none", "capitalization"]),
}


@st.composite
def sweeps(draw: st.DrawFn) -> list[str]:
    keys = draw(st.lists(st.sampled_from(sorted(SCALARS)), min_size=1, max_size=3, unique=True))
    return [f"{key}={','.join(draw(st.lists(SCALARS[key], min_size=1, max_size=2, unique=True)))}" for key in keys]


@given(lines=sweeps())
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_mixture_equals_hydras_own(hydra_app: Hydra, lines: list[str]) -> None:
    found = ours(hydra_app, *lines)
    levels = [repr(sorted(run.tree.items(), key=str)) for run in found.composed]
    expected = hydras(hydra_app, *lines)
    trees = [OmegaConf.to_container(config, resolve=False, enum_to_str=True) for config in expected]
    unique = list(dict.fromkeys(repr(sorted(tree.items(), key=str)) for tree in trees))
    assert list(dict.fromkeys(levels)) == unique


def test_factors_are_typed_levels_in_command_order(hydra_app: Hydra) -> None:
    found = ours(hydra_app, "optimizer.lr=1e-5,1", "model=1B,3B", "dtype=bf16,fp32", "seed=choice(3)", "epochs=2")
    run = found.composed[-1]
    assert list(run.factors) == ["optimizer.lr", "model", "dtype", "seed"]
    assert typed(dict(run.factors)) == typed({"optimizer.lr": 1.0, "model": "3B", "dtype": "fp32", "seed": 3})
    assert run.choices["model"] == "3B"
    assert not any(group.startswith("hydra") for group in run.choices)
    assert "model=3B" in run.overrides
    assert "epochs=2" in run.overrides


def test_runs_share_nothing_that_can_be_changed(hydra_app: Hydra) -> None:
    one, other = ours(hydra_app, "seed=1,2").composed
    one.config.lora.attn_modules.append("x")
    one.config.resources.time = "1"
    one.config.site.env["A"] = "b"
    assert "x" not in other.config.lora.attn_modules
    assert other.config.resources.time is None
    assert other.config.site.env == {}


def test_pairs_go_together(hydra_app: Hydra) -> None:
    found = ours(
        hydra_app, "lora.rank=4,8", "model=1B,3B", "optimizer.lr=1e-4,1e-5", "sweep.zip=[[model,optimizer.lr]]"
    )
    got = [tuple(run.factors.values()) for run in found.composed]
    assert got == [(4, "1B", 1e-4), (4, "3B", 1e-5), (8, "1B", 1e-4), (8, "3B", 1e-5)]
    assert all(not line.startswith("sweep") for run in found.composed for line in run.overrides)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("model=1B,3B", "seed=1,2,3", "sweep.zip=[[model,seed]]"), "model has 2 levels, seed has 3 levels"),
        (("model=1B,3B", "seed=1", "sweep.zip=[[model,seed]]"), "seed is paired but not swept"),
        (("model=1B,3B", "sweep.zip=[[modl,model]]"), "did you mean model?"),
        (("model=1B,3B", "seed=1,2", "sweep.zip=[[model,seed],[seed,model]]"), "seed is paired twice"),
        (("model=1B,3B", "sweep.exclude=[{model:1B},{model:3B}]"), "all 2 combinations are excluded"),
        (("model=1B,3B", "sweep.exclude=[{lora.rnk:4}]"), "did you mean lora.rank?"),
        (("model=1B,3B", "sweep.exclude=[{}]"), "would exclude everything"),
        (("lora.rank=interval(1,2)",), "an interval has no levels"),
        (("model=glob(zz*)",), "no levels"),
        (("lora.rank=range(1,2,0)",), "must not be zero"),
        (("seed=range(0,1000000000)",), "levels"),
        (("seed=range(0,1000)", "epochs=range(1,1001)"), "1000000 combinations"),
        (("lora.rank=4,-2", "optimizer.lr=0,-1"), "lora.rank is -2"),
        (("site.partition=${site.nothing}",), "site.partition"),
        (("model=hf,1B", "model.name=???"), "model.name has no value"),
    ],
)
def test_impossible_sweeps_say_why(hydra_app: Hydra, lines: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ours(hydra_app, *lines)
    assert said in str(caught.value)


def test_problems_of_all_combinations_are_said_once(hydra_app: Hydra) -> None:
    with pytest.raises(ConfigError) as caught:
        ours(hydra_app, "lora.rank=4,-2,x", "optimizer.lr=0,-1", "model=1B,nope", "epochs=1,2")
    text = str(caught.value)
    for part in ("lora.rank is -2", "'x' is no whole number", "optimizer.lr is 0.0", "optimizer.lr is -1.0", "'nope'"):
        assert text.count(part) == 1, part


def test_excluded_combinations_are_not_even_checked(hydra_app: Hydra) -> None:
    found = ours(hydra_app, "model=1B,3B", "lora.rank=4,-1", "sweep.exclude=[{lora.rank:-1}]")
    assert [tuple(run.factors.values()) for run in found.composed] == [("1B", 4), ("3B", 4)]
    assert not found.notes


def test_exclusion_by_several_keys_numbers_and_defaults(hydra_app: Hydra) -> None:
    found = ours(
        hydra_app,
        "model=1B,3B",
        "optimizer.lr=1e-5,1e-4",
        "sweep.exclude=[{model:3B,optimizer.lr:0.00001},{epochs:1,model:1B,optimizer.lr:1e-4}]",
    )
    assert [tuple(run.factors.values()) for run in found.composed] == [("1B", 1e-5), ("3B", 1e-4)]


def test_a_condition_that_matches_nothing_is_said(hydra_app: Hydra) -> None:
    found = ours(hydra_app, "model=1B,3B", "sweep.exclude=[{model:8B}]")
    assert len(found.composed) == 2
    assert found.notes == ["sweep.exclude: {model: 8B} matches none of the 2 combinations"]


def test_a_combination_named_twice_is_planned_once(hydra_app: Hydra) -> None:
    found = ours(hydra_app, "seed=1,1,2", "optimizer.lr=1e-5,0.00001")
    assert [run.factors["seed"] for run in found.composed] == [1, 2]
    assert found.notes


def experiment(text: str, name: str = "kept") -> None:
    folder = Path("conf/experiment")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text(f"# @package _global_\n{text}")


KEPT = "defaults:\n  - override /model: 3B\nhydra:\n  sweeper:\n    params:\n      lora.rank: 4,8\nepochs: 3\n"


def test_an_experiment_brings_its_sweep() -> None:
    experiment(KEPT)
    with app.started() as made:
        found = ours(made, "+experiment=kept", "seed=1,2")
    assert [run.overrides for run in found.composed] == [
        (f"lora.rank={rank}", "+experiment=kept", f"seed={seed}") for rank in (4, 8) for seed in (1, 2)
    ]
    assert {run.config.epochs for run in found.composed} == {3}
    assert {run.config.model.name for run in found.composed} == {"3B"}
    assert found.experiment == "kept"


def test_the_command_line_replaces_the_sweep_of_an_experiment() -> None:
    experiment(KEPT)
    with app.started() as made:
        found = ours(made, "+experiment=kept", "lora.rank=16")
    assert [run.config.lora.rank for run in found.composed] == [16]


def test_swept_experiments_each_bring_their_own_sweep() -> None:
    experiment(KEPT)
    experiment("epochs: 2\n", "plain")
    with app.started() as made:
        found = ours(made, "+experiment=plain,kept")
    got = [(run.factors["experiment"], run.config.lora.rank, run.config.epochs) for run in found.composed]
    assert got == [("plain", 8, 2), ("kept", 4, 3), ("kept", 8, 3)]
    assert found.experiment is None


def test_an_experiment_that_sweeps_groups_and_fixes_values() -> None:
    experiment("hydra:\n  sweeper:\n    params:\n      model: 1B,3B\n      epochs: 2\n")
    with app.started() as made:
        found = ours(made, "+experiment=kept", "seed=5")
    assert [(run.factors["model"], run.config.epochs, run.config.seed) for run in found.composed] == [
        ("1B", 2, 5),
        ("3B", 2, 5),
    ]


@pytest.mark.parametrize("lines", [("+experiment=kept",), ("+experiment=kept,plain",)])
def test_another_launcher_in_a_file_is_refused(lines: tuple[str, ...]) -> None:
    experiment("defaults:\n  - override /hydra/launcher: submitit_slurm\n")
    experiment("epochs: 2\n", "plain")
    with app.started() as made, pytest.raises(ConfigError, match="submit=sbatch"), translated():
        ours(made, *lines)


def test_the_command_makes_the_same_plan_again(hydra_app: Hydra) -> None:
    found = ours(hydra_app, "seed=1,2", "preview=true", "system_prompt='a b'", "submit=sbatch", "overwrite=true")
    assert found.command == "seed=1,2 'system_prompt='\"'\"'a b'\"'\"''"


def test_hydras_own_directories_may_be_named(hydra_app: Hydra, tmp_path: Path) -> None:
    found = ours(hydra_app, f"hydra.sweep.dir={tmp_path}/x", f"hydra.run.dir={tmp_path}/y", "seed=1,2")
    assert len(found.composed) == 2
    assert not list(tmp_path.iterdir())
    assert found.directory == f"{tmp_path}/x"
    assert ours(hydra_app, f"hydra.run.dir={tmp_path}/y", "seed=1,2").directory == f"{tmp_path}/y"
    assert ours(hydra_app, "seed=1,2").directory is None
    assert ours(hydra_app, "site.output_root=elsewhere").directory is None


def test_a_directory_that_is_worked_out_is_in_the_command_as_it_was(hydra_app: Hydra) -> None:
    found = ours(hydra_app, "hydra.sweep.dir='runs/${site.name} ${epochs}'", "epochs=3")
    assert found.directory == "runs/local 3"
    assert "runs/local 3" in found.command
    with pytest.raises(ConfigError, match="nope") as caught:
        ours(hydra_app, "hydra.run.dir=${nope}")
    assert caught.value.problems[0].where == "hydra.run.dir"


def test_hydras_subfolders_are_not_used_and_said_to_be_so(hydra_app: Hydra) -> None:
    assert any("subdir" in note for note in ours(hydra_app, "hydra.sweep.subdir=${hydra:job.num}").notes)


def test_one_run_is_a_group_and_hydras_mode_is_said_to_be_so(hydra_app: Hydra) -> None:
    assert any("hydra.mode=RUN" in note for note in ours(hydra_app, "hydra.mode=RUN").notes)
    assert ours(hydra_app, "hydra.mode=MULTIRUN").notes == ours(hydra_app).notes


def test_hydra_values_resolve(hydra_app: Hydra) -> None:
    (run,) = ours(hydra_app, "site.data_dir='${hydra:runtime.cwd}/d'").composed
    assert run.config.site.data_dir == f"{Path.cwd()}/d"


@pytest.mark.parametrize(
    ("words", "kept", "said"),
    [
        (["train=false", "lora.rank=4,8"], ["lora.rank=4"], "1 combination evaluates"),
        (["train=true,false"], ["train=true"], "1 combination evaluates"),
        (["train=true,false", "controls=false"], ["train=true", "train=false"], None),
        (["train=false", "seed=1,2"], ["seed=1"], "1 combination evaluates"),
        (["train=false", "seed=1,2", "evaluation.temperature=1"], ["seed=1", "seed=2"], None),
        (["train=false", "model=1B,3B", "epochs=1,2"], ["model=1B", "model=3B"], "2 combinations evaluate"),
    ],
)
def test_what_is_only_evaluated_is_planned_once(hydra_app, words, kept, said):
    found = ours(hydra_app, *words)
    lines = [[line.lower() for line in one.overrides] for one in found.composed]
    assert all(want.lower() in some for want, some in zip(kept, lines, strict=True))
    assert found.notes == ([] if said is None else [f"{said} with train=false what another run does, planned once"])


def test_a_key_that_is_named_twice_is_said(hydra_app):
    found = ours(hydra_app, "lora.rank=4,8", "seed=1", "lora.rank=16")
    assert [one.config.lora.rank for one in found.composed] == [16]
    assert found.notes == ["lora.rank is named 2 times, the last one counts"]


def test_very_many_levels_of_one_key_are_said_before_they_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    progress.forewarn.cache_clear()
    problems: list[Problem] = []
    (override,) = OverridesParser.create().parse_overrides(["seed=range(0,5000)"])
    assert len(_level_lines(override, problems)) == 5000
    assert "note: 5,000 runs are asked for (seed 5000)" in capsys.readouterr().err
    assert not problems
