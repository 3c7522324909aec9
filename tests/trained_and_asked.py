"""Token ids of the rows that TRL trains on, and of what Inspect's provider asks, from the files of a run."""

from __future__ import annotations

import importlib.util

from job_plans import cell
from trained_runs import write

from runplan.evaluations import task_arguments
from runplan.jobs.cells import cell_facts, inspect_options, model_arguments
from runplan.paths import TASKS_DIR
from runplan.read.task import read_task

SCRIPT = TASKS_DIR / "capitalization" / "inspect.py"


def trained_by_trl(run, folder, monkeypatch):
    """All training rows as SFTTrainer prepares them, from the written files; only the model is left out."""
    import runpy
    import sys
    from collections import defaultdict

    monkeypatch.setitem(sys.modules, "torchao", None)
    from datasets import load_dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer, TrlParser

    write(run, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    runpy.run_path("rows.py")["main"]("rows.json", "rows")
    (arguments,) = TrlParser(SFTConfig).parse_args_and_config(["--config", only_training("finetune.yaml")])
    trainer = SFTTrainer.__new__(SFTTrainer)
    trainer._tokenizer = AutoTokenizer.from_pretrained(run.model.path)
    trainer._tokenizer.chat_template = (folder / arguments.chat_template_path).read_text()
    trainer.chat_template, trainer.completion_only_loss, trainer._metrics = None, False, defaultdict(list)
    rows = load_dataset("rows", cache_dir=str(folder / "cache"))["train"]
    return trainer._prepare_dataset(rows, trainer._tokenizer, arguments, arguments.packing, None, "train")


def only_training(file):
    """The configuration without what the script and the model take."""
    from dataclasses import fields
    from pathlib import Path

    from trl import SFTConfig

    from runplan import yaml_text

    tree = yaml_text.load(Path(file).read_text())
    mine = {field.name for field in fields(SFTConfig)}
    Path("training.yaml").write_text(yaml_text.flat({key: value for key, value in tree.items() if key in mine}))
    return "training.yaml"


def sent(run, messages=None):
    """Token ids that Inspect's provider sends for the first training row; only the model is left out."""
    from inspect_ai.model._providers.hf import HuggingFaceAPI
    from transformers import AutoTokenizer

    facts = facts_of(run)
    arguments = model_arguments(facts)
    provider = HuggingFaceAPI.__new__(HuggingFaceAPI)
    provider.tokenizer = AutoTokenizer.from_pretrained(run.model.path)
    provider.chat_template = arguments.get("chat_template")
    provider.use_chat_template = provider.enable_thinking = None
    text = provider.hf_chat(messages or asked(facts), [])
    return provider.tokenizer(text, **arguments["tokenizer_call_args"])["input_ids"], provider.tokenizer


def facts_of(run):
    task = read_task(SCRIPT, "capitalization")
    arguments = task_arguments(run.config, task, "capitalization", run.dataset)
    assert not any("--system-message" in option for option in inspect_options({**EMPTY, "args": arguments}))
    return cell_facts(run, cell(script=str(SCRIPT), function="capitalization", args=arguments | {"split": "train"}))


EMPTY = dict.fromkeys(("limit", "max_tokens", "batch_size", "temperature", "seed")) | {"system_prompt": "x"}


def asked(facts):
    """The messages of the shipped task's first sample."""
    return task_of(facts).dataset[0].input


def task_of(facts):
    """The shipped task, as Inspect makes it."""
    spec = importlib.util.spec_from_file_location("capitalization_task", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.capitalization(**facts["args"])
