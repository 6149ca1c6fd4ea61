"""Redaction of secrets: passwords in URLs, and values of names such as `token`."""

from __future__ import annotations

import re

_HIDDEN = "***"
_SENSITIVE_KEY = r"(?:access|account|api|auth|private|secret)[-_.]?key"
_SENSITIVE_WORD = r"password|passwd|passphrase|(?<![a-z])pass|pwd|secret|token|credentials?"
_SENSITIVE = rf"(?:{_SENSITIVE_WORD}|{_SENSITIVE_KEY})"
# A quote ends a URL only where it closes a string.
_IN_URL = r"""(?:[^\s"']|["'](?![\s,;:)\]}]|$))"""
_URL_LOGIN = rf"(://(?:(?![:/]){_IN_URL})*:)({_IN_URL}*)"
_URL_ARGUMENT = r"""(?s)\A((?:[^\s="']*=)?[a-zA-Z][\w+.-]*://[^\s:/]*:)(.*)"""
_HTTP_LOGIN = r"(https?://)[^\s:/@?#\"']+@"
_NAMED_VALUE = rf"""({_SENSITIVE}(?:=["']?|["']\s*:\s*["']))""" + (
    r"""(?:(?<=")(?:[^"\\]|\\.)*|(?<=')(?:[^'\\]|\\.)*|(?<==)[^\s&"']+)"""
)
_SENSITIVE_NAME = rf"[^\s=]*{_SENSITIVE}"


def redact(text: str) -> str:
    """Replace passwords in URLs, and values after `password=` and similar names, by `***`.

    Args:
        text: Any text, such as the location of a store or an error message.

    Returns:
        The redacted text. Where a URL is ambiguous, the longer match is hidden.
    """
    if "://" in text and "@" in text:
        text = re.sub(_URL_LOGIN, _hide_password, text)
        text = re.sub(_HTTP_LOGIN, rf"\1{_HIDDEN}@", text, flags=re.IGNORECASE)
    return re.sub(_NAMED_VALUE, rf"\1{_HIDDEN}", text, flags=re.IGNORECASE)


def _hide_password(login: re.Match[str]) -> str:
    # Up to the last @: a password may contain @, and hiding too much is the safer error.
    start, rest = login.groups()
    _, at, host = rest.rpartition("@")
    return f"{start}{_HIDDEN}@{host}" if at else login[0]


def without_secrets(arguments: list[str]) -> list[str]:
    """Return the arguments of a command line with secrets replaced by `***`."""
    safe = []
    value_is_secret = False
    for argument in arguments:
        hide = value_is_secret and not re.match("--[a-zA-Z]", argument)
        safe.append(_HIDDEN if hide else _without_secret(argument))
        value_is_secret = not hide and _names_a_secret(argument) and argument.startswith("-")
    return safe


def _without_secret(argument: str) -> str:
    name, equals, _ = argument.partition("=")
    if equals and _names_a_secret(name):
        return f"{name}={_HIDDEN}"
    # A URL that is a whole argument extends to its end: its password may contain blanks.
    return redact(re.sub(_URL_ARGUMENT, _hide_password, argument))


def _names_a_secret(name: str) -> bool:
    return re.fullmatch(_SENSITIVE_NAME, name, re.IGNORECASE) is not None
