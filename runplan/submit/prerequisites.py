"""Whether what the jobs need is there: models with all their shards, datasets, evaluation scripts. An edge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runplan.errors import NotReadyError
from runplan.files.written import Job, WrittenGroup
from runplan.submit.due import Due
from runplan.units import some_of

CONFIG = "config.json"


def check_prerequisites(group: WrittenGroup, due: Sequence[Due]) -> None:
    """Look for everything that jobs need, on the disk as it is now.

    Raises:
        NotReadyError: something is missing or not usable; all of it is named, with what gets it.
    """
    rows = {(row["kind"], row["path"]): row for row in group.document.get("verified", ())}
    wanted = dict.fromkeys(need for each in due for need in _needs(each.job))
    lines = [line for kind, path in wanted for line in _lacking(kind, path, rows.get((kind, path), {}))]
    if lines:
        head = f"{group.directory} is not ready: nothing was submitted"
        raise NotReadyError("\n".join([head, *lines, "  then run the same again"]))


def _needs(job: Job) -> Iterator[tuple[str, str]]:
    """Kind and path of what a job needs."""
    config = job.entry["config"]
    yield "model", config["model_path"]
    if job.kind == "train":
        yield "dataset", config["dataset"]
        return
    for cell in job.entry["cells"]:
        if cell["dir"] == job.cell and cell.get("script"):
            yield "evaluation", cell["script"]


def _lacking(kind: str, path: str, row: Mapping[str, Any]) -> list[str]:
    name, fix = row.get("name") or path, row.get("fix") or ""
    if row.get("status") == "invalid":
        return [f"  {kind} {name} is not usable: {row.get('detail', '')}\n      {fix} Then plan again."]
    names = row.get("files") or ((CONFIG,) if kind == "model" else ("",))
    missing = [str(Path(path) / each) for each in names if not (Path(path) / each).exists()]
    if not missing:
        return []
    return [f"  {kind} {name} is missing: {some_of(missing, 1)}" + (f"\n      {fix}" if fix else "")]
