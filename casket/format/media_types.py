"""The media types of artifacts, the same on every machine."""

from __future__ import annotations

_MORE = {
    ".avif": "image/avif",
    ".flac": "audio/flac",
    ".ipynb": "application/x-ipynb+json",
    ".jsonl": "application/jsonl",
    ".log": "text/plain",
    ".m4a": "audio/mp4",
    ".md": "text/markdown",
    ".mkv": "video/x-matroska",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".parquet": "application/vnd.apache.parquet",
    ".patch": "text/x-diff",
    ".svg": "image/svg+xml",
    ".toml": "application/toml",
    ".wav": "audio/wav",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
"""Types that Python does not know, or that differ between its versions."""


def media_type_of(suffix: str) -> str:
    """Return the media type of files with a suffix."""
    import mimetypes  # loads much that readers do not need

    # An instance of its own does not read the types of the system.
    known, _ = mimetypes.MimeTypes().guess_type(f"artifact{suffix.lower()}")
    return _MORE.get(suffix.lower()) or known or "application/octet-stream"
