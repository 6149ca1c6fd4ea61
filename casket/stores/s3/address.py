"""URLs of places in S3: `s3://bucket/prefix?endpoint_url=...`."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from casket.errors import BadLocation
from casket.stores import urls

_ARGUMENTS = ("endpoint_url", "profile", "region", "addressing_style", "anonymous")
_STYLES = ("auto", "path", "virtual")
_SWITCH = {"true": True, "1": True, "false": False, "0": False}


class S3Address(NamedTuple):
    """A place in S3.

    Attributes:
        shown: the URL.
        bucket: the name of the bucket.
        prefix: the beginning of the names of all objects: empty, or with a slash at its end.
        endpoint_url: the server; None for the one that boto3 is configured for.
        profile: the profile of `~/.aws/config`; None for `$AWS_PROFILE`, or the default.
        region: the region; None for the one that boto3 is configured for.
        addressing_style: how requests name the bucket; None for the one in `~/.aws/config`.
        anonymous: whether requests are not signed.
    """

    shown: str
    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    profile: str | None = None
    region: str | None = None
    addressing_style: str | None = None
    anonymous: bool = False

    @classmethod
    def of(cls, url: str) -> S3Address:
        """Return the place that a URL names.

        Raises:
            BadLocation: the URL names no bucket, or has an argument that is not known.
        """
        shown = urls.shown(urls.checked(url))
        place, _, query = url.removeprefix("s3://").partition("?")
        bucket, _, path = unquote(place).partition("/")
        if "@" in place:
            raise BadLocation(
                f"{shown}: leave keys out of the URL; give them as boto3 reads them "
                "($AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY, ~/.aws/credentials, ?profile=)"
            )
        if not bucket:
            raise BadLocation(f"{shown} names no bucket; give one: s3://bucket/prefix")
        prefix = path.strip("/")
        return cls(shown, bucket, f"{prefix}/" if prefix else "", **_arguments(query, shown))


def _arguments(query: str, shown: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _ARGUMENTS or not value:
            raise BadLocation(f"{shown}: {name}={value} is none of {', '.join(_ARGUMENTS)}")
        arguments[name] = value
    style, anonymous = arguments.get("addressing_style"), arguments.get("anonymous")
    if style not in (None, *_STYLES):
        raise BadLocation(f"{shown}: addressing_style={style} is none of {', '.join(_STYLES)}")
    if anonymous is not None:
        if anonymous not in _SWITCH:
            raise BadLocation(f"{shown}: anonymous={anonymous} is none of {', '.join(_SWITCH)}")
        arguments["anonymous"] = _SWITCH[anonymous]
    return arguments
