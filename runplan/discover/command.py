"""`runplan init`: looks at the machine and writes `./conf/site/<name>.yaml`, once."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runplan import yaml_text
from runplan.arguments import Arguments
from runplan.discover.found import Discovered, Setting, Site, Wishes
from runplan.discover.machine import SEARCH_S, read_machine
from runplan.discover.places import words_for
from runplan.discover.site import POINTER, site_of
from runplan.discover.site_text import pointed, pointer_text, site_text
from runplan.errors import ConfigError, Problem, StoreError
from runplan.summary.readme import visible
from runplan.summary.screen import encodable
from runplan.utf8 import escaped

DESCRIPTION = """\
Looks at this machine and writes ./conf/site/NAME.yaml: partitions, GPUs, account, modules, the environment with
torchtune or TRL, folders of models, data and logs, with a note on where each was found. A single candidate is chosen;
several are listed as comments, and the key is left open. An existing file is never overwritten: the difference is
shown, with exit code 1.

The first site written in a folder becomes its default, named in conf/site/local.yaml. Without that file, or for another
site, use site=NAME. RUNPLAN_CONF=DIR makes a conf folder available from everywhere.
"""


def main(argv: Sequence[str]) -> int:
    """Run the verb; 0 when the file is written or as it would be, 1 when another is there or the user says no.

    Raises:
        RunplanError: a wrong option, or a folder that cannot be written.
    """
    options = _parser().parse_args(list(argv))
    _check_folders(options)
    wishes = Wishes(
        options.name,
        models=_absolute(options.models),
        data=_absolute(options.data),
        logs=_absolute(options.logs),
        partition=options.partition,
        account=options.account,
    )
    found, site = _look(wishes, options.seconds)
    text = site_text(site, _defaults())
    place = Path("conf", "site", f"{site.name}.yaml")
    if options.json:
        code = 0 if options.print else _place(place, text, site.name)
        print(escaped(json.dumps(_document(site, found, place, text, code), indent=1, ensure_ascii=False)))  # noqa: T201
        return code
    if options.print or not place.exists():
        sys.stdout.write(encodable(text, sys.stdout.encoding))
        sys.stdout.flush()
    if options.print:
        return 0
    if place.exists() or options.yes or _agrees(place):
        code = _place(place, text, site.name)
        if code == 0:
            _say(f"next: {next_command(site, found)}")
        return code
    _say("nothing was written")
    return 1


def _parser() -> argparse.ArgumentParser:
    kind = argparse.RawDescriptionHelpFormatter
    parser = Arguments(prog="runplan init", description=DESCRIPTION, formatter_class=kind)
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="name of the site (default: the cluster's name, or the host's)")
    add("--models", nargs="+", action="extend", default=[], metavar="DIR", help="folders with models")
    add("--data", nargs="+", action="extend", default=[], metavar="DIR", help="folders with JSON data")
    add("--logs", nargs="+", action="extend", default=[], metavar="DIR", help="folders with logs of earlier jobs")
    add("--partition", metavar="P", help="SLURM partition of training jobs")
    add("--account", metavar="A", help="SLURM account to charge")
    add("--seconds", type=float, default=SEARCH_S, metavar="S", help="time limit for searching folders (%(default)g)")
    add("--yes", action="store_true", help="write without asking")
    add("--print", action="store_true", help="print the file, write nothing")
    add("--json", action="store_true", help="print what was found as JSON, without asking")
    return parser


def _absolute(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(os.path.normpath(Path.cwd() / path) for path in paths)


def _check_folders(options: argparse.Namespace) -> None:
    named = {"--models": options.models, "--data": options.data, "--logs": options.logs}
    problems = [
        Problem(f"there is no folder {path}", option, "name an existing folder")
        for option, paths in named.items()
        for path in paths
        if not Path(path).is_dir()
    ]
    if problems:
        raise ConfigError(problems)


def _look(wishes: Wishes, seconds: float) -> tuple[Discovered, Site]:
    from runplan.catalogue import gpus, model_folders  # noqa: PLC0415 - not for --help
    from runplan.discover.progress import Progress  # noqa: PLC0415 - same
    from runplan.paths import conf_dirs  # noqa: PLC0415 - same

    with Progress(sys.stderr) as progress:
        found = read_machine(wishes, Path.cwd(), model_folders(conf_dirs()), seconds, progress)
    return found, site_of(found, wishes, gpus(conf_dirs()))


def _defaults() -> dict[str, Any]:
    """What a site has where nothing is said."""
    from runplan.paths import CONF_DIR  # noqa: PLC0415 - not for --help

    return yaml_text.load((CONF_DIR / "site/_site.yaml").read_text(encoding="utf-8"))


def _agrees(place: Path) -> bool:
    """Whether the user says yes; without a terminal there is nobody to ask, and a new file does no harm."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    _say(f"write {place}? [Y/n] ", end="")
    answer = sys.stdin.readline()
    return answer.endswith("\n") and answer.strip().lower() in {"", "y", "yes"}


def _place(place: Path, text: str, name: str) -> int:
    """Write the site file and, where none is, the one that makes it the default; 1 when another text is there."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if not _write_new(place, text):
            before = place.read_text(encoding="utf-8", errors="replace")
            if before != text:
                changes = difflib.unified_diff(
                    before.splitlines(), text.splitlines(), str(place), "found now", lineterm="", n=0
                )
                _say("\n".join(visible(line) for line in changes))
                _say(f"{place} is there and was not changed; edit it, move it away, or give another NAME")
                return 1
            _say(f"{place} is there and says the same")
        else:
            _say(f"wrote {place}")
        pointer = place.with_name(f"{POINTER}.yaml")
        if _write_new(pointer, pointer_text(name)):
            _say(f"wrote {pointer}: {name} is the site of every plan made here")
    except OSError as error:
        raise StoreError(
            f"{error.filename or place}: {error.strerror or error}; work in a folder you may write, or use --print"
        ) from error
    return 0


def _write_new(path: Path, text: str) -> bool:
    """Write a file that is not there; False when there is one."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    except OSError:
        path.unlink(missing_ok=True)  # half a file would be taken for the user's
        raise
    return True


def _default_site() -> str | None:
    """The site that is used when none is named, where `runplan init` wrote it down; the first conf folder decides."""
    from runplan.paths import conf_dirs  # noqa: PLC0415 - not for --help

    for folder in conf_dirs():
        pointer = folder / "site" / f"{POINTER}.yaml"
        if pointer.is_file():
            return pointed(pointer.read_text(encoding="utf-8", errors="replace"))
    return None


def next_command(site: Site, found: Discovered) -> str:
    """What to type next: a preview with a model that is there."""
    words = [] if _default_site() == site.name else [f"site={site.name}"]
    models_dir = next(setting.value for setting in site.settings if setting.key == "models_dir")
    reached = [m for m in found.models if m.hub is not None or str(Path(m.path).parent) == models_dir]
    with_option = [model for model in reached if model.option and model.hub is None]
    if reached:
        words.append(words_for((with_option or reached)[0]))
    words += [] if found.data else ["dataset.create=true"]
    return " ".join(["runplan", *words, "preview=true"])


def _document(site: Site, found: Discovered, place: Path, text: str, code: int) -> dict[str, Any]:
    def value(setting: Setting) -> dict[str, Any]:
        offers = [{"value": offer.value, "found": offer.said} for offer in setting.offers]
        return {"value": setting.value, "found": setting.said, "alternatives": offers}

    return {
        "site": site.name,
        "path": str(place.absolute()),
        "written": code == 0 and place.exists() and place.read_text(encoding="utf-8", errors="replace") == text,
        "settings": {setting.key: value(setting) for setting in (*site.settings, site.resources, site.trainer)},
        "models": [vars(model) for model in found.models],
        "data": [{"path": file.path, "size_bytes": file.size_bytes, "rows": dict(file.rows)} for file in found.data],
        "logs": [vars(folder) for folder in found.logs],
        "environments": [vars(item) for item in found.environments],
        "modules": list(found.modules),
        "partitions": [line for line in site.facts if line.startswith("partition ")],
        "unknown": list(found.unknown),
        "text": text,
        "next": next_command(site, found),
    }


def _say(text: str, end: str = "\n") -> None:
    print(text, file=sys.stderr, end=end, flush=True)  # noqa: T201 - the user's screen
