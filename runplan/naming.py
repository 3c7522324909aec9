"""Names of run directories: what varies, short enough to read, safe in every file system and shell.

A name is the model, then `rank<r>` (fine-tuned) or `base` (evaluated as it is), then every other varying parameter in
command order. Letters outside ASCII lose their accents or become `-`; where two names would then be one, or one would
reach 100 characters, it ends in a hash of what it stands for, so that it stays the same when other runs come and go.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from runplan.units import short_number

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

    from runplan.plan import Composed

LONGEST = 99
HASH_LENGTH = 8
SHORT_KEYS = {"optimizer.lr": "lr", "batch_size": "bs", "epochs": "ep", "seed": "seed"}
PATH_KEYS = frozenset({"path", "source", "file", "folder", "script", "custom", "word_list", "models_dir", "data_dir"})
SENTENCES = frozenset({"system_prompt", "prompt"})
MODEL_KEYS = frozenset({"model", "model.name", "model.full_name", "model.path", "model.folder", "model.repo_id"})
EVALUATION_ROOTS = frozenset({"evaluation", "system_prompt", "prompt", "dataset", "experiment"})
NOT_MEASURED = frozenset({"enabled", "epochs"})
"""Keys of `evaluation` that decide which checkpoints are evaluated, not how."""
TRAINED_ON = frozenset(
    {f"dataset.{key}" for key in ("train_rows", "train_split", "train_on_input", "validation_split", "create")}
    | {f"evaluation.{key}" for key in NOT_MEASURED}
)
"""Keys that a base model's evaluation does not depend on, in groups that it does."""

PROJECTION = "_proj"
"""How names of a model's modules end, each of them: `[q_proj,v_proj]` is `q-v`."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]")
_DASHES = re.compile(r"--+")
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,5}$")


def run_names(composed: Sequence[Composed]) -> list[str]:
    """One directory name a run, in the order of `composed`; unique (whatever the case of letters) and valid.

    Examples: `1B_rank4`, `3B_rank64_lr1e-5`, `Llama-3.2-1B_rank8_lr1e-5` (`naming=full`), `1B_base` (`train=false`).
    """
    models = _model_names(composed)
    varying = _varying(composed, models)
    return _unique([_raw(one, model, varying) for one, model in zip(composed, models, strict=True)])


def control_names(composed: Sequence[Composed], taken: Collection[str] = ()) -> list[str]:
    """One directory name a control: `1B_base`, and what varies between the controls' evaluations.

    Args:
        composed: one combination a control, distinct by `control_key`.
        taken: names that are in use, those of the runs.
    """
    models = _model_names(composed)
    varying = tuple(key for key in _varying(composed, models) if key.split(".")[0] in EVALUATION_ROOTS)
    raws = [
        ("_".join([model, "base", *_parts(one, varying)]), (model, str(control_key(one))))
        for one, model in zip(composed, models, strict=True)
    ]
    return _unique(raws, taken)


def control_key(composed: Composed, *, takes_data: bool = True) -> Hashable:
    """What decides whether two combinations share a control: base model, evaluation, prompts and test data.

    Where the task brings its own data (`takes_data=False`), of the dataset only the way its rows are written counts.

    Adapters, optimizer, seed, epochs and requests do not: a base model is evaluated once, never once a factor level.
    """
    config = composed.config
    model, data = config.model, config.dataset
    evaluation = {key: value for key, value in vars(config.evaluation).items() if key not in NOT_MEASURED}
    return _canonical(
        [
            [model.path, model.folder, model.repo_id, model.path or model.folder or model.name],
            evaluation,
            [config.system_prompt, config.prompt],
            [data.type],
            [data.path, data.file, data.test_split, data.input_column, data.output_column] if takes_data else [],
            [data.messages_column, data.text_column] if takes_data else [],
        ]
    )


def shared_control(first: Composed, other: Composed) -> Composed:
    """The combination of a control that both share: of its factors those in which they agree."""
    apart = {key for key, level in first.factors.items() if concerns_control(key) and other.factors.get(key) != level}
    if not apart:
        return first
    return replace(first, factors={key: level for key, level in first.factors.items() if key not in apart})


def concerns_control(key: str) -> bool:
    """Whether a config key says something about evaluating a base model."""
    root = key.partition(".")[0]
    return root == "model" or (root in EVALUATION_ROOTS and key not in TRAINED_ON)


def relevant_overrides(composed: Composed, *, trained: bool) -> tuple[str, ...]:
    """The override lines of a run; of a control, those that sweep what it does not measure are left out."""
    if trained:
        return composed.overrides
    keys = [(line, line.partition("=")[0].lstrip("+~")) for line in composed.overrides]
    return tuple(line for line, key in keys if key not in composed.factors or concerns_control(key))


def level_text(key: str, level: Any, choices: Mapping[str, Any]) -> str:
    """A level as it appears in names: `1e-5`, a group choice's name, a path's stem."""
    if key not in choices and _is_place(key, level):
        return _SUFFIX.sub("", level.rstrip("/").rpartition("/")[2])
    return _plain_text(level)


def _plain_text(level: Any) -> str:
    if isinstance(level, Enum):
        return str(level.value)
    if level is None or isinstance(level, bool):
        return str(level).lower()
    if isinstance(level, int | float):
        return short_number(level)
    if isinstance(level, (list, tuple)):
        return "-".join(_plain_text(item).removesuffix(PROJECTION) for item in level)
    if hasattr(level, "items"):
        return "-".join(f"{name}-{_plain_text(item)}" for name, item in level.items())
    return str(level)


def _is_place(key: str, level: Any) -> bool:
    """Whether a level is the path of something, by its key or by its look; a sentence may hold a slash, too."""
    is_path = key.rpartition(".")[2] in PATH_KEYS
    return isinstance(level, str) and (is_path or ("/" in level and key not in SENTENCES))


def _canonical(value: Any) -> str:
    """Text that is equal exactly for equal values; 1, 1.0 and True differ."""
    return json.dumps(value, sort_keys=True, default=lambda other: str(getattr(other, "value", other)))


def _varying(composed: Sequence[Composed], models: Sequence[str]) -> tuple[str, ...]:
    """Swept keys with two levels or more, in command order, but for the model and the rank, which always show."""
    levels: dict[str, set[str]] = {}
    for one in composed:
        for key, level in one.factors.items():
            levels.setdefault(key, set()).add(_canonical(level))
    shown = len(set(models))
    return tuple(
        key
        for key, seen in levels.items()
        if len(seen) > 1 and key != "lora.rank" and not (key in MODEL_KEYS and shown >= len(seen))
    )


def _raw(one: Composed, model: str, varying: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """The name as one would write it, and all it stands for."""
    config = one.config
    if config.train:
        head = [model, f"rank{config.lora.rank}"]
    else:
        head = [model, "base"]
        varying = [key for key in varying if key.split(".")[0] not in {"lora", "optimizer", "train"}]
    return "_".join([*head, *_parts(one, varying)]), (*head, *_levels(one, one.factors), *one.overrides)


def _parts(one: Composed, keys: Iterable[str]) -> list[str]:
    """`lr1e-5`, `bs4`, `dtype-fp32`, `words_8L_80P_10000`: one part a varying key; words do not run into its name."""
    parts = []
    for key in keys:
        if key not in one.factors:
            continue
        level = one.factors[key]
        text = level_text(key, level, one.choices)
        prefix = "" if key in one.choices or _is_place(key, level) else SHORT_KEYS.get(key, key.rpartition(".")[2])
        parts.append(f"{prefix}{'-' if prefix and text[:1].isalpha() else ''}{text}")
    return parts


def _levels(one: Composed, keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{key}={_canonical(one.factors.get(key))}" for key in keys)


def _model_names(composed: Sequence[Composed]) -> list[str]:
    """The model's part of each name: short name, or full name without an `-Instruct` that tells nothing apart."""
    full_names = {one.config.model.full_name for one in composed}
    plain = []
    for one in composed:
        model = one.config.model
        if one.config.naming.value == "full":
            bare = model.full_name.removesuffix("-Instruct")
            plain.append(model.full_name if bare in full_names else bare or model.full_name)
        else:
            plain.append(model.name)
    return [name or "model" for name in plain]


def safe_name(text: str) -> str:
    """A text as part of a file name: ASCII letters, digits and `._+-`; never hidden, never an option."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return _DASHES.sub("-", _UNSAFE.sub("-", plain)).strip("-.") or "run"


def _unique(raws: Sequence[tuple[str, tuple[str, ...]]], taken: Collection[str] = ()) -> list[str]:
    """Safe names of (text, identity) pairs; those that clash or are too long end in a hash of their identity."""
    safe = [safe_name(text) for text, _ in raws]
    counts = Counter(name.casefold() for name in safe)
    used = {name.casefold() for name in taken}
    names: list[str] = []
    for name, (text, identity) in zip(safe, raws, strict=True):
        clash = counts[name.casefold()] > 1 or name.casefold() in used
        chosen = _with_hash(name, (text, *identity)) if clash or len(name) > LONGEST else name
        repeat = 1
        while chosen.casefold() in used:
            repeat += 1
            chosen = _with_hash(name, (text, *identity, str(repeat)))
        used.add(chosen.casefold())
        names.append(chosen)
    return names


def _with_hash(name: str, identity: tuple[str, ...]) -> str:
    digest = hashlib.sha256("\0".join(identity).encode("utf-8", "surrogatepass")).hexdigest()[:HASH_LENGTH]
    return f"{name[: LONGEST - HASH_LENGTH - 1].rstrip('-._')}-{digest}"
