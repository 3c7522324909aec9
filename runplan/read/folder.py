"""A model folder while it is looked at: what was found wrong so far, and the commands that mend it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runplan.config import Model
from runplan.facts import Finding, Status
from runplan.pasting import pasted, pasted_word


@dataclass
class Folder:
    """A model folder, its file names, and the findings about it."""

    path: Path
    configured: Model
    names: frozenset[str] = frozenset()
    findings: list[Finding] = field(default_factory=list)

    def say(self, status: Status, detail: str, fix: str | None = None) -> None:
        """Keep a finding; `fix` is the download of the folder unless another is given."""
        needs_fix = status in {Status.missing, Status.invalid}
        self.findings.append(Finding(status, detail, (self.download() if fix is None else fix) if needs_fix else ""))

    @property
    def status(self) -> Status:
        """The worst of the findings."""
        said = {finding.status for finding in self.findings}
        order = (Status.invalid, Status.missing, Status.unchecked)
        return next((status for status in order if status in said), Status.ok)

    def download(self, files: Sequence[str] = ()) -> str:
        """The command that gets the folder, or some of its files, from Hugging Face; else what to set."""
        if self.configured.name == "tiny":
            makes = "model.create=true makes it"
            return f"move {pasted_word(str(self.path))} away, then {makes}" if self.path.exists() else makes
        if not self.configured.repo_id:
            return "set model.path=DIR to the folder that has it, or model.repo_id=ORG/NAME to see how to download it"
        words = ["hf", "download", self.configured.repo_id, *files, "--local-dir", str(self.path)]
        if not files:  # the original weights are a second copy; original/tokenizer.model is wanted
            beside = self.configured.repo_id.startswith("mistralai/")
            words += ["--exclude", "consolidated*" if beside else "original/consolidated*"]
        return pasted(words)

    def download_again(self, name: str) -> str:
        """The command that replaces a damaged file; it is removed first, since the download trusts what is there."""
        again = self.download([name])
        return f"rm {pasted_word(str(self.path / name))} && {again}" if self.configured.repo_id else again

    def pull(self) -> str:
        """The command that turns Git LFS pointers into their files."""
        return f"git -C {pasted_word(str(self.path))} lfs pull"
