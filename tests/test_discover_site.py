"""What is chosen: the only candidate, or what the user said; several stay open and are listed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runplan.discover.found import DataFile, Discovered, Environment, LogFolder, ModelFolder, Setting, Wishes
from runplan.discover.places import quoted, words_for
from runplan.discover.site import site_of
from runplan.errors import ConfigError
from runplan.slurm.cluster import (
    Associations,
    Cluster,
    merge_partitions,
    parse_associations,
    parse_partitions,
    parse_sinfo,
)

DATA = Path(__file__).parent / "data/slurm"
KNOWN = frozenset({"a100-40", "a100-80", "h100-80", "a100-mig-10", "v100-16", "v100-32"})
ANY = Wishes()
SILENT = Associations(None, None, None)
NOTHING = Discovered("box.example.org", "me")


def cluster(sinfo: str = "sinfo_mixed.txt", said: Associations = SILENT) -> Cluster:
    partitions = merge_partitions(
        parse_partitions((DATA / "partitions.txt").read_text()) if sinfo == "sinfo.txt" else (),
        parse_sinfo((DATA / sinfo).read_text()),
    )
    return Cluster("sim", partitions, said.accounts, said.qos, said.max_submit_jobs, 1001)


def setting(found: Discovered, key: str, wishes: Wishes = ANY) -> Setting:
    site = site_of(found, wishes, KNOWN)
    return next(item for item in (*site.settings, site.resources) if item.key == key)


def test_nothing_is_made_up_where_nothing_is_there():
    site = site_of(NOTHING, Wishes(), KNOWN)
    assert site.name == "box"
    assert [item.key for item in (*site.settings, site.resources) if item.value is not None] == []
    assert all(item.said for item in (*site.settings, site.resources))


@pytest.mark.parametrize(
    ("host", "slurm", "wish", "name"),
    [
        ("box.example.org", None, None, "box"),
        ("box", "della", None, "della"),
        ("box", "", None, "box"),
        ("box", "my cluster/1", None, "my-cluster-1"),
        ("local", None, None, "local-site"),
        ("_x", None, None, "x"),
        ("box", "42", None, "site-42"),
        ("NULL", None, None, "NULL-site"),
        ("...", None, None, "machine"),
        ("box", "della", "lab-2", "lab-2"),
    ],
)
def test_the_name(host, slurm, wish, name):
    found = Discovered(host, "me", None if slurm is None else Cluster(slurm, ()))
    assert site_of(found, Wishes(wish), KNOWN).name == name


@pytest.mark.parametrize("name", ["local", "", "null", "1", "1e5", "a/b", "_x", ".x", "-x", "a b", "${x}", "é"])
def test_names_that_no_option_can_have(name):
    with pytest.raises(ConfigError, match="cannot name a site"):
        site_of(NOTHING, Wishes(name), KNOWN)


def test_the_default_partition_stays_slurms_own_where_it_has_gpus():
    found = setting(replace(NOTHING, cluster=cluster("sinfo.txt")), "partition")
    assert found.value is None
    assert "main" in found.said
    assert [offer.value for offer in found.offers] == ["short"]


def test_several_partitions_with_gpus_are_listed_with_their_limits_and_nodes():
    found = setting(replace(NOTHING, cluster=cluster()), "partition")
    assert found.value is None
    assert [offer.value for offer in found.offers] == ["gpu", "mig"]  # `old` is down, `cpu` has no GPU
    assert "limit 72:00:00" in found.offers[0].said
    assert "40 nodes with 4 GPUs (a100)" in found.offers[0].said


def test_the_only_partition_with_gpus_is_chosen():
    every = cluster()
    two = replace(every, partitions=tuple(p for p in every.partitions if p.name in {"cpu", "gpu"}))
    found = setting(replace(NOTHING, cluster=two), "partition")
    assert (found.value, found.said) == ("gpu", "the only one with GPUs (sinfo)")


def test_a_partition_that_the_user_may_not_use_is_no_candidate():
    every = replace(cluster(), accounts=("lab",))
    rules = {"gpu": {"accounts": ("others",)}, "mig": {"denied_accounts": ("lab",)}}
    ruled = replace(every, partitions=tuple(replace(p, **rules.get(p.name, {})) for p in every.partitions))
    assert setting(replace(NOTHING, cluster=ruled), "partition").offers == ()


def test_wishes_are_taken_as_they_are_and_checked():
    found = replace(NOTHING, cluster=replace(cluster(), accounts=("lab", "root")))
    assert setting(found, "partition", Wishes(partition="mig")).value == "mig"
    assert setting(found, "account", Wishes(account="root")).value == "root"
    with pytest.raises(ConfigError, match="did you mean mig") as caught:
        site_of(found, Wishes(partition="migg", account="labb", models=("/a/$b",)), KNOWN)
    assert len(caught.value.problems) == 3
    assert setting(NOTHING, "partition", Wishes(partition="any")).value == "any"


def test_accounts_and_qos():
    one = parse_associations("lab||normal,gpu|500\n")
    two = parse_associations((DATA / "associations.txt").read_text())
    assert setting(replace(NOTHING, cluster=cluster(said=one)), "account").value == "lab"
    several = setting(replace(NOTHING, cluster=cluster(said=two)), "account")
    assert (several.value, [offer.value for offer in several.offers]) == (None, ["lab", "root"])
    qos = setting(replace(NOTHING, cluster=cluster(said=one)), "qos")
    assert (qos.value, [offer.value for offer in qos.offers]) == (None, ["normal", "gpu"])
    facts = site_of(replace(NOTHING, cluster=cluster(said=one)), Wishes(), KNOWN).facts
    assert any("500 jobs" in line for line in facts)
    assert any("1001 jobs" in line for line in facts)


def test_the_kind_of_gpu_where_there_is_one():
    found = replace(NOTHING, cluster=cluster())
    several = setting(found, "resources", Wishes(partition="gpu"))
    assert (several.value, [offer.value for offer in several.offers]) == (None, ["a100-80", "a100-40"])
    only = parse_sinfo("gpu|gpu*|up|1:00|2|8|64000|gpu:h100:4|rh9\n")
    assert setting(replace(NOTHING, cluster=Cluster("x", only)), "resources").value == "h100-80"
    unknown = parse_sinfo("gpu|gpu*|up|1:00|2|8|64000|gpu:mi300:4|rh9\n")
    assert setting(replace(NOTHING, cluster=Cluster("x", unknown)), "resources").value is None
    both = parse_sinfo("gpu|gpu*|up|1:00|2|8|64000|gpu:h100:4|x\ngpu|gpu*|up|1:00|2|8|64000|gpu:mi300:4|x\n")
    assert setting(replace(NOTHING, cluster=Cluster("x", both)), "resources").value is None


def test_the_gpu_of_a_machine_without_slurm():
    here = replace(NOTHING, gpus_here=("NVIDIA H100 80GB HBM3",) * 8)
    assert setting(here, "resources").value == "h100-80"
    assert setting(replace(here, gpus_here=("NVIDIA A100",)), "resources").value is None
    on_slurm = replace(here, cluster=cluster())  # a login node's own GPU is not that of the jobs
    assert setting(on_slurm, "resources").value is None


def test_features_by_which_nodes_differ_are_offered_as_constraints():
    found = setting(replace(NOTHING, cluster=cluster()), "constraint", Wishes(partition="gpu"))
    assert [(offer.value, offer.said) for offer in found.offers] == [
        ("gpu80", "40 nodes with 4 × a100-80"),
        ("gpu40", "20 nodes with 2 × a100-40"),
    ]


def env(kind: str, name: str, torchtune: str | None = "0.6.1", active: bool = False) -> Environment:
    return Environment(kind, name, f"/envs/{name}", torchtune, active)


@pytest.mark.parametrize(
    ("environments", "conda", "venv"),
    [
        ([], None, None),
        ([env("conda", "base", None)], None, None),
        ([env("conda", "base", None), env("conda", "tune")], "tune", None),
        ([env("conda", "a"), env("conda", "b")], None, None),
        ([env("conda", "a"), env("conda", "b", active=True)], "b", None),
        ([env("conda", "a"), env("venv", "/v", active=True)], None, "/v"),
        ([env("conda", "a"), env("conda", "b", None, active=True)], "a", None),
    ],
)
def test_the_environment_with_torchtune(environments, conda, venv):
    found = replace(NOTHING, environments=tuple(environments))
    assert (setting(found, "conda_env").value, setting(found, "venv").value) == (conda, venv)
    offers = [offer.value for key in ("conda_env", "venv") for offer in setting(found, key).offers]
    assert sorted([*offers, *filter(None, [conda, venv])]) == sorted(item.name for item in environments)


def test_modules_are_listed_and_only_those_that_are_loaded_are_set():
    found = replace(NOTHING, modules=("anaconda3/2025.6", "cuda/12.8"))
    assert setting(found, "modules").value is None
    loaded = setting(replace(found, loaded_modules=("anaconda3/2025.6",)), "modules")
    assert loaded.value == ("anaconda3/2025.6",)
    assert [offer.value for offer in loaded.offers] == ["cuda/12.8"]


def model(path: str, option: str | None = None, hub: str | None = None) -> ModelFolder:
    return ModelFolder(path, "llama", option, hub)


def test_the_folder_of_models():
    one = replace(NOTHING, models=(model("/m/a"), model("/m/b"), model("/hf/x", hub="o/x")))
    assert setting(one, "models_dir").value == "/m"
    assert "2 model folders" in setting(one, "models_dir").said
    two = replace(NOTHING, models=(model("/m/a"), model("/n/b"), model("/n/c")))
    assert setting(two, "models_dir").value is None
    assert [offer.value for offer in setting(two, "models_dir").offers] == ["/n", "/m"]
    assert setting(two, "models_dir", Wishes(models=("/m",))).value == "/m"
    deeper = setting(replace(NOTHING, models=(model("/m/meta/a"),)), "models_dir", Wishes(models=("/m",)))
    assert (deeper.value, deeper.said) == ("/m/meta", "in /m (--models); holds 1 model folder")
    empty = setting(NOTHING, "models_dir", Wishes(models=("/m",)))
    assert (empty.value, empty.said) == ("/m", "given with --models; holds 0 model folders")


def test_a_found_folder_whose_name_would_be_expanded_is_not_set():
    assert setting(replace(NOTHING, models=(model("/m$HOME/a"),)), "models_dir").value is None


def test_the_folder_of_data_is_not_that_of_a_task():
    files = (DataFile("/w/tasks/caps/input/x.json", 1), DataFile("/d/y.json", 1, (("train", 5), ("test", 1))))
    found = replace(NOTHING, data=files)
    assert setting(found, "data_dir").value == "/d"
    facts = site_of(found, Wishes(), KNOWN).facts
    assert "data /d/y.json: train 5, test 1" in facts


def test_a_named_folder_of_data_may_have_folders_of_tasks():
    found = replace(NOTHING, data=(DataFile("/d/a/x.json", 1), DataFile("/d/b/y.json", 1), DataFile("/d/b/z.json", 1)))
    named = setting(found, "data_dir", Wishes(data=("/d",)))
    assert (named.value, named.said) == ("/d", "given with --data; holds 3 data files")
    assert setting(found, "data_dir").value is None


def test_every_folder_with_logs_teaches():
    found = replace(NOTHING, logs=(LogFolder("/a", 3), LogFolder("/b", 1)))
    assert setting(found, "priors").value == ("${site.output_root}", "/a", "/b")
    many = replace(NOTHING, logs=tuple(LogFolder(f"/l{i}", 1) for i in range(30)))
    assert len(setting(many, "priors").value) + len(setting(many, "priors").offers) == 31


def test_what_names_a_model():
    assert words_for(model("/m/Llama-3.2-1B-Instruct", "1B")) == "model=1B"
    assert words_for(model("/m/mine")) == "model=hf model.path=/m/mine"
    assert words_for(model("/hub/x", "1B", "meta/x")) == "model=hf model.path=/hub/x model.name=1B"


@pytest.mark.parametrize("path", ["/a b", "/a'b", '/a"b', "/a\\b", "/a=b,c", "/ü", "/a;$(x)"])
def test_a_quoted_path_is_read_back_by_shell_and_hydra(path):
    import shlex

    from hydra.core.override_parser.overrides_parser import OverridesParser

    (word,) = shlex.split(f"model.path={quoted(path)}")
    assert OverridesParser.create().parse_override(word).value() == path


BOTH, ONLY_TRL = (
    Environment("venv", "/v", "/v", torchtune, active=False, trl="1.16.0") for torchtune in ("0.6.1", None)
)


def test_an_environment_with_trl_alone_trains_with_it():
    found = replace(NOTHING, environments=(ONLY_TRL, env("conda", "base", None)))
    assert setting(found, "venv").value == "/v"
    assert setting(found, "venv").said == "trl 1.16.0; the only one found with trl: /v"
    assert site_of(found, ANY, KNOWN).trainer.value == "trl"


def test_where_both_trainers_are_torchtune_holds_and_trl_is_offered():
    site = site_of(replace(NOTHING, environments=(BOTH,)), ANY, KNOWN)
    assert site.trainer.value is None
    assert [(offer.value, offer.said) for offer in site.trainer.offers] == [
        ("trl", "torchtune 0.6.1, trl 1.16.0 in /v")
    ]


def test_an_environment_with_torchtune_counts_before_one_with_trl():
    found = replace(NOTHING, environments=(replace(ONLY_TRL, active=True), env("conda", "tune")))
    assert setting(found, "conda_env").value == "tune"
    assert site_of(found, ANY, KNOWN).trainer == Setting("trainer", None, "")
