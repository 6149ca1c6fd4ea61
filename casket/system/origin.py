"""Signatures of content that this machine has written, made with a key of the user.

A signature in a file proves that the content comes from here: whoever only wrote the file does not
know the key.
"""

from __future__ import annotations

import contextlib
import hmac
import os
from pathlib import Path

_KEY_BYTES = 32


def sign(sha256: str) -> str | None:
    """Return the signature of content with this hash; None if the key cannot be stored."""
    try:
        key = _key()
    except OSError:
        return None
    return hmac.new(key, sha256.encode(), "sha256").hexdigest()


def is_own(sha256: str, signature: str | None) -> bool:
    """Return whether the signature of a hash was made with the key of this machine and user."""
    own = sign(sha256)
    return own is not None and signature is not None and hmac.compare_digest(own, signature)


def _key() -> bytes:
    """Return the key, which is created on the first use."""
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    path = Path(data).expanduser() / "casket" / "key"
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.urandom(8).hex()}.tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(os.urandom(_KEY_BYTES))
    try:
        with contextlib.suppress(FileExistsError):  # another process was first
            os.link(temporary, path)
    finally:
        temporary.unlink()
    return path.read_bytes()
