"""The requests to S3, through boto3, and its errors."""

from __future__ import annotations

import contextlib
import errno
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from casket.errors import BadLocation, StoreFull, StoreRefused, StoreUnavailable, missing
from casket.format.files import CHUNK
from casket.stores.s3.address import S3Address
from casket.stores.s3.log import Listed

try:
    import boto3
    from botocore import UNSIGNED, exceptions
    from botocore.config import Config
    from botocore.handlers import add_expect_header
    from botocore.loaders import create_loader
    from botocore.session import Session
except ModuleNotFoundError as error:
    raise missing(error, error.name or "boto3", "s3") from error

PATIENCE = 12.0
"""Seconds after which a request is given up; boto3 tries it twice."""

TOGETHER = 16
"""The largest number of objects that are read at the same time."""

_DELETED_AT_ONCE = 1000

_FORBIDDEN = "ask the owner of the bucket for permission to list, read and write below the prefix"
_CREDENTIALS = "correct the credentials, which boto3 reads from the environment or ~/.aws"
_REFUSALS = {
    "AccessDenied": _FORBIDDEN,
    "AllAccessDisabled": _FORBIDDEN,
    "AuthorizationHeaderMalformed": "give the region of the bucket: ?region=",
    "EntityTooLarge": "the records are too large for an object; log less at once",
    "ExpiredToken": "the credentials have expired; sign in again",
    "IllegalLocationConstraintException": "give the region of the bucket: ?region=",
    "InvalidAccessKeyId": _CREDENTIALS,
    "InvalidBucketName": "correct the name of the bucket",
    "InvalidToken": _CREDENTIALS,
    "NoSuchBucket": "create the bucket, or correct its name",
    "PermanentRedirect": "give the region of the bucket: ?region=",
    "RequestTimeTooSkewed": "set the clock of this machine",
    "SignatureDoesNotMatch": _CREDENTIALS,
}
_NO_ROOM = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"})
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_GONE = frozenset({"NoSuchKey", "NoSuchUpload", "404"})
_TIMEOUTS = (exceptions.ReadTimeoutError, exceptions.ConnectTimeoutError)

T = TypeVar("T")


class Bucket:
    """The objects below a prefix of a bucket, as `casket.stores.s3.log.Objects` describes them.

    Args:
        address: the place.
    """

    def __init__(self, address: S3Address) -> None:
        self._shown = address.shown
        self._bucket = address.bucket
        self._prefix = address.prefix
        self._endpoint = address.endpoint_url or "S3"
        self._client = _client(address)
        self._now = datetime.min.replace(tzinfo=UTC)

    @property
    def now(self) -> datetime:
        return self._now

    def key(self, first: int) -> str:
        return f"{self._prefix}log/{first:016d}"

    def listed(self, at_least: int) -> Iterator[Listed]:
        more: dict[str, str] = {"StartAfter": self.key(at_least - 1)} if at_least > 0 else {}
        while True:
            answer = self._ask(
                "list_objects_v2", Bucket=self._bucket, Prefix=f"{self._prefix}log/", **more
            )
            self._now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
            for one in answer.get("Contents", ()):
                name = one["Key"].rpartition("/")[2]
                if len(name) == 16 and name.isdecimal():
                    yield Listed(int(name), one["ETag"], one["LastModified"])
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def read(self, first: int) -> tuple[str, bytes] | None:
        return self._answered(lambda client: _content(client, self._bucket, self.key(first)))

    def read_all(self, firsts: Sequence[int]) -> list[tuple[str, bytes] | None]:
        if len(firsts) > 1:
            try:
                with ThreadPoolExecutor(min(TOGETHER, len(firsts))) as pool:
                    return list(pool.map(self.read, firsts))
            except RuntimeError:  # the interpreter exits: no thread can start
                pass
        return [self.read(first) for first in firsts]

    def create(self, first: int, content: bytes) -> str | None:
        return self._put(self.key(first), content, IfNoneMatch="*")

    def replace(self, first: int, content: bytes, etag: str) -> str | None:
        return self._put(self.key(first), content, IfMatch=etag)

    def delete(self, firsts: Sequence[int]) -> None:
        for begin in range(0, len(firsts), _DELETED_AT_ONCE):
            some = firsts[begin : begin + _DELETED_AT_ONCE]
            objects = [{"Key": self.key(first)} for first in some]
            self._ask(
                "delete_objects", Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True}
            )

    def probe(self, content: bytes) -> None:
        key = f"{self._prefix}casket.json"
        if self._put(key, content, IfNoneMatch="*") is None:
            return
        for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"00000000000000000000000000000000"'}):
            if self._put(key, content, **condition) is not None:
                [name] = condition
                raise self._careless({"IfNoneMatch": "If-None-Match", "IfMatch": "If-Match"}[name])

    def _put(self, key: str, content: bytes, **condition: str) -> str | None:
        def put(client: Any) -> tuple[str, bytes]:
            answer = client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=content,
                ContentType="application/x-ndjson",
                **condition,
            )
            return answer["ETag"], b""

        answer = self._answered(put, refused=_TAKEN | _GONE)
        return None if answer is None else answer[0]

    def _careless(self, header: str) -> StoreRefused:
        return StoreRefused(
            self._shown,
            f"the server {self._name()} ignores {header}, so that writers would overwrite each "
            "other's records; use a server that honors conditional writes, as AWS does",
            errno.ENOTSUP,
        )

    def _name(self) -> str:
        headers = self._ask("list_objects_v2", Bucket=self._bucket, MaxKeys=1)["ResponseMetadata"]
        server = headers["HTTPHeaders"].get("server")
        return f"{server} at {self._endpoint}" if server else self._endpoint

    def _ask(self, operation: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] | None
        answer = self._answered(
            lambda client: getattr(client, operation)(**arguments), refused=frozenset()
        )
        return answer or {}

    def file_key(self, name: str) -> str:
        """Return the name of the object of a file."""
        return f"{self._prefix}files/{name}"

    def ask_file(self, operation: str, name: str, **arguments: Any) -> dict[str, Any] | None:
        """Perform a request on the object of a file; return None if there is no such object."""
        return self._answered(
            lambda client: getattr(client, operation)(
                Bucket=self._bucket, Key=self.file_key(name), **arguments
            )
        )

    def stream_file(self, name: str, start: int) -> Iterator[bytes] | None:
        """Return the content of a file from a position on; None if it does not exist."""
        answer = self.ask_file("get_object", name, Range=f"bytes={start}-")
        return None if answer is None else self._chunks(answer["Body"])

    def _chunks(self, body: Any) -> Iterator[bytes]:
        with contextlib.closing(body):
            while chunk := self._answered(lambda _: body.read(CHUNK)):
                yield chunk

    def ask_files(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Perform a request on the objects of all files."""
        return self._ask(operation, Bucket=self._bucket, Prefix=self.file_key(""), **arguments)

    def copied(self, name: str) -> dict[str, str]:
        """Return the source of a copy of a file."""
        return {"Bucket": self._bucket, "Key": self.file_key(name)}

    def _answered(self, ask: Callable[[Any], T], refused: frozenset[str] = _GONE) -> T | None:
        """Return an answer; None for one of the errors in `refused`."""
        try:
            return ask(self._client)
        except exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") in refused:
                return None
            failure = _refusal(self._shown, error)
        except (exceptions.BotoCoreError, OSError) as error:
            failure = _failure(self._shown, error)
        raise failure  # here, where the driver's error is gone

    def close(self) -> None:
        self._client.close()


def _content(client: Any, bucket: str, key: str) -> tuple[str, bytes]:
    answer = client.get_object(Bucket=bucket, Key=key)
    return answer["ETag"], answer["Body"].read()


def _client(address: S3Address) -> Any:
    """Return a client, which connects when it is used.

    Raises:
        BadLocation: boto3 cannot use the address.
    """
    try:
        source = Session()
        source.register_component("data_loader", _loader())
        session = boto3.Session(
            botocore_session=source, profile_name=address.profile, region_name=address.region
        )
        is_anonymous = address.anonymous or session.get_credentials() is None
        client = session.client(
            "s3", endpoint_url=address.endpoint_url, config=_config(address, is_anonymous)
        )
        # Objects are small: waiting for the server's consent costs more than sending them.
        client.meta.events.unregister("before-call.s3", add_expect_header)
        return client
    except (exceptions.BotoCoreError, ValueError) as error:
        problem = " ".join(str(error).split())
    raise BadLocation(f"{address.shown}: boto3 says: {problem}")


@functools.cache
def _loader() -> Any:
    """Return the descriptions of the interface, which take 0.2 s to read for each client."""
    return create_loader()


def _config(address: S3Address, is_anonymous: bool) -> Config:
    style = address.addressing_style
    return Config(
        connect_timeout=PATIENCE / 2,
        read_timeout=PATIENCE / 2,
        retries={"total_max_attempts": 2, "mode": "standard"},
        max_pool_connections=TOGETHER,
        # Other servers may not know the checksums that boto3 adds by default.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="casket",
        **({"signature_version": UNSIGNED} if is_anonymous else {}),
        **({"s3": {"addressing_style": style}} if style else {}),
    )


def _refusal(shown: str, error: exceptions.ClientError) -> StoreUnavailable:
    """Return the error that names the place and how to continue."""
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = f"S3 says: {' '.join(str(error).split())}"
    if code in _NO_ROOM:
        return StoreFull(
            shown, f"no record was lost; make room and continue ({said})", errno.ENOSPC
        )
    if code in _REFUSALS or status in {401, 403}:
        return StoreRefused(shown, f"{_REFUSALS.get(code, _FORBIDDEN)}; {said}", errno.EACCES)
    if status == 501:
        return StoreRefused(
            shown, f"the server lacks a feature of S3 that casket needs; {said}", errno.ENOTSUP
        )
    return StoreUnavailable(shown, f"whether it was written is not known; {said}", errno.EIO)


def _failure(shown: str, error: Exception) -> StoreUnavailable:
    said = f"boto3 says: {' '.join(str(error).split())}"
    if isinstance(error, exceptions.NoCredentialsError):
        return StoreRefused(shown, f"{_CREDENTIALS}; {said}", errno.EACCES)
    if isinstance(error, _TIMEOUTS):
        return StoreUnavailable(
            shown, f"the server did not answer in time; {said}", errno.ETIMEDOUT
        )
    return StoreUnavailable(shown, f"the server cannot be reached; {said}", errno.ENOTCONN)
