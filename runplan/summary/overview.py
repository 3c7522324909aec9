"""What a group's README and the screen say: one content, made once from the plan document, shown in two ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runplan.config import Naming
from runplan.pasting import pasted_word
from runplan.plan import TO_BE_MADE
from runplan.summary.blocks import Block, Commands, Fact, Item, Section, Table, is_command
from runplan.summary.design import design_title
from runplan.summary.evidence_shown import evaluation_items, evidence_items
from runplan.summary.levels import level_shown
from runplan.summary.settings_shown import checkpoint, configuration
from runplan.units import number_of, short_time

LABELS = {
    "model": "Model",
    "lora": "LoRA",
    "lora.rank": "LoRA Rank",
    "lora.alpha": "LoRA Alpha",
    "optimizer.lr": "Learning Rate",
    "optimizer.lr_scheduler": "LR Scheduler",
    "batch_size": "Batch Size",
    "max_seq_len": "Max Seq Len",
    "dataset.path": "Dataset",
    "model.path": "Model Path",
    "dtype": "Dtype",
}
TYPES = {"fine-tuned": "Fine-tuned", "control": "Control", "eval-only": "Eval only"}
SOURCES = {
    "priors": "physics, corrected by your logs",
    "rules": "the hand rules",
    "user": "set by you",
}
NONE = "-"
LEVELS_SHOWN = 24
"""As many levels of a factor are all named; plan.json has every one."""


def sections(document: Mapping[str, Any], directory: str) -> tuple[Section, ...]:
    """The plan summary's sections, in order: from Run Design to How to submit.

    Args:
        document: a plan document (`plan.json`).
        directory: absolute path of the group, for the commands.
    """
    return (
        Section("Run Design", _design(document)),
        Section("Variables", _variables(document)),
        Section("All Runs", (all_runs(document),)),
        Section("Resources Verified", _verified(document)),
        Section("Configuration", configuration(document)),
        Section("Estimates", _estimates(document)),
        Section("How to submit", _submit(document, directory)),
    )


def label(key: str) -> str:
    """A config key as a column header: `optimizer.lr` → `Learning Rate`."""
    return LABELS.get(key) or key.rpartition(".")[2].replace("_", " ").title()


def labels(keys: Iterable[str]) -> dict[str, str]:
    """Column headers of keys; those that would have one header, such as `seed` and `dataset.seed`, keep their names."""
    found = {key: label(key) for key in keys}
    said = list(found.values())
    return {key: key if said.count(text) > 1 else text for key, text in found.items()}


def total_runs(document: Mapping[str, Any]) -> str:
    """`6 (4 fine-tuned + 2 controls)`."""
    counts = {kind: sum(run["type"] == kind for run in document["runs"]) for kind in TYPES}
    parts = [f"{counts['fine-tuned']} fine-tuned"] if counts["fine-tuned"] else []
    parts += [f"{counts['eval-only']} eval-only"] if counts["eval-only"] else []
    if counts["control"]:
        parts.append(f"{counts['control']} control{'s' * (counts['control'] > 1)}")
    return f"{len(document['runs'])} ({' + '.join(parts)})"


def _design(document: Mapping[str, Any]) -> tuple[Block, ...]:
    lacking = sum(check["status"] in {"missing", "invalid"} for check in document["verified"])
    risks = len(document["risks"])
    blocks: list[Block] = [
        Fact("Type", design_title(document["design"]["type"])),
        Fact("Total Runs", total_runs(document)),
        Fact("Command", f"python -m runplan -m {document['command']}".rstrip(), code=True),
    ]
    if lacking:
        blocks.append(Fact("Not ready", f"{number_of(lacking, 'thing')} missing or invalid, see Resources Verified"))
    if risks:
        blocks.append(Fact("Risks", f"{risks}, see Estimates"))
    return tuple(blocks)


def _variables(document: Mapping[str, Any]) -> tuple[Block, ...]:
    factors = document["design"]["factors"]
    if not factors:
        return (Item("Nothing varies: one combination of values."),)
    said = labels(factors)
    rows = tuple((said[key], ", ".join(_levels_shown(key, levels))) for key, levels in factors.items())
    return (Table(("Factor", "Levels"), rows),)


def _levels_shown(key: str, levels: Sequence[Any]) -> list[str]:
    """Levels as tables show them; of very many the first ones, the last and how many."""
    if len(levels) <= LEVELS_SHOWN:
        return [level_shown(key, level, levels) for level in levels]
    first = [level_shown(key, level, levels) for level in levels[: LEVELS_SHOWN // 2]]
    return [*first, "…", f"{level_shown(key, levels[-1], levels)} ({len(levels):,} levels)"]


def all_runs(document: Mapping[str, Any]) -> Table:
    """One row a run: name, model, every varying parameter, batch size, type, estimated time and memory."""
    design = document["design"]["factors"]
    varying = [key for key in design if key not in {"model", "batch_size"}]
    headers = ("Run Name", "Model", *labels(varying).values(), "Batch Size", "Type", "Est. Time", "Est. Memory")
    rows = []
    for run in document["runs"]:
        factors = run["factors"]
        trained = run["estimate"]["time_s"]["p50"] is not None
        levels = [
            level_shown(key, factors[key], design[key]) if key in factors else _unswept(key, run) for key in varying
        ]
        batch = str(run["config"]["batch_size"]) if trained else NONE
        time = _time(run["estimate"]["time_s"]) if trained else "eval only"
        memory = _memory(run["estimate"]["peak_memory_gib"]) if trained else NONE
        model = run["model"] if document.get("naming") != Naming.full.value else checkpoint(run)
        rows.append((run["name"], model, *levels, batch, TYPES[run["type"]], time, memory))
    return Table(headers, tuple(rows))


def _unswept(key: str, run: Mapping[str, Any]) -> str:
    """The value of a factor in a run that is kept from a plan in which it did not vary."""
    config = run["config"] if run["type"] == "fine-tuned" else {}
    names = (key.replace(".", "_"), key.rpartition(".")[2])
    return next((level_shown(key, config[name]) for name in names if config.get(name) is not None), NONE)


def _time(interval: Mapping[str, float]) -> str:
    return f"{short_time(interval['p50'])} (p95 {short_time(interval['p95'])})"


def _memory(interval: Mapping[str, float]) -> str:
    return f"{interval['p50']:.1f} GiB (p95 {interval['p95']:.1f})"


def _verified(document: Mapping[str, Any]) -> tuple[Block, ...]:
    marks = {"ok": "✓", "missing": "✗", "invalid": "✗", "unchecked": "?"}
    items = []
    for check in document["verified"]:
        state = "" if check["status"] == "ok" else f" {check['status']}"
        head = f"{check['kind'].title()} {check['name']}{state}"
        place = f": {check['path']}" if check["path"] else ""
        detail = f" ({check['detail']})" if check["detail"] else ""
        command = check["fix"] if check["status"] != "ok" else ""
        mark = "+" if check["detail"].startswith(TO_BE_MADE) else marks[check["status"]]
        items.append(Item(f"{head}{place}{detail}", mark, command))
    return tuple(items) or (Item("Nothing was checked.", "?"),)


def _estimates(document: Mapping[str, Any]) -> tuple[Block, ...]:
    trained = [run for run in document["runs"] if run["estimate"]["time_s"]["p50"] is not None]
    if not trained:
        nothing = Item("Nothing is trained; each evaluation's time is in plan.json.")
        return (*_risks(document), nothing, *evaluation_items(document["runs"]))
    headers = ("Run Name", "Steps", "it/s", "Tokens/s", "Allocated", "Source", "Logs", "Extrapolated")
    rows = tuple(_estimate_row(run) for run in trained)
    sources = list(dict.fromkeys(run["estimate"]["source"] for run in trained))
    explained = [Item(f"{source}: {SOURCES[source]}.") for source in sources if source in SOURCES]
    shown = evidence_items(trained)
    return (*_risks(document), Table(headers, rows), *explained, *shown, *evaluation_items(document["runs"]))


def _estimate_row(run: Mapping[str, Any]) -> tuple[str, ...]:
    estimate = run["estimate"]
    return (
        run["name"],
        str(run["steps"]["total"]),
        f"{estimate['it_per_s']:.3g}",
        f"{estimate['tokens_per_s']:.0f}",
        f"{estimate['allocated_gib']:.1f} GiB",
        estimate["source"],
        str(estimate["n_priors"]),
        "yes" if estimate["extrapolated"] else "no",
    )


def _risks(document: Mapping[str, Any]) -> list[Block]:
    return [
        Item(
            (f"{risk['run']}: " if risk["run"] else "")
            + risk["what"]
            + (f" @ {risk['where']}" if risk["where"] else ""),
            "!",
            risk["fix"],
        )
        for risk in document["risks"]
    ]


def _submit(document: Mapping[str, Any], directory: str) -> tuple[Block, ...]:
    place = pasted_word(directory)
    every = (f"runplan submit {place}", f"runplan status {place}")
    one = next((run["dir"] for run in document["runs"] if run["type"] == "fine-tuned"), None)
    blocks: list[Block] = [Item("Everything, safe to run again, and how it is doing:"), Commands(every)]
    if one is not None:
        alone = f"cd {pasted_word(f'{directory}/{one}')} && sbatch finetune.slurm"
        blocks += [Item("Where runplan is not installed, everything, or one run alone:")]
        blocks += [Commands((f"{place}/submit_all.sh", alone))]
    lacking = [check for check in document["verified"] if check["status"] in {"missing", "invalid"}]
    fixes = dict.fromkeys(check["fix"] for check in lacking if check["fix"])
    commands = tuple(fix for fix in fixes if is_command(fix))
    words = [Item(fix) for fix in fixes if not is_command(fix)]
    if lacking:
        head = Item("The runs are not ready. First get what is missing, then submit:", "!")
        blocks = [head, *words, *([Commands(commands)] if commands else []), *blocks]
    return tuple(blocks)
