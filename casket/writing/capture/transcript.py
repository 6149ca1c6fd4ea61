"""The output of a session, kept as an artifact."""

from __future__ import annotations

from threading import Event, Lock

from casket.errors import CasketError
from casket.format.records import Record
from casket.format.references import identity_of
from casket.system.background import Background
from casket.system.secrets import redact
from casket.writing.capture.collecting import keep
from casket.writing.capture.output import OutputNotCaptured, Tap
from casket.writing.log import SessionLog

__all__ = ["OutputNotCaptured", "Transcript"]

INTERVAL = 10.0
"""Seconds between two copies of the output, of which the last stays."""

LONGEST_COPY = 10.0
"""How many seconds a copy waits for an earlier one."""


class Transcript:
    """The output of the process during a session, kept now and then, and at the end.

    Args:
        log: the log of the session.

    Raises:
        OutputNotCaptured: output cannot be captured here.
        RuntimeError: no thread can be started.
    """

    def __init__(self, log: SessionLog) -> None:
        self._log = log
        self._lock = Lock()
        self._kept = b""
        self._copy: Record | None = None
        self._tap = Tap()
        try:
            self._thread = Background(self._keep_copies, "casket-output")
        except RuntimeError:
            self._tap.close()
            raise

    def _keep_copies(self, stop: Event) -> None:
        while not stop.wait(INTERVAL):
            if self._keep():
                return

    def _keep(self) -> dict[str, str]:
        if not self._lock.acquire(timeout=LONGEST_COPY):
            return {"output": f"an earlier copy took more than {LONGEST_COPY:g} s"}
        try:
            text = self._tap.text()
            if text and text != self._kept:
                self._replace_copy(without_secrets(text))
                self._kept = text
        except (CasketError, OutputNotCaptured) as error:
            return {"output": str(error)}
        finally:
            self._lock.release()
        return {}

    def _replace_copy(self, text: bytes) -> None:
        """Store the output in a file of this session alone, so that the earlier can be removed."""
        files, earlier = self._log.backend.files, self._copy
        body = keep(files, "output", text, owner=f"-{self._log.id}")
        if earlier is not None:
            body["freed"] = [list(identity_of(earlier))]
        self._copy = self._log.record("artifact", body)
        self._log.append([self._copy])
        if earlier is not None and earlier["body"]["file"] != body["file"]:
            files.remove(earlier["body"]["file"])

    def end(self, patience: float) -> dict[str, str]:
        """Stop within some seconds; return what is missing, and why."""
        self._thread.end(patience)
        missing = self._keep()
        self._tap.close()
        return missing


def without_secrets(text: bytes) -> bytes:
    """Replace the secrets in each line of an output."""
    lines = text.decode(errors="replace").split("\n")
    return "\n".join(map(redact, lines)).encode()
