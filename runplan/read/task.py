"""An Inspect file, read by parsing: which tasks it defines and what they take. It is never imported or run."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path

from runplan.facts import Finding, Status, TaskFacts
from runplan.read.regular import open_regular

_LARGEST_BYTES = 5_000_000  # more is no task file


def read_task(path: Path, name: str, wanted: Sequence[str] = (), fix: str = "") -> TaskFacts:
    """The `@task` functions of a file; never raises for what is in it.

    Args:
        path: the file, absolute.
        name: of the evaluation; the task of that name, or the only one, is the one that runs.
        wanted: names that the user set in `evaluation.tasks`.
        fix: what to do when there is no file.
    """
    tree = _parse(path, fix)
    if isinstance(tree, Finding):
        return TaskFacts(str(path), tree.status, findings=(tree,))
    parameters = tasks_of(tree)
    findings = _check_names(tuple(parameters), name, wanted)
    status = Status.invalid if any(finding.status is Status.invalid for finding in findings) else Status.ok
    return TaskFacts(str(path), status, tuple(parameters), parameters, tuple(findings))


def tasks_of(tree: ast.Module) -> dict[str, tuple[str, ...]]:
    """Name of each task, in order of the file, and the parameters of its function; `**` stands for any."""
    names, modules = _imported(tree)
    found: dict[str, tuple[str, ...]] = {}
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for function in sorted(functions, key=lambda node: node.lineno):
        for decorator in function.decorator_list:
            marker = decorator.func if isinstance(decorator, ast.Call) else decorator
            if _is_task(marker, names, modules):
                found[_name(function, decorator)] = _parameters(function.args)
    return found


def _parse(path: Path, fix: str) -> ast.Module | Finding:
    try:
        if path.is_dir():
            return Finding(Status.invalid, "is a folder, not a Python file", "set evaluation.script to the file")
        with open_regular(path) as file:
            text = file.read(_LARGEST_BYTES)
        return ast.parse(text)
    except FileNotFoundError:
        return Finding(Status.missing, "no such file", fix)
    except OSError as error:
        return Finding(Status.invalid, f"cannot be read: {error.strerror or error}", "check the path's permissions")
    except SyntaxError as error:
        return Finding(Status.invalid, f"is not Python: line {error.lineno}: {error.msg}", "correct the file")
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes, absurd nesting
        return Finding(Status.invalid, f"is not Python: {error}", "correct the file")


NO_TASK = "decorate a function with @task of inspect_ai, or name another file with evaluation.script"


def _check_names(tasks: Sequence[str], name: str, wanted: Sequence[str]) -> list[Finding]:
    if not tasks:
        return [Finding(Status.invalid, "defines no Inspect task", NO_TASK)]
    listed = ", ".join(tasks)
    unknown = [task for task in wanted if task not in tasks]
    if unknown:
        return [
            Finding(Status.invalid, f"has no task {unknown[0]}; its tasks are {listed}", "correct evaluation.tasks")
        ]
    if wanted or name in tasks:
        return []
    if len(tasks) == 1:
        return [Finding(Status.ok, f"its only task is called {tasks[0]}, not {name}")]
    return [
        Finding(
            Status.invalid,
            f"none of its {len(tasks)} tasks ({listed}) is called {name}",
            f"choose with evaluation.tasks=[{tasks[0]}]",
        )
    ]


def _imported(tree: ast.Module) -> tuple[set[str], set[str]]:
    """What `inspect_ai.task` and `inspect_ai` are called in the file; `task` always counts."""
    names, modules = {"task"}, {"inspect_ai"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "inspect_ai":
            names |= {alias.asname or alias.name for alias in node.names if alias.name == "task"}
        elif isinstance(node, ast.Import):
            modules |= {alias.asname for alias in node.names if alias.name == "inspect_ai" and alias.asname}
    return names, modules


def _is_task(marker: ast.expr, names: set[str], modules: set[str]) -> bool:
    if isinstance(marker, ast.Name):
        return marker.id in names
    return (
        isinstance(marker, ast.Attribute)
        and marker.attr == "task"
        and isinstance(marker.value, ast.Name)
        and marker.value.id in modules
    )


def _name(function: ast.FunctionDef | ast.AsyncFunctionDef, decorator: ast.expr) -> str:
    """The function's name, or what the decorator calls it."""
    if isinstance(decorator, ast.Call):
        said: Mapping[str | None, ast.expr] = {keyword.arg: keyword.value for keyword in decorator.keywords}
        given = said.get("name", decorator.args[0] if decorator.args else None)
        if isinstance(given, ast.Constant) and isinstance(given.value, str):
            return given.value
    return function.name


def _parameters(args: ast.arguments) -> tuple[str, ...]:
    names = [arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
    return (*names, *(["**"] if args.kwarg is not None else []))
