"""Standard output and standard error of the commands.

Text of an experiment file must not control the terminal. Therefore both streams show control
characters as symbols, except for the styles that `styled` adds. A stream that cannot be written
ends the command with a message instead of a traceback.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, TextIO

import click
from click.exceptions import Exit

from casket.cli.wording import shortened
from casket.reading.plain_text import DIRECTIONS, on_one_line, visible

FREEZES = 600
"""The first version of `less` that keeps lines at the top."""

BROKEN_PIPE = 141
"""The exit code if the reader of the output is gone, as shells report it: 128 + SIGPIPE."""

_JSON_CONTROL = re.compile(f"[\x7f-\x9f{DIRECTIONS}\ufeff\ufff9-\ufffb]")

_MARK = str(secrets.randbelow(10**15) + 10**15)
"""Marks the escape sequences of this process; a file cannot contain it."""

_STYLE = re.compile(rf"(\x1b\[{_MARK};[\d;]*[mFJ])")


def styled(text: str, **style: Any) -> str:
    """Return a text with a style, as `click.style` does."""
    return marked(click.style(safe(text), **style))


def marked(text: str) -> str:
    """Mark all escape sequences of a text as the command's own."""
    return text.replace("\x1b[", f"\x1b[{_MARK};")


def safe(text: str) -> str:
    """Replace control characters by symbols of the same width, except in the command's styles."""
    if "\x1b" not in text:
        return visible(text)
    parts = _STYLE.split(text)
    parts[::2] = map(visible, parts[::2])
    return "".join(parts)


def rendered(text: str) -> str:
    """Return a text as it is sent to a terminal."""
    return safe(text).replace(f"\x1b[{_MARK};", "\x1b[")


def page(text: str, header: int = 1) -> None:
    """Show a table in the user's pager; without a terminal, write it.

    Args:
        text: the table.
        header: the number of lines that stay at the top, if the pager is a `less` that can do it.
    """
    if sys.stdout.isatty():
        # Colors, and sideways scrolling of long lines.
        if "LESS" not in os.environ:
            frozen = f" --header={header}" if _version_of_less() >= FREEZES else ""
            os.environ["LESS"] = f"-RS{frozen}"
        click.echo_via_pager(rendered(text))
    else:
        click.echo(text)


def _version_of_less() -> int:
    import subprocess  # takes time to load

    try:
        ran = subprocess.run(["less", "--version"], capture_output=True, check=False)  # noqa: S607 - of $PATH
    except OSError:
        return 0
    version = re.match(rb"less (\d+)", ran.stdout)
    return int(version[1]) if version else 0


def one_line(text: str) -> str:
    """Return a text of a file as one line without control characters."""
    return safe(on_one_line(text))


def write(text: str, *, is_json: bool = False) -> None:
    """Write a machine-readable text to standard output, exactly and in UTF-8.

    Only in a terminal are its control characters replaced. In JSON they are written as escapes,
    which have the same meaning.
    """
    if is_json:
        text = _JSON_CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    if isinstance(sys.stdout, _Stream) and not sys.stdout.isatty():
        sys.stdout.write_bytes(encoded(text))
    else:
        click.echo(text, nl=False)


def encoded(text: str) -> bytes:
    """Return a text in UTF-8; lone surrogates, which it cannot represent, become escapes."""
    return text.encode("utf-8", "backslashreplace")


class OutputFailed(click.ClickException):
    """Standard output cannot be written."""

    exit_code = 2

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output cannot be written: {error.strerror}")


class _Stream(io.TextIOBase):
    """A text stream that shows control characters as symbols.

    Messages on standard error are shortened.

    Args:
        stream: the stream to write to; None if its descriptor is closed.
        is_output: whether a failure ends the command. Failures of standard error are ignored, as
            no stream is left to report them.
    """

    # A wider encoding than ASCII, because click replaces streams in ASCII by its own.
    encoding = "utf-8"
    errors = "strict"

    def __init__(self, stream: TextIO | None, *, is_output: bool) -> None:
        self.raw = stream
        self._is_output = is_output
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_REPLACING)

    @property
    def buffer(self) -> BinaryIO | None:
        """The stream of bytes, which click uses for shell completion."""
        return getattr(self.raw, "buffer", None)

    def isatty(self) -> bool:
        return self.raw is not None and self.raw.isatty()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self.raw is None:
            raise io.UnsupportedOperation("fileno")
        return self.raw.fileno()

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() takes a text, not {type(text).__name__}")
        if not text:
            return 0  # not an attempt to write: click checks the type of a stream by it
        shown = rendered(text if self._is_output else shortened(text))
        with self._failing():
            self._open().write(shown)
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        with self._failing():
            stream = self._open()
            stream.flush()
            stream.buffer.write(data)
            stream.flush()

    def flush(self) -> None:
        if self.raw is not None:
            with self._failing():
                self.raw.flush()

    def _open(self) -> TextIO:
        if self.raw is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self.raw

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._discard()
            if self._is_output and error.errno == errno.EPIPE:
                raise Exit(BROKEN_PIPE) from error
            if self._is_output:
                raise OutputFailed(error) from error

    def _discard(self) -> None:
        """Redirect the descriptor to nowhere, so that flushing at exit does not fail again."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Replace `sys.stdout` and `sys.stderr` by safe streams."""
    before = sys.stdout, sys.stderr
    sys.stdout = _Stream(before[0], is_output=True)
    sys.stderr = _Stream(before[1], is_output=False)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def occupy_closed_descriptors() -> None:
    """Open the null device for closed standard descriptors.

    Otherwise the experiment file would get such a number, and the output of a child process would
    be written into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


_ASCII = str.maketrans({
    **{chr(code): "*" for code in range(0x2801, 0x2900)},
    **dict(zip("\u2800─│┼┤└…±", " -|+++~~", strict=True)),
})  # fmt: skip
"""Replacements for the characters of tables and curves."""

_REPLACING = "casket.cli.terminal"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that the encoding of a terminal lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_ASCII)
    return "".join(char if char.isascii() else "?" for char in text), error.end


codecs.register_error(_REPLACING, _replaced)
