import hashlib
import json
from pathlib import Path

import pytest
from factories import make_config

from runplan import capitalization, tiny
from runplan.errors import ConfigError
from runplan.facts import Status
from runplan.plan import Composed
from runplan.read import gather, lengths
from runplan.read.disk import read_disk
from runplan.read.gather import OTHER_THAN_ASKED, gather_facts
from runplan.read.trainer import PROGRAMS, read_trainer


def a_config(**changes):
    values = {"dataset__n_words": 100, "dataset__path": "words.json", "model": "tiny"}
    return make_config(**(values | changes))


def composed(*configs):
    return [Composed(config, frozenset(), (), {}, {}, {}) for config in configs]


def everything_in(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


@pytest.fixture
def cwd(tmp_path):
    """A folder with the tiny model and data in it."""
    folder = tmp_path / "work dir"
    tiny.create(folder / "models" / "Tiny-Llama-3.2")
    capitalization.create(folder / "words.json", a_config().dataset)
    return folder


def test_everything_a_run_needs_is_found(cwd):
    facts = gather_facts(composed(a_config()), cwd, None)
    (place,) = facts.places
    assert facts.models[place.model].status is Status.ok
    assert facts.datasets[place.dataset].rows("train") == 80
    assert facts.tasks[place.script].tasks == ("capitalization",)
    assert {key.split for key in facts.lengths} == {"train", "validation", "test"}
    train = facts.lengths[place.lengths["train"]]
    assert (train.rows, train.measured, train.longest) == (80, True, 1 + 17 + 22 + 1)
    assert facts.disk.free_bytes > 0


def test_each_thing_is_read_once_over_a_sweep(cwd, monkeypatch):
    read = []
    for name in ("read_model", "read_dataset", "read_task", "read_rows"):
        real = getattr(gather, name)
        monkeypatch.setattr(gather, name, lambda *a, _real=real, _name=name: (read.append(_name), _real(*a))[1])
    facts = gather_facts(composed(*(a_config(lora__rank=rank) for rank in range(1, 51))), cwd, None)
    assert sorted(read) == ["read_dataset", "read_model", "read_rows", "read_task"]
    assert len(facts.places) == 50


def test_prompts_have_lengths_of_their_own(cwd):
    facts = gather_facts(composed(a_config(), a_config(prompt="Word: {input}")), cwd, None)
    plain, longer = (facts.lengths[place.lengths["train"]] for place in facts.places)
    assert longer.longest == plain.longest + len("Word: ")


def test_without_the_model_lengths_are_guessed(cwd):
    facts = gather_facts(composed(a_config(model="1B")), cwd, None)
    (place,) = facts.places
    assert facts.models[place.model].status is Status.missing
    assert facts.models[place.model].architecture.hidden_size == 2048
    assert not facts.lengths[place.lengths["train"]].measured


def test_warm_answers_equal_cold_ones_and_need_no_tokenizer(cwd, tmp_path, monkeypatch):
    cold = gather_facts(composed(a_config()), cwd, tmp_path / "cache")

    def refuse(*_):
        raise AssertionError("read again")

    for module, name in ((gather, "read_rows"), (lengths, "counter"), (lengths, "measure")):
        monkeypatch.setattr(module, name, refuse)
    warm = gather_facts(composed(a_config()), cwd, tmp_path / "cache")
    assert (warm.models, warm.datasets, warm.lengths) == (cold.models, cold.datasets, cold.lengths)


def test_changed_data_is_counted_again(cwd, tmp_path):
    before = gather_facts(composed(a_config()), cwd, tmp_path / "cache")
    document = json.loads((cwd / "words.json").read_text())
    document["train"].append({"input": "x" * 100, "output": "X"})
    (cwd / "words.json").write_text(json.dumps(document))
    after = gather_facts(composed(a_config()), cwd, tmp_path / "cache")
    key = before.places[0].lengths["train"]
    assert after.lengths[key].rows == before.lengths[key].rows + 1


def test_what_is_only_imagined_is_remembered_too(cwd, tmp_path, monkeypatch):
    config = a_config(dataset__path="other.json")
    cold = gather_facts(composed(config), cwd, tmp_path / "cache")
    kept = everything_in(tmp_path / "cache")
    monkeypatch.setattr(lengths, "measure", lambda *_: pytest.fail("measured again"))
    warm = gather_facts(composed(config), cwd, tmp_path / "cache")
    assert warm.lengths == cold.lengths
    assert everything_in(tmp_path / "cache") == kept


def test_a_changed_file_does_not_make_the_cache_grow(cwd, tmp_path):
    gather_facts(composed(a_config()), cwd, tmp_path / "cache")
    kept = everything_in(tmp_path / "cache")
    (cwd / "words.json").write_text((cwd / "words.json").read_text() + " ")
    gather_facts(composed(a_config()), cwd, tmp_path / "cache")
    assert everything_in(tmp_path / "cache") == kept


# --- making what is missing


def test_data_that_are_there_and_other_than_what_would_be_made_are_said(tmp_path):
    asked = {"dataset__create": True, "dataset__path": "w.json", "model": "tiny"}

    def said(**more):
        facts = gather_facts(composed(a_config(**asked, **more)), tmp_path, tmp_path / "cache")
        (data,) = facts.datasets.values()
        return OTHER_THAN_ASKED in [finding.detail for finding in data.findings], data.status

    assert [said(), said(), said(dataset__seed=15), said()] == [
        (other, Status.ok) for other in (False, False, True, False)
    ]


def test_what_is_missing_and_wanted_is_made(tmp_path):
    config = a_config(dataset__create=True, dataset__path=None, dataset__file="w.json")
    facts = gather_facts(composed(config), tmp_path, None)
    assert (tmp_path / "models/Tiny-Llama-3.2/config.json").is_file()
    assert (tmp_path / "tasks/capitalization/input/w.json").is_file()
    (place,) = facts.places
    assert facts.models[place.model].status is Status.ok
    assert facts.datasets[place.dataset].status is Status.ok


def test_a_preview_writes_nothing_and_knows_the_same(tmp_path):
    work, cache = tmp_path / "work", tmp_path / "cache"
    work.mkdir()
    config = a_config(dataset__create=True)
    before = everything_in(tmp_path)
    preview = gather_facts(composed(config), work, cache, may_create=False)
    assert everything_in(tmp_path) == before
    real = gather_facts(composed(config), work, cache)
    assert preview.lengths == real.lengths
    assert preview.places == real.places
    for key, facts in real.datasets.items():
        assert preview.datasets[key].splits == facts.splits
        assert preview.datasets[key].path == facts.path
        assert preview.datasets[key].status is Status.missing
        assert preview.datasets[key].findings[0].detail == "will be made"
    for key, facts in real.models.items():
        assert preview.models[key].architecture == facts.architecture
        assert preview.models[key].size_bytes == facts.size_bytes
        assert preview.models[key].findings[0].detail == "will be made"


def test_a_preview_leaves_no_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    gather_facts(composed(a_config(dataset__create=True)), tmp_path, None, may_create=False)
    assert everything_in(tmp_path / "tmp") == []


def test_data_that_nobody_asked_to_make_stays_missing_with_the_word_that_makes_it(cwd):
    facts = gather_facts(composed(a_config(dataset__path="other.json")), cwd, None)
    found = facts.datasets[facts.places[0].dataset]
    assert found.status is Status.missing
    assert "dataset.create=true" in found.findings[0].fix
    assert not (cwd / "other.json").exists()


def test_data_that_nothing_can_make_is_refused(cwd):
    config = a_config(dataset__path="other.json", dataset__create=True, dataset__generator=None)
    with pytest.raises(ConfigError, match=r"(?s)cannot make .*other.json.*runplan has: capitalization"):
        gather_facts(composed(config), cwd, None)


def test_data_that_nothing_can_make_says_where_it_was_looked_for(cwd):
    config = a_config(dataset__path=None, dataset__file="mine.json", dataset__generator=None)
    facts = gather_facts(composed(config), cwd, None)
    found = facts.datasets[facts.places[0].dataset]
    assert "tasks/capitalization/input/mine.json" in found.findings[0].fix
    assert "data/mine.json" in found.findings[0].fix


class TestRowsThatAreSplit:
    @pytest.fixture
    def folder(self, cwd):
        (cwd / "rows.csv").write_text("input,output\n" + "".join(f"q{i},a{i}\n" for i in range(50)))
        return cwd

    def facts(self, folder, *, may_create=True, cache=None, **changes):
        changes = {"dataset": "json", "dataset__source": "rows.csv", "dataset__path": None, "model": "tiny"} | changes
        (found,) = gather_facts(
            composed(make_config(**changes)), folder, cache, may_create=may_create
        ).datasets.values()
        return found

    def notes(self, facts):
        return [finding.detail for finding in facts.findings]

    def test_are_made_beside_their_source_and_say_what_they_are_parts_of(self, folder):
        facts = self.facts(folder, dataset__create=True)
        assert facts.path == str(folder / "rows_80P_seed14.json")
        assert [facts.rows(role) for role in ("train", "validation", "test")] == [40, 5, 5]
        assert (facts.status, facts.leaks) == (Status.ok, {})
        (note,) = self.notes(facts)
        assert note.startswith("random parts of rows.csv (seed 14), sha256 ")
        digest = hashlib.sha256(Path(facts.path).read_bytes()).hexdigest()
        assert note.endswith(f"{digest[:12]}…")
        assert self.facts(folder, dataset__create=True) == facts

    def test_a_preview_and_a_plan_that_may_not_make_them_know_the_same(self, folder):
        preview = self.facts(folder, may_create=False, dataset__create=True)
        imagined = self.facts(folder)
        assert not (folder / "rows_80P_seed14.json").exists()
        made = self.facts(folder, dataset__create=True)
        assert preview.splits == imagined.splits == made.splits
        assert imagined.findings[0].fix == "dataset.create=true"
        assert self.notes(preview)[1:] == self.notes(imagined)[1:] == self.notes(made)

    @pytest.mark.parametrize("cached", [True, False])
    def test_that_their_source_changed_is_said_whoever_asks(self, folder, tmp_path, cached):
        cache = tmp_path / "cache" if cached else None
        self.facts(folder, cache=cache, dataset__create=True)
        with (folder / "rows.csv").open("a") as file:
            file.write("more,rows\n")
        assert self.notes(self.facts(folder, cache=cache)) == [OTHER_THAN_ASKED]
        (folder / "rows.csv").unlink()
        assert not self.notes(self.facts(folder, cache=cache))

    def test_seeds_are_files_of_their_own(self, folder):
        self.facts(folder, dataset__create=True, dataset__seed=1)
        self.facts(folder, dataset__create=True, dataset__train_fraction=0.5)
        assert {path.name for path in folder.glob("rows_*")} == {"rows_80P_seed1.json", "rows_50P_seed14.json"}

    def test_they_are_written_where_the_user_says(self, folder):
        assert self.facts(folder, dataset__create=True, dataset__path="a/b.json").path == str(folder / "a" / "b.json")
        with pytest.raises(ConfigError, match=r"nowhere\.csv: no such file"):
            self.facts(folder, dataset__create=True, dataset__source="nowhere.csv")


def test_only_the_tiny_model_can_be_made(cwd):
    with pytest.raises(ConfigError, match="makes model=tiny only, not 1B"):
        gather_facts(composed(a_config(model="1B", model__create=True)), cwd, None)


def test_a_word_list_may_be_relative(cwd):
    (cwd / "list.txt").write_text("\n".join(f"{a}{b}pple" for a in "abcdefghijkl" for b in "abcdefghijkl"))
    config = a_config(
        dataset__path="o.json", dataset__create=True, dataset__word_list="list.txt", dataset__word_length=6
    )
    gather_facts(composed(config), cwd, None)
    assert json.loads((cwd / "o.json").read_text())["train"][0]["input"].endswith("pple")


def test_two_ways_to_read_one_file(cwd):
    facts = gather_facts(composed(a_config(), a_config(dataset__train_split="test")), cwd, None)
    first, second = (facts.datasets[place.dataset] for place in facts.places)
    assert (first.rows("train"), second.rows("train")) == (80, 10)
    assert first.path == second.path


# --- disk and trainer


def test_free_space_of_a_folder_that_is_not_there_yet(tmp_path):
    assert read_disk(tmp_path / "not" / "yet").free_bytes > 0


def test_a_disk_that_cannot_be_seen_is_unknown(monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("shutil.disk_usage", refuse)
    assert read_disk(Path("/x/y")).free_bytes is None


def test_an_installed_distribution_has_a_version_and_another_has_none(monkeypatch):
    assert read_trainer("pytest").version
    assert read_trainer("pytest").program == ""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(PROGRAMS, "pytest", "pytest")
    assert read_trainer("pytest").program == "pytest"
    assert read_trainer("no-such-trainer").version is None


def test_trainers_ask_for_their_own_files_of_one_model(cwd):
    """TRL reads tokenizer.json alone; torchtune also the ranks, which are not there."""
    (cwd / "models/Tiny-Llama-3.2/original/tokenizer.model").unlink()
    facts = gather_facts(composed(a_config(), a_config(trainer="trl")), cwd, None)
    tune, trl = (facts.models[place.model] for place in facts.places)
    assert tune.path == trl.path
    assert (tune.status, trl.status) == (Status.missing, Status.ok)
    assert facts.trainers.keys() == {"torchtune", "trl"}
    first, second = (facts.lengths[place.lengths["train"]] for place in facts.places)
    assert second.longest == first.longest - 1, "torchtune adds the end of the text"
