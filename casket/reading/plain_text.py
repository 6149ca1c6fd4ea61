"""Texts of experiment files as plain text, which cannot control the program that displays them."""

from __future__ import annotations

import re
from pathlib import PurePath

DIRECTIONS = "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
"""Characters that change the direction of a text or end its line."""

_CONTROL = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{DIRECTIONS}\ufeff\ufff9-\ufffb]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def visible(text: str) -> str:
    """Replace control characters, except for tabs and newlines, by symbols of the same width."""
    return _CONTROL.sub(_symbol, text) if _CONTROL.search(text) else text


def encodable(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot represent."""
    return _SURROGATE.sub("\ufffd", text)


def on_one_line(text: str) -> str:
    """Replace newlines and tabs by spaces."""
    return " ".join(text.split()) if "\n" in text or "\t" in text else text


def cut(text: str, length: int) -> str:
    """Cut a text to a length."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def without_folder(location: str) -> str:
    """Return the name of a file, or a URL as it is: notebooks keep it, and are shared."""
    return location if "://" in location else PurePath(location).name


def _symbol(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"
