"""A site file as text: every value with where it was found, every other candidate as a comment. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runplan import yaml_text
from runplan.discover.found import Offer, Setting, Site
from runplan.summary.readme import visible

NOTHING: Mapping[str, Any] = {}
STATED = frozenset({"partition", "account", "qos", "constraint", "conda_env", "venv"})
"""Keys that are written as null where nothing was chosen; others keep what `_site` says and stand as comments."""
_NOT_YAML = re.compile(r"[^\t\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def site_text(site: Site, defaults: Mapping[str, Any] = NOTHING) -> str:
    """The text of `conf/site/<name>.yaml`; two equal findings give the same text.

    Args:
        site: what was chosen.
        defaults: what `conf/site/_site.yaml` has for keys that stay as they are.
    """
    lines = [
        f"# What `runplan init` found. Edit it; init never writes over it. In use: site={site.name}",
        *(f"# {_comment(fact)}" for fact in site.facts),
        "defaults:",
        "  - _site",
        "  - _self_",
        *_resources(site.resources),
        *_trainer(site.trainer),
        "",
        f"name: {_value(site.name)}",
    ]
    for setting in site.settings:
        lines += _setting(setting, defaults)
    return "\n".join(lines) + "\n"


def pointer_text(name: str) -> str:
    """The text of `conf/site/local.yaml` that makes `name` the site of every plan made in its folder."""
    return (
        "# The site of every plan made here, unless site=… names another. `runplan init` wrote it.\n"
        f"defaults:\n  - {_value(name)}\n"
    )


def pointed(text: str) -> str | None:
    """The site that a `conf/site/local.yaml` stands for, when it is one that `pointer_text` wrote."""
    defaults = yaml_text.load(text).get("defaults")
    if isinstance(defaults, list) and len(defaults) == 1 and isinstance(defaults[0], str):
        return defaults[0]
    return None


def _resources(setting: Setting) -> list[str]:
    head = "  {}- override /resources@_global_.resources: {}  # {}"
    if setting.value:
        lines = [head.format("", setting.value, _comment(setting.said))]
    else:
        lines = [f"  # resources: runplan's own; {_comment(setting.said)}"]
    return lines + [head.format("# ", offer.value, _comment(offer.said)) for offer in setting.offers]


def _trainer(setting: Setting) -> list[str]:
    """Nothing where torchtune is all there is: it is what holds anyway."""
    head = "  {}- override /trainer@_global_.trainer: {}  # {}"
    lines = [head.format("", setting.value, _comment(setting.said))] if setting.value else []
    return lines + [head.format("# ", offer.value, _comment(offer.said)) for offer in setting.offers]


def _setting(setting: Setting, defaults: Mapping[str, Any]) -> list[str]:
    said = _comment(setting.said)
    if setting.value is not None:
        lines = [f"{setting.key}: {_value(setting.value)}  # {said}"]
    elif setting.key in STATED:
        lines = [f"{setting.key}: null  # {said}"]
    else:
        lines = [f"# {setting.key}: {_comment(yaml_text.scalar(defaults.get(setting.key)))}  # runplan's own; {said}"]
    return lines + [_offer(setting, offer) for offer in setting.offers]


def _offer(setting: Setting, offer: Offer) -> str:
    value = (offer.value,) if setting.key in {"modules", "priors"} else offer.value
    return f"#   {setting.key}: {_comment(_value(value))}  # {_comment(offer.said)}"


def _value(value: str | tuple[str, ...]) -> str:
    """YAML of a value; `${` of a name is no interpolation, except for the site's own keys."""
    if isinstance(value, str):
        return yaml_text.scalar(_escaped(value))
    return yaml_text.scalar([_escaped(item) for item in value])


def _escaped(text: str) -> str:
    return text if text == "${site.output_root}" else text.replace("${", "\\${")


def _comment(text: str) -> str:
    """A text that a YAML comment can hold: one line, of characters that YAML allows."""
    return _NOT_YAML.sub("?", visible(text))
