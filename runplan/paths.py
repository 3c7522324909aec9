"""Where runplan's own conf/, templates/ and tasks/ are: in the package when installed, beside it in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _shipped(name: str) -> Path:
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


CONF_DIR = _shipped("conf")
TEMPLATES_DIR = _shipped("templates")
TASKS_DIR = _shipped("tasks")
RECIPES_DIR = _PACKAGE / "recipes"
