"""A throwaway S3 server in this process: moto, which serves the interface from memory."""

from __future__ import annotations

import io
import itertools
import signal
import threading
from collections.abc import Callable, Iterable
from typing import Any

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.services.aws import CREDENTIALS

_names = (f"bucket{n}" for n in itertools.count())


class _Quiet(WSGIRequestHandler):
    # Like S3, it keeps connections.
    protocol_version = "HTTP/1.1"

    def log(self, *_: object) -> None:
        """Log nothing."""


class _OneAtATime:
    """An application whose requests are answered one after the other: moto's conditions are not
    atomic.

    Args:
        ignored: the headers that the server behaves as if it did not know.
    """

    def __init__(self, ignored: Iterable[str] = ()) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._ignored = [f"HTTP_{name.upper().replace('-', '_')}" for name in ignored]
        self.requests: list[str] = []

    def __call__(self, environ: dict[str, Any], respond: Callable[..., Any]) -> list[bytes]:
        sent = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(sent)
        for name in self._ignored:
            environ.pop(name, None)
        with self._lock:
            self.requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
            return list(self._app(environ, respond))


class S3:
    """A server; what it keeps outlives its stops.

    Args:
        ignored: the headers that it ignores.
    """

    def __init__(self, ignored: Iterable[str] = ()) -> None:
        self._app = _OneAtATime(ignored)
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start it, on its previous port if it had any."""
        self._server = make_server(
            "127.0.0.1", self.port, self._app, threaded=True, request_handler=_Quiet
        )
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    def stop(self, how: int = signal.SIGTERM) -> None:
        """Stop it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def kill(self) -> None:
        self.stop()

    def discard(self) -> None:
        self.stop()

    @property
    def requests(self) -> list[str]:
        """The methods and paths of the requests so far."""
        return self._app.requests

    def client(self, port: int | None = None) -> Any:
        """Return a client of boto3."""
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port or self.port}",
            aws_access_key_id="tester",
            aws_secret_access_key="geheim",
            region_name="us-east-1",
        )

    def url(self) -> str:
        """Return the URL of an empty bucket of its own."""
        name = next(_names)
        client = self.client()
        client.create_bucket(Bucket=name)
        client.close()
        return f"s3://{name}/runs?endpoint_url=http://127.0.0.1:{self.port}/"


def sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the credentials that boto3 finds, and no others."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
