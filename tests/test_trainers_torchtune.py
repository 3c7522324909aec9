"""torchtune's configuration: as text without torchtune, and against torchtune itself where it is installed."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from factories import make_config, make_plan, make_run, make_templates
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from runplan.config import DatasetType, MetricLogger
from runplan.facts import Split
from runplan.jobs.rungs import plan_rungs
from runplan.paths import CONF_DIR, RECIPES_DIR
from runplan.plan import Rung
from runplan.trainers.torchtune import training_files

MODELS = sorted(path.stem for path in (CONF_DIR / "model").glob("*.yaml") if path.stem != "hf")


RUN = make_run()


def files(**settings):
    run = make_run(make_config(**settings))
    return training_files(make_plan(run), run, make_templates())


def finetune(**settings):
    return yaml.safe_load(files(**settings)["finetune.yaml"])


def resolved_as_torchtune_does(text):
    """What a component gets: `OmegaConf.resolve`, then `to_object`, which resolves once more."""
    config = OmegaConf.create(yaml.safe_load(text))
    OmegaConf.resolve(config)
    return OmegaConf.to_object(config)


class TestText:
    def test_paths_in_the_run_are_relative_and_all_others_absolute(self):
        config = finetune()
        assert config["checkpointer"]["output_dir"] == config["output_dir"] == "artifacts"
        assert config["metric_logger"]["log_dir"] == "logs"
        assert config["checkpointer"]["checkpoint_dir"] == "/models/Llama-3.2-1B-Instruct"
        assert config["tokenizer"]["path"] == "/models/Llama-3.2-1B-Instruct/original/tokenizer.model"
        assert config["dataset"]["data_files"] == "/data/words.json"

    def test_what_the_user_set_is_what_is_written(self):
        config = finetune(lora__rank=64, optimizer__lr=1e-5, batch_size=3, epochs=2, seed=7, max_seq_len=512)
        assert (config["model"]["lora_rank"], config["model"]["lora_alpha"]) == (64, 128.0)
        assert config["optimizer"]["lr"] == 1e-5
        assert (config["batch_size"], config["batch_size_val"], config["epochs"], config["seed"]) == (3, 3, 2, 7)
        assert config["tokenizer"]["max_seq_len"] == 512

    def test_splits_are_fields_of_one_file(self):
        config = finetune()
        assert (config["dataset"]["field"], config["dataset"]["split"]) == ("train", "train")
        assert (config["dataset_val"]["field"], config["dataset_val"]["split"]) == ("validation", "train")

    @pytest.mark.parametrize(("rows", "split"), [(None, "train"), (10, "train[:10]"), (800, "train"), (900, "train")])
    def test_train_rows_never_ask_for_more_than_there_are(self, rows, split):
        config = finetune(dataset__train_rows=rows)
        assert config["dataset"]["split"] == split
        assert config["dataset_val"]["split"] == "train"

    def test_the_keys_of_the_file_win_over_the_roles(self):
        run = make_run()
        facts = replace(run.dataset, fields={"train": "Training Set", "validation": "dev"})
        run = replace(run, dataset=facts)
        config = yaml.safe_load(training_files(make_plan(run), run, make_templates())["finetune.yaml"])
        assert (config["dataset"]["field"], config["dataset_val"]["field"]) == ("Training Set", "dev")

    def test_a_file_that_is_one_list_has_no_key(self):
        run = make_run(make_config(validation=False))
        facts = replace(run.dataset, splits={"train": Split("", 800)}, fields={})
        run = replace(run, dataset=facts)
        config = yaml.safe_load(training_files(make_plan(run), run, make_templates())["finetune.yaml"])
        assert config["dataset"].get("field") is None

    def test_validation_only_with_a_recipe_that_validates(self):
        config = finetune(validation=False)
        assert not {"dataset_val", "run_val_every_n_steps", "batch_size_val"} & set(config)
        assert set(files(validation=False)) == {"finetune.yaml", "resume.py"}

    def test_the_shipped_recipe_is_copied_whole(self):
        name = "lora_finetune_single_device_val.py"
        assert files()[name] == (RECIPES_DIR / name).read_text()

    def test_a_run_of_several_epochs_has_a_recipe_that_continues_it(self):
        """The stock recipe of one GPU would start the learning rate anew."""
        name = "lora_finetune_single_device_val.py"
        assert name not in files(validation=False)
        assert name in files(validation=False, epochs=2)
        assert set(files(validation=False, epochs=2, resources__gpus=2)) == {"finetune.yaml", "resume.py"}

    @pytest.mark.parametrize("text", ["", "\nbatch_size: 3\n", "batch_size: 3\r\x85\u2028batch_size: 3"])
    def test_a_rung_differs_in_its_batch_alone(self, text):
        run = make_run(make_config(system_prompt=text))
        run = replace(run, rungs=plan_rungs(run.config, run.composed, run.recipe))
        made = training_files(make_plan(run), run, make_templates())
        first, *rungs = (yaml.safe_load(made[name]) for name in ("finetune.yaml", *(each.file for each in run.rungs)))
        assert len(rungs) == 2
        for rung, planned in zip(rungs, run.rungs, strict=True):
            changed = {key for key in first | rung if first.get(key) != rung.get(key)}
            assert changed == {"batch_size", "batch_size_val", "gradient_accumulation_steps"}
            assert rung["batch_size"] == rung["batch_size_val"] == planned.batch_size
            made_of = (rung["batch_size"], rung["gradient_accumulation_steps"])
            assert made_of[0] * made_of[1] == first["batch_size"] * first["gradient_accumulation_steps"]

    def test_the_last_rung_recomputes_activations(self):
        rung = Rung("finetune.rung1.yaml", 1, 16, activation_checkpointing=True)
        run = replace(make_run(make_config(batch_size=1, gradient_accumulation_steps=16)), rungs=(rung,))
        made = training_files(make_plan(run), run, make_templates())
        first, second = (made[name].splitlines() for name in ("finetune.yaml", rung.file))
        changed = [pair for pair in zip(first, second, strict=True) if pair[0] != pair[1]]
        assert changed == [("enable_activation_checkpointing: false", "enable_activation_checkpointing: true")]

    def test_a_small_vocabulary_brings_its_own_special_tokens(self):
        assert "special_tokens_path" not in finetune()["tokenizer"]
        assert finetune(model="tiny")["tokenizer"]["special_tokens_path"] == "/models/Tiny-Llama-3.2/tokenizer.json"
        assert "special_tokens_path" not in finetune(model="qwen2.5-7B")["tokenizer"]

    def test_mistral_brings_its_tokenizer_along(self):
        config, names = finetune(model="mistral-7B"), files(model="mistral-7B")
        assert config["model"]["_component_"] == "torchtune.models.mistral.lora_mistral"
        assert config["checkpointer"]["model_type"] == "MISTRAL"
        assert config["tokenizer"] == {
            "_component_": "mistral_tokenizer.MistralTokenizer",
            "path": "/models/Mistral-7B-Instruct-v0.3/tokenizer.json",
            "max_seq_len": 2048,
        }
        assert "mistral_tokenizer.py" in names
        assert "mistral_tokenizer.py" not in files(model="1B")

    def test_qwen_has_its_own_tokenizer_files(self):
        config = finetune(model="qwen2.5-0.5B")
        assert config["tokenizer"]["merges_file"] == "/models/Qwen2.5-0.5B-Instruct/merges.txt"
        assert config["checkpointer"]["model_type"] == "QWEN2"

    @pytest.mark.parametrize(("estimated", "warmup"), [({"optimizer.num_warmup_steps"}, 0), (set(), 10)])
    def test_a_constant_rate_warms_up_only_when_the_user_says_so(self, estimated, warmup):
        run = make_run(make_config(optimizer__lr_scheduler="none"), estimated=frozenset(estimated))
        config = yaml.safe_load(training_files(make_plan(run), run, make_templates())["finetune.yaml"])
        assert config["lr_scheduler"]["num_warmup_steps"] == warmup
        assert config["lr_scheduler"]["num_cycles"] == 0.0

    def test_metric_loggers(self):
        wandb = finetune(trainer__metric_logger=MetricLogger.wandb, site__wandb_project="words")["metric_logger"]
        assert (wandb["project"], wandb["name"], wandb["mode"]) == ("words", "1B_rank8", "offline")
        plain = finetune(trainer__metric_logger=MetricLogger.none)["metric_logger"]
        assert plain["_component_"].endswith("StdoutLogger")

    def test_four_bits_are_asked_of_the_builder(self):
        assert finetune(lora="qlora")["model"]["quantize_base"] is True
        assert "quantize_base" not in finetune()["model"]

    def test_the_fused_optimizer_needs_cuda(self):
        assert finetune()["optimizer"]["fused"] is True
        assert finetune(trainer__device="cpu")["optimizer"]["fused"] is False

    def test_a_line_break_in_an_override_stays_in_its_comment(self):
        run = make_run()
        composed = replace(run.composed, overrides=("system_prompt='a\nmodel: {}\u2028x'",))
        run = replace(run, composed=composed)
        text = training_files(make_plan(run), run, make_templates())["finetune.yaml"]
        assert yaml.safe_load(text) == finetune()
        assert r"a\nmodel: {}\u2028x" in text.splitlines()[1]

    def test_a_run_that_is_not_planned_is_refused(self):
        run = replace(make_run(), recipe=None)
        with pytest.raises(ValueError, match="not planned"):
            training_files(make_plan(run), run, make_templates())

    @given(
        st.text(st.characters(exclude_categories=["Cs"]))
        | st.from_regex(r"(\\*\$*\{?[a-z.:]*\}?){1,6}", fullmatch=True)
    )
    def test_any_system_prompt_arrives_as_it_was_written(self, text):
        run = replace(RUN, config=replace(RUN.config, system_prompt=text))
        written = training_files(make_plan(run), run, make_templates())["finetune.yaml"]
        expected = text or None
        if text == "???":  # OmegaConf's word for a missing value: refused when planning, see setting_problems
            return
        assert resolved_as_torchtune_does(written)["dataset"]["new_system_prompt"] == expected

    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def test_any_prompt_is_a_python_literal(self, text):
        run = replace(RUN, config=replace(RUN.config, prompt=text + "{input}!"))
        written = training_files(make_plan(run), run, make_templates())
        tree = ast.parse(written["run_prompt.py"])
        (value,) = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)]
        assert value == text + "{input}!"
        assert yaml.safe_load(written["finetune.yaml"])["tokenizer"]["prompt_template"] == "run_prompt.RunPrompt"


@pytest.fixture(scope="module")
def tune():
    return pytest.importorskip("torchtune", reason="torchtune is not installed in this environment")


def upstream(tune):
    return Path(tune.__file__).parent.parent / "recipes"


def keys_read(source):
    """Top-level keys that a recipe reads from its configuration."""
    return set(re.findall(r"cfg\.(?!get\b)([a-z]\w*)", source)) | set(re.findall(r'cfg\.get\(\s*"(\w+)"', source))


@pytest.mark.trainer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("tune")
class TestAgainstTorchtune:
    @pytest.mark.parametrize("model", MODELS)
    def test_every_configuration_passes_its_validation(self, model, monkeypatch):
        from torchtune import config

        monkeypatch.syspath_prepend(str(RECIPES_DIR))  # as the run's own directory is, which has copies

        for kind in DatasetType:
            for gpus in (1, 4):
                for validation in (False, True):
                    text = files(model=model, dataset__type=kind, resources__gpus=gpus, validation=validation)
                    config.validate(OmegaConf.create(text["finetune.yaml"]))

    @pytest.mark.parametrize("model", ["1B", "3B"])
    def test_its_own_validation_passes_every_rung(self, model):
        from torchtune import config

        run = make_run(make_config(model=model, batch_size=2, gradient_accumulation_steps=8))
        asked = replace(run.composed, config=replace(run.config, activation_checkpointing=None))
        run = replace(run, rungs=plan_rungs(run.config, asked, run.recipe))
        made = training_files(make_plan(run), run, make_templates())
        for rung in run.rungs:
            config.validate(OmegaConf.create(made[rung.file]))
        assert len(run.rungs) == (2 if model == "1B" else 1)

    def test_its_validation_catches_an_argument_that_is_not_there(self):
        from torchtune import config

        text = files()["finetune.yaml"].replace("lora_rank:", "lora_rnak:")
        with pytest.raises(config._errors.ConfigError):
            config.validate(OmegaConf.create(text))

    @pytest.mark.parametrize("gpus", [1, 4])
    @pytest.mark.parametrize("validation", [False, True])
    def test_every_key_is_one_that_the_recipe_reads(self, gpus, validation, tune):
        """Its validation says nothing about keys that no recipe knows."""
        run = make_run(make_config(resources__gpus=gpus, validation=validation))
        stock = "lora_finetune_distributed" if gpus > 1 else "lora_finetune_single_device"
        read = keys_read((upstream(tune) / f"{stock}.py").read_text()) | {"profiler"}  # read by a constant's name
        if run.recipe.shipped:
            read |= keys_read((RECIPES_DIR / run.recipe.shipped).read_text())
        written = set(yaml.safe_load(training_files(make_plan(run), run, make_templates())["finetune.yaml"]))
        assert written <= read
        assert "dataset_vall" not in read
