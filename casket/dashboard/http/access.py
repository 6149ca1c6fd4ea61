"""Access control, checked before any request is handled."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import NamedTuple

from casket.dashboard.answers.requests import RequestError
from casket.errors import BadLocation

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
"""Security headers of every response."""

NOTHING_RUNS = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""The content security policy of every response except the page."""


class Access(NamedTuple):
    """The accepted names of the server, and the token that clients need.

    Names are checked to prevent DNS rebinding. Any port is accepted, so that it can be forwarded.

    Attributes:
        host: the address that the server listens on.
        token: the token that clients must present; None if every user of this machine has access.
    """

    host: str
    token: str | None

    @classmethod
    def to(cls, host: str, token: str | None = None, *, is_open: bool = False) -> Access:
        """Return the access for an address.

        Args:
            host: the address that the server listens on.
            token: the token; None creates one.
            is_open: whether no token is needed, so that every user of this machine has access.

        Raises:
            BadLocation: an address that other machines can reach would be open.
        """
        if not is_open:
            return cls(host, token or secrets.token_urlsafe(18))
        if token or not is_loopback(host):
            raise BadLocation(
                f"--no-token is possible at an address of this machine only, without --token; "
                f"leave it out to listen at {host}"
            )
        return cls(host, None)

    @property
    def cookie(self) -> str:
        """The cookie value of a browser that has presented the token."""
        return hashlib.sha256(f"casket {self.token}".encode()).hexdigest()

    @property
    def cookie_name(self) -> str:
        """The name of the cookie, unique because browsers share cookies between ports."""
        return f"casket_dashboard_{self.cookie[:8]}"

    def check(self, method: str, headers: Mapping[str, str]) -> None:
        """Check that a request is allowed.

        Args:
            method: the HTTP method.
            headers: the request headers, with names in lower case.

        Raises:
            RequestError: the request is refused.
        """
        host = headers.get("host", "")
        self.check_name(host)
        if method not in {"GET", "HEAD"}:
            if headers.get("origin") not in {None, f"http://{host}", f"https://{host}"}:
                raise RequestError("asked by a page from elsewhere", "Origin", 403)
            if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                raise RequestError("send application/json", "Content-Type", 415)
        if not self._is_known(headers):
            raise RequestError(
                "open the address that `casket dashboard` printed, with its token", "token", 401
            )

    def check_name(self, host: str) -> None:
        """Check that the Host header names this server.

        Raises:
            RequestError: the header names another server.
        """
        if not self._is_ours(host):
            raise RequestError(
                f"this server is not called {host!r}: open the address that it printed", "Host", 403
            )

    def is_token(self, given: str) -> bool:
        """Return whether a token is valid, compared in constant time."""
        return self.token is not None and _same(given, self.token)

    def _is_known(self, headers: Mapping[str, str]) -> bool:
        if self.token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        return _same(_cookie(headers.get("cookie", ""), self.cookie_name), self.cookie)

    def _is_ours(self, header: str) -> bool:
        name = _name_of(header)
        if name in LOOPBACK_NAMES or name == self.host.lower():
            return True
        # Unlike a name, an address cannot be rebound to another machine.
        return is_any(self.host) and (_is_address(name) or name == own_name())


def is_loopback(host: str) -> bool:
    """Return whether an address is reachable only from this machine."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def is_any(host: str) -> bool:
    """Return whether an address stands for all addresses of the machine."""
    return _is_address(host) and ipaddress.ip_address(host).is_unspecified


def own_name() -> str:
    """Return the network name of this machine."""
    return socket.gethostname().lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name_of(header: str) -> str:
    """Return the name in a Host header without the port; empty if the header is malformed."""
    name, port = header.lower(), ""
    if header.startswith("["):
        name, bracket, port = name[1:].partition("]")
        if not bracket or port[:1] not in {"", ":"}:
            return ""
        port = port[1:]
    elif ":" in header:
        name, _, port = name.partition(":")
    return name if port == "" or port.isdecimal() else ""


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())


def _cookie(header: str, name: str) -> str:
    try:
        cookies = SimpleCookie(header)
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""
