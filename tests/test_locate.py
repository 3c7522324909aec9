from pathlib import Path

import pytest

from runplan import locate
from runplan.config import Config, Dataset, DatasetType, Evaluation, Model, Site
from runplan.paths import TASKS_DIR, absolute

CWD = Path("/home dir")


def a_config(model=None, dataset=None, evaluation=None, **site):
    return Config(
        model=Model(**({"name": "1B", "full_name": "Llama-3.2-1B-Instruct", "family": "llama3_2"} | (model or {}))),
        dataset=Dataset(**({"name": "cap", "type": DatasetType.instruct, "file": "w.json"} | (dataset or {}))),
        evaluation=Evaluation(**({"name": "capital"} | (evaluation or {}))),
        site=Site(**({"models_dir": "models", "data_dir": "data", "tasks_dir": "tasks"} | site)),
        system_prompt="",
        prompt="{input}",
    )


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("models", "/home dir/models"),
        ("./a/../b", "/home dir/b"),
        ("/abs/x/", "/abs/x"),
        ("~/m", "/home/someone/m"),
        ("~nobody-of-that-name/m", "/home dir/~nobody-of-that-name/m"),
        ("$SCRATCH/m", "/scratch/me/m"),
        ("$NOT_SET_HERE/m", "/home dir/$NOT_SET_HERE/m"),
        ("with space, and =", "/home dir/with space, and ="),
    ],
)
def test_paths_become_absolute_as_users_write_them(written, path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    assert absolute(written, CWD) == Path(path)


def test_a_model_is_its_path_else_its_folder_else_its_full_name():
    assert locate.model_path(a_config(), CWD) == CWD / "models/Llama-3.2-1B-Instruct"
    assert locate.model_path(a_config({"folder": "f"}), CWD) == CWD / "models/f"
    assert locate.model_path(a_config({"folder": "f", "path": "/m/x"}), CWD) == Path("/m/x")


def test_data_is_looked_for_beside_its_task_then_in_data_dir():
    first, *others = locate.dataset_paths(a_config(), CWD)
    assert first == CWD / "tasks/cap/input/w.json"
    assert CWD / "tasks/capital/input/w.json" in others
    assert CWD / "data/w.json" in others
    there = str(CWD / "data/w.json")
    assert locate.dataset_path(a_config(), CWD, lambda path: path == there) == Path(there)
    assert locate.dataset_path(a_config(), CWD, lambda _: False) == first


def test_a_path_the_user_set_is_the_only_one():
    config = a_config(dataset={"path": "x.json"})
    assert locate.dataset_path(config, CWD, lambda path: "input" in path) == CWD / "x.json"


def test_data_that_nothing_names_has_no_path():
    assert locate.dataset_path(a_config(dataset={"file": None}), CWD) is None
    assert locate.dataset_key(a_config(dataset={"file": None}), CWD) == ""


def test_a_script_is_the_users_then_the_sites_then_runplans_own():
    looked = locate.task_paths(a_config(), CWD)
    assert looked == (
        CWD / "tasks/capital/inspect.py",
        CWD / "data/capital/inspect.py",
        TASKS_DIR / "capital/inspect.py",
    )
    own = a_config(evaluation={"name": "capitalization"})
    assert locate.task_path(own, CWD, lambda path: path.startswith(str(TASKS_DIR))) == (
        TASKS_DIR / "capitalization/inspect.py"
    )
    assert locate.task_path(a_config(evaluation={"script": "e.py"}), CWD, lambda _: False) == CWD / "e.py"
    assert locate.task_path(a_config(evaluation={"enabled": False}), CWD) is None


def test_runplan_carries_the_capitalization_task():
    assert (TASKS_DIR / "capitalization" / "inspect.py").is_file()


def test_one_file_read_in_two_ways_has_two_keys():
    def key(**dataset):
        return locate.dataset_key(a_config(dataset=dataset), CWD, lambda _: False)

    assert key() == str(CWD / "tasks/cap/input/w.json")
    assert len({key(), key(train_split="small"), key(input_column="q"), key(type=DatasetType.text)}) == 4
    assert key(train_rows=10) == key()


def test_a_place_holds_the_keys_of_all_roles():
    place = locate.place_of(a_config(), CWD, lambda _: False)
    assert place.model == str(CWD / "models/Llama-3.2-1B-Instruct")
    assert place.script == str(CWD / "tasks/capital/inspect.py")
    assert list(place.lengths) == ["train", "validation", "test"]
    assert place.lengths["train"].dataset == place.dataset
    assert place.lengths["train"].split == "train"


class TestVariablesThatAreNotSet:
    def refused(self, config, there=()):
        return {each.where: each.what for each in locate.unset_variables(config, lambda path: path in there)}

    @pytest.fixture(autouse=True)
    def _environment(self, monkeypatch):
        monkeypatch.delenv("NOSUCH", raising=False)
        monkeypatch.setenv("SUCH", "/s")

    def test_are_refused_where_a_path_needs_them(self):
        config = a_config(dataset={"path": "${NOSUCH}/x.json"}, output_root="$NOSUCH/o")
        assert self.refused(config) == {
            "site.output_root": "$NOSUCH/o: there is no environment variable NOSUCH",
            "dataset.path": "${NOSUCH}/x.json: there is no environment variable NOSUCH",
        }

    def test_those_that_are_set_and_folders_of_that_very_name_are_fine(self):
        config = a_config(model={"path": "$SUCH/m"}, dataset={"path": "$NOSUCH/x.json"}, output_root="$SUCH")
        assert not self.refused(config, there={"$NOSUCH/x.json"})
        assert not self.refused(a_config(output_root="a$ b$"))

    def test_a_folder_that_nobody_looks_into_does_not_matter(self):
        config = a_config(model={"path": "m"}, dataset={"path": "d"}, models_dir="$NOSUCH", data_dir="$NOSUCH")
        assert not self.refused(config)
        assert [*self.refused(a_config(models_dir="$NOSUCH"))] == ["site.models_dir"]
