"""The process that forwards the output of a script and keeps its end.

It is a process of its own, so that the last words of a script that crashes are shown, and so that
programs that outlive the script can go on printing. It runs with the standard library alone:

    python -I -S tee.py CONTROL PIPE TARGET [PIPE TARGET ...]

The numbers are descriptors: a socket of requests, and pipes with the descriptor to forward to; -1
to forward nothing. A request is a line. `mark` answers the number of bytes so far, `since N` the
text since then. An answer is its length on a line, then its bytes.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import socket
import sys

ROOM = 1 << 20
"""Bytes of output that are kept."""

LONGEST_LINE = 1 << 16
READ = 1 << 16
_ESCAPE = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]")


class Stream:
    """A pipe and the descriptor to which its bytes are forwarded.

    Args:
        pipe: the end of the pipe to read.
        target: the descriptor to forward to; -1 for none.
        kept: receives the complete lines.
    """

    def __init__(self, pipe: int, target: int, kept: Kept) -> None:
        os.set_blocking(pipe, False)
        self.pipe = pipe
        self._target = target
        self._kept = kept
        self.line = b""

    def read(self) -> bool | None:
        """Forward available bytes; return whether there were any, None at the end of the pipe."""
        try:
            content = os.read(self.pipe, READ)
        except BlockingIOError:
            return False
        if not content or not self._forward(content):
            return None
        *lines, self.line = (self.line + content).split(b"\n")
        for line in lines:
            self._kept.add(shown(line) + b"\n")
        if len(self.line) > LONGEST_LINE:
            self.line = shown(self.line)[-LONGEST_LINE:]
        return True

    def _forward(self, content: bytes) -> bool:
        """Write bytes; return False if nobody reads them, so that the script learns of it."""
        while content and self._target >= 0:
            try:
                content = content[os.write(self._target, content) :]
            except BlockingIOError:
                selectors.DefaultSelector().select(0.01)
            except OSError:
                return False
        return True


class Kept:
    """The last lines, at most `ROOM` bytes.

    Attributes:
        count: the number of bytes of all lines.
    """

    def __init__(self) -> None:
        self.count = 0
        self._text = bytearray()

    def add(self, line: bytes) -> None:
        """Add a line."""
        self.count += len(line)
        self._text += line
        if len(self._text) > 2 * ROOM:
            del self._text[:-ROOM]

    def since(self, count: int) -> bytes:
        """Return what was added after the first `count` bytes, from the beginning of a line."""
        size = min(self.count - count, ROOM)
        text = bytes(self._text[len(self._text) - size :])
        is_cut = size < self.count - count
        return text[text.find(b"\n") + 1 :] if is_cut else text


def shown(line: bytes) -> bytes:
    """Return a line as a terminal shows it: the last state of a progress bar, without colors."""
    *earlier, last = _ESCAPE.sub(b"", line).replace(b"\b", b"").rstrip(b"\r").split(b"\r")
    states = (each for each in (last, *reversed(earlier)) if each.strip())
    return next(states, last)


def main(control: socket.socket, streams: list[Stream], kept: Kept) -> None:
    """Forward until all pipes are closed, and answer requests."""
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ, None)
    for stream in streams:
        selector.register(stream.pipe, selectors.EVENT_READ, stream)
    while streams:
        for key, _ in selector.select():
            stream = key.data
            if stream is None and not answer(control, streams, kept):
                selector.unregister(control)
            elif stream in streams and stream.read() is None:
                selector.unregister(stream.pipe)
                streams.remove(stream)
                os.close(stream.pipe)


def answer(control: socket.socket, streams: list[Stream], kept: Kept) -> bool:
    """Answer a request; return False if the script has exited."""
    try:
        request = control.recv(64).split()
    except OSError:
        return False
    if not request:
        return False
    for stream in streams:
        while stream.read():
            pass
    reply = b"%d" % kept.count
    if request[0] == b"since":
        unfinished = [shown(stream.line) + b"\n" for stream in streams if stream.line]
        reply = kept.since(int(request[1])) + b"".join(unfinished)
    try:
        control.sendall(b"%d\n" % len(reply) + reply)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    numbers = list(map(int, sys.argv[1:]))
    lines = Kept()
    pairs = zip(numbers[1::2], numbers[2::2], strict=True)
    main(socket.socket(fileno=numbers[0]), [Stream(*pair, lines) for pair in pairs], lines)
