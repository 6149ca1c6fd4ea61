"""Redaction of secrets: passwords and signatures in URLs, headers, and values of secret names."""

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
_SENSITIVE_OPTION = (
    rf"(?:{_SENSITIVE}|(?<![a-z])(?:auth|jwt|bearer|pw)|webhook(?:[-_.]?url)?|[a-z0-9][-_.]key)"
)
"""The end of the name of an option; as the name of a setting, some of them would be usual."""

_PATTERNS = (
    rf"(?<!\S)(--?[\w.-]{{0,60}}{_SENSITIVE_OPTION}(?:\s+|=)(?!-))[^\s\"']+",
    r"(\b(?:proxy-)?authorization[\"']?\s*:\s*[\"']?)[^\s\"'*][^\n\"']*",
    r"((?<![\w-])(?:cookie|[\w-]{1,60}-token|[\w-]{0,60}api-key)\s*:\s*)[^\s\"'*][^\n\"']*",
    r"(\bbearer\s+)(?=[^\s\"']*\d)[\w.~+/-]{8,}=*",
    r"((?<![\w-])[\w-]{0,40}(?:passw(?:or)?d|passphrase|pwd|secret)\s*:\s+)[^\s\"',;*][^\s\"',;]*",
    r"(?m)(^[ \t]{0,60}[\w.-]{0,60}(?:token|api[-_.]?key)\s*:\s+)[^\s\"'*][^\s\"']*",
    r"([?&](?:sig|[\w-]{0,40}signature|[\w-]{0,40}credential|key|jwt|auth)=)[^\s&#\"']+",
    r"(https?://[^\s/\"']{0,200}hook[^\s/\"']{0,200}/)[^\s\"'*][^\s\"']*",
    r"(https?://[^\s/\"']{1,200}/(?:[\w.-]+/){0,5}[\w.-]*webhook\w*/)[^\s\"'*][^\s\"']*",
    r"(https?://api\.telegram\.org/bot)[^\s/\"'*]+",
    r"((?<![\w-])(?:hf_|gh[opsu]_|github_pat_|glpat-|xox[abprs]-|AKIA|AIza))(?=[\w-]*\d)[\w-]{12,}",
    r"((?<![\w-])sk-)(?=[\w-]*\d)[\w-]{20,}",
    r"((?<![\w-])eyJ)[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}",
)
"""Further secrets; the part before each is the first group."""
_HINTS = re.compile(
    r"auth|cookie|key|token|bearer|pass|pw|secret|sig|cred|jwt|hook|bot|"
    r"hf_|gh[opsu]_|github_pat|glpat|xox[abprs]|akia|aiza|sk-|eyj",
    re.IGNORECASE,
)

_EXPRESSION = re.compile(
    r"(?<![\w?&-])(\w+)=(?=\(?(?:[a-zA-Z_][\w.]*|\d{1,5})[ \t]*(?:[\[\](),}#]|(?:if|or|and)\b|$))",
    re.MULTILINE,
)
"""A keyword argument of Python whose value is an expression or a small number."""

_LITERAL = re.compile(
    rf"""(?:{_SENSITIVE_WORD}|{_SENSITIVE_KEY})\w*["']?\]?\s*(?::[ \t]*[\w.\[\], |]+)?[:=]\s*"""
    r"""[brf]?(?:"([^"\n]+)"|'([^'\n]+)')""",
    re.IGNORECASE,
)
"""A text that is assigned to a sensitive name in source code."""

_KEY_LITERAL = re.compile(
    r"""(?<![a-z0-9])key\w*\s*[:=(]\s*["'](?=[^"']*\d)[A-Za-z0-9+/_-]{20,}["']""", re.IGNORECASE
)
"""A long text with digits that is assigned to a key, such as `OPENAI_KEY` and `key=`."""

_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY")


def has_secret(source: str, *, is_python: bool) -> bool:
    """Return whether lines of source code contain a secret.

    Besides the secrets that `redact` replaces, these are private keys and texts that are assigned
    to a name such as `API_KEY`. Special tokens of language models (`pad_token="[PAD]"`) and names
    of variables are no secrets.

    Args:
        source: the lines.
        is_python: whether a keyword argument such as `token=tokenizer.eos_token` is an expression.
    """
    literals = (double or single for double, single in _LITERAL.findall(source))
    if _PRIVATE_KEY.search(source) or _KEY_LITERAL.search(source) or any(map(_is_random, literals)):
        return True
    text = _LITERAL.sub("", source)
    if is_python:
        text = _EXPRESSION.sub(r"\1 = ", text)
    return redact(text) != text


def _is_random(text: str) -> bool:
    """Return whether a text may be a password or a key, rather than a word or a placeholder."""
    is_dense = re.fullmatch(r"[!-~]{6,}", text) and not re.match(r"[<\[{$%*]|\.{3}", text)
    return bool(is_dense) and re.search(r"[\d!@#$%^&*]", text) is not None


def redact(text: str) -> str:
    """Replace secrets by `***`: passwords in URLs, headers, values of `password=` and the like.

    Args:
        text: Any text, such as the location of a store or an error message.

    Returns:
        The redacted text. Where a URL is ambiguous, the longer match is hidden.
    """
    if "://" in text and "@" in text:
        text = re.sub(_URL_LOGIN, _hide_password, text)
        text = re.sub(_HTTP_LOGIN, rf"\1{_HIDDEN}@", text, flags=re.IGNORECASE)
    text = re.sub(_NAMED_VALUE, rf"\1{_HIDDEN}", text, flags=re.IGNORECASE)
    if _HINTS.search(text):  # compiling the patterns takes milliseconds
        for pattern in _PATTERNS:
            text = re.sub(pattern, rf"\1{_HIDDEN}", text, flags=re.IGNORECASE)
    return text


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
        value_is_secret = not hide and _is_secret_option(argument)
    return safe


def _without_secret(argument: str) -> str:
    name, equals, _ = argument.partition("=")
    if equals and (_names_a_secret(name) or _is_secret_option(name)):
        return f"{name}={_HIDDEN}"
    # A URL that is a whole argument extends to its end: its password may contain blanks.
    return redact(re.sub(_URL_ARGUMENT, _hide_password, argument))


def _names_a_secret(name: str) -> bool:
    return re.fullmatch(_SENSITIVE_NAME, name, re.IGNORECASE) is not None


def _is_secret_option(name: str) -> bool:
    return re.fullmatch(rf"-[^\s=]*{_SENSITIVE_OPTION}", name, re.IGNORECASE) is not None
