"""Where runplan's own conf/, templates/ and tasks/ are: in the package when installed, beside it in a checkout."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _shipped(name: str) -> Path:
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


CONF_DIR = _shipped("conf")
TEMPLATES_DIR = _shipped("templates")
TASKS_DIR = _shipped("tasks")
RECIPES_DIR = _PACKAGE / "recipes"


def conf_dirs() -> tuple[Path, ...]:
    """Folders of configuration, the user's before ours: `$RUNPLAN_CONF`, `./conf`, then what runplan ships."""
    own = os.environ.get("RUNPLAN_CONF")
    users = [Path(own).expanduser()] if own else []
    users.append(Path.cwd() / "conf")
    found = [path.resolve() for path in users if path.is_dir()]
    return (*dict.fromkeys(path for path in found if path != CONF_DIR), CONF_DIR)
