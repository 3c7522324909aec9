"""Templates of the user's own take the place of ours, and say where they are wrong."""

from __future__ import annotations

import pytest
from factories import make_config, make_plan, make_run

from runplan.errors import RenderError
from runplan.files.render import environment, render
from runplan.paths import TEMPLATES_DIR, user_template_dirs


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of the user's own templates, found from where they work."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "conf" / "templates" / "torchtune"
    folder.mkdir(parents=True)
    return folder


def files():
    return render(make_plan(make_run(make_config())), environment(TEMPLATES_DIR, None, *user_template_dirs()))


def test_a_template_of_ones_own_takes_the_place_of_ours(own):
    (own / "finetune.slurm.j2").write_text("#!/bin/bash\n{{ token | sh }}\n")
    found = files()
    (script,) = [text for path, text in found.items() if path.endswith("finetune.slurm")]
    assert script.startswith("#!/bin/bash\n")
    assert len(script.splitlines()) == 2
    assert any(path.endswith("finetune.yaml") for path in found)


def test_without_any_ours_are_used(own):
    before = files()
    (own / "unknown.j2").write_text("{{ nothing }}")
    assert files() == before


@pytest.mark.parametrize(
    ("text", "said"),
    [("x\n{{ tokn }}", "finetune.slurm.j2, line 2: 'tokn' is undefined.*did you mean token?"),
     ("x\n{% if %}", "finetune.slurm.j2, line 2"),
     ('{% include "mine.j2" %}', "asks for mine.j2")],
    ids=["name", "syntax", "include"],
)  # fmt: skip
def test_a_wrong_template_says_what_and_where(own, text, said):
    (own / "finetune.slurm.j2").write_text(text)
    with pytest.raises(RenderError, match=said.replace(".", r"\.").replace(r"\.*", ".*").replace("?", r"\?")):
        files()
