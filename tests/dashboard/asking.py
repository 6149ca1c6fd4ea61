"""Requests to the server, and listeners to its events."""

import contextlib
import itertools
import json
import queue
import socket
import threading
import time
from typing import NamedTuple

import httpx

from casket import Experiment
from tests.waiting import IN_TIME


def new_model(path, **options):
    """Return a model of a new experiment."""
    return Experiment.use(str(path), exp_id="exp", **options).model("net", {"units": 64})


def filled(path, sessions=2, epochs=3):
    """Write a file of sessions with `seed` from 0; return its path."""
    model = new_model(path)
    for seed in range(sessions):
        with model.session({"seed": seed}) as session:
            for epoch in range(1, epochs + 1):
                session.add_epoch(epoch, {"loss": (seed + 1) / epoch})
    model.experiment.close()
    return path


def overview(client):
    """Return the response to a page's first request."""
    return client.get("/api/overview").json()


def rows(client):
    """Return the rows of the sessions by their seed."""
    return {row["params"].get("seed"): row for row in overview(client)["sessions"]}


def only_key(client):
    """Return the key of the only session."""
    (row,) = overview(client)["sessions"]
    return row["key"]


def curves(client, metrics, sessions=None, **question):
    """Return the curves of all sessions, each with its `xs`; and the whole answer."""
    sessions = sessions or [row["key"] for row in overview(client)["sessions"]]
    question = {"metrics": metrics, "sessions": sessions, **question}
    response = client.post("/api/curves", json=question)
    assert response.status_code == 200, response.text
    answer = response.json()
    return [{**curve, "xs": numbers(answer["xs"][curve["x"]])} for curve in answer["curves"]]


def numbers(xs):
    """Return the numbers on an axis, which come as steps if they are whole."""
    return list(itertools.accumulate(xs["steps"])) if isinstance(xs, dict) else xs


def refusal(response):
    """Return the status of an answer and which parameter it is about."""
    return response.status_code, response.json()["parameter"]


def wait_for(is_so, seconds=IN_TIME):
    """Wait until a function returns a true value; return it."""
    end = time.monotonic() + seconds
    while not (value := is_so()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)
    return value


SETTLED = """
() => new Promise((done) => {
  const look = (before, same) => {
    const now = document.body.innerHTML;
    if (same >= 12) done();
    else requestAnimationFrame(() => look(now, now === before ? same + 1 : 0));
  };
  look("", 0);
})
"""


def settle(page):
    """Wait until a page has been drawn for a dozen frames without a change."""
    page.evaluate(SETTLED)


class Event(NamedTuple):
    kind: str
    cursor: str
    data: object


class Listener:
    """A page that listens to changes, from a cursor on.

    Attributes:
        received: the events, and None when the stream has ended.
    """

    def __init__(self, client, cursor, **headers):
        self.received = queue.SimpleQueue()
        self._is_open = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._listen, args=(client, cursor, headers))
        self._thread.start()
        assert self._is_open.wait(20)

    def _listen(self, client, cursor, headers):
        query = {"cursor": cursor}
        try:
            with client.stream("GET", "/api/events", params=query, headers=headers) as stream:
                self._stream = stream
                lines = {}
                for line in stream.iter_lines():
                    self._is_open.set()
                    name, _, value = line.partition(": ")
                    lines[name] = value
                    if not line and "event" in lines:
                        data = json.loads(lines["data"])
                        self.received.put(Event(lines["event"], lines["id"], data))
                    if not line:
                        lines = {}
                    if self._stopped.is_set():
                        return
        except httpx.HTTPError:
            assert self._is_open.is_set()  # closed by either side
        finally:
            self.received.put(None)

    def next(self, seconds=IN_TIME):
        """Return the next event."""
        return self.received.get(timeout=seconds)

    def until(self, is_so, seconds=IN_TIME):
        """Return the first event for which something is so."""
        end = time.monotonic() + seconds
        while True:
            event = self.next(max(end - time.monotonic(), 0.01))
            assert event is not None, "the stream has ended"
            if is_so(event):
                return event

    def stop(self):
        """Go away without waiting for an event."""
        self._stopped.set()
        network = self._stream.extensions["network_stream"]
        with contextlib.suppress(OSError):  # the stream has ended
            network.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._thread.join(IN_TIME)
