"""The documentation says what is true: commands run, output is as shown, keys are explained, links lead somewhere."""

import ast
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from job_plans import fake_program

from runplan import cli, tiny

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOT_OURS = {".venv", "demo", "outputs", "golden"}
PAGES = [path for path in sorted(ROOT.rglob("*.md")) if not NOT_OURS & {*path.relative_to(ROOT).parts}]
MANUAL = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELLIPSIS = "…"


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, str, list[str]]]:
    """Each page, command of its consoles, and the lines that it is said to print."""
    found = []
    for page in MANUAL:
        for line in "".join(blocks("console", page.read_text(encoding="utf-8"))).splitlines():
            if line.startswith("$ "):
                found.append((page.name, line.removeprefix("$ "), []))
            elif line.strip() and line.strip() != ELLIPSIS:
                found[-1][2].append(line.rstrip())
    return found


SBATCH = """\
case "$*" in *--test-only*) echo "sbatch: Job 1 to start at 2026-01-01T00:00:00" >&2; exit 0 ;; esac
id=$(($(wc -l <"$QUEUE") + 1)); token=$(sed -n "s/^#SBATCH --comment=//p" "${@: -1}" | tr -d '"')
echo "$id|$id|PENDING|Priority|2026-01-01T00:00:00|N/A|$token" >>"$QUEUE"; echo "$id"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What `make demo` starts from, and what docs/extend.md says to write."""
    made = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "tasks", made / "tasks")
    shutil.copytree(ROOT / "tests/data/logs", made / "logs")
    rows = [{"input": f"{a}+{b}", "output": str(a + b)} for a in range(60) for b in range(60)]
    sums = {"train": rows[:3000], "validation": rows[3000:3300], "test": rows[3300:]}
    (made / "data").mkdir()
    (made / "data/sums.json").write_text(json.dumps(sums))
    (made / "data/rows.csv").write_text("input,output\n" + "".join(f"{i}+1,{i + 1}\n" for i in range(3600)))
    tiny.create(made / "models/My-Llama")
    (made / "queue").touch()
    fake_program(made / "bin", "sbatch", SBATCH)
    fake_program(made / "bin", "squeue", 'cat "$QUEUE"')
    fake_program(made / "bin", "sacct", "exit 1")
    return made


@pytest.fixture(autouse=True)
def _slurm(folder, monkeypatch) -> None:
    """A SLURM that takes every job and starts none; a width at which tables stand as they are printed here."""
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("QUEUE", str(folder / "queue"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("SLURM_CONF", raising=False)


def run(command: str, folder: Path, monkeypatch, capsys) -> str:
    monkeypatch.chdir(folder)
    words = shlex.split(command, comments=True)
    words = words[3:] if words[0] == "python" else words[1:]
    handlers = [*logging.root.handlers]
    code = cli.main(words)
    logging.root.handlers[:] = handlers
    said = capsys.readouterr()
    # jobs that never began have left no results
    assert code == (1 if words[0] == "collect" else 0), f"{command}\n{said.out}{said.err}"
    return said.out


@pytest.fixture
def ran(folder, monkeypatch, capsys) -> Path:
    """Where every command has run: by the tests before, or now where these were left out."""
    if not all((folder / "outputs" / name).is_file() for name in ("ranks/results.csv", "sent/ledger.jsonl")):
        for page, command, _ in commands():
            write_files_of(ROOT / "docs" / page, folder)
            run(command, folder, monkeypatch, capsys)
    return folder


@pytest.mark.parametrize(
    ("page", "command", "shown"), commands(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_commands_run_and_print_what_is_shown(folder, monkeypatch, capsys, page, command, shown):
    assert command.startswith(("runplan ", "python -m runplan "))
    write_files_of(ROOT / "docs" / page, folder)
    printed = iter(line.rstrip() for line in run(command, folder, monkeypatch, capsys).splitlines())
    for line in shown:
        assert line in printed, f"not printed, or not in this order: {line!r}"


def write_files_of(page: Path, folder: Path) -> None:
    """Write each YAML block whose file the text before it names: `conf/…/NAME.yaml`."""
    if not page.is_file() or page.name == "README.md":
        return
    text = page.read_text(encoding="utf-8")
    for name, block in re.findall(r"`(conf/\S+?\.yaml)`:\n\n```yaml\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(block)


def test_shell_lines_that_are_not_run_are_few_and_known():
    lines = [line for page in MANUAL for line in "".join(blocks("sh", page.read_text(encoding="utf-8"))).splitlines()]
    assert [line for line in lines if line and not line.startswith(("pip install ", "#"))] == []


def tree_paths(text: str) -> list[str]:
    """The paths of a drawn tree."""
    root, *lines = text.splitlines()
    stack, found = [root.split()[0].rstrip("/")], []
    for line in lines:
        branch, name = re.fullmatch(r"((?:│   |    )*)[├└]── (\S+).*", line).groups()
        stack[len(branch) // 4 + 1 :] = [name.rstrip("/")]
        found.append("/".join(stack))
    return found


def test_the_tree_is_what_the_first_command_writes(ran):
    (tree,) = blocks("text")
    paths = tree_paths(tree)
    assert len(paths) > 10
    assert [path for path in paths if not (ran / path).exists()] == []
    assert [path for path in planned_files(ran) if not is_drawn(path, tree, paths)] == []


def planned_files(ran: Path) -> list[str]:
    """What planning wrote into the group, without what `collect` adds."""
    files = (path.relative_to(ran) for path in (ran / "outputs/ranks").rglob("*") if path.is_file())
    return [path.as_posix() for path in files if not path.parts[2].startswith("results")]


def is_drawn(path: str, tree: str, paths: list[str]) -> bool:
    """Whether a tree names a file, a folder around it that it leaves closed, or the same in a run that is alike."""
    folders = tuple(f"{path}/" for path in paths if not any(other.startswith(f"{path}/") for other in paths))
    alike = {
        run: name for name, text in re.findall(r"[├└]── (\S+)/ +(.*) alike", tree) for run in re.findall(r"\w+", text)
    }
    root, group, run, *rest = path.split("/")
    drawn = "/".join([root, group, alike.get(run, run), *rest])
    return drawn in paths or drawn.startswith(folders)


def test_the_first_screen_has_command_table_and_tree():
    first = README.splitlines()[:50]
    assert first.index("```console") < first.index("```text") < first.index("## Quick start")


def test_every_key_is_explained_under_its_field():
    module = ast.parse((ROOT / "runplan/config.py").read_text(encoding="utf-8"))
    classes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}
    assert {"Config", "Lora", "Site"} <= {*classes}
    unexplained = [
        f"{name}.{field.target.id}"
        for name, node in classes.items()
        for field, after in zip(node.body, [*node.body[1:], None], strict=True)
        if isinstance(field, ast.AnnAssign)
        and ast.unparse(field.annotation) not in classes  # a group: its class has the docstring
        and not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant))
    ]
    assert unexplained == []
    assert [name for name, node in classes.items() if not ast.get_docstring(node)] == []


def test_every_group_is_in_the_table():
    groups = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir() and path.name != "local"}
    page = (ROOT / "docs/plan.md").read_text(encoding="utf-8")
    assert [group for group in sorted(groups) if f"| `{group}` |" not in page] == []


def test_every_key_that_is_worked_out_is_named():
    marks = {
        f"{path.parent.name}.{key}" if path.parent.name != "conf" else key
        for path in (ROOT / "conf").rglob("*.yaml")
        for key in re.findall(r"^(\w+): \$\{rp\.\w+:\}", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }
    assert "batch_size" in marks
    page = (ROOT / "docs/plan.md").read_text(encoding="utf-8")
    assert [key for key in sorted(marks) if f"`{key}`" not in page] == []


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as they are linked to."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for link in links:
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def test_every_page_is_in_the_index_and_in_the_readme():
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    names = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert [name for name in sorted(names) if f"]({name})" not in index or f"](docs/{name})" not in README] == []


def test_messages_that_are_explained_are_those_that_are_said():
    sources = (
        path.read_text(encoding="utf-8")
        for path in [*(ROOT / "runplan").rglob("*.py"), *(ROOT / "templates").rglob("*.j2")]
    )
    source = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))
    tables = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.*?) \|", tables, flags=re.MULTILINE)
    said = [part.strip() for cell in cells for message in re.findall("`([^`]+)`", cell) for part in message.split("…")]
    assert len(said) > 20
    assert [part for part in said if len(part) > 3 and part not in source] == []


def keys_of(value: object) -> set[str]:
    """Every key in a document, at any depth."""
    if isinstance(value, dict):
        return {*value}.union(*(keys_of(part) for part in value.values()))
    return set().union(*(keys_of(part) for part in value)) if isinstance(value, list) else set()


def test_every_field_of_the_files_is_explained(ran):
    page = (ROOT / "docs/files.md").read_text(encoding="utf-8")
    document = json.loads((ran / "outputs/ranks/plan.json").read_text())
    of_the_user = {"config", "factors", "env"}
    for run_entry in document["runs"]:
        for key in of_the_user & {*run_entry}:
            run_entry[key] = {}
    document["design"]["factors"] = {}
    named = {part for text in re.findall("`([^`]+)`", page) for part in re.split(r"[.\[\]]+", text)}
    assert sorted(keys_of(document) - named) == []
    header = (ran / "outputs/ranks/plan.csv").read_text().splitlines()[0].split(",")
    results = (ran / "outputs/ranks/results.csv").read_text().splitlines()[0].split(",")
    assert [
        name
        for name in (*header, *results)
        if name not in named and name not in document["design"] and name != "lora.rank"
    ] == []
    setup = (ran / "outputs/ranks/1B_rank4/setup_finetune.yaml").read_text()
    assert [key for key in re.findall(r"^(\w+):", setup, flags=re.MULTILINE) if key not in named] == []
    events = {line["event"] for line in map(json.loads, (ran / "outputs/sent/ledger.jsonl").read_text().splitlines())}
    assert events == {"intent", "submitted"}


def test_the_accuracy_shown_is_that_of_the_benchmark():
    """The table in docs/estimate.md, row by row as `make bench` prints it."""
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/accuracy.py"], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    measured, heading = {}, ""
    for line in done.stdout.splitlines():
        heading = line if re.fullmatch(r"[\w -]+: \S+", line) else heading
        row = re.match(r"(\d+(?: same| other)?) +calibrated +\d+ +(\S+) +\S+ +(\S+)(?: +(\S+) +(\S+))?", line)
        if row:
            measured[heading, row[1]] = [text or "" for text in row.groups()[1:]]
    page = ROOT / "docs/estimate.md"
    text = page.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w -]+: \S+) \| (\d[ \w]*) \|.*$", text, flags=re.MULTILINE)
    assert len(rows) >= 8
    for key in rows:
        said = f"| {' | '.join([*key, *measured[key]])} |"
        if os.environ.get("RUNPLAN_REGEN"):
            text = re.sub(rf"^\| {re.escape(key[0])} \| {key[1]} \|.*$", said, text, flags=re.MULTILINE)
            page.write_text(text, encoding="utf-8")
        assert said in text.splitlines(), (
            "RUNPLAN_REGEN=1 python -m pytest tests/test_docs.py rewrites docs/estimate.md"
        )
