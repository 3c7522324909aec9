"""The command line: verbs, our own short help, and everything else to planning or to Hydra."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from runplan.errors import ConfigError, Problem, RunplanError
from runplan.output import OutputError, guarded_output
from runplan.suggest import did_you_mean
from runplan.utf8 import start_in_utf8

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence


def _priors(argv: Sequence[str]) -> int:
    from runplan.priors.command import main as command  # noqa: PLC0415 - only when asked for

    return int(command(list(argv)))


def _ask(argv: Sequence[str]) -> int:
    from runplan.ask.command import main as command  # noqa: PLC0415 - only when asked for

    _check_text(argv)
    return command(list(argv))


def _init(argv: Sequence[str]) -> int:
    from runplan.discover.command import main as command  # noqa: PLC0415 - only when asked for

    return command(argv)


def _submit(argv: Sequence[str]) -> int:
    from runplan.submit.command import main as command  # noqa: PLC0415 - only when asked for

    return command(argv)


def _status(argv: Sequence[str]) -> int:
    from runplan.status.command import main as command  # noqa: PLC0415 - only when asked for

    return command(argv)


def _collect(argv: Sequence[str]) -> int:
    from runplan.collect.command import main as command  # noqa: PLC0415 - only when asked for

    return command(argv)


VERBS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "init": (_init, "[NAME]: look at this machine, write ./conf/site/NAME.yaml"),
    "ask": (_ask, "[KEY=VALUE…]: answer what is open, see the plan, approve it"),
    "priors": (_priors, "[DIR…]: show what is learnt from earlier logs"),
    "submit": (_submit, "GROUP: submit what is not yet submitted, never a run twice"),
    "status": (_status, "GROUP: show how far and how fast every run is, or why it failed"),
    "collect": (_collect, "GROUP: collect results and effects, compare estimates with them"),
}
"""Word → what it does, and what the help says of it: `ARGUMENTS: MEANING`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: this process's); returns the exit code."""
    if argv is None:
        start_in_utf8()
        # The process ends with this call. Looking for garbage while Hydra loads takes a sixth of a one-run plan, and
        # a thousand runs leave 10 MiB of it.
        gc.disable()
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    finally:
        if argv is None:
            gc.freeze()  # else Python looks through everything once more before it exits


def _run(words: list[str]) -> int:
    try:
        with guarded_output():
            _check_folder()
            return _dispatch(words)
    except RunplanError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        _say(f"runplan: {error}" if "\n" not in str(error) else f"runplan:\n{error}")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except OutputError as error:
        if error.unread:
            return 0
        _say(f"runplan: the output cannot be written: {error}; free some space, or write it elsewhere")
        return 1
    except Exception as error:
        code = _foreseen(error)
        if code is None:
            raise
        return code


def _foreseen(error: Exception) -> int | None:
    """The exit code of Ctrl-C at a bad moment, or of a name that no file of ours can hold; None for a bug of ours."""
    if _interrupted(error):
        return 130
    if not isinstance(error, UnicodeEncodeError):
        return None
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        traceback.print_exc()
    _say(
        f"runplan: {error.object[:200]!r} is not {error.encoding} text; use UTF-8 names, or LC_ALL=C.UTF-8 if they are"
    )
    return ConfigError.exit_code


def _interrupted(error: BaseException | None) -> bool:
    """Whether an error arose while Ctrl-C was being handled: OmegaConf's own handlers stumble over it."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _check_folder() -> None:
    """Refuse a current folder that somebody removed.

    Raises:
        ConfigError: it is gone.
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        raise ConfigError(
            [Problem("the current folder is gone", "current folder", "cd to one that is there")]
        ) from None


def _check_text(words: Sequence[str]) -> None:
    """Refuse bytes that no file of a plan could hold.

    Raises:
        ConfigError: a word or the current folder is not UTF-8 text.
    """
    texts = [(word, word.partition("=")[0]) for word in words]
    problems = []
    for text, where in [*texts, (str(Path.cwd()), "current folder")]:
        try:
            text.encode()
        except UnicodeEncodeError:
            problems.append(Problem(f"{text!r} is not UTF-8 text", where, "use UTF-8, or LC_ALL=C.UTF-8 if it is"))
    if problems:
        raise ConfigError(problems)


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - the user's screen is the place


def _completion(words: list[str]) -> int:
    from runplan.completion.command import completion_text  # noqa: PLC0415 - only when asked for

    print(completion_text(words, VERBS), end="")  # noqa: T201 - for a shell
    return 0


def _verb(words: list[str]) -> int:
    try:
        return VERBS[words[0]][0](words[1:])
    except SystemExit as done:  # argparse, after --help
        return done.code if isinstance(done.code, int) else 2


def _dispatch(words: list[str]) -> int:
    if "-sc" in words or "--shell-completion" in words:
        return _completion(words)
    if words and words[0] in VERBS:
        return _verb(words)
    if words[:1] == ["help"] and {"--help", "-h"} & {*words}:
        words = ["help"]
    if words[:1] == ["help"] and len(words) > 1:
        from runplan.explain import explain  # noqa: PLC0415 - composes

        print(explain(words[1:]))  # noqa: T201
        return 0
    if words and not words[0].startswith(("-", "~")) and "=" not in words[0] and words != ["help"]:
        fix = did_you_mean(
            words[0], VERBS, f"verbs: {', '.join(VERBS)}; a key is set with {words[0]}=VALUE; see --help"
        )
        raise ConfigError([Problem(f"{words[0]!r} is no verb and no override", words[0], fix)])
    if "--help" in words or "-h" in words or words == ["help"]:
        from runplan.help_text import help_text, named_folders  # noqa: PLC0415 - reads folders

        print(help_text(VERBS, named_folders(words)))  # noqa: T201
        return 0
    if "--version" in words:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - rarely asked

        try:
            print(f"runplan {version('runplan')}")  # noqa: T201
        except PackageNotFoundError:
            print("runplan (not installed)")  # noqa: T201
        return 0
    return _hydra(words)


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    """Hydra's own options, with overrides anywhere between them.

    Raises:
        ConfigError: an option that Hydra does not have, or a value it does not take.
    """
    from hydra._internal.utils import get_args_parser  # noqa: PLC0415 - help must not wait for Hydra

    parser = get_args_parser()

    def refuse(message: str) -> None:
        raise ConfigError([Problem(message, "command line", "runplan --help shows what there is")])

    parser.error = refuse  # type: ignore[method-assign, assignment]
    found, rest = parser.parse_known_args(list(words))
    options = [option for action in parser._actions for option in action.option_strings]
    unknown = [word for word in rest if word.startswith("-")]
    if unknown:
        raise ConfigError(
            [
                Problem(f"there is no option {word}", word, did_you_mean(word, options, _option_advice(word)))
                for word in unknown
            ]
        )
    found.overrides = [*found.overrides, *rest]
    return found


def _option_advice(word: str) -> str:
    """People write keys as options of other programs: `--preview`, `--lora.rank=4`."""
    from runplan.config import iter_keys  # noqa: PLC0415 - only for a mistake

    key, _, value = word.lstrip("-").replace("-", "_").partition("=")
    if key not in set(iter_keys()):
        return "runplan --help lists them"
    return f"it is a key: write {key}={value or ('true' if key in {'preview', 'overwrite'} else 'VALUE')}"


def _hydra(words: list[str]) -> int:
    from runplan import app  # noqa: PLC0415 - help and verbs must not wait for Hydra
    from runplan.summary.show import OPTION, split_show  # noqa: PLC0415 - same
    from runplan.sweep.literally import as_typed  # noqa: PLC0415 - same

    _check_text(words)
    words, show = split_show(words)
    found = _arguments(words)
    found.overrides = as_typed(found.overrides)
    shows = found.cfg or found.info or found.hydra_help
    if shows and show:
        raise ConfigError([Problem(f"{OPTION} plans, the other options only print", OPTION, "use one at a time")])
    if found.config_path or found.config_name or found.experimental_rerun or found.hydra_help:
        return app.hydra_command(_shown(found))
    folder = Path(found.config_dir) if found.config_dir else None
    if found.cfg and not found.info:
        return app.show_config(found.overrides, folder, found.cfg, found.package, resolve=found.resolve)
    if found.info and not (found.cfg or found.resolve):
        return app.show_info(found.overrides, folder, found.info)
    return app.hydra_command(_shown(found)) if shows else app.plan(found.overrides, folder, show)


def _shown(found: argparse.Namespace) -> list[str]:
    """A command line that shows something: without -m, which Hydra would refuse beside it."""
    values = {
        "--cfg": found.cfg,
        "--info": found.info,
        "--package": found.package,
        "--config-dir": found.config_dir,
        "--config-path": found.config_path,
        "--config-name": found.config_name,
        "--experimental-rerun": found.experimental_rerun,
    }
    flags = {"--resolve": found.resolve, "--hydra-help": found.hydra_help}
    words = [f"{option}={value}" for option, value in values.items() if value is not None]
    return [*words, *(flag for flag, given in flags.items() if given), *found.overrides]
