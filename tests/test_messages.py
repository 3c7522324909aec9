"""Mistakes that users make, and what they are told: what is wrong, where, and what to do; all at once, no traceback."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path

import pytest

from runplan import cli

ROOT = Path(__file__).parents[1]
ROWS = {"input": "a", "output": "b"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the mistakes are made: a task with data, and files that are wrong in one way each."""
    made = tmp_path_factory.mktemp("mistakes")
    shutil.copytree(ROOT / "tasks", made / "tasks")
    few = {split: [{"input": f"{split} {i}", "output": "b"} for i in range(4)] for split in ("train", "validation")}
    texts = {
        "broken.yaml": "a: [1\n", "list.yaml": "- 1\n", "text.json": "hello", "list.json": json.dumps([ROWS]),
        "empty.json": '{"train": []}', "columns.json": '{"train": [{"q": "a"}], "validation": [{"q": "b"}]}',
        "few.json": json.dumps(few), "no_task.py": "x = 1\n", "two.dots.py": "", "a_file": "",
        "damaged/plan.json": "{nope", "newer/plan.json": '{"schema": 9}',
        "partial/plan.json": '{"schema": 1, "runs": [{}]}',
        "empty/.keep": "", "conf/lora/typo.yaml": "defaults: [default]\nrnak: 4\n",
        "conf/lora/broken.yaml": "rank: [4\n", "conf/lora/word.yaml": "defaults: [default]\nrank: four\n",
        "conf/model/mine.yaml": "defaults: [1b]\n", "busy/README.md": "mine",
    }  # fmt: skip
    for name, text in texts.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    (made / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    return made


PLAN = ["dataset.create=true", "preview=true"]
NO_DATA = ["evaluation=none", "preview=true"]

# The words, the exit code, and for each problem parts of: what is wrong, where, what to do.
MISTAKES: list[tuple[list[str], int, list[tuple[str, str, str]]]] = [
    # keys and values
    (["lora.rnak=4"], 2, [("no key lora.rnak", "lora.rnak", "did you mean lora.rank?")]),
    (["modle=1B"], 2, [("no key modle", "modle", "did you mean model")]),
    (["qqq=1"], 2, [("no key qqq", "qqq", "--cfg job")]),
    (["model=1C"], 2, [("no option '1C'", "model", "1B")]),
    (["site=nowhere"], 2, [("no option 'nowhere'", "site", "options: ")]),
    (["+experiment=rank"], 2, [("no option 'rank'", "experiment", "did you mean ranks?")]),
    (["experiment=ranks"], 2, [("not among the defaults", "experiment", "write +experiment=ranks")]),
    (["experiment=ranks,replicates"], 2, [("not among the defaults", "experiment", "write +experiment=ranks,rep")]),
    (["experiment=[ranks]"], 2, [("not among the defaults", "experiment", "write '+experiment=[ranks]'")]),
    (["seed="], 2, [("'' is no whole number", "seed", "runplan help seed")]),
    (["model=1B lora.rank=4"], 2, [("holds several settings", "model", "own: model=1B lora.rank=4")]),
    (["lora.rank=4,,8"], 2, [("lacks a value beside a comma", "lora.rank", "write lora.rank=4,8")]),
    (["lora.rank=4 8"], 2, [("'4 8' is no whole number", "lora.rank", "lora.rank=4,8")]),
    (['dtype="bf16,fp32"'], 2, [("'bf16,fp32'", "dtype", "dtype=bf16,fp32")]),
    (["validation=true false"], 2, [("neither true nor false", "validation", "validation=true,false")]),
    (["model=1B 3B"], 2, [("no option '1B 3B'", "model", "model=1B,3B")]),
    (["model=[1B,3B]"], 2, [("lays these over one another", "model", "several are model=1B,3B")]),
    (["lora.rank=4.5"], 2, [("'4.5' is no whole number", "lora.rank", "runplan help lora.rank")]),
    (["validation=maybe"], 2, [("neither true nor false", "validation", "runplan help validation")]),
    (["dtype=fp16"], 2, [("fp16", "dtype", "runplan help dtype")]),
    (["priors.paths=logs"], 2, [("takes a list", "priors.paths", "priors.paths=[A]")]),
    (["dataset.path=[1]"], 2, [("list", "dataset.path", "quote text")]),
    (["train=false", "evaluation=none"], 2, [("leave nothing to do", "train, evaluation", "drop one of them")]),
    (["resources.mem=0"], 2, [("all memory of a node", "resources.mem", "such as 64G")]),
    (["group.name=a\nb"], 2, [("holds characters that cannot be seen", "group.name", "use letters")]),
    (['group.name="a\tb"'], 2, [("holds characters that cannot be seen", "group.name", "use letters")]),
    (["system_prompt=a\nb"], 2, [("such as a newline", "system_prompt", "$'system_prompt=\"a\\nb\"'")]),
    (['system_prompt=a"b'], 2, [("a quote or a sign in it", "system_prompt", "'system_prompt=\"a\\\"b\"'")]),
    (["system_prompt=a b=c"], 2, [("cannot be read", "system_prompt", "'system_prompt=\"a b=c\"'")]),
    (["prompt=Say it"], 2, [("has no {input}", "prompt", "{input}")]),
    (["~seed"], 2, [("cannot be left out", "seed", "seed=…")]),
    (["seed"], 2, [("no verb and no override", "seed", "seed=VALUE")]),
    (["model=1B", "seed"], 2, [("'seed' is no override", "seed", "seed=VALUE")]),
    (["epochs=0"], 2, [("epochs is 0", "epochs", "epochs=1 or more")]),
    (["lora.dropout=2"], 2, [("must be at least 0 and below 1", "lora.dropout", "0.05")]),
    (["lora.attn_modules=[x]"], 2, [("names x", "lora.attn_modules", "q_proj")]),
    (["lora.attn_modules=[]", "lora.apply_to_mlp=false"], 2, [("no module", "lora.attn_modules", "apply_to_mlp")]),
    (["packed=maybe"], 2, [("'maybe'", "packed", "packed=auto")]),
    (["optimizer.lr_scheduler=step"], 2, [("'step'", "optimizer.lr_scheduler", "cosine")]),
    (["trainer.device=tpu"], 2, [("'tpu'", "trainer.device", "cuda, cpu")]),
    (["resources.gpus=0"], 2, [("resources.gpus is 0", "resources.gpus", "resources.gpus=1")]),
    (["resources.time=10"], 2, [("10 minutes", "resources.time", "00:10:00")]),
    (["resources.time=0"], 2, [("leaves no time", "resources.time", "HH:MM:SS")]),
    (["system_prompt=null"], 2, [("system_prompt is null", "system_prompt", "help system_prompt")]),
    (["resources.time=10:30"], 2, [("minutes and seconds", "resources.time", "00:10:30")]),
    (["resources.time=soon"], 2, [("'soon'", "resources.time", "HH:MM:SS")]),
    (["resources.mem=64"], 2, [("64 MB", "resources.mem", "64G")]),
    (["resources.mem=lots"], 2, [("'lots'", "resources.mem", "64G")]),
    (["site.env.A-B=1"], 2, [("site.env.A-B", "site.env.A-B", "++site.env.A-B")]),
    (["batch_size=4", "gradient_accumulation_steps=2", "effective_batch_size=16"], 2,
     [("8 sequences a step, effective_batch_size is 16", "effective_batch_size", "effective_batch_size=8")]),
    (["effective_batch_size=10", "batch_size=4"], 2, [("no multiple of", "effective_batch_size", "=8")]),
    (["priors.gpu=a999"], 2, [("a999", "priors.gpu", "a100-80")]),
    (["priors.paths=[nowhere]"], 2, [("nowhere does not exist", "priors.paths", "priors.paths=[]")]),
    (["model.create=true"], 2, [("makes model=tiny only, not 1B", "model.create", "model=tiny")]),
    (["lora.rnak=4", "model=1C", "epochs=x"], 2,
     [("lora.rnak", "lora.rnak", "lora.rank"), ("'1C'", "model", "1B"), ("'x'", "epochs", "help epochs")]),
    # files of the user's own
    (["lora=typo"], 2, [("no key lora.rnak", "typo.yaml, line 2", "lora.rank?")]),
    (["lora=broken"], 2, [("broken YAML", "broken.yaml", "mend the line")]),
    (["lora=word"], 2, [("four", "word.yaml, line 2", "runplan help lora.rank")]),
    (["model=mine"], 2, [("no option '1b'", "model", "1B")]),
    # the sweep
    (["epochs=interval(1,3)"], 2, [("an interval has no levels", "epochs", "list the levels")]),
    (["seed=range(1,2000)", "max_seq_len=range(100,200)"], 2,
     [("combinations, at most 100000", "max_seq_len, seed", "sweep in parts")]),
    (["model=1B,3B", "seed=1,2,3", "sweep.zip=[[model,seed]]"], 2, [("equally many", "sweep.zip", "levels")]),
    (["model=1B,3B", "sweep.zip=[[model,seed]]"], 2, [("not swept", "sweep.zip", "swept keys: model")]),
    (["model=1B,3B", "sweep.exclude=[{modle:1B}]"], 2, [("modle is no key", "sweep.exclude", "model")]),
    (["model=1B", "sweep.exclude=[{model:1B}]"], 2, [("are excluded", "sweep.exclude", "drop a condition")]),
    (["hydra/launcher=joblib"], 2, [("hydra/launcher", "hydra/launcher", "submit=")]),
    # runs that cannot work
    (["batch_size=4096", "max_seq_len=8192", "packed=true", *PLAN], 1,
     [("a100-80 has 79.1 GiB", "batch_size, resources", "try batch_size="),
      ("4096 packed sequences", "effective_batch_size, batch_size, packed", "smaller effective_batch_size")]),
    (["model=70B", "resources=t4-16", *PLAN], 1, [("14.6 GiB", "resources", "resources=b200-180 resources.gpus=2")]),
    (["dtype=bf16", "resources=v100-32", *PLAN], 1, [("no bf16 units", "dtype", "dtype=fp32")]),
    (["trainer.device=cpu", "resources.gpus=2", *PLAN], 1, [("no recipe", "recipe", "resources.gpus=1")]),
    (["recipe=lora_finetune_single_device", *PLAN], 1, [("no validation", "recipe", "validation=false")]),
    (["recipe.custom=nowhere.py", *PLAN], 1, [("nowhere.py is not there", "recipe.custom", "correct the path")]),
    (["recipe.custom=two.dots.py", *PLAN], 1, [("no module's name", "recipe.custom", "rename it")]),
    (["model=hf", "model.path=nowhere", *PLAN], 1, [("no such folder", "model.path", "model.repo_id")]),
    (["model=hf", "model.path=empty", *PLAN], 1, [("config.json is not there", "model.path", "model.path")]),
    (["dataset=json", *NO_DATA], 1, [("dataset json", "dataset", "dataset.path")]),
    (["dataset=json", "dataset.path=nowhere.json", *NO_DATA], 1, [("no such file", "dataset", "dataset.path")]),
    (["dataset=json", "dataset.path=text.json", *NO_DATA], 1, [("is not JSON: line 1", "dataset.path", "mend")]),
    (["dataset=json", "dataset.path=empty.json", *NO_DATA], 1, [("train has no rows", "dataset.path", "mend")]),
    (["dataset=json", "dataset.path=list.json", "effective_batch_size=1", *NO_DATA], 1,
     [("it is one list, without splits", "dataset.validation_split", "dataset.source=list.json dataset.create=true")]),
    (["dataset=json", "dataset.source=nowhere.csv", *NO_DATA], 2, [("no such file", "dataset.source", "correct")]),
    (["dataset=json", "dataset.source=columns.json", *NO_DATA], 2,
     [("holds 2 lists of rows", "dataset.source", "dataset.path instead")]),
    (["dataset=json", "dataset.source=list.json", "dataset.input_column=q", *NO_DATA], 2,
     [("has no 'q'", "dataset.source", "its columns are 'input'")]),
    (["dataset=json", "dataset.source=list.json", "dataset.train_fraction=0.999", *NO_DATA], 2,
     [("0 validation", "dataset.source", "more rows")]),
    (["dataset=json", "dataset.path=columns.json", *NO_DATA], 1,
     [("has no 'input'", "dataset.path", "its columns are 'q'"), ("'input'", "dataset.path", "input_column")]),
    (["dataset=json", "dataset.path=few.json", *NO_DATA], 1,
     [("4 training rows give no whole optimizer step of 16", "effective_batch_size", "more rows")]),
    (["dataset.train_rows=20000", *PLAN], 1, [("20000 training rows", "dataset.train_rows", "at most 8000")]),
    (["+evaluation.args.foo=1", *PLAN], 1, [("takes no argument 'foo'", "evaluation.args.foo", "evaluation.args")]),
    (["estimator=rules", *PLAN], 1, [("no log was read", "priors.paths", "estimator=calibrated")]),
    (["resources.extra_sbatch=['--time=5']", *PLAN], 1,
     [("would replace", "resources.extra_sbatch", "resources.time")]),
    # where the group goes
    (["group.name=a/b", *PLAN], 2, [("'a/b' cannot name a directory", "group.name", "without slashes")]),
    (["group.name='a\nb'", *PLAN], 2, [("'a\\nb' holds", "group.name", "letters")]),
    (["site.data_dir=${oc.env:NOBODY_SETS_IT}", *PLAN], 2,
     [("no environment variable NOBODY_SETS_IT", "site.data_dir", "export NOBODY_SETS_IT=")]),
    (["hydra.mode=nope", *PLAN], 2, [("'nope'", "hydra.mode", "help hydra.mode")]),
    ([f"group.name={'x' * 300}", *PLAN], 2, [("300 bytes", "group.name", "shorter")]),
    (["hydra.sweep.dir=x", "group.name=y", *PLAN], 2, [("hydra.sweep.dir", "group.name", "drop one")]),
    (["site.output_root=a_file", "dataset.create=true"], 1, [("Not a directory", "a_file", "site.output_root")]),
    # options
    (["--nope"], 2, [("no option --nope", "--nope", "--help")]),
    (["--cfg", "jobb"], 2, [("'jobb'", "command line", "--help")]),
    (["--config-dir", "nowhere"], 2, [("no folder nowhere", "--config-dir", "existing folder")]),
    (["--show"], 2, [("needs a file of the plan", "--show", "README.md")]),
    (["--show", "RUN", "--cfg", "job"], 2, [("only print", "--show", "one at a time")]),
    (["--show", "x.txt", *PLAN], 2, [("no file of this plan is 'x.txt'", "--show", "finetune.yaml")]),
    (["-sc", "install"], 2, [("names no shell", "-sc", "install=SHELL")]),
    (["-sc", "install=tcsh"], 2, [("'tcsh'", "-sc", "bash")]),
    (["help", "lora.rnak"], 2, [("no key lora.rnak", "lora.rnak", "lora.rank?")]),
    (["planall"], 2, [("no verb and no override", "planall", "verbs: ")]),
    # verbs
    (["init", "--models", "nowhere"], 2, [("no folder nowhere", "--models", "existing folder")]),
    (["init", "a/b", "--print", "--seconds", "0.1"], 2, [("cannot name a site", "NAME", "letters")]),
    (["init", "--seconds", "x"], 2, [("'x'", "--seconds", "runplan init --help")]),
    (["ask"], 2, [("no terminal", "runplan ask", "--yes")]),
    (["ask", "--yse"], 2, [("'--yse'", "command line", "--yes")]),
    (["ask", "--answers"], 2, [("expected one argument", "--answers", "runplan ask --help")]),
    (["ask", "--yes", "--answers", "nowhere.yaml"], 2, [("nowhere.yaml cannot be read", "--answers", "YAML file")]),
    (["ask", "--yes", "--answers", "broken.yaml"], 2, [("broken.yaml is no YAML", "--answers", "KEY: VALUE")]),
    (["ask", "--yes", "--answers", "list.yaml"], 2, [("holds a list", "list.yaml", "KEY: VALUE")]),
    (["ask", "--yes", "--answers", "bytes.yaml"], 2, [("not UTF-8", "--answers", "YAML file")]),
    (["ask", "--yes", "model"], 2, [("'model' sets nothing", "--set", "model=VALUE")]),
    (["ask", "--yes", "modle=1B"], 2, [("no key modle", "modle", "model")]),
    (["priors", "nowhere"], 2, [("nowhere does not exist", "priors.paths", "folder of earlier logs")]),
    (["priors", ".", "--jsn"], 2, [("'--jsn'", "command line", "did you mean --json?")]),
    (["priors", ".", "--gpu", "a10"], 2, [("no GPU type is called a10", "--gpu", "a10-24")]),
    (["status"], 2, [("GROUP is missing", "runplan status", "runplan status GROUP")]),
    (["status", "nowhere"], 2, [("no such directory", "nowhere", "runplan KEY=VALUE")]),
    (["status", "empty"], 2, [("holds no plan.json", "empty", "plans one")]),
    (["status", "damaged"], 1, [("not JSON", "damaged/plan.json", "plan again")]),
    (["status", "newer"], 1, [("schema 9, this runplan knows 1", "newer/plan.json", "group.name")]),
    (["status", "partial"], 1, [("group is not there", "partial/plan.json", "plan the same again")]),
    (["status", "empty", "--watch", "1"], 2, [("at least 5", "--watch", "runplan status --help")]),
    (["submit", "nowhere"], 2, [("no such directory", "nowhere", "runplan KEY=VALUE")]),
    (["submit", "empty", "--only", "faild"], 2, [("'faild' is no ending", "--only", "failed")]),
    (["collect"], 2, [("GROUP is missing", "runplan collect", "runplan collect GROUP")]),
    (["collect", "nowhere"], 2, [("no folder nowhere", "GROUP", "plans one")]),
    (["collect", "empty"], 2, [("holds no plan.json", "empty", "plans one")]),
    (["collect", "damaged"], 1, [("not JSON", "damaged/plan.json", "plan again")]),
]  # fmt: skip


def problems(text: str) -> list[tuple[str, str, str]]:
    """What a user reads on stderr, as (what, where, what to do) of each problem.

    Two forms: `WHAT   @ WHERE` with what to do indented beneath, and `runplan: WHERE: WHAT; WHAT TO DO`.
    """
    lines = [line for line in text.splitlines() if not line.startswith("warning: ")]
    joined = "\n".join(lines).removeprefix("runplan:").strip("\n")
    head = re.match(r"\d+ of \d+ runs cannot be planned, nothing was written\n", joined)
    joined = joined[head.end() :] if head else joined
    if "   @ " not in joined:
        found = re.fullmatch(r" ?(\S+): (.*); (.*)", joined.strip())
        assert found, f"says not what, where and what to do: {text}"
        return [(found[2], found[1], found[3])]
    two_lines = re.findall(r"^ *(\S.*?)   @ (.*)\n +(\S.*)$", joined, flags=re.MULTILINE)
    assert len(two_lines) == joined.count("   @ "), f"a problem without what to do: {text}"
    return two_lines


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    MISTAKES,
    ids=lambda value: " ".join(map(str, value))[:50] if isinstance(value, list) and isinstance(value[0], str) else "",
)
def test_a_mistake_is_answered_with_what_where_and_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], code: int,
    expected: list[tuple[str, str, str]],
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    handlers = [*logging.root.handlers]
    assert cli.main(words) == code
    logging.root.handlers[:] = handlers
    said = capsys.readouterr().err
    assert "Traceback" not in said
    found = problems(said)
    for what, where, fix in expected:
        assert any(what in a and where in b and fix in c for a, b, c in found), (what, where, fix, said)
    assert not (folder / "outputs").exists()


def said_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    handlers = [*logging.root.handlers]
    code = cli.main(words)
    logging.root.handlers[:] = handlers
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return code, text


def test_what_is_missing_is_said_with_what_gets_it(folder: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    plan = ["model=1B", "dataset.create=true", f"hydra.sweep.dir={tmp_path}/g"]
    for words in ([*plan, "verify.strict=true"], ["submit", f"{tmp_path}/g", "--via", "local"]):
        code, text = said_of(words, capsys)
        assert code == 3
        assert "nothing was submitted" in text
        assert "models/Llama-3.2-1B-Instruct" in text  # where
        assert "hf download meta-llama/Llama-3.2-1B-Instruct --local-dir" in text  # what to do
        assert "then run the same again" in text


def test_a_run_that_was_submitted_is_not_changed_and_that_is_said(
    folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(folder)
    plan = ["model=1B", "dataset.create=true", f"hydra.sweep.dir={tmp_path}/g"]
    assert said_of(plan, capsys)[0] == 0
    token = json.loads((tmp_path / "g/plan.json").read_text())["runs"][0]["token"]
    lines = [
        {
            "event": event,
            "token": token,
            "job_id": "7",
            "path": "1B_rank8/finetune.slurm",
            "time": "2026-01-01T00:00:00Z",
        }
        for event in ("intent", "submitted")
    ]
    (tmp_path / "g/ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, text = said_of([*plan, "optimizer.lr=1e-5", "resources.mem=99G"], capsys)
    assert code == 1
    assert '1B_rank8: resources.mem was worked out, is now "99G"' in text
    assert "1B_rank8: optimizer.lr was 0.0003, is now 1e-05" in text  # where, and both values
    assert "overwrite=true" in text


def test_a_group_on_a_machine_without_slurm_is_answered_with_the_other_way(
    folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(folder)
    assert said_of(["model=1B", "dataset.create=true", f"hydra.sweep.dir={tmp_path}/g"], capsys)[0] == 0
    monkeypatch.setenv("PATH", str(tmp_path))
    code, text = said_of(["submit", f"{tmp_path}/g"], capsys)
    assert code == 1
    assert "no sbatch on PATH" in text
    assert "--via local" in text
