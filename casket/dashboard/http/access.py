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

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
"""Sent with every response."""

NOTHING_RUNS = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""The content security policy of every response except the page."""


class Access(NamedTuple):
    """The names that the server may be called by, and the token that clients need.

    Names are checked against a page elsewhere whose name is made to mean this machine; any port
    will do, so that it can be forwarded.

    Attributes:
        host: the address it listens at.
        token: what a browser has to know; None if the server listens to this machine only.
    """

    host: str
    token: str | None

    @classmethod
    def to(cls, host: str, token: str | None) -> Access:
        """Return the access for an address; one that other machines reach always has a token."""
        return cls(host, token or (None if is_loopback(host) else secrets.token_urlsafe(18)))

    @property
    def cookie(self) -> str:
        """The cookie of a browser that has shown the token."""
        return hashlib.sha256(f"casket {self.token}".encode()).hexdigest()

    @property
    def cookie_name(self) -> str:
        """The name of that cookie: browsers share cookies between the ports of a host."""
        return f"casket_dashboard_{self.cookie[:8]}"

    def check(self, method: str, headers: Mapping[str, str]) -> None:
        """Check that a request is allowed.

        Args:
            method: `GET` or another.
            headers: by their names in lower case.

        Raises:
            RequestError: it is not.
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
            RequestError: it is not.
        """
        if not self._is_ours(host):
            raise RequestError(
                f"this server is not called {host!r}: open the address that it printed", "Host", 403
            )

    def is_token(self, given: str) -> bool:
        """Return whether a token is the right one, in the same time for any wrong one."""
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
        # An address cannot be made to mean another machine, as a name can.
        return is_any(self.host) and (_is_address(name) or name == own_name())


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def is_any(host: str) -> bool:
    """Return whether an address stands for all that the machine has."""
    return _is_address(host) and ipaddress.ip_address(host).is_unspecified


def own_name() -> str:
    """Return the name of this machine in the network."""
    return socket.gethostname().lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name_of(header: str) -> str:
    """Return the name in a Host header, which may say a port too; empty if it is malformed."""
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
