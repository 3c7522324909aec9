"""What a path means to Hugging Face's `datasets`, through which torchtune reads data files. Pure.

Read in datasets 5.2.0, and the same since 2.0: `data_files.resolve_pattern` takes a path for a pattern, fsspec's
`url_to_fs` splits it at `::`, and `file_utils.relative_to_absolute_path` puts variables of the environment into what
was found. A pattern can be escaped; the two others cannot, so that such a path has to go by another name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from runplan.errors import Problem
from runplan.pasting import pasted_word

_PATTERN = re.compile(r"([*?\[])")
_VARIABLE = re.compile(r"\$(?:[A-Za-z0-9_]+|\{[^}]*\})")
"""As `os.path.expandvars` has it."""
_CHAIN = "::"


def data_files(path: str) -> str:
    """A pattern that a path alone matches."""
    return _PATTERN.sub(r"[\1]", path)


def path_problems(dataset: str, directory: str) -> Iterator[Problem]:
    """Paths at which a training would stop in its first seconds.

    Args:
        dataset: path of the data file.
        directory: of the group, in which every run has a cache of its data.
    """
    link = f"ln -s {pasted_word(dataset)} data.json"
    fix = f"rename it, or give it a plain name in a plain folder: {link}, then dataset.path=data.json"
    variable = _VARIABLE.search(dataset)
    if variable or _CHAIN in dataset:
        means = f"{variable[0]} for a variable" if variable else f"{_CHAIN} for a chain of files"
        yield Problem(f"{dataset}: torchtune's data library takes {means}", "dataset.path", fix)
    if _CHAIN in directory:
        what = f"{directory}: torchtune's data library, whose cache is there, takes {_CHAIN} for a chain of files"
        yield Problem(what, "site.output_root, group.name", f"write the group to a folder without {_CHAIN}")
