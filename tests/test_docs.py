"""The documentation says what is true: commands run, output is as shown, keys are explained, links lead somewhere."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOT_OURS = {".venv", "demo", "outputs", "golden"}
PAGES = [path for path in sorted(ROOT.rglob("*.md")) if not NOT_OURS & {*path.relative_to(ROOT).parts}]
ELLIPSIS = "…"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, list[str]]]:
    """Each command of the README's consoles with the lines it is said to print."""
    found = []
    for line in "".join(blocks("console")).splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif line.strip() and line.strip() != ELLIPSIS:
            found[-1][1].append(line.rstrip())
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What `make demo` starts from."""
    made = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "tasks", made / "tasks")
    shutil.copytree(ROOT / "tests/data/logs", made / "logs")
    return made


def run(command: str, folder: Path) -> str:
    first, *rest = shlex.split(command, comments=True)
    program = [sys.executable, *rest] if first == "python" else [sys.executable, "-m", "runplan", *rest]
    done = subprocess.run(
        program, cwd=folder, env=os.environ | {"COLUMNS": "120"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(("command", "shown"), commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_commands_run_and_print_what_is_shown(folder, command, shown):
    assert command.startswith(("runplan ", "python -m runplan "))
    printed = iter(line.rstrip() for line in run(command, folder).splitlines())
    for line in shown:
        assert line in printed, f"not printed, or not in this order: {line!r}"


def tree_paths(text: str) -> list[str]:
    """The paths of a drawn tree."""
    root, *lines = text.splitlines()
    stack, found = [root.split()[0].rstrip("/")], []
    for line in lines:
        branch, name = re.fullmatch(r"((?:│   |    )*)[├└]── (\S+).*", line).groups()
        stack[len(branch) // 4 + 1 :] = [name.rstrip("/")]
        found.append("/".join(stack))
    return found


def test_the_tree_is_what_the_first_command_writes(folder):
    (tree,) = blocks("text")
    command, _ = commands()[0]
    run(command, folder)
    paths = tree_paths(tree)
    assert len(paths) > 10
    assert [path for path in paths if not (folder / path).exists()] == []


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
    assert [group for group in sorted(groups) if f"| `{group}` |" not in README] == []


def test_every_key_that_is_worked_out_is_named():
    marks = {
        f"{path.parent.name}.{key}" if path.parent.name != "conf" else key
        for path in (ROOT / "conf").rglob("*.yaml")
        for key in re.findall(r"^(\w+): \$\{rp\.\w+:\}", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }
    assert "batch_size" in marks
    assert [key for key in sorted(marks) if f"`{key}`" not in README] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
