"""Colours as WCAG 2 compares them."""

from __future__ import annotations

import re


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, `rgb(…)` or `#rrggbb`."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts(colour)]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def parts(colour: str) -> list[float]:
    if not colour.startswith("#"):
        return [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    return [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
