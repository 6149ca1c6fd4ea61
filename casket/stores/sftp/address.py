"""Parsing and formatting of SFTP locations."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from casket.errors import BadLocation

SCHEME = "sftp://"

_SHORT_FORM = re.compile(r"(?P<user>[^@/\\]+)@(?P<host>\[[^\]/@]+\]|[^:/\\@\[\]]+):(?P<path>.*)")


class SftpLocation(NamedTuple):
    """The location of a file on another machine.

    Attributes:
        user: the user name; None for the default of the user's configuration.
        host: a host name, an IP address, or a `Host` of the user's configuration.
        port: the port; None for the default of the user's configuration.
        path: an absolute path, or a path relative to the home folder on the host.
    """

    user: str | None
    host: str
    port: int | None
    path: str

    def __str__(self) -> str:
        user = f"{quote(self.user)}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        path = self.path if self.path.startswith("/") else f"/~/{self.path}"
        return f"{SCHEME}{user}{host}{port}{quote(path, safe='/~')}"

    @classmethod
    def of(cls, url: str) -> SftpLocation:
        """Parse `user@host:path` or `sftp://user@host:port/path`.

        Raises:
            BadLocation: the location has a different form or contains a password.
        """
        if url.startswith(SCHEME):
            return _of_url(url)
        match = _SHORT_FORM.fullmatch(url)
        if match is None:
            raise BadLocation(f"an SFTP location has another form: {_FORMS}")
        if ":" in match["user"]:
            raise BadLocation(_USE_A_KEY)
        return cls(match["user"], match["host"].strip("[]"), None, _from_home(match["path"]))


_FORMS = "user@host:runs.json, sftp://user@host:22/folder/runs.json, sftp://host/~/runs.json"
_USE_A_KEY = (
    "an SFTP location takes no password (it would be shown by `ps` and kept in files): "
    "use a key (ssh-copy-id), the agent, or set CASKET_PASSWORD"
)


def _of_url(url: str) -> SftpLocation:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or "?" in url or "#" in url:
        raise BadLocation(f"the SFTP location cannot be read: {_FORMS}")
    if parts.password is not None or "@" in (parts.username or ""):
        raise BadLocation(_USE_A_KEY)
    # urlsplit lowercases the host, but a `Host` of the configuration may contain capitals.
    at = parts.netloc.lower().rindex(host)
    host = parts.netloc[at : at + len(host)]
    path = _from_home(unquote(parts.path.removeprefix("/~/")))
    return SftpLocation(unquote(parts.username) if parts.username else None, host, port, path)


def _from_home(path: str) -> str:
    path = path.removeprefix("~/")
    if not path.strip("/") or path.startswith("~") or path.endswith("/"):
        raise BadLocation(f"an SFTP location names a file: {_FORMS}")
    return path
