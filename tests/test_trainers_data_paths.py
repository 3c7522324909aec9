"""Paths of data files, as the library that torchtune reads them with understands them."""

from __future__ import annotations

import json
from dataclasses import replace
from fnmatch import fnmatchcase

import pytest
import yaml
from factories import make_plan, make_run, make_templates
from hypothesis import given
from hypothesis import strategies as st

from runplan.trainers.data_paths import path_problems
from runplan.trainers.known import TORCHTUNE, TRL
from runplan.trainers.torchtune import training_files

RUN = make_run()
PLAIN = ["a [x] *?{y}", "~z", "a=b", "a:b", "hf:", "a,b;|&%#", "ü", "it's \"q\"", "a\\b", "a@b", "(!a)", "$", "a$ b",
         "$()", "100$-", ".hidden", "__x", "a.gz", "a~"]  # fmt: skip
SPECIAL = ["$HOME", "${HOME}", "a$HOMEb", "$UNSET", "$7", "${}", "a::b", "zip::a", ":::"]


@given(st.text(st.sampled_from("ab[]*?/ {}!'"), min_size=1))
def test_a_path_is_no_pattern(name):
    run = replace(RUN, dataset=replace(RUN.dataset, path=f"/{name}"))
    config = yaml.safe_load(training_files(make_plan(run), run, make_templates())["finetune.yaml"])
    assert fnmatchcase(f"/{name}", config["dataset"]["data_files"])
    assert not fnmatchcase("/other", config["dataset"]["data_files"])


@pytest.mark.parametrize("name", PLAIN)
def test_most_paths_are_fine(name):
    assert not list(path_problems(f"/data/{name}/d.json", f"/out/{name}/g"))


@pytest.mark.parametrize("name", SPECIAL)
def test_a_path_that_means_something_else_is_refused_with_a_line_that_gives_it_another_name(name):
    (found,) = path_problems(f"/data/{name}.json", "/out/g")
    assert found.where == "dataset.path"
    assert f"'/data/{name}.json' data.json" in found.fix or f"/data/{name}.json data.json" in found.fix
    assert ("variable" if "$" in name else "chain") in found.what


def test_the_groups_directory_holds_the_librarys_cache():
    assert [each.where for each in path_problems("/d.json", "/a::b/g")] == ["site.output_root, group.name"]
    assert not list(path_problems("/d.json", "/$HOME/g"))


def test_trl_reads_every_path():
    assert not list(TRL.path_problems("/$HOME/a::b.json", "/a::b/g"))
    assert list(TORCHTUNE.path_problems("/$HOME/a.json", "/g"))


@pytest.mark.trainer
@pytest.mark.filterwarnings("ignore")
class TestAgainstTheLibrary:
    def read(self, path, cache):
        datasets = pytest.importorskip("datasets", reason="datasets is not installed in this environment")
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"train": [{"input": path.name, "output": "b"}]}))
        settings = training_files_of(path)
        return datasets.load_dataset(
            "json", data_files=settings["data_files"], field="train", split="train", cache_dir=str(cache)
        )

    def test_what_is_let_through_is_read(self, tmp_path):
        rows = self.read(tmp_path.joinpath(*PLAIN, "100$.json"), tmp_path / "cache")
        assert rows[0]["input"] == "100$.json"

    @pytest.mark.parametrize("name", ["$HOME", "${HOME}", "a::b"])
    def test_what_is_refused_is_not(self, name, tmp_path):
        with pytest.raises(FileNotFoundError):
            self.read(tmp_path / "data" / name / "d.json", tmp_path / "cache")

    def test_nor_into_a_cache_that_is_refused(self, tmp_path, monkeypatch):
        run = tmp_path / "a::b" / "run"
        run.mkdir(parents=True)
        monkeypatch.chdir(run)
        with pytest.raises(OSError, match="No such file"):
            self.read(tmp_path / "data" / "d.json", training_files_of("/d.json")["cache_dir"])


def training_files_of(path):
    run = replace(RUN, dataset=replace(RUN.dataset, path=str(path)))
    return yaml.safe_load(training_files(make_plan(run), run, make_templates())["finetune.yaml"])["dataset"]
