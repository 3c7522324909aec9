"""Where models, data and logs are, chosen from the folders in which some were found. Pure."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections import Counter
from collections.abc import Sequence

from runplan.discover.found import Discovered, ModelFolder, Offer, Setting, Wishes
from runplan.suggest import as_text
from runplan.units import number_of

_OF_A_TASK = re.compile(r"/tasks/[^/]+/input$")
"""Where the data of one task lies: found without `data_dir`."""
LISTED = 12
"""Things of a kind that a site file lists."""


def is_plain(path: str) -> bool:
    """Whether a path means itself: runplan expands `$NAME` and `~` in the keys that hold one."""
    return "$" not in path and not path.startswith("~")


def _one_of(key: str, noun: str, holders: Counter[str], given: Sequence[str], option: str) -> Setting:
    """A folder: the only one that holds something, or the one that was given; several are offered."""
    offers = tuple(Offer(path, f"holds {number_of(number, noun)}") for path, number in holders.most_common())
    nested = key == "data_dir"  # a data file may lie in a folder of its task's name
    if len(given) == 1 and (len(holders) <= 1 or given[0] in holders or nested):
        rest = tuple(offer for offer in offers if offer.value != given[0])
        inside = sum(holders.values()) if nested else holders.get(given[0], 0)
        only = next(iter(holders), given[0])
        if not inside and only != given[0]:
            return Setting(key, only, f"in {given[0]} ({option}); {offers[0].said}")
        return Setting(key, given[0], f"given with {option}; holds {number_of(inside, noun)}", rest)
    if len(offers) == 1 and is_plain(offers[0].value):
        return Setting(key, offers[0].value, f"the only folder found; {offers[0].said}")
    if not offers:
        return Setting(key, None, f"no {noun} found; name a folder with {option}")
    return Setting(key, None, f"{number_of(len(offers), 'folder')} found", offers)


def model_setting(found: Discovered, wishes: Wishes) -> Setting:
    """`models_dir`: the folder that holds model folders; Hugging Face's cache has another shape and does not count."""
    holders = Counter(posixpath.dirname(model.path) for model in found.models if model.hub is None)
    return _one_of("models_dir", "model folder", holders, wishes.models, "--models")


def data_setting(found: Discovered, wishes: Wishes) -> Setting:
    """`data_dir`: the folder that holds JSON files with splits, or holds the folders of tasks that do."""
    folders = (posixpath.dirname(file.path) for file in found.data)
    holders = Counter(folder for folder in folders if not _OF_A_TASK.search(folder))
    return _one_of("data_dir", "data file", holders, wishes.data, "--data")


def log_setting(found: Discovered, wishes: Wishes) -> Setting:
    """`priors`: every folder with logs, since all of them teach; after them the folder runplan writes to."""
    folders = [folder for folder in found.logs if is_plain(folder.path)][:LISTED]
    rest = tuple(Offer(f.path, f"holds {number_of(f.logs, 'log')}") for f in found.logs if f not in folders)
    if not folders:
        option = "" if wishes.logs else "; name a folder with --logs"
        return Setting("priors", None, f"no log of torchtune found{option}", rest)
    said = "; ".join(f"{number_of(folder.logs, 'log')} in {folder.path}" for folder in folders)
    return Setting("priors", ("${site.output_root}", *(folder.path for folder in folders)), said, rest)


def output_setting(found: Discovered) -> Setting:
    """`output_root`: stays below the current folder; the user's large file systems are offered."""
    offers = tuple(Offer(posixpath.join(path, "runplan"), how) for path, how in found.scratch if is_plain(path))
    return Setting("output_root", None, "below the folder you plan in", offers)


def things(found: Discovered) -> list[str]:
    """A line for each model and data file, with what names it on the command line."""
    lines = [f"model {model.path}: {words_for(model)}" for model in found.models[:LISTED]]
    lines += [f"… and {len(found.models) - LISTED} more models"] if len(found.models) > LISTED else []
    for file in found.data[:LISTED]:
        rows = ", ".join(f"{name} {number:,}" for name, number in file.rows) or f"{file.size_bytes / 2**20:.0f} MiB"
        lines.append(f"data {file.path}: {rows}")
    lines += [f"… and {len(found.data) - LISTED} more data files"] if len(found.data) > LISTED else []
    return lines


def words_for(model: ModelFolder) -> str:
    """The override that names a model folder: an option where `models_dir` leads to it, else its path."""
    if model.option and model.hub is None:
        return f"model={model.option}"
    alias = f" model.name={model.option}" if model.option else ""
    return f"model=hf model.path={quoted(model.path)}{alias}"


def quoted(path: str) -> str:
    """A path as a value that Hydra's grammar and a shell both read."""
    plain = path.isascii() and all(letter.isalnum() or letter in "/._-" for letter in path)
    return path if plain else shlex.quote(as_text(path))
