"""Names and texts of any kind on a machine that is set up for ASCII, or for names that are no UTF-8.

Files of a group are UTF-8, whatever the locale. Python reads names of files in the locale's encoding, and only where
that is ASCII (`LC_ALL=C` with its own remedies, PEP 538 and 540, switched off) can it not say what is in them.
"""

from __future__ import annotations

import codecs
import os
import re
import sys

SHOWN = "runplan.shown"
"""Name of what is done with characters that a screen cannot show."""
_HALVES = re.compile("[\ud800-\udfff]")


def start_in_utf8() -> None:
    """Start this program again in Python's UTF-8 mode, where names of files would have to be ASCII; else nothing."""
    if sys.getfilesystemencoding() == "ascii" and sys.executable and sys.orig_argv:
        os.execv(sys.executable, [sys.orig_argv[0], "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - no shell wanted


def escaped(json_text: str) -> str:
    """JSON that any reader takes: bytes of names that are no UTF-8 as JSON writes half a surrogate pair."""
    return _HALVES.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)


def _shown(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return b"".join(map(_byte, error.object[error.start : error.end])), error.end


def _byte(character: str) -> bytes:
    """A byte of a name that is no UTF-8 as it is, anything else as a question mark."""
    return os.fsencode(character) if "\udc80" <= character <= "\udcff" else b"?"


codecs.register_error(SHOWN, _shown)
