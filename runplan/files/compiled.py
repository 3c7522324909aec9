"""Compiled templates, kept in the user's cache directory: compiling them takes longer than planning and writing a run.

A kept template is used when its source and the settings it was compiled with are the same, and its file is whole.
Nothing here can make a plan fail.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING

from jinja2 import BytecodeCache

if TYPE_CHECKING:
    from pathlib import Path

    from jinja2 import Environment
    from jinja2.bccache import Bucket

_DIGEST_BYTES = 32


class CompiledTemplates(BytecodeCache):
    """A folder of compiled templates; Jinja looks at its own and Python's version."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get_bucket(self, environment: Environment, name: str, filename: str | None, source: str) -> Bucket:
        """A place for one template, with what is kept of it; settings that change its code count as its source."""
        settings = environment.trim_blocks, environment.lstrip_blocks, environment.keep_trailing_newline
        return super().get_bucket(environment, name, filename, f"{settings}{source}")

    def _file(self, bucket: Bucket) -> Path:
        return self._folder / f"{bucket.key}.bin"

    def load_bytecode(self, bucket: Bucket) -> None:
        """Take what is kept; nothing where it is missing or damaged."""
        try:
            data = self._file(bucket).read_bytes()
        except OSError:
            return
        content = data[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() == data[:_DIGEST_BYTES]:
            bucket.bytecode_from_string(content)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep a compiled template; a full or read-only disk is no error."""
        content = bucket.bytecode_to_string()
        kept = self._file(bucket)
        temporary = kept.with_name(f"{kept.name}.{os.getpid()}.tmp")
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(hashlib.sha256(content).digest() + content)
            temporary.replace(kept)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
