"""The live widget in real notebooks: JupyterLab and marimo, in Chromium.

Both are too large for `make test` (200 packages, 260 MB): `make conformance` installs them.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.waiting import PATIENCE, eventually

nbformat = pytest.importorskip("nbformat")
api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("anywidget")

ROOT = Path(__file__).parents[2]
expect = api.expect
TIMEOUT = PATIENCE * 1000
"""In milliseconds."""

# Names with an underscore, because marimo lets only one cell define a name.
PREPARE = """
from casket import Experiment
from casket_integrations.notebook import live

model = Experiment.use("runs.json", exp_id="digits").model("net")
with model.session({"lr": 0.1}, ensure_unique=False) as _session:
    for _epoch in range(1, 6):
        _session.add_epoch(_epoch, {"loss": 1 / _epoch})
live(model, every=0.05)
"""
COUNT = """
import threading, time

while sum(each.name == "casket-live" for each in threading.enumerate()) > 1:
    time.sleep(0.01)
print("a single thread")
"""
# The training goes on until the widget has been seen to show it.
TRAIN = """
import pathlib, time

with model.session({"lr": 0.2}) as _session:
    _epoch = 0
    while not pathlib.Path("seen").exists():
        _epoch += 1
        _session.add_epoch(_epoch, {"loss": 1 / _epoch})
        time.sleep(0.02)
model.sessions()
"""


@pytest.fixture
def notebook_page(browser, tmp_path):
    """A page, of which a picture is left in the folder of the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(TIMEOUT)
    page = context.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    page.screenshot(path=tmp_path / "page.png")
    context.close()


@pytest.fixture
def start(tmp_path):
    """Start a server in an empty folder and wait until it answers; return its address."""
    processes = []

    def run(*arguments):
        port = free_port()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            **{
                f"JUPYTER_{name}_DIR": str(tmp_path / name)
                for name in ("CONFIG", "DATA", "RUNTIME")
            },
            "IPYTHONDIR": str(tmp_path / "ipython"),
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
        }
        command = [sys.executable, "-m", *(each.format(port=port) for each in arguments)]
        log = (tmp_path / "server.log").open("w")
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        processes.append((process, log))
        eventually(lambda: answers(port, process))
        return f"http://127.0.0.1:{port}"

    yield run
    for process, log in processes:
        process.terminate()
        process.wait(PATIENCE)
        log.close()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port, process):
    assert process.poll() is None, "the server has ended"
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", timeout=60) is not None
    except httpx.TransportError:
        return False


def check_that_the_widget_moves(page, folder):
    """Wait until the widget shows a running training, let it end, and see that it shows that."""
    widget = page.locator(".casket-live")
    expect(widget).to_contain_text("lr=0.2 running", timeout=TIMEOUT)
    curve = widget.locator("svg path").nth(2)  # after the axes and the first session
    before = curve.get_attribute("d")
    eventually(lambda: curve.get_attribute("d") not in {before, None})
    (folder / "seen").touch()
    expect(widget).to_contain_text("lr=0.2 completed", timeout=TIMEOUT)
    widget.locator("svg").hover()
    expect(widget.locator("figcaption")).to_contain_text(" at ", timeout=TIMEOUT)
    assert page.errors == []


def test_a_widget_in_jupyterlab_moves_while_a_cell_trains(start, notebook_page, tmp_path):
    pytest.importorskip("jupyterlab")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    book.cells = [nbformat.v4.new_code_cell(code) for code in (PREPARE, TRAIN, COUNT)]
    nbformat.write(book, tmp_path / "book.ipynb")
    address = start(
        *("jupyterlab", "--no-browser", "--allow-root", "--ServerApp.port={port}"),
        *("--IdentityProvider.token=", "--ServerApp.ip=127.0.0.1", "--LabApp.news_url="),
    )
    page = notebook_page
    page.goto(f"{address}/lab/tree/book.ipynb")
    page.get_by_role("button", name="Python 3 (ipykernel) | Idle").wait_for()
    run_cells(page, 0, 1)
    check_that_the_widget_moves(page, tmp_path)
    table = page.locator(".jp-RenderedHTML table")
    expect(table.locator("tbody tr")).to_have_count(2, timeout=TIMEOUT)
    expect(table.locator("svg")).to_have_count(2, timeout=TIMEOUT)

    run_cells(page, 0, 2)
    expect(page.get_by_text("a single thread", exact=True)).to_be_visible(timeout=TIMEOUT)
    expect(page.locator(".casket-live")).to_contain_text("lr=0.2 completed", timeout=TIMEOUT)


def run_cells(page, *numbers):
    for i in numbers:
        page.locator(".jp-Notebook .jp-CodeCell .cm-content").nth(i).click()
        page.keyboard.press("Shift+Enter")


def test_a_widget_in_marimo_moves_while_a_cell_trains(start, notebook_page, tmp_path):
    pytest.importorskip("marimo")
    script = tmp_path / "book.py"
    cells = [
        (PREPARE, "(model,)", ""),
        (TRAIN, "()", "model"),
    ]
    script.write_text("import marimo\n\napp = marimo.App()\n\n" + "\n\n".join(map(cell, cells)))
    address = start("marimo", "run", str(script), "--headless", "--port={port}", "--no-token")
    notebook_page.goto(address)
    check_that_the_widget_moves(notebook_page, tmp_path)
    table = notebook_page.locator("table")
    expect(table.locator("tbody tr")).to_have_count(2, timeout=TIMEOUT)
    expect(table.locator("svg")).to_have_count(2, timeout=TIMEOUT)


def cell(parts):
    code, returned, needed = parts
    lines = "\n".join(f"    {line}" for line in code.strip().splitlines())
    return f"@app.cell\ndef _({needed}):\n{lines}\n    return {returned}\n"
