"""The README's path and the code of every page run as they stand, in an empty folder."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import casket
from tests.pages import PAGES, ROOT, blocks

README = (ROOT / "README.md").read_text()
MODULES = {
    "keras-tuner": "keras_tuner",
    "pytorch-geometric": "torch_geometric",
    "ray-tune": "ray",
}
FRAMEWORKS = {
    "accelerate",
    "catboost",
    "fastai",
    "ignite",
    "keras",
    "lightgbm",
    "lightning",
    "optuna",
    "skorch",
    "statsmodels",
    "torch",
    "xgboost",
    *MODULES,
}


def run(arguments, folder, **environment):
    done = subprocess.run(
        arguments,
        cwd=folder,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "MPLBACKEND": "Agg",
            "HOME": str(folder),
            **environment,
        },
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def scripts(tmp_path):
    """The README's scripts, saved under the names it gives them."""
    pytest.importorskip("sklearn")
    for block in blocks(README):
        if block.language == "python":
            name = re.match(r"# (\w+\.py)\n", block.text)[1]
            (tmp_path / name).write_text(block.text)
    return tmp_path


def commands():
    """The lines to be typed, in the README's order, but for the server."""
    typed = [
        line[2:]
        for block in blocks(README)
        for line in block.text.splitlines()
        if line.startswith("$ ")
    ]
    assert "casket dashboard runs.json" in typed
    return [line for line in typed if not line.startswith("casket dashboard")]


def test_the_path_of_the_readme_leads_from_nothing_to_the_page(scripts, tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, arguments in (("python", ""), ("casket", "-m casket.cli.app")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        program.chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    shown = {line: run(["sh", "-ec", line], scripts, PATH=path) for line in commands()}

    assert shown["python train.py"] == ""
    assert re.search(r"completed {'lr': 0.01, 'seed': 0} 0\.9\d+$", shown["python plot.py"])
    assert (scripts / "curves.png").stat().st_size > 1000
    (sweep,) = (line for line in shown if "sweep.py" in line)
    assert shown[sweep].count("running") == 8  # the first of the nine sets is that of train.py
    run([sys.executable, "resume.py"], scripts)
    with casket.open(scripts / "runs.json") as runs:
        assert [session.status for session in runs.sessions()] == ["completed"] * 10
        assert {len(session.epochs) for session in runs.sessions()} == {10}
    assert len(shown["casket ls --group-by params.lr"].splitlines()) == 4
    assert b'id="casket-data"' in (scripts / "report.html").read_bytes()


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 200


def is_of_a_framework(page):
    return page.stem in FRAMEWORKS


def with_code():
    for page in PAGES:
        if page.name != "README.md" and any(
            block.language == "python" for block in blocks(page.read_text())
        ):
            marks = [pytest.mark.frameworks] if is_of_a_framework(page) else []
            yield pytest.param(page, id=str(page.relative_to(ROOT)), marks=marks)


@pytest.mark.parametrize("page", list(with_code()))
def test_the_code_of_a_page_runs_and_prints_what_it_says(page, tmp_path):
    needed = {"sklearn", "pandas", "matplotlib"} | {
        MODULES.get(name, name) for name in {page.stem} & FRAMEWORKS
    }
    if missing := [name for name in needed if find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    warnings = [] if is_of_a_framework(page) else ["-W", "error"]
    run([sys.executable, *warnings, str(ROOT / "tests" / "pages.py"), str(page)], tmp_path)


def test_the_pages_that_teach_have_code_that_runs():
    with_blocks = {parameter.id for parameter in with_code()}
    assert with_blocks >= {
        *(f"docs/{name}.md" for name in ("logging", "artifacts", "sessions", "reading")),
        *(f"docs/adapters/{name}.md" for name in (*FRAMEWORKS, "sklearn")),
    }


def guides():
    return [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]


@pytest.mark.parametrize("page", guides(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_and_heading_that_a_page_links_to_is_there(page):
    text = page.read_text()
    named = set(re.findall(r"`((?:tests|examples|docs)/[\w/.]+)`", text))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), target
        if heading:
            assert heading in headings(linked), target


def headings(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.M
    )
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_of_the_documentation_is_in_its_index():
    index = (ROOT / "docs" / "README.md").read_text()
    missing = [
        page.name
        for page in (ROOT / "docs").rglob("*.md")
        if f"({page.relative_to(ROOT / 'docs')})" not in index and page.name != "README.md"
    ]
    assert missing == []


def test_every_folder_of_the_packages_is_in_the_guide():
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    packages = {
        path.parent
        for name in ("casket", "casket_integrations")
        for path in (ROOT / name).rglob("*.py")
        if "node_modules" not in path.parts
    }
    folders = {str(folder.relative_to(ROOT)) for folder in packages}
    described = set(re.findall(r"^\| `([\w/]+)/` \|", guide, re.M))
    within = {"casket/dashboard/answers", "casket/dashboard/http", "casket/dashboard/live"}
    adapters = {f"casket_integrations/{name}" for name in ("mlflow", "sklearn", "wandb")}
    assert folders - within - adapters <= described
