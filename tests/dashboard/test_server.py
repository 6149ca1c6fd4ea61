"""The server: the states of its files, live changes, and its end."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

import casket
from casket import Experiment
from tests.checksums import without_checksums
from tests.dashboard.asking import (
    filled,
    new_model,
    overview,
    refusal,
    rows,
    wait_for,
)
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
WRITERS = 8


JSON = {"Content-Type": "application/json"}


def bearer(address):
    """Return the header with the token of an address."""
    return {"Authorization": f"Bearer {parse_qs(urlsplit(address).query)['token'][0]}"}


def states(client):
    return [file["state"] for file in overview(client)["files"]]


def test_every_session_has_a_row_that_says_what_a_listing_does(ask, run_command, file_url):
    filled(file_url, sessions=3)
    shown = overview(ask(file_url))
    listed = {row["id"]: row for row in run_command("ls", file_url, "--json")}
    assert [row["params"]["seed"] for row in shown["sessions"]] == [0, 1, 2]
    for row in shown["sessions"]:
        listing = listed[row["key"].removeprefix("0.")]
        for name in ("last", "best"):  # with fewer digits
            assert row.pop(name) == pytest.approx(listing.pop(name), rel=1e-8), name
        for name in ("id", "duration", "age"):  # follows from the rest
            del listing[name]
        assert {name: row[name] for name in listing} == listing
        assert row["counts"] == {"epoch": 3, "batch": 0, "result": 0}
        assert row["metrics"] == {"epoch": ["loss"], "batch": [], "result": []}
    assert shown["experiments"] == [{"file": 0, "id": "exp", "tags": [], "note": ""}]


def test_the_values_of_all_sessions_are_answered_with_every_digit(ask, run_command, tmp_path):
    files = [filled(tmp_path / "a.json", 1), filled(tmp_path / "b.sqlite", 2)]
    client = ask(*files)
    expected = {
        f"{index}.{row['id']}": {"last": row["last"], "best": row["best"]}
        for index, file in enumerate(files)
        for row in run_command("ls", file, "--json")
    }
    assert client.get("/api/values").json() == expected


def test_the_values_of_others_are_answered_where_a_session_cannot_be_shown(ask, said, tmp_path):
    path = tmp_path / "runs.json"
    model = new_model(path)
    for seed in range(2):
        with model.session({"seed": seed}) as session:
            session.add_epoch(1, {"loss": 0.25})
    line = b'"result":{"loss":0.25}'
    path.write_bytes(path.read_bytes().replace(line, b'"result":null', 1))
    values = list(ask(path).get("/api/values").json().values())
    assert values == [{"last": {"loss": 0.25}, "best": {"loss": 0.25}}]
    assert any("cannot be shown" in text for text in said)


def test_several_files_are_shown_together(ask, tmp_path):
    files = [filled(tmp_path / "a.json", 1), filled(tmp_path / "b.sqlite", 2)]
    shown = overview(ask(*files))
    assert [file["name"] for file in shown["files"]] == ["a.json", "b.sqlite"]
    assert sorted(row["key"][:2] for row in shown["sessions"]) == ["0.", "1.", "1."]


def test_what_is_logged_comes_as_an_event_and_nothing_else_does(ask, listen, file_url):
    client = ask(filled(file_url, 2))
    listener = listen(client, overview(client)["cursor"])
    session = new_model(file_url).session({"seed": 7})
    session.add_epoch(1, {"loss": 0.5})
    event = listener.until(lambda e: e.data["sessions"][0]["counts"]["epoch"] == 1)
    (row,) = event.data["sessions"]
    assert (event.kind, row["params"], row["status"]) == ("sessions", {"seed": 7}, "running")
    session.end()
    event = listener.until(lambda e: e.data["sessions"][0]["status"] == "completed")
    assert event.data["removed"] == []
    new_model(file_url).session({"seed": 8}).end()
    event = listener.next()  # no event precedes the next change
    assert [row["params"] for row in event.data["sessions"]] == [{"seed": 8}]


def test_who_comes_back_gets_only_what_changed_meanwhile(ask, listen, tmp_path):
    path = filled(tmp_path / "runs.json", 3)
    client = ask(path)
    cursor = overview(client)["cursor"]
    new_model(path).session({"seed": 9}).end()
    wait_for(lambda: 9 in rows(client))
    (row,) = listen(client, "", **{"Last-Event-ID": cursor}).next().data["sessions"]
    assert row["params"] == {"seed": 9}


def test_a_page_of_another_server_is_told_to_ask_again(ask, listen, tmp_path):
    path = filled(tmp_path / "runs.json")
    cursor = overview(ask(path))["cursor"]
    assert listen(ask(path), cursor).next().kind == "reload"


@pytest.mark.parametrize("number", ["9" * 5000, "1000000", "-1", "x"])
def test_a_number_no_change_has_yet_is_of_another_server(number, ask, listen, tmp_path):
    client = ask(filled(tmp_path / "runs.json"))
    server = overview(client)["cursor"].partition(".")[0]
    assert listen(client, f"{server}.{number}").next().kind == "reload"


@pytest.mark.parametrize("cursor", ["", "x", "..", "a.b.c", "9" * 500])
def test_a_cursor_that_makes_no_sense_is_of_another_server(cursor, ask, listen, tmp_path):
    assert listen(ask(filled(tmp_path / "runs.json")), cursor).next().kind == "reload"


def test_a_killed_session_turns_killed(ask, listen, tmp_path):
    path = tmp_path / "runs.json"
    script = """
        import sys, time
        from casket import Experiment
        session = Experiment.use(sys.argv[1], exp_id="exp").model("net").session({"seed": 0})
        session.add_epoch(1, {"loss": 1.0})
        print("logged", flush=True)
        time.sleep(60)
    """
    process = start_python(script, path)
    assert process.stdout.readline() == "logged\n"
    client = ask(path)
    assert rows(client)[0]["status"] == "running"
    listener = listen(client, overview(client)["cursor"])
    process.kill()
    process.communicate()
    (row,) = listener.next().data["sessions"]
    assert row["status"] == "killed"


def test_sessions_that_are_removed_vanish(ask, listen, run_command, file_url):
    client = ask(filled(file_url, 3))
    gone = rows(client)[1]
    listener = listen(client, overview(client)["cursor"])
    run_command("rm", gone["key"].removeprefix("0."), "--file", file_url, "--yes")
    removed = listener.until(lambda e: e.data["removed"]).data["removed"]
    assert removed == [gone["key"]]
    assert set(rows(client)) == {0, 2}
    assert refusal(client.get(f"/api/session/{gone['key']}")) == (404, "session")


def test_a_file_that_is_compacted_is_read_on(ask, run_command, file_url):
    client = ask(filled(file_url, 3))
    run_command("compact", file_url, "--yes")
    new_model(file_url).session({"seed": 5}).end()
    wait_for(lambda: 5 in rows(client))
    assert set(rows(client)) == {0, 1, 2, 5}


def test_another_file_in_its_place_is_read_from_the_beginning(ask, tmp_path):
    path = filled(tmp_path / "runs.json", 3)
    client = ask(path)
    other = tmp_path / "other.json"
    new_model(other).session({"seed": 42}).end()
    other.replace(path)
    wait_for(lambda: set(rows(client)) == {42})


def test_a_file_that_is_not_there_is_named_and_shown_when_it_comes(ask, listen, said, tmp_path):
    path = tmp_path / "runs.json"
    client = ask(path)
    (file,) = overview(client)["files"]
    assert file["state"] == "broken"
    assert f"{path} does not exist" in file["error"]
    assert [line for line in said if "runs.json cannot be read" in line] == said
    listener = listen(client, overview(client)["cursor"])
    filled(path)
    listener.until(lambda e: e.kind == "files" and e.data[0]["state"] == "ready")
    wait_for(lambda: set(rows(client)) == {0, 1})


def test_a_file_of_something_else_is_named_and_the_others_are_shown(ask, tmp_path):
    other = tmp_path / "notes.json"
    other.write_text('{"a": 1}')
    client = ask(other, filled(tmp_path / "runs.json"))
    broken, ready = overview(client)["files"]
    assert (broken["state"], ready["state"]) == ("broken", "ready")
    assert "is not a casket file" in broken["error"]
    assert refusal(client.get("/api/session/0.abc")) == (503, "session")


def test_a_file_that_goes_away_is_lost_and_what_was_read_stays(ask, tmp_path):
    path = filled(tmp_path / "runs.json")
    client = ask(path)
    path.rename(tmp_path / "moved.json")
    wait_for(lambda: states(client) == ["lost"])
    assert set(rows(client)) == {0, 1}
    (tmp_path / "moved.json").rename(path)
    wait_for(lambda: states(client) == ["ready"])


def damage(path, epochs=20_000):
    """Add many epochs to a file, then an epoch that no casket writes; the others can be read."""
    lines = path.read_text().splitlines()
    pattern = next(line for line in lines if '"epoch_num":3' in line)
    number, record = next(iter(json.loads(f"{{{pattern.rstrip(',')}}}").items()))
    added = []
    for i in range(1, epochs + 1):
        record["n"] = 10_000 + i
        record["body"]["epoch_num"] = 3 + i
        added.append(f'"{int(number) + 10 + i}": {json.dumps(record, separators=(",", ":"))}')
    record["n"] = [1]
    added.append(f'"{int(number) + 11 + epochs}": {json.dumps(record, separators=(",", ":"))}')
    text = path.read_text().removesuffix("\n}}\n") + ",\n" + ",\n".join(added) + "\n}}\n"
    whole = path.with_suffix(".new")
    whole.write_text(text)
    return whole.replace(path)  # at once: a server may be reading


def cpu_share(seconds=1.5):
    """Return how much of the time this process, and the servers in it, are busy."""
    began = time.process_time()
    time.sleep(seconds)
    return (time.process_time() - began) / seconds


def test_a_file_that_cannot_be_read_is_not_read_again_before_it_changes(ask, said, tmp_path):
    path = damage(filled(tmp_path / "runs.json", 1))
    client = ask(path)
    assert states(client) == ["broken"]
    assert cpu_share() < 0.2
    assert len(said) == 1
    filled(tmp_path / "whole.json").replace(path)
    wait_for(lambda: states(client) == ["ready"])


def test_a_file_that_goes_away_before_all_of_it_is_shown_is_waited_for_in_peace(ask, tmp_path):
    path = filled(tmp_path / "runs.json", 1)
    client = ask(path)
    damage(path)
    wait_for(lambda: states(client) == ["lost"])
    path.unlink()
    assert cpu_share() < 0.2
    assert overview(client)["sessions"][0]["counts"]["epoch"] == 20_003


@pytest.mark.parametrize("others", [1, 5])
def test_another_file_written_over_it_is_read_from_the_beginning(others, ask, tmp_path):
    path = filled(tmp_path / "runs.json", 1)
    other = filled(tmp_path / "other.json", others, epochs=30)
    assert other.stat().st_size > path.stat().st_size
    client = ask(path)
    with path.open("r+b") as file:  # the same inode, as `cp` leaves it
        file.write(other.read_bytes())
    with casket.open(other) as there:
        ids = {f"0.{session.id}" for session in there.sessions()}
    wait_for(lambda: {row["key"] for row in overview(client)["sessions"]} == ids)


def test_a_file_that_was_copied_and_went_on_elsewhere_is_read_from_the_beginning(ask, tmp_path):
    path, other = filled(tmp_path / "runs.json", 3), tmp_path / "other.json"
    shutil.copy(path, other)
    new_model(path).session({"seed": 10}).end()
    for seed in range(20, 25):
        new_model(other).session({"seed": seed}).end()
    client = ask(path)
    assert 10 in rows(client)
    with path.open("r+b") as file:
        file.write(other.read_bytes())
    wait_for(lambda: set(rows(client)) == {0, 1, 2, 20, 21, 22, 23, 24})


def test_a_file_that_grows_is_not_read_from_its_beginning(ask, serve, tmp_path):
    path = filled(tmp_path / "runs.json", 1)
    client = ask(path)
    ((_, board, _),) = serve.running
    (session,) = board.files[0].sessions.values()
    for count in (2, 3, 4):
        new_model(path).session({"seed": count}).end()
        wait_for(lambda expected=count: len(rows(client)) == expected)
    assert board.files[0].sessions[session.id] is session


def test_a_database_behind_a_symbolic_link_is_live(ask, tmp_path):
    (tmp_path / "far").mkdir()
    path = filled(tmp_path / "far" / "runs.sqlite", 1)
    link = tmp_path / "link.sqlite"
    link.symlink_to(path)
    client = ask(link)
    session = new_model(path).session({"seed": 7})
    for epoch in range(1, 4):
        session.add_epoch(epoch, {"loss": 0.5})
        wait_for(lambda n=epoch: 7 in rows(client) and rows(client)[7]["counts"]["epoch"] == n)
    session.end()


def test_a_session_that_cannot_be_shown_is_named_once_and_hides_no_other(ask, said, tmp_path):
    path = filled(tmp_path / "runs.json", 3)
    deep = '{"a":' * 300 + "1" + "}" * 300
    text = path.read_text().replace('"seed":1', f'"seed":1,"deep":{deep}')
    path.write_text(without_checksums(text))
    client = ask(path)
    assert states(client) == ["ready"]
    assert set(rows(client)) == {0, 2}
    for tag in ("first", "second"):
        Experiment.use(str(path), exp_id="exp").add_tag(tag)
        wait_for(lambda expected=tag: expected in rows(client)[2]["tags"])
    (line,) = said
    assert "cannot be shown" in line


def test_a_file_whose_name_is_not_utf_8_is_shown(ask, tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.json")
    filled(tmp_path / "runs.json").rename(path)
    shown = overview(ask(path))
    assert shown["files"][0]["name"] == "caf\ufffd.json"
    assert len(shown["sessions"]) == 2


def test_tags_of_an_experiment_reach_the_rows_of_all_its_sessions(ask, tmp_path):
    path = filled(tmp_path / "runs.json")
    client = ask(path)
    Experiment.use(str(path), exp_id="exp").add_tag("thesis")
    wait_for(lambda: {tuple(row["tags"]) for row in rows(client).values()} == {("thesis",)})
    assert overview(client)["experiments"][0]["tags"] == ["thesis"]


def test_whoever_goes_away_is_no_longer_told(ask, serve, listen, tmp_path):
    client = ask(filled(tmp_path / "runs.json"))
    ((_, board, _),) = serve.running
    listeners = [listen(client, overview(client)["cursor"]) for _ in range(3)]
    wait_for(lambda: board.listeners == 3)
    for listener in listeners:
        listener.stop()
    wait_for(lambda: board.listeners == 0)


def start_python(script, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, **options,
    )  # fmt: skip


@pytest.fixture
def command(tmp_path):
    """Start `casket dashboard`; return the process and the address it prints."""
    started = []

    def start(*arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "casket.cli.app", "dashboard", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment},
        )  # fmt: skip
        started.append(process)
        line = process.stdout.readline()
        match = re.match(r"(http://\S+)", line)
        assert match, line + process.stderr.read()
        return process, match[1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_command_prints_its_address_and_ctrl_c_ends_it_at_once(
    command, client_of, listen, tmp_path
):
    process, address = command(filled(tmp_path / "runs.json"), "--no-open", "--port", "0")
    client = client_of(address, headers=bearer(address))
    wait_for(lambda: len(overview(client)["sessions"]) == 2)
    listeners = [listen(client, overview(client)["cursor"]) for _ in range(3)]
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    assert time.monotonic() - began < 10
    assert [listener.next() for listener in listeners] == [None] * 3


def test_ctrl_c_says_nothing_of_those_it_cuts_off(command, client_of, tmp_path):
    process, address = command(filled(tmp_path / "runs.json"), "--no-open", "--port", "0")
    client = client_of(address, headers=bearer(address))
    wait_for(lambda: len(overview(client)["sessions"]) == 2)
    port = int(re.search(r":(\d+)/", address)[1])
    stuck = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
    for connection in stuck:
        connection.sendall(
            b"POST /api/curves HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
    client.get("/api/overview")  # events are read in their order
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    for connection in stuck:
        connection.close()


def test_the_one_file_of_the_folder_is_meant(command, client_of, tmp_path):
    filled(tmp_path / "runs.json")
    _, address = command("--no-open", "--port", "0")
    client = client_of(address, headers=bearer(address))
    wait_for(lambda: len(overview(client)["sessions"]) == 2)


def test_where_the_port_is_taken_the_command_for_another_is_named(
    command, run_command_that_fails, tmp_path
):
    path = filled(tmp_path / "my runs.json")
    _, address = command(path, "--no-open", "--port", "0")
    port = re.search(r":(\d+)/", address)[1]
    said = run_command_that_fails("dashboard", path, "--port", port, "--no-open", "--edit")
    assert f"--host 127.0.0.1 --port {port}: Address already in use" in said
    again = shlex.split(said.partition("run: ")[2])
    assert again[:3] == ["casket", "dashboard", str(path)]
    assert again[3:] == ["--port", again[4], "--no-open", "--edit"]
    _, address = command(*again[2:])
    assert f":{again[4]}/" in address


def test_on_this_machine_too_only_who_knows_the_token_sees_the_page(command, client_of, tmp_path):
    path = filled(tmp_path / "runs.json")
    _, address = command(path, "--no-open", "--port", "0", "--edit")
    stranger = client_of(address)
    for method, place in [("GET", "/api/overview"), ("GET", "/"), ("POST", "/api/curves")]:
        assert stranger.request(method, place, headers=JSON).status_code == 401
    opened = httpx.get(address, follow_redirects=True)
    assert opened.status_code == 200
    assert "token" not in str(opened.url)
    _, address = command(path, "--no-open", "--port", "0", "--no-token")
    assert "token" not in address
    assert client_of(address).get("/api/overview").status_code == 200


def test_a_browser_is_opened_at_once(command, tmp_path):
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.part; mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    _, address = command(filled(tmp_path / "runs.json"), "--port", "0", BROWSER=str(browser))
    wait_for(opened.exists)
    assert opened.read_text().strip() == address


def test_where_others_can_reach_it_the_address_has_a_token(command, client_of, tmp_path):
    path = filled(tmp_path / "runs.json")
    _, address = command(path, "--no-open", "--port", "0", "--host", "0.0.0.0")
    assert client_of(address).get("/api/overview").status_code == 401
    client = client_of(address, headers=bearer(address))
    wait_for(lambda: len(overview(client)["sessions"]) == 2)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_where_others_can_reach_it_the_address_that_they_open_is_printed(host, command, tmp_path):
    path = filled(tmp_path / "runs.json")
    process, address = command(path, "--no-open", "--port", "0", "--host", host)
    elsewhere = process.stdout.readline().split()[0]
    here, there = urlsplit(address), urlsplit(elsewhere)
    assert here.hostname in {"127.0.0.1", "::1"}
    assert there.hostname == socket.gethostname().lower()
    assert (there.port, there.query) == (here.port, here.query)
    token = parse_qs(there.query)["token"][0]
    answer = httpx.get(
        address.partition("?")[0] + "api/overview",
        headers={"Host": there.netloc, "Authorization": f"Bearer {token}"},
    )
    assert answer.status_code == 200


def test_what_names_no_place_is_refused(run_command_that_fails):
    said = run_command_that_fails("dashboard", "ftp://host/runs.json", "--no-open")
    assert "no such store" in said


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_without_the_extra_it_is_named(package, run_python, tmp_path):
    printed = run_python(
        """
        from click.testing import CliRunner
        from casket.cli.app import app
        result = CliRunner().invoke(app, ["dashboard", "runs.json"])
        print(result.exit_code, result.output)
        """,
        without=(package,),
    )
    assert printed.startswith("2 ")
    assert f"{package} is not installed: pip install 'casket[dashboard]'" in printed


def test_importing_casket_loads_nothing_of_it(run_python):
    printed = run_python("""
        import sys, casket, casket.cli.app
        print(*sys.modules)
    """)
    heavy = ("casket.dashboard", "starlette", "uvicorn")
    assert not [name for name in printed.split() if name.startswith(heavy)]


WRITER = """
import sys
from casket import Experiment
path, seed = sys.argv[1], int(sys.argv[2])
with Experiment.use(path, exp_id="exp").model("net").session({"seed": seed}) as session:
    for epoch in range(1, 201):
        session.add_epoch(epoch, {"loss": seed / epoch})
"""


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="there is no /proc/locks")
def test_eight_writers_are_never_locked_out_and_ten_pages_see_all_they_write(
    command, client_of, listen, tmp_path
):
    path = filled(tmp_path / "runs.json", 1)
    process, address = command(path, "--no-open", "--port", "0")
    client = client_of(address, headers=bearer(address))
    cursor = overview(client)["cursor"]
    pages = [listen(client, cursor) for _ in range(10)]
    writers = [start_python(WRITER, path, seed) for seed in range(100, 100 + WRITERS)]
    locked = set()
    while any(writer.poll() is None for writer in writers):
        locked |= {line.split()[4] for line in Path("/proc/locks").read_text().splitlines()}
        assert not Path(f"/proc/{process.pid}/fd").is_dir() or not writable(process.pid, path)
    assert [writer.communicate()[0] for writer in writers] == [""] * WRITERS
    assert str(process.pid) not in locked
    assert sorted(file.name for file in tmp_path.iterdir()) == ["runs.json"]
    for page in pages:
        seen = {}
        while len(seen) < WRITERS or set(seen.values()) != {(200, "completed")}:
            event = page.until(lambda e: e.kind == "sessions")
            for row in event.data["sessions"]:
                if row["params"]["seed"] >= 100:
                    seen[row["key"]] = (row["counts"]["epoch"], row["status"])
    with casket.open(path) as runs:
        assert {len(s.epochs) for s in runs.sessions() if s.params["seed"] >= 100} == {200}


def writable(pid, path):
    """Return whether a process has a file open for writing."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            is_it = os.readlink(fd) == str(path)
            flags = Path(f"/proc/{pid}/fdinfo/{fd.name}").read_text()
        except FileNotFoundError:
            continue  # closed meanwhile
        if is_it and int(re.search(r"flags:\s+(\d+)", flags)[1], 8) & os.O_ACCMODE != os.O_RDONLY:
            return True
    return False


def test_the_page_opens(serve, page, tmp_path):
    page.goto(serve(filled(tmp_path / "runs.json")))
    page.get_by_text("exp").first.wait_for()


def test_files_none_of_which_is_caskets_are_refused_as_elsewhere(run_command_that_fails, tmp_path):
    foreign, other = tmp_path / "foreign.json", tmp_path / "other.json"
    foreign.write_text('{"a": 1}')
    other.mkdir()
    said = run_command_that_fails("dashboard", foreign, "--no-open")
    assert said == run_command_that_fails("ls", foreign)
    said = run_command_that_fails("dashboard", foreign, other, "--no-open")
    assert f"{foreign} is not a casket file" in said
    assert f"{other}: Is a directory" in said


@pytest.mark.parametrize("name", ["runs.json", "not_yet.json", "not_yet.sqlite"])
def test_one_file_that_can_be_shown_is_enough(name, command, client_of, tmp_path):
    filled(tmp_path / "runs.json")
    (tmp_path / "foreign.json").write_text('{"a": 1}')
    _, address = command("foreign.json", name, "--no-open", "--port", "0")
    client = client_of(address, headers=bearer(address))
    wait_for(lambda: states(client)[1] == ("ready" if name == "runs.json" else "broken"))
    assert states(client)[0] == "broken"
