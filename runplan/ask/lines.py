"""From answers to override lines of Hydra's, and how a text is written in one. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from runplan.ask.known import Known
from runplan.ask.settings import BY_KEY, OTHER, Form
from runplan.suggest import double_quoted

Answer = tuple[str, ...]
"""Levels of a key, as text."""

ORDER = (
    "site", "model", "lora.rank", "lora.alpha", "lora.quantize_base", "trainer", "dataset", "dataset.create",
    "dataset.train_rows", "evaluation", "optimizer.lr", "epochs", "batch_size", "effective_batch_size", "max_seq_len",
    "packed", "seed", "system_prompt", "prompt", OTHER, "resources", "resources.gpus", "validation", "controls",
    "naming", "priors.paths", "budget.gpu_hours", "group.name",
)  # fmt: skip
"""Keys in the order of the line; the last one that is swept varies fastest."""
ALWAYS = frozenset({"site", "group.name", "dataset.create", OTHER})
"""Keys that stand in the line even where they say what holds anyway."""

RAW = frozenset({"dataset.create", "lora.quantize_base", "resources.gpus", "validation", "controls", "packed"})
"""Keys whose levels are words of Hydra's grammar, true and false among them, never quoted text."""

_PLAIN = re.compile(r"[A-Za-z0-9_./@-]+")
_WORDS = frozenset({"null", "true", "false"})
_INTERPOLATION = re.compile(r"(\\*)\$\{")


def written(text: str) -> str:
    """A text as Hydra's grammar reads it: as it is where it can be nothing else, in double quotes otherwise.

    In quotes `${` begins an interpolation unless escaped.
    """
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS and not _is_number(text):
        return text
    return double_quoted(_INTERPOLATION.sub(lambda match: match[1] * 2 + "\\${", text))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def same(key: str, level: str, other: str) -> bool:
    """Whether two texts say the same value of a key: `1e-5` and `0.00001` do."""
    setting = BY_KEY.get(key)
    if setting is not None and setting.form in {Form.whole, Form.number} and _is_number(level) and _is_number(other):
        return float(level) == float(other)
    return level == other


def override_lines(answers: Mapping[str, Answer], known: Known) -> list[str]:
    """The override lines that say what the answers say; what holds anyway is left out.

    Args:
        answers: levels by key of `ORDER`; a path stands for a model, dataset or evaluation as well as an option.
        known: what there is to choose from, and what holds anyway.
    """
    lines: list[str] = []
    for key in ORDER:
        levels = answers.get(key)
        shown = key in ALWAYS or (key == "model" and not known.experiment)
        if not levels or (not shown and _holds(key, levels, known)):
            continue
        lines += _LINES.get(key, _plain_lines)(key, levels, known)
    return lines


def _holds(key: str, levels: Answer, known: Known) -> bool:
    default = known.chosen.get(key, known.values.get(key))
    return default is not None and len(levels) == 1 and same(key, levels[0], default)


def _plain_lines(key: str, levels: Answer, _: Known) -> list[str]:
    setting = BY_KEY.get(key)
    is_text = key not in RAW and (setting is None or setting.form in {Form.text, Form.texts})
    return [f"{key}={','.join(map(written, levels) if is_text else levels)}"]


def _model_lines(key: str, levels: Answer, known: Known) -> list[str]:
    if not any("/" in level for level in levels):
        return _plain_lines(key, levels, known)
    things = [known.thing(key, level) for level in levels]
    paths = [thing.path if thing and thing.path else level for thing, level in zip(things, levels, strict=True)]
    return ["model=hf", f"model.path={_joined(paths)}"]


def _dataset_lines(key: str, levels: Answer, known: Known) -> list[str]:
    if not any("/" in level for level in levels):
        return _plain_lines(key, levels, known)
    things = [known.thing(key, level) for level in levels]
    kind = next((thing.kind for thing in things if thing and thing.kind), "json")
    paths = [thing.path if thing and thing.path else level for thing, level in zip(things, levels, strict=True)]
    key = "dataset.source" if all(thing and not thing.has_splits for thing in things) else "dataset.path"
    return [f"dataset={written(kind)}", f"{key}={_joined(paths)}"]


def _evaluation_lines(key: str, levels: Answer, known: Known) -> list[str]:
    if not any("/" in level for level in levels):
        return _plain_lines(key, levels, known)
    return ["evaluation=script", f"evaluation.script={_joined(levels)}"]


def _joined(texts: Iterable[str]) -> str:
    return ",".join(map(written, texts))


def _other_lines(_key: str, levels: Answer, _known: Known) -> Sequence[str]:
    return levels


def _list_lines(key: str, levels: Answer, _: Known) -> list[str]:
    """One list, not levels."""
    return [f"{key}=[{_joined(levels)}]"]


_LINES = {
    "model": _model_lines,
    "dataset": _dataset_lines,
    "evaluation": _evaluation_lines,
    "priors.paths": _list_lines,
    OTHER: _other_lines,
}
