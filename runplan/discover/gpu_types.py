"""Which options of `conf/resources` a node's GPUs may be, from the names SLURM and `nvidia-smi` have for them. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from runplan.priors.names import gpu_key, same_chip
from runplan.slurm.cluster import NodeShape

_OPTION = re.compile(r"(?P<card>[a-z0-9]+?)(?P<kind>-mig|-nvl|-pcie)?-(?P<gib>\d+)")
_SLICE = re.compile(r"\d+g[._](?P<gib>\d+)gb", re.IGNORECASE)
_ONLY_SIZE = re.compile(r"(?:gpu|vram) ?\d+")
_NAMESAKES: Mapping[str, tuple[str, ...]] = {"rtx6000": ("rtx6000", "rtx6000ada", "rtx6000pro")}
"""Cards that a name leaves open: all of these are called RTX 6000."""
_SIZE = re.compile(r"(?:gpu|vram|(?<![a-z0-9]))(\d{2,3})(?: ?g(?:i?b)?)?(?![a-z0-9])")


def _words(text: str) -> str:
    """A name in lower case, its parts separated by spaces: `NVIDIA_A100-SXM4-80GB` → `nvidia a100 sxm4 80gb`."""
    spaced = same_chip(re.sub(r"[^a-z0-9]+", " ", text.lower()))
    return re.sub(r"\b(rtx) ?(a?\d{4}) ?(ada)?\b", r"\1\2\3", spaced)


def options_of(name: str, known: Collection[str], more: Iterable[str] = ()) -> tuple[str, ...]:
    """Options of `conf/resources` that a GPU of that name may be, sorted; several where the name leaves it open.

    Args:
        name: a type in gres, or a device's name.
        known: the options there are.
        more: other words about the same node, such as its features, which may say how much memory a GPU has.

    >>> options_of("a100", ["a100-40", "a100-80", "a10-24"], ["gpu80"])
    ('a100-80',)
    >>> options_of("nvidia_l40s", ["l40s-48", "l4-24"]), options_of("mi300x", ["l4-24"])
    (('l40s-48',), ())
    """
    words = [_words(name), *map(_words, more)]
    parts = [(option, match) for option in sorted(known) if (match := _OPTION.fullmatch(option))]
    mig = _SLICE.search(name)
    bare = _ONLY_SIZE.fullmatch(words[0]) or any(match["card"] == words[0] for _, match in parts)
    if not mig and not bare and (whole := gpu_key(words[0])) in known:
        return (whole,)
    cards = _cards(words[:1], parts) or (_cards(words[1:], parts) if mig else ())
    fitting = [
        (option, match)
        for option, match in parts
        if (match["kind"] == "-mig") == bool(mig) and (match["card"] in cards or (mig and not cards))
    ]
    if mig:
        return tuple(option for option, match in fitting if match["gib"] == mig["gib"])
    if not any("pcie" in text for text in words) and any(re.search(r"\b(?:sxm\d?|hbm3)\b", text) for text in words):
        fitting = [(option, match) for option, match in fitting if match["kind"] not in {"-nvl", "-pcie"}]
    sizes = {size for text in words for size in _SIZE.findall(text)}
    return tuple(option for option, match in fitting if match["gib"] in sizes) or tuple(option for option, _ in fitting)


def _cards(words: Iterable[str], parts: Iterable[tuple[str, re.Match[str]]]) -> set[str]:
    """Cards that the words name, as words of their own."""
    named = {match["card"] for _, match in parts for text in words if re.search(rf"\b{match['card']}\b", text)}
    return {other for card in named for other in _NAMESAKES.get(card, (card,))}


def node_options(shape: NodeShape, known: Collection[str]) -> tuple[str, ...]:
    """Options of `conf/resources` that the GPUs of a kind of node may be; features name them where gres does not."""
    if not shape.gpus:
        return ()
    names = shape.gpu_types or shape.features
    others = (*shape.gpu_types, *shape.features)
    named = {option for name in names for option in options_of(name, known, others)}
    return tuple(sorted(named or _of_size(shape.features, known)))


def _of_size(features: Iterable[str], known: Collection[str]) -> set[str]:
    """Options with the memory that a feature such as `gpu80` says, whichever the card."""
    sizes = {size for text in features if _ONLY_SIZE.fullmatch(_words(text)) for size in _SIZE.findall(_words(text))}
    parts = ((option, _OPTION.fullmatch(option)) for option in known)
    return {option for option, match in parts if match and match["kind"] != "-mig" and match["gib"] in sizes}
