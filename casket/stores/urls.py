"""Validation, display and redaction of database URLs."""

from __future__ import annotations

import re

from casket.errors import BadLocation

HIDDEN = "***"

_URL = re.compile(
    r"(?P<scheme>[^:/?@]+://)(?:(?P<user>[^:@/?]*)(?P<password>:[^@/?]*)?@)?(?P<rest>[^@]*)"
)
_SECRET_ARGUMENT = re.compile(
    r"(?i)(?<=[?&;])(password|sslpassword|tlsCertificateKeyFilePassword|authMechanismProperties)"
    r"=[^&;]*"
)
_ENCODED_NAME = re.compile(r"[?&;][^=&;]*%[^=&;]*=")


def checked(url: str) -> str:
    """Return a database URL if its user, password and host are unambiguous.

    Raises:
        BadLocation: a driver could mistake a part of the password for the host and display it.
    """
    match = _URL.fullmatch(url)
    is_plain = url.isprintable() and not re.search(r"[\s\"']", url)
    if match is None or not is_plain or _ENCODED_NAME.search(match["rest"]):
        scheme = url.partition("://")[0]
        raise BadLocation(
            f"the {scheme} URL cannot be read: it has the form {scheme}://user:password@host/name, "
            "with @ : / ? # % blanks and quotes in user and password written as %40 %3A %2F %3F "
            "%23 %25 %20 %22 %27, and none in the names of arguments (not shown here because it "
            "may hold a password)"
        )
    return url


def has_password(url: str) -> bool:
    """Return whether a checked URL contains a user's password."""
    match = _URL.fullmatch(url)
    return match is not None and bool(match["password"])


def shown(url: str) -> str:
    """Return a checked URL with its secrets replaced by `***`."""
    return _SECRET_ARGUMENT.sub(rf"\1={HIDDEN}", _with_password(url, f":{HIDDEN}"))


def without_password(url: str) -> str:
    """Return a checked URL without its secrets, safe to store, send or hash."""
    bare = _SECRET_ARGUMENT.sub("", _with_password(url, ""))
    return re.sub(r"([?&;])[&;]+", r"\1", bare).rstrip("?&;")


def _with_password(url: str, password: str) -> str:
    match = _URL.fullmatch(url)
    if match is None or match["password"] is None:
        return url
    return f"{match['scheme']}{match['user']}{password}@{match['rest']}"
