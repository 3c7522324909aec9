"""`runplan collect GROUP [--json]`: what the runs of a group found, on the screen and in the group."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from runplan.arguments import Arguments
from runplan.collect.gather import gather
from runplan.collect.page import results_html
from runplan.collect.report import make_report, report_files, report_json, results_markdown
from runplan.collect.sections import results_sections
from runplan.collect.write import write_results
from runplan.errors import ConfigError, Problem
from runplan.files.compiled import CompiledTemplates
from runplan.files.file_names import PAGE, README
from runplan.files.render import environment, template_errors
from runplan.paths import TEMPLATES_DIR, cache_dir, user_template_dirs
from runplan.summary.screen import print_sections
from runplan.utf8 import escaped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runplan.collect.sections import Report


def main(argv: Sequence[str]) -> int:
    """Collect a group; 0 when everything that was planned is there, 1 when something is missing, 2 for wrong words.

    Raises:
        ConfigError: there is no such folder.
        StoreError: the group cannot be read or written.
    """
    try:
        options = _parser().parse_args(argv)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 2
    directory = Path(options.group)
    if not directory.exists():
        fix = "name the folder of a group; `runplan KEY=VALUE…` plans one and says where it is"
        raise ConfigError([Problem(f"there is no folder {directory}", "GROUP", fix)])
    cache = cache_dir()
    group = gather(directory, cache)
    templates = environment(TEMPLATES_DIR, CompiledTemplates(cache / "templates"), *user_template_dirs())
    place = Path(group.directory)
    with template_errors():
        report, files = report_files(make_report(group), templates)
        parts = {PAGE: results_html(report, files, templates), README: results_markdown(report)}
        written = write_results(place, files, parts, group.document, templates)
    if options.json:
        record = report_json(report) | {"directory": group.directory, "written": list(written)}
        sys.stdout.write(escaped(json.dumps(record, ensure_ascii=False, indent=1, default=str)) + "\n")
    else:
        _show(report, group.directory, written)
    return 1 if report.missing else 0


def _parser() -> argparse.ArgumentParser:
    parser = Arguments(
        prog="runplan collect",
        description="Collects what the runs of a group found into its README, report.html, results.csv, results/.",
        epilog="Exit code: 0 everything is collected, 1 something is missing (all else is collected), 2 wrong usage.",
    )
    parser.add_argument("group", metavar="GROUP", help="folder of the group, as planning wrote it")
    parser.add_argument("--json", action="store_true", help="print everything as JSON; unknown is null")
    return parser


def _show(report: Report, directory: str, written: Sequence[str]) -> None:
    shown = [section for _, section in results_sections(report)]
    lacking = len(report.missing)
    done = f"Written to {directory}: {', '.join(written)}" if written else f"Nothing changed in {directory}"
    lines = [f"{lacking} planned trainings and evaluations have no result: see Results"] if lacking else []
    look = f"To look at: {directory}/{PAGE}"
    print_sections(f"Results of {report.document['group']}", shown, [*lines, done, look])
