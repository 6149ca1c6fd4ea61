"""Real servers of every kind, and journals of its own for each test."""

import itertools
import uuid

import pytest

from tests.services.proxy import Proxy

SECRET = "geheim"
_names = (f"remote{n}" for n in itertools.count())


@pytest.fixture(autouse=True)
def homes(tmp_path, monkeypatch):
    """Journals and artifacts of this test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def server():
    """A PostgreSQL server with a user who needs a password."""
    from tests.services.postgres import Postgres

    server = Postgres()
    server.sql(f"CREATE ROLE guest LOGIN PASSWORD '{SECRET}'")
    yield server
    server.discard()


@pytest.fixture
def url(server):
    """A place of its own, for somebody who needs a password."""
    return postgres_url(server)


def postgres_url(server):
    name = next(_names)
    server.sql(f"CREATE SCHEMA {name}; GRANT ALL ON SCHEMA {name} TO guest")
    login = server.url(user="guest", password=SECRET)
    return f"{login}?options=-csearch_path%3D{name}"


class Far:
    """A server of some kind, and places on it.

    Attributes:
        kind: `postgres`, `mongo`, `s3` or `sftp`.
        url: a place of its own.
        server: the server, to stop and to start.
    """

    def __init__(self, kind, server, url, know=None):
        self.kind = kind
        self.server = server
        self.url = url
        self._know = know
        self._proxies = []

    def proxy(self, delay=0.0):
        """Return a proxy before the server, and the URL of the place through it."""
        made = Proxy(self.server.port, delay=delay)
        self._proxies.append(made)
        if self._know:
            self._know(*[each.port for each in self._proxies])
        return made, self.url.replace(f":{self.server.port}/", f":{made.port}/")

    def close(self):
        for each in self._proxies:
            each.close()


@pytest.fixture(scope="session")
def servers():
    """Servers by kind, started when they are asked for."""
    started = {}
    yield started
    for each in started.values():
        each.discard()


@pytest.fixture(params=["postgres", "mongo", "s3", "sftp"])
def far(request, servers, monkeypatch):
    if request.param == "postgres":
        made = Far(request.param, *_postgres(request))
    elif request.param == "mongo":
        made = Far(request.param, *_mongo(servers))
    elif request.param == "s3":
        made = Far(request.param, *_s3(servers, monkeypatch))
    else:
        made = Far(request.param, *_sftp(servers, monkeypatch))
    yield made
    made.close()


def _postgres(request):
    server = request.getfixturevalue("server")
    return server, postgres_url(server)


def _mongo(servers):
    from tests.services.mongo import Mongo

    if "mongo" not in servers:
        servers["mongo"] = Mongo()
    return servers["mongo"], f"{servers['mongo'].url(next(_names))}?directConnection=true"


def _s3(servers, monkeypatch):
    from tests.services.s3 import S3, sign_in

    sign_in(monkeypatch)
    if "s3" not in servers:
        servers["s3"] = S3()
    return servers["s3"], servers["s3"].url()


def _sftp(servers, monkeypatch):
    from tests.services.sshd import Sshd

    if "sftp" not in servers:
        servers["sftp"] = Sshd()
    server = servers["sftp"]
    monkeypatch.setenv("HOME", str(server.home))
    for name in ("SSH_AUTH_SOCK", "CASKET_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    server.know(server.home)
    return (
        server,
        server.url(f"{uuid.uuid4().hex}.json"),
        lambda *ports: server.know(server.home, *ports),
    )
