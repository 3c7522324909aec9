"""Text in the user's config files stays as typed; YAML has other ideas of `1e5`, `007`, `3.10`, `12:30` and `no`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import OmegaConf

from runplan.config import several_texts, text_keys

if TYPE_CHECKING:
    from omegaconf import Container

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PARAMS = "hydra.sweeper.params"
"""Keys below it are override lines."""


def taken_literally(config: Container, text: str, package: str) -> Container:
    """The config of a file with what stands there instead of numbers and truth values, where text belongs.

    Args:
        config: as OmegaConf loaded it.
        text: of the file.
        package: the key that it is laid on, `site`; empty for a whole config.
    """
    values = OmegaConf.to_container(config, resolve=False)
    changed = _restore(yaml.compose(text, Loader=_Loader), values, package)
    return OmegaConf.create(values) if changed else config


def _restore(node: yaml.Node | None, values: Any, key: str) -> bool:
    """Go through a part of a file and through what became of it, which is changed; whether it was.

    `key` is where the part belongs.
    """
    children: list[tuple[Any, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode) and isinstance(values, dict):
        children = [(name.value, inner) for name, inner in node.value if name.value in values]
    elif isinstance(node, yaml.SequenceNode) and isinstance(values, list):
        children = list(enumerate(node.value))
    changed = False
    for name, inner in children:
        where = key if isinstance(name, int) else f"{key}.{name}".lstrip(".")
        if not isinstance(inner, yaml.ScalarNode):
            changed |= _restore(inner, values[name], where)
        elif isinstance(values[name], (bool, int, float)) and _takes_text(where):
            values[name] = inner.value
            changed = True
    return changed


def _takes_text(key: str) -> bool:
    """Whether a key takes a text, or is one of several that do."""
    group = key.rpartition(".")[0]
    return key in text_keys() or key in several_texts() or group in several_texts() or group.startswith(_PARAMS)
