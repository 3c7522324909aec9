"""Compiled templates that are kept: used while they fit, made again when they do not, never in the way."""

from pathlib import Path

import jinja2
import pytest

from runplan.files.compiled import CompiledTemplates
from runplan.files.render import environment


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "hello.j2").write_text("Hello {{ name | sh }}!\n")
    return folder


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "kept"


def hello(templates: Path, kept: Path) -> str:
    return environment(templates, CompiledTemplates(kept)).get_template("hello.j2").render(name="a b")


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sources that Jinja compiles while the test runs."""
    seen: list[str] = []
    compile_source = jinja2.Environment.compile

    def counted(self, source, *rest):
        seen.append(source)
        return compile_source(self, source, *rest)

    monkeypatch.setattr(jinja2.Environment, "compile", counted)
    return seen


def test_a_template_is_compiled_once(templates, kept, compilations):
    assert [hello(templates, kept) for _ in range(3)] == ["Hello 'a b'!\n"] * 3
    assert len(compilations) == 1


def test_a_changed_template_is_compiled_again(templates, kept, compilations):
    hello(templates, kept)
    (templates / "hello.j2").write_text("Bye {{ name }}!\n")
    assert [hello(templates, kept) for _ in range(2)] == ["Bye a b!\n"] * 2
    assert len(compilations) == 2


def test_other_settings_are_compiled_for(templates, kept, compilations):
    (templates / "hello.j2").write_text("{% if name %}\nHello\n{% endif %}\n")
    assert hello(templates, kept) == "Hello\n"
    other = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates), bytecode_cache=CompiledTemplates(kept), autoescape=True
    )
    assert other.get_template("hello.j2").render(name="a") == "\nHello\n"
    assert len(compilations) == 2


DAMAGES = {
    "empty": lambda _: b"",
    "short": lambda data: data[:-7],
    "changed": lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_compiled_again(templates, kept, compilations, damage):
    hello(templates, kept)
    (file,) = kept.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert hello(templates, kept) == "Hello 'a b'!\n"
    assert len(compilations) == 2
    assert file.read_bytes() == whole


def test_a_place_that_cannot_be_written_is_no_error(templates, tmp_path):
    (tmp_path / "file").write_text("")
    assert hello(templates, tmp_path / "file") == "Hello 'a b'!\n"
    assert {path.name for path in tmp_path.iterdir()} == {"file", "templates"}


def test_nothing_is_kept_unless_asked(templates, tmp_path):
    assert environment(templates).get_template("hello.j2").render(name="a") == "Hello a!\n"
    assert [path.name for path in tmp_path.iterdir()] == ["templates"]
