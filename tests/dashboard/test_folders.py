"""The folders of the dashboard: an import goes down, never up."""

import ast
from pathlib import Path

import pytest

import casket.dashboard

ROOT = Path(casket.dashboard.__file__).parent
BELOW = {
    "answers": set(),
    "live": {"answers"},
    "page": set(),
    "report": {"answers", "page"},
    "http": {"answers", "live", "page"},
}
"""What each folder or module may import of the dashboard, besides itself."""

FILES = {
    path.relative_to(ROOT).as_posix(): path
    for path in ROOT.rglob("*.py")
    if "web" not in path.relative_to(ROOT).parts
}


def imported(path):
    """The folders and modules of the dashboard that a file imports."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("casket.dashboard"):
            for alias in node.names:
                yield f"{node.module}.{alias.name}".split(".")[2]


def test_every_folder_and_module_has_its_place():
    tops = {name.partition("/")[0].removesuffix(".py") for name in FILES}
    assert tops - {"__init__"} == BELOW.keys()


@pytest.mark.parametrize("name", sorted(set(FILES) - {"__init__.py"}))
def test_imports_go_down(name):
    own = name.partition("/")[0].removesuffix(".py")
    assert set(imported(FILES[name])) <= BELOW[own] | {own}
