"""From a plan to `{path: text}`: every file of a group, by its path relative to the group. Pure."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import (
    BytecodeCache,
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
    select_autoescape,
)
from jinja2.defaults import DEFAULT_NAMESPACE

from runplan import yaml_text
from runplan.errors import RenderError
from runplan.files.document import document_csv, document_text, plan_document
from runplan.files.file_names import DOCUMENT, PAGE, PLAN_TABLE, README, SETUP, SUBMIT_ALL
from runplan.files.group_files import GroupFiles, RunFiles
from runplan.files.provenance import hydra_files
from runplan.files.setup_file import setup_finetune
from runplan.jobs.scripts import job_files, submit_all
from runplan.report.page import report
from runplan.suggest import did_you_mean, listed
from runplan.summary.readme import readme_of
from runplan.trainers.known import trainer_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runplan.plan import Plan, PlannedRun

SUFFIX = ".j2"


@cache
def environment(templates_dir: Path, compiled: BytecodeCache | None = None, *more: Path) -> Environment:
    """Templates under a folder: strict about names, with `| sh` for shell words and `| yaml` for YAML scalars.

    Args:
        templates_dir: folder of the templates.
        more: folders whose templates come before those of the same name.
        compiled: where compiled templates are kept for the next call; None keeps none.
    """
    made = Environment(
        loader=FileSystemLoader((*more, templates_dir)),
        undefined=StrictUndefined,
        bytecode_cache=compiled,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        # pages escape by themselves; elsewhere values pass `| sh` or `| yaml`
        autoescape=select_autoescape(("html.j2",), default_for_string=False),
    )
    made.filters["sh"] = lambda value: shlex.quote(str(value))
    made.filters["yaml"] = yaml_text.scalar
    return made


def render_run(plan: Plan, run: PlannedRun, templates: Environment) -> dict[str, str]:
    """The files of one run, by path relative to the run's directory."""
    files = hydra_files(plan, run)
    if run.sizing is not None:
        files[SETUP] = setup_finetune(plan, run)
        files |= trainer_of(run.config).training_files(plan, run, templates)
    return files | job_files(plan, run, templates)


@contextmanager
def template_errors() -> Iterator[None]:
    """Raise what is wrong with a template, perhaps the user's own, as a `RenderError`."""
    try:
        yield
    except UndefinedError as error:
        place, names = _undefined(error)
        what = f"{place}: {error}: the plan has no such thing"
        word = str(error).partition("'")[2].partition("'")[0]
        raise RenderError(f"{what}; {did_you_mean(word, names, f'there are {listed(names)}')}") from error
    except TemplateSyntaxError as error:
        place = f"{error.filename or error.name}, line {error.lineno}"
        raise RenderError(f"{place}: {error.message}; mend the template") from error
    except TemplateNotFound as error:
        what = f"a template asks for {error.name}, which is in no folder of templates"
        raise RenderError(f"{what}; put it into conf/templates/") from error


def _undefined(error: UndefinedError) -> tuple[str, list[str]]:
    """The template and line that name what is not there, and the names that they could use."""
    place = "a template"
    names: list[str] = []
    frames = error.__traceback__
    while frames is not None:  # jinja2 rewrites them: file, line and local names are the template's
        if frames.tb_frame.f_code.co_filename.endswith(SUFFIX):
            place = f"{frames.tb_frame.f_code.co_filename}, line {frames.tb_lineno}"
            known = frames.tb_frame.f_locals
            names = [name for name in known if name not in DEFAULT_NAMESPACE and not name.startswith("_")]
        frames = frames.tb_next
    return place, names


def render(plan: Plan, templates: Environment) -> dict[str, str]:
    """All files of a group, by path relative to it.

    Raises:
        RenderError: a template asks for a name that is not there, or cannot be read.
    """
    files = group_files(plan, templates)
    texts = {f"{name}/{path}": text for name in files.runs for path, text in files.runs[name].items()}
    return texts | dict(files.own)


def group_files(plan: Plan, templates: Environment) -> GroupFiles:
    """All files of a group; those of a run are made when they are asked for, and may raise what this does.

    Raises:
        RenderError: a template asks for a name that is not there, or cannot be read.
    """
    planned = {run.name: run for run in plan.runs}

    def of_run(name: str) -> dict[str, str]:
        with template_errors():
            return render_run(plan, planned[name], templates)

    with template_errors():
        document = plan_document(plan)
        own = {
            README: readme_of(document, plan.directory, templates),
            PAGE: report(document, plan.directory, templates),
            DOCUMENT: document_text(document),
            PLAN_TABLE: document_csv(document),
            SUBMIT_ALL: submit_all(plan, templates),
        }
    return GroupFiles(own, RunFiles(planned, of_run))
