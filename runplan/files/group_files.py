"""The files of a group, by path: its own, and those of its runs, which are made when they are asked for.

The files of a run are some 40 kB of text; a large sweep holds those of one run at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class GroupFiles:
    """What planning writes into a group."""

    own: Mapping[str, str]
    """Path → text of files that belong to no run."""
    runs: Mapping[str, Mapping[str, str]]
    """Run → path relative to it → text."""

    def paths(self) -> Iterator[str]:
        """Every path relative to the group, those of runs first."""
        yield from (f"{name}/{path}" for name in self.runs for path in self.runs[name])
        yield from self.own


class RunFiles(Mapping[str, Mapping[str, str]]):
    """Files by run, made each time they are asked for, but for the last run's, which are held."""

    def __init__(self, names: Iterable[str], make: Callable[[str], Mapping[str, str]]) -> None:
        """`make` gives the files of one of the `names`."""
        self._names = dict.fromkeys(names)
        self._make = lru_cache(maxsize=1)(make)

    def __getitem__(self, name: str) -> Mapping[str, str]:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Texts(Mapping[str, str]):
    """Texts by path relative to the group; of runs, they are made when they are asked for."""

    def __init__(self, files: GroupFiles) -> None:
        """All paths are known at once, so that whatever is wrong with a file is said."""
        self._files = files
        self._paths = dict.fromkeys(files.paths())

    def __getitem__(self, path: str) -> str:
        run, slash, inside = path.partition("/")
        return self._files.runs[run][inside] if slash else self._files.own[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def by_run(files: Mapping[str, str]) -> GroupFiles:
    """Files by path relative to the group, as those of runs and those of none."""
    own: dict[str, str] = {}
    runs: dict[str, dict[str, str]] = {}
    for path, text in files.items():
        run, slash, inside = path.partition("/")
        if slash:
            runs.setdefault(run, {})[inside] = text
        else:
            own[path] = text
    return GroupFiles(own, runs)
