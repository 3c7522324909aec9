"""The shape of the code: a pure core, thin edges, short files, and a start that loads nothing heavy.

The tables below are the architecture; a module that is in no table is pure.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "runplan"

# The only modules that touch Hydra, other programs or the disk. A name stands for its submodules, too.
EDGES = {
    "__main__": "starts the command line",
    "_hydra": "what Hydra looks for: the sweeper, the search path",
    "app": "Hydra's entry point",
    "ask.command": "the verb `ask`",
    "ask.dialogue": "holds the interview",
    "ask.plain": "asks line by line",
    "ask.survey": "looks at conf/, folders and files",
    "ask.terminal": "asks with menus",
    "capitalization": "makes a dataset",
    "catalogue": "reads conf/",
    "cli": "the verbs",
    "collect.command": "the verb `collect`",
    "collect.gather": "reads what the runs of a group left",
    "collect.write": "puts results into a group",
    "completion.candidates": "lists conf/ and folders",
    "completion.command": "what a shell asks",
    "discover.command": "the verb `init`",
    "discover.environments": "finds conda's and virtual environments",
    "discover.folders": "looks through folders",
    "discover.machine": "asks a machine everything",
    "discover.progress": "a line on the terminal",
    "explain": "composes the defaults",
    "files.compiled": "keeps compiled templates",
    "files.existing_group": "what is there of a group",
    "files.group_lock": "one writer at a time",
    "files.staging": "files beside their place, then renamed into it",
    "files.store": "writes groups",
    "files.unnamed_group": "takes the directory of a group without a name",
    "files.written": "reads a group",
    "group": "reads, plans, writes",
    "help_text": "lists conf/",
    "jobs.copies": "whether jobs work in copies of a directory",
    "jobs.ledger": "what was submitted",
    "jobs.look": "looks at a group's jobs",
    "jobs.processes": "whether they are there",
    "origins": "where a value stands in the user's conf/",
    "output": "standard output",
    "priors.accounting": "asks sacct",
    "priors.adapters": "finds what a run saved beside its log",
    "priors.command": "the verb `priors`",
    "priors.contents": "reads the bytes of a log",
    "priors.eval_logs": "reads one log of Inspect",
    "priors.files": "finds logs",
    "priors.index": "remembers what was read",
    "priors.log": "reads one log",
    "priors.processes": "reads logs on all cores",
    "priors.read": "reads logs",
    "priors.siblings": "reads what stands beside a log",
    "progress": "a line on the terminal",
    "random_splits": "splits a file of rows",
    "read": "reads models, datasets, tasks, disk, trainer",
    "resolvers": "marks in conf/",
    "slurm.commands": "asks SLURM",
    "status.command": "the verb `status`",
    "status.screen": "shows a group's status",
    "submit.child": "starts the process of a job",
    "submit.command": "the verb `submit`",
    "submit.deciding": "logs, checkpoints and limits that another attempt learns from",
    "submit.edited": "whether job scripts were edited",
    "submit.gpu_locks": "locks a file a GPU",
    "submit.local": "runs jobs here",
    "submit.machine": "what is here",
    "submit.prerequisites": "whether what jobs need is there",
    "submit.progress": "shows how jobs get on here",
    "submit.sbatch_jobs": "calls sbatch",
    "submit.signals": "takes signals to stop",
    "submit.snapshot": "a group's jobs as they are",
    "submit.submitit_jobs": "calls submitit",
    "submit.trial": "asks sbatch about requests",
    "summary.screen": "shows the summary",
    "sweep.check_command": "holds override lines against the schema, with Hydra",
    "sweep.check_files": "reads the user's conf/",
    "sweep.compose": "calls Hydra's composition",
    "sweep.exclusion": "leaves combinations out, as Hydra parsed them",
    "sweep.hydra_errors": "what Hydra and the user's conf/ complain of, in our words",
    "sweep.overrides": "parses override lines, with Hydra",
    "sweep.reading": "from Hydra's configuration to ours",
    "sweep.run_composer": "composes and reads group choices, each once",
    "sweep.runs": "composes",
    "tiny": "makes a model folder",
    "utf8": "starts the program again",
}

# Programs of their own: copied into runs, executed and imported by the trainer alone.
PROGRAMS = "recipes"

# What a module may import beyond the standard library and runplan.
THIRD_PARTY = {
    "_hydra": {"hydra", "omegaconf"},
    "app": {"hydra", "omegaconf"},
    "ask.command": {"yaml"},
    "ask.terminal": {"prompt_toolkit"},
    "catalogue": {"yaml"},
    "cli": {"hydra", "omegaconf"},
    "collect.figures": {"jinja2"},
    "collect.gather": {"inspect_ai"},
    "collect.intervals": {"numpy"},
    "collect.page": {"jinja2"},
    "collect.report": {"jinja2"},
    "collect.write": {"jinja2"},
    "config": {"omegaconf"},
    "explain": {"hydra", "omegaconf"},
    "files.compiled": {"jinja2"},
    "files.render": {"jinja2"},
    "files.store": {"yaml"},
    "group": {"jinja2"},
    "jobs.scripts": {"jinja2"},
    "keys": {"omegaconf"},
    "origins": {"yaml"},
    "priors.command": {"rich"},
    "read": {"tokenizers", "yaml"},
    "report.page": {"markupsafe"},  # what jinja2 escapes with
    "resolvers": {"omegaconf"},
    "status.command": {"rich"},
    "status.screen": {"rich"},
    "submit.progress": {"rich"},
    "submit.submitit_jobs": {"submitit"},
    "summary.readme": {"jinja2"},
    "summary.screen": {"rich"},
    "sweep.check_command": {"hydra", "omegaconf"},
    "sweep.check_files": {"omegaconf", "yaml"},
    "sweep.compose": {"hydra", "omegaconf"},
    "sweep.hydra_errors": {"hydra", "omegaconf", "yaml"},
    "sweep.literal_files": {"omegaconf", "yaml"},
    "sweep.overrides": {"hydra"},  # its parser
    "sweep.reading": {"omegaconf"},
    "sweep.run_composer": {"omegaconf"},
    "sweep.runs": {"hydra", "omegaconf", "yaml"},
    "trainers": {"jinja2", "yaml"},
    "yaml_text": {"yaml"},
}

# Imported inside the function that needs them: start-up time is a feature.
HEAVY = {
    *("inspect_ai", "numpy", "pandas", "prompt_toolkit", "rich"),
    *("submitit", "tokenizers", "torch", "torchtune", "transformers"),
}

# Standard modules and calls that reach out of the process.
OUTSIDE_MODULES = {"fcntl", "glob", "http", "shutil", "socket", "subprocess", "tempfile", "urllib"}
OUTSIDE_CALLS = {
    *("open", "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "rmdir", "unlink", "touch", "rename"),
    *("exists", "is_file", "is_dir", "iterdir", "glob", "rglob", "stat", "samefile", "symlink_to", "getenv"),
}
OUTSIDE_ALLOWED = {
    "locate": {"exists"},  # the function it is given
    "paths": {"is_dir"},  # the package's own folders: inside it, or beside it in a checkout
    "recipe": {"is_file"},  # the function it is given
    "trainers.shipped": {"read_text"},  # the recipes that the package ships
}

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40  # without the docstring
LONGER_FILES = {"config": "every key of conf/, once"}
WORDS_FOR_NOTHING = {"base", "common", "helpers", "manager", "misc", "utils"}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
OURS = [name for name in MODULES if name.split(".")[0] != PROGRAMS]


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def row(table: dict, name: str):
    """The table's entry for a module or for the nearest package above it."""
    parts = name.split(".")
    return next((table[key] for n in range(len(parts), 0, -1) if (key := ".".join(parts[:n])) in table), None)


def is_edge(name: str) -> bool:
    return row(EDGES, name) is not None


def statements(node: ast.AST, *, inside_functions: bool) -> Iterator[ast.AST]:
    """Every node that runs, without what stands under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
            continue
        yield child
        yield from statements(child, inside_functions=inside_functions)


def imports(name: str, *, inside_functions: bool = True) -> set[str]:
    """Dotted names of imported modules."""
    found = set()
    for node in statements(tree(name), inside_functions=inside_functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: imports are absolute"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            known = {f"runplan.{module}" for module in MODULES}
            found |= (submodules & known) or {node.module}
    return found


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def functions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree(name)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("name", OURS)
def test_imports_only_what_its_row_allows(name):
    allowed = set(sys.stdlib_module_names) | {"runplan"} | (row(THIRD_PARTY, name) or set())
    assert roots(imports(name)) <= allowed


@pytest.mark.parametrize("name", [name for name in OURS if not is_edge(name)])
def test_the_core_imports_no_edge_and_reaches_nothing_outside(name):
    names = imports(name)
    edges = {full for full in names if full.startswith("runplan.") and is_edge(full.removeprefix("runplan."))}
    assert not edges, "a pure module depends on an edge"
    assert not roots(names) & OUTSIDE_MODULES
    calls = (node for node in ast.walk(tree(name)) if isinstance(node, ast.Call))
    called = {(ast.unparse(call.func).split(".")[-1], call.lineno) for call in calls}
    forbidden = OUTSIDE_CALLS - OUTSIDE_ALLOWED.get(name, set())
    assert not {(what, line) for what, line in called if what in forbidden}


@pytest.mark.parametrize("name", OURS)
def test_nothing_heavy_is_imported_at_module_level(name):
    assert not roots(imports(name, inside_functions=False)) & HEAVY


def test_nothing_heavy_is_loaded_by_starting():
    started = [f"runplan.{name}" for name in OURS if name.split(".")[0] not in {"__main__", "_hydra"}]
    code = f"import sys, {', '.join(started)}\nprint(*{HEAVY!r}.intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def test_reading_logs_waits_for_no_hydra():
    code = "import sys, runplan.priors.command\nprint(*{'hydra', 'omegaconf', 'yaml'}.intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


@pytest.mark.parametrize("name", MODULES)
def test_files_and_functions_are_short(name):
    lines = MODULES[name].read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_FILE_LINES or name in LONGER_FILES
    for function in functions(name):
        first = function.body[0]
        is_docstring = ast.get_docstring(function) is not None
        docstring_lines = first.end_lineno - first.lineno + 1 if is_docstring else 0
        assert function.end_lineno - function.lineno + 1 - docstring_lines <= MAX_FUNCTION_LINES, function.name


@pytest.mark.parametrize("name", MODULES)
def test_names_say_what_is_inside(name):
    assert not WORDS_FOR_NOTHING & {word for part in name.split(".") for word in part.split("_")}


@pytest.mark.parametrize("name", OURS)
def test_public_functions_say_what_comes_back(name):
    assert ast.get_docstring(tree(name)) or name == "__init__"
    bodies = [
        tree(name).body,
        *(node.body for node in tree(name).body if isinstance(node, ast.ClassDef) and is_public(node)),
    ]
    found = (node for body in bodies for node in body if isinstance(node, ast.FunctionDef) and is_public(node))
    assert [function.name for function in found if not ast.get_docstring(function)] == []


def is_public(node: ast.ClassDef | ast.FunctionDef) -> bool:
    return not node.name.startswith("_")


def test_the_check_itself_sees_what_it_looks_for(tmp_path, monkeypatch):
    bad = tmp_path / "bad.py"
    bad.write_text("import pandas\nfrom runplan import store\ndef f():\n    import subprocess\n    open('x')\n")
    monkeypatch.setitem(MODULES, "bad", bad)
    monkeypatch.setitem(MODULES, "store", bad)
    for check in (
        test_imports_only_what_its_row_allows,
        test_the_core_imports_no_edge_and_reaches_nothing_outside,
        test_nothing_heavy_is_imported_at_module_level,
        test_public_functions_say_what_comes_back,
    ):
        with pytest.raises(AssertionError):
            check("bad")
