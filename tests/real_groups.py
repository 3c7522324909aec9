"""Whole groups, plan.json included, that a real SLURM runs in a moment: trainer and evaluation only pretend."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

from job_plans import cell, config, control, fake_program, plan, run, write
from status_groups import SIZING

from runplan.files.document import document_text, plan_document
from runplan.paths import RECIPES_DIR
from runplan.plan import Request, Rung

TUNE = 'mkdir -p artifacts/epoch_0; echo "{}" >artifacts/epoch_0/config.json; exec bash -c "${TUNE:-exit 0}"'
RUNG = Rung("finetune.rung1.yaml", 2, 8, activation_checkpointing=False)
LOG = {
    "eval": {"task": "cap", "created": "2026-01-31T12:00:00+00:00"},
    "status": "success",
    "results": {"scores": [{"name": "match", "metrics": {"accuracy": {"name": "accuracy", "value": 0.5}}}]},
}
INSPECT = f"echo '{json.dumps(LOG)}' >logs/1.json"


def programs(folder: Path) -> Path:
    """A folder for the front of PATH."""
    fake_program(folder, "tune", TUNE)
    fake_program(folder, "inspect", INSPECT)
    return folder


def group(
    directory: Path, token: str, trainings: int = 1, cells: int = 1, *, base: bool = True, name: str = "r", **request
) -> Path:
    """A written group of some trainings with evaluations, and a control."""
    names = {f"{name}{number}": {} for number in range(trainings)}
    return named_group(directory, token, names, cells, base=base, **request)


def named_group(
    directory: Path, token: str, names: dict[str, dict], cells: int = 1, *, base: bool = True, **request
) -> Path:
    """A written group of trainings by name, what each asks for beside; a training has as many epochs as evaluations.

    Of what the trainer reads, there is only what the job scripts look at.
    """
    things = directory.parent / "things"
    things.mkdir(parents=True, exist_ok=True)
    for each in ("config.json", "words.json", "inspect.py"):
        (things / each).write_text("{}")
    archive(things / "state.pt", {"epochs_run": 1})
    small = {"time_s": 300, "mem_gib": 1, "cpus_per_task": 1, "gpus": 0} | request
    settings = config()
    settings.epochs, settings.batch_size, settings.gradient_accumulation_steps = max(cells, 1), 4, 4
    sizing = replace(SIZING, steps_per_epoch=5, steps_total=5 * settings.epochs)
    runs = [
        run(
            name, token=f"{token}-{number}", cells=tuple(cell(epoch) for epoch in range(cells)), config=settings,
            rungs=(RUNG,), sizing=sizing, request=Request(job_name=name, **small | own),
        )
        for number, (name, own) in enumerate(names.items())
    ]  # fmt: skip
    if base:
        runs.append(control(token=f"{token}-base"))
    made = [
        replace(
            each,
            model=replace(each.model, path=str(things)),
            dataset=replace(each.dataset, path=str(things / "words.json")),
            cells=tuple(
                replace(one, script=str(things / "inspect.py"), request=replace(one.request, **small))
                for one in each.cells
            ),
        )
        for each in runs
    ]
    whole = plan(*made, directory=str(directory))
    write(whole)
    (directory / "plan.json").write_text(document_text(plan_document(whole)))
    for name in names:
        shutil.copy(RECIPES_DIR / "resume.py", directory / name)
        for file in ("finetune.yaml", RUNG.file):
            (directory / name / file).write_text(f"# {file}\n")
    return directory


def archive(path: Path, content: object) -> None:
    """A file that is whole to whoever looks at the archives that `torch.save` writes."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("state/data.pkl", pickle.dumps(content, protocol=2))


def save_epoch(run: Path, epoch: int) -> None:
    """What a trainer leaves when it saved an epoch, as far as `resume.py` looks."""
    for place in (run / "artifacts" / "recipe_state", run / "artifacts" / f"epoch_{epoch}"):
        place.mkdir(parents=True, exist_ok=True)
    archive(run / "artifacts" / "recipe_state" / "recipe_state.pt", {"epochs_run": epoch + 1})
    archive(run / "artifacts" / f"epoch_{epoch}" / "adapter_model.pt", {})


def ledger(directory: Path) -> list[dict]:
    """The lines of a group's ledger."""
    return [json.loads(line) for line in (directory / "ledger.jsonl").read_text().splitlines()]
