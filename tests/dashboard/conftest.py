"""Real servers on free ports, and pages in Debian's Chromium."""

import json
import shutil
import threading

import httpx
import pytest
from click.testing import CliRunner

from casket.cli.app import app
from casket.dashboard.http import server
from casket.dashboard.http.access import Access, is_loopback
from casket.dashboard.live.board import Board
from tests.dashboard.asking import Listener, overview, wait_for
from tests.services.network import steady_network
from tests.waiting import IN_TIME

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def said():
    """The servers' messages in the terminal."""
    return []


@pytest.fixture
def serve(said):
    """Serve files on a free port; return the address to open. Options: edit, token, host, port.

    Without a token it is open to this machine, as by `--no-token`.
    """
    running = []

    def start(*files, edit=False, token=None, host="127.0.0.1", port=0):
        access = Access.to(host, token, is_open=token is None and is_loopback(host))
        board = Board([str(file) for file in files], say=said.append)
        listener = server.listen(host, port)
        address = server.address(host, listener.getsockname()[1], access.token)
        serving = server.Server(board, access, editing=edit)
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [listener]})
        board.start()
        thread.start()
        running.append((serving, board, thread))
        return address

    start.running = running
    yield start
    for serving, board, thread in running:
        serving.end()
        thread.join(IN_TIME)
        assert not thread.is_alive()
        board.join(IN_TIME)


@pytest.fixture
def run_command():
    """Call `casket`, which has to succeed; return its output, parsed if it is JSON."""

    def run(*arguments):
        result = CliRunner().invoke(app, [*map(str, arguments)])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout) if "--json" in arguments else result.stdout

    return run


@pytest.fixture
def run_command_that_fails():
    """Call `casket`, which has to refuse; return its message."""

    def run(*arguments):
        result = CliRunner().invoke(app, [*map(str, arguments)])
        assert result.exit_code == 2, result.output
        return result.stderr

    return run


@pytest.fixture
def client_of():
    """Return a client to a server."""
    clients = []

    def connect(address, **options):
        client = httpx.Client(
            base_url=address.partition("?")[0],
            timeout=60,
            limits=httpx.Limits(max_connections=None),
            **options,
        )
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def ask(serve, client_of):
    """Serve files; return a client to it, when all of them were looked at."""

    def start(*files, **options):
        client = client_of(serve(*files, **options))
        wait_for(lambda: all(f["state"] != "reading" for f in overview(client)["files"]))
        return client

    return start


@pytest.fixture
def listen():
    """Return a function that starts a listener to changes, from a cursor on."""
    listeners = []

    def start(client, cursor, **headers):
        listener = Listener(client, cursor, **headers)
        listeners.append(listener)
        return listener

    yield start
    for listener in listeners:
        listener.stop()


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, without a window."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    api = pytest.importorskip("playwright.sync_api")
    api.expect.set_options(timeout=IN_TIME * 1000)  # on a busy machine, 5 seconds may pass
    playwright = api.sync_playwright().start()
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    yield browser
    browser.close()
    playwright.stop()


@pytest.fixture(autouse=True)
def steady(request):
    """Let no other test change the network while a page is open."""
    if "browser" not in request.fixturenames:
        yield
        return
    with steady_network():
        yield


@pytest.fixture
def problems():
    """The errors and warnings of a page; a test that provokes them empties it."""
    return []


@pytest.fixture
def page(browser, problems):
    """A page that may neither complain in its console nor fail to load anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(IN_TIME * 1000)
    page = context.new_page()
    page.on("console", lambda message: _note_console(problems, message))
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("requestfailed", lambda request: _note_failed(problems, request))
    yield page
    context.close()
    assert not problems


def _note_console(problems, message):
    if message.type in {"error", "warning"}:
        problems.append(f"{message.type}: {message.text}")


def _note_failed(problems, request):
    # A stream of events ends so when its page is left.
    if request.failure != "net::ERR_ABORTED":
        problems.append(f"failed: {request.url}: {request.failure}")
