"""Access control, permissions of the browser, and malicious files and names."""

import http.client
import io
import json
import os
import re
import socket
import threading
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image

import casket
from casket import Experiment
from casket.dashboard import page as page_files
from casket.dashboard.http.access import Access, is_loopback
from casket.dashboard.http.connections import TimedConnection
from tests.dashboard.asking import filled, new_model, only_key, overview, refusal, settle, wait_for
from tests.waiting import IN_TIME

SCRIPT = "<script>alert(1)</script>"


def raw(address, method="GET", path="/api/overview", body=None, **headers):
    """Ask with exactly these headers; return status, headers and body."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=IN_TIME)
    connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


@pytest.fixture
def address(serve, tmp_path):
    return serve(filled(tmp_path / "runs.json"), edit=True)


# Names and origins.


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST", "127.0.0.1:9000"])
def test_the_server_answers_to_its_own_names_at_any_port_that_is_forwarded(host, address):
    assert raw(address, Host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost:x", "[::1",
     "1.2.3.4"],
)  # fmt: skip
def test_a_name_that_was_made_to_mean_this_machine_is_refused(host, address):
    status, _, body = raw(address, Host=host)
    assert (status, json.loads(body)["parameter"]) == (403, "Host")
    assert raw(address, path="/", Host=host)[0] == 403
    assert raw(address, path="/static/shell/app.js", Host=host)[0] == 403


JSON = {"Content_Type": "application/json"}
QUESTION = b'{"metrics": [], "sessions": []}'


def post(address, path="/api/curves", body=QUESTION, **headers):
    return raw(address, "POST", path, body, **headers)[0]


def test_a_page_from_elsewhere_cannot_post(address):
    assert post(address, **JSON) == 200
    port = urlsplit(address).port
    assert post(address, **JSON, Origin=f"http://127.0.0.1:{port}") == 200
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{port + 1}", "file://"):
        assert post(address, **JSON, Origin=origin) == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_a_form_could_send_is_refused(kind, address):
    assert post(address, Content_Type=kind) == 415
    assert post(address, "/api/session/0.x/annotate", b'{"note": "x"}', Content_Type=kind) == 415


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_do_nothing(method, address):
    assert raw(address, method, "/api/overview", b"", **JSON)[0] == 405


# Tokens.


def test_every_address_has_a_token_unless_this_machine_is_told_to_do_without():
    assert Access.to("127.0.0.1", "mine").token == "mine"
    hosts = ("127.0.0.1", "localhost", "0.0.0.0", "::", "192.0.2.1", "example.org")
    made = [Access.to(host).token for host in hosts]
    assert all(len(token) >= 20 for token in made)
    assert len(set(made)) == len(hosts)
    assert Access.to("127.0.0.1", is_open=True).token is None
    for host, token in [("0.0.0.0", None), ("example.org", None), ("127.0.0.1", "mine")]:
        with pytest.raises(casket.errors.BadLocation, match="--no-token"):
            Access.to(host, token, is_open=True)
    assert [is_loopback(h) for h in ("::1", "127.1.2.3", "localhost", "127.evil")] == [
        True, True, True, False,
    ]  # fmt: skip


def test_without_the_token_nothing_is_told(serve, tmp_path):
    address = serve(filled(tmp_path / "runs.json"), token="right")
    for path in ("/", "/static/shell/app.js", "/api/overview", "/api/events", "/api/session/0.x"):
        status, _, body = raw(address, path=path)
        assert (status, json.loads(body)["parameter"]) == (401, "token")
    assert raw(address, path="/?token=wrong")[0] == 401
    assert raw(address, path="/api/overview?token=right")[0] == 401
    assert raw(address, Authorization="Bearer wrong")[0] == 401
    name = Access.to("127.0.0.1", "right").cookie_name
    assert raw(address, Cookie=f"{name}=right")[0] == 401
    assert raw(address, Cookie=f'{name}="\\')[0] == 401


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize(
    ("path", "told"),
    [("/?view=a%26b", "who know its token"), ("/?token=wrong&view=a%26b", "is not that of")],
)
def test_a_browser_without_the_token_is_told_where_it_is(path, told, serve, tmp_path):
    address = serve(filled(tmp_path / "runs.json"), token="right")
    status, headers, body = raw(address, path=path, **BROWSER)
    assert (status, headers["Content-Type"]) == (401, "text/html; charset=utf-8")
    text = body.decode()
    assert told in text
    assert "casket dashboard</code> was started" in text
    assert '<input type="hidden" name="view" value="a&amp;b" />' in text
    assert "wrong" not in text
    assert "script" not in text
    assert headers["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "form-action 'self'" in headers["Content-Security-Policy"]


def test_a_browser_that_calls_it_by_another_name_is_told_to_open_what_was_printed(address):
    status, headers, body = raw(address, path="/", Host="<b>.example", **BROWSER)
    assert (status, headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert "&lt;b&gt;.example" in body.decode()
    assert "<form" not in body.decode()


def test_the_token_can_be_pasted(serve, page, problems, tmp_path):
    address = serve(filled(tmp_path / "runs.json"), token="right").partition("?")[0]
    page.goto(address)
    problems.clear()  # that it was not shown
    page.get_by_label("Token").fill("right")
    page.get_by_role("button", name="Open").click()
    page.get_by_text("exp").first.wait_for()
    assert "right" not in page.url


def test_who_shows_the_token_keeps_a_cookie_and_the_address_loses_it(serve, tmp_path):
    address = serve(filled(tmp_path / "runs.json"), token="right & <proper>")
    query = urlsplit(address).query
    status, headers, _ = raw(address, path=f"/?{query}&view=a%20b")
    assert (status, headers["Location"]) == (303, "/?view=a+b")
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert "right" not in cookie
    assert raw(address, Cookie=cookie.partition(";")[0])[0] == 200
    assert raw(address, Authorization="Bearer right & <proper>")[0] == 200
    assert raw(address, path=f"/?{query}", Host="evil.example")[0] == 403


def test_who_shows_the_tokens_of_two_servers_of_a_host_is_known_to_both(serve, client_of, tmp_path):
    path = filled(tmp_path / "runs.json")
    addresses = [serve(path, token=token) for token in ("one", "two")]
    cookies = httpx.Cookies()
    for address in addresses:
        answer = client_of(address, cookies=cookies).get(f"/?{urlsplit(address).query}")
        cookies.update(answer.cookies)
    for address in addresses:
        assert client_of(address, cookies=cookies).get("/api/overview").status_code == 200


def test_at_every_address_of_the_machine_its_addresses_are_names(serve, tmp_path):
    address = serve(filled(tmp_path / "runs.json"), host="0.0.0.0", token="t")
    known = {"Authorization": "Bearer t"}
    for host in ("192.0.2.1", "[2001:db8::1]:80", socket.gethostname()):
        assert raw(address, Host=host, **known)[0] == 200
    for host in ("evil.example", f"{socket.gethostname()}.evil.example"):
        assert raw(address, Host=host, **known)[0] == 403


def test_a_browser_opens_the_address_with_its_token(serve, page, tmp_path):
    address = serve(filled(tmp_path / "runs.json"), token="right")
    page.goto(address)
    page.get_by_text("exp").first.wait_for()
    assert "right" not in page.url


# Permissions of the browser.


def test_every_answer_says_what_a_browser_may_do(address):
    for path in ("/", "/static/shell/app.js", "/api/overview", "/nope", "/api/session/0.x"):
        _, headers, _ = raw(address, path=path)
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in headers
        assert "Server" not in headers


def test_the_page_may_run_its_own_files_and_nothing_inline(address):
    _, headers, _ = raw(address, path="/")
    policy = dict(
        part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";")
    )
    assert re.fullmatch(r"'self' 'sha256-[A-Za-z0-9+/]{43}='", policy["script-src"])
    assert policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["img-src"] == "'self' data: blob:"


def test_a_script_that_gets_into_the_page_does_not_run(address, page, problems):
    page.goto(address)
    page.get_by_text("exp").first.wait_for()
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "document.title = 'taken'";
        document.body.append(script);
        const image = document.createElement("img");
        image.setAttribute("onerror", "document.title = 'taken'");
        image.src = "https://elsewhere.example/x.png";
        document.body.append(image);
    }""")
    settle(page)
    assert page.title() != "taken"
    assert any("Content Security Policy" in problem for problem in problems)
    problems.clear()


def test_the_pages_files_are_asked_for_again_only_if_they_changed(address):
    status, headers, body = raw(address, path="/static/vendor/htm.js")
    assert (status, headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")
    assert body == (page_files.WEB / "vendor" / "htm.js").read_bytes()
    assert headers["Cache-Control"] == "no-cache"
    again = raw(address, path="/static/vendor/htm.js", If_None_Match=headers["ETag"])
    assert (again[0], again[2]) == (304, b"")
    packed = raw(address, path="/static/vendor/htm.js", Accept_Encoding="gzip")
    assert packed[1]["Content-Encoding"] == "gzip"


@pytest.mark.parametrize(
    "path",
    ["../server.py", "..%2fserver.py", "%2e%2e/server.py", "....//server.py", "vendor/../../x.py",
     "/etc/passwd", "%2fetc%2fpasswd", "package-lock.json", "vendor/licences.txt", "", "vendor",
     "shell/app.js%00", "\\..\\server.py"],
)  # fmt: skip
def test_only_the_pages_own_files_can_be_had(path, address):
    assert raw(address, path=f"/static/{path}")[0] == 404


# Files that were logged.


HOSTILE = [
    "../../etc/passwd",
    "a/b\\c.txt",
    "evil\r\nSet-Cookie: x=1",
    'quote".html',
    "\u202egnp.exe",
    "nul\0byte",
    ".hidden",
    SCRIPT,
    "ünï 😀 %2F.bin",
    "?query#fragment",
    ".",
    "..",
    "a/../b/..",
    "long" * 5_000 + ".bin",
    "\u26c4" * 300 + ".bin",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_an_artifact_is_kept_under_a_harmless_name_and_never_shown(name, ask, tmp_path):
    path = tmp_path / "runs.json"
    with new_model(path).session({"a": 1}) as session:
        session.add_artifact(name, b"<html>" + SCRIPT.encode())
    client = ask(path)
    (artifact,) = client.get(f"/api/session/{only_key(client)}").json()["artifacts"]
    assert artifact["name"] == name
    assert "image" not in artifact
    response = client.get(f"/{artifact['href']}")
    assert response.status_code == 200
    assert response.content == b"<html>" + SCRIPT.encode()
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert "sandbox" in response.headers["Content-Security-Policy"]
    assert "Set-Cookie" not in response.headers
    plain, exact = re.fullmatch(
        r"attachment; filename=\"([^\"]*)\"; filename\*=UTF-8''(\S+)",
        response.headers["Content-Disposition"],
    ).groups()
    for kept in (plain, unquote(exact)):
        assert kept
        assert not set(kept) & set('/\\"\r\n\0\u202e')
        assert len(kept.encode()) <= 255
        assert kept.endswith(".bin") == name.endswith(".bin")
    assert not plain.startswith(".")


def test_an_artifact_of_another_name_is_not_there_whatever_the_path(ask, tmp_path):
    path = tmp_path / "runs.json"
    (tmp_path / "secret").write_text("hidden")
    with new_model(path).session({"a": 1}) as session:
        session.add_artifact("a.bin", b"a")
    client = ask(path)
    address = f"/api/session/{only_key(client)}/artifact/"
    for name in (
        *("../secret", "..%2fsecret", "%2e%2e%2fsecret", quote(str(tmp_path / "secret"))),
        *("1", "-1", "a.bin", "%C2%B2", "9" * 5000),
    ):
        response = client.get(address + name)
        assert response.status_code == 404
        assert b"hidden" not in response.content


def test_only_what_is_an_image_by_its_first_bytes_is_shown(ask, tmp_path):
    path = tmp_path / "runs.json"
    images = {}
    for form in ("PNG", "JPEG", "GIF", "WEBP"):
        stream = io.BytesIO()
        Image.new("RGB", (8, 8), "red").save(stream, form)
        images[f"x.{form.lower()}"] = stream.getvalue()
    with new_model(path).session({"a": 1}) as session:
        for name, content in images.items():
            session.add_artifact(name, content)
        session.add_artifact("fake.png", SCRIPT.encode())
        session.add_artifact("x.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    client = ask(path)
    shown = client.get(f"/api/session/{only_key(client)}").json()["artifacts"]
    assert {one["name"] for one in shown if "image" in one} == set(images)
    for one in shown:
        response = client.get(one["href"].replace("/artifact/", "/image/"))
        if one["name"] in images:
            kind = one["name"].removeprefix("x.")
            assert response.headers["Content-Type"] == f"image/{kind}"
            assert "sandbox" in response.headers["Content-Security-Policy"]
        else:
            assert refusal(response) == (404, "image")


def test_a_large_artifact_is_streamed(serve, client_of, tmp_path):
    path = tmp_path / "runs.json"
    big = tmp_path / "big.bin"
    with big.open("wb") as file:
        file.truncate(50 << 20)
    with new_model(path).session({"a": 1}) as session:
        session.add_artifact("big.bin", big)
    client = client_of(serve(path))
    wait_for(lambda: overview(client)["sessions"])
    before = resident()
    address = f"/api/session/{only_key(client)}/artifact/0"
    with client.stream("GET", address) as response:
        assert response.headers["Content-Length"] == str(50 << 20)
        received = sum(map(len, response.iter_bytes()))
    assert received == 50 << 20
    assert resident() - before < 30 << 20
    part = client.get(address, headers={"Range": "bytes=0-9"})
    assert (part.status_code, len(part.content)) == (206, 10)


def resident():
    """Return the memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("other", ["link", "link in the folder", "pipe", "folder"])
def test_what_is_no_stored_file_is_neither_sent_nor_shown(other, ask, run_command, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (64, 64), "red").save(secret)
    np.save(tmp_path / "secret.npy", np.full((16, 16), 7.5))
    path = tmp_path / "runs.json"
    with new_model(path).session({"a": 1}) as session:
        session.add_artifact("a.png", b"an image")
        session.add_epoch(1, {"array": np.zeros((40, 40))})
        session.add_result({"array": np.zeros((40, 40))}, index_by="x")
    for file in (tmp_path / "runs.json.files").iterdir():
        target = secret.with_suffix(file.suffix)
        file.unlink()
        if other == "link":
            file.symlink_to(target)
        elif other == "link in the folder":
            inner = file.with_name(target.name)
            target.rename(inner)
            file.symlink_to(inner.name)
        elif other == "pipe":
            os.mkfifo(file)
        else:
            file.mkdir()
    client = ask(path)
    details = client.get(f"/api/session/{only_key(client)}").json()
    (artifact,) = details["artifacts"]
    assert "image" not in artifact
    for kind in ("artifact", "image"):
        response = client.get(artifact["href"].replace("/artifact/", f"/{kind}/"))
        assert response.status_code == 404
        assert "put the stored file there again" in response.json()["error"]
    assert "7.5" not in json.dumps(details)
    report = tmp_path / "report.html"
    run_command("export", path, "-o", report)
    assert "image/png;base64" not in report.read_text()


def test_an_artifact_whose_file_is_gone_is_named(ask, tmp_path):
    path = tmp_path / "runs.json"
    with new_model(path).session({"a": 1}) as session:
        session.add_artifact("a.bin", b"a")
    client = ask(path)
    for file in (tmp_path / "runs.json.files").iterdir():
        file.unlink()
    (artifact,) = client.get(f"/api/session/{only_key(client)}").json()["artifacts"]
    response = client.get(artifact["href"])
    assert response.status_code == 404
    assert "does not exist" in response.json()["error"]


# Names that mean harm, and secrets.


def test_names_with_markup_are_data(ask, page, serve, tmp_path):
    path = tmp_path / "runs.json"
    model = Experiment.use(str(path), exp_id=SCRIPT, tags=[SCRIPT]).model(SCRIPT)
    with model.session({SCRIPT: SCRIPT, "\x00\x1b[31m": "\u2028"}) as session:
        session.add_epoch(1, {SCRIPT: 0.5, "__proto__": 1.0, "constructor": 2.0})
    client = ask(path)
    (row,) = overview(client)["sessions"]
    assert row["metrics"]["epoch"] == [SCRIPT, "__proto__", "constructor"]
    page.on("dialog", lambda dialog: pytest.fail(f"a name was run: {dialog.message}"))
    page.goto(serve(path))
    page.get_by_text("alert(1)").first.wait_for(state="attached")


def test_a_password_in_a_url_is_in_no_answer(ask, said):
    client = ask("postgresql://user:hunter2@127.0.0.1:1/runs")
    (file,) = overview(client)["files"]
    assert file["state"] == "broken"
    assert "hunter2" not in client.get("/api/overview").text + "".join(said)
    assert "***" in file["place"]


def test_half_a_question_holds_nobody_else_up(address):
    parts = urlsplit(address)
    slow = [socket.create_connection((parts.hostname, parts.port)) for _ in range(50)]
    for connection in slow:
        connection.sendall(b"POST /api/curves HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n")
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(raw(address)[0])) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(IN_TIME)
    assert answers == [200] * 10
    for connection in slow:
        connection.close()


HALF_REQUESTS = {
    "nothing": b"",
    "half a line": b"GET /api/over",
    "half the headers": b"GET /api/overview HTTP/1.1\r\nHost: localhost\r\n",
    "half a body": b"POST /api/curves HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
}


def connect(address):
    parts = urlsplit(address)
    return socket.create_connection((parts.hostname, parts.port), timeout=IN_TIME)


def is_closed(connection):
    """Wait until the server closes a connection."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("half", HALF_REQUESTS.values(), ids=HALF_REQUESTS)
def test_half_a_request_is_cut_off_after_a_time(half, address, monkeypatch):
    monkeypatch.setattr(TimedConnection, "patience", 0.2)
    with connect(address) as connection:
        connection.sendall(half)
        assert is_closed(connection)


def test_a_request_that_comes_bit_by_bit_is_not_waited_for_longer(address, monkeypatch):
    monkeypatch.setattr(TimedConnection, "patience", 0.5)
    with connect(address) as connection:
        connection.settimeout(0.02)
        for _ in range(1000):
            try:
                connection.sendall(b"G")
                assert connection.recv(1) == b""
                return
            except TimeoutError:
                continue
            except OSError:
                return  # closed while it was sent
    pytest.fail("1,000 bytes came, one after another")


def test_a_whole_request_may_be_answered_for_longer(address, client_of, listen, monkeypatch):
    monkeypatch.setattr(TimedConnection, "patience", 0.2)
    client = client_of(address)
    listener = listen(client, overview(client)["cursor"])
    with connect(address) as connection:
        assert is_closed(connection)  # meanwhile, the stream of changes would have been cut off
    listener.stop()
    assert listener.next() is None


def test_of_too_many_half_requests_the_oldest_is_cut_off(address, monkeypatch):
    monkeypatch.setattr(TimedConnection, "most_waiting", 5)
    waiting = [connect(address) for _ in range(6)]
    assert is_closed(waiting[0])
    assert raw(address)[0] == 200
    for connection in waiting:
        connection.close()
