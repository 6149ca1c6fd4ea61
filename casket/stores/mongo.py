"""MongoDB: a document per append, through pymongo.

MongoDB writes a document atomically, with and without a replica set. Therefore all records of an
append form a single document, which is only changed by pruning. Its `_id` is the number of its
first record. Two concurrent writers insert the same `_id`; the second is refused, reads the store
again and tries the next number. Hence a writer that obtains a number has seen all smaller numbers,
and with them every claim and every duplicate. For the same reason a document whose records have
all been pruned stays for a while, empty: a writer that has not seen it might take its number.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import random
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import timedelta
from functools import partial
from threading import RLock
from typing import Any, NamedTuple, TypeVar, Unpack

import orjson

from casket.errors import BadLocation, NotFound, StoreRefused, StoreUnavailable, missing
from casket.format.records import Record, covering, encoded, names_nothing
from casket.stores import base, replaced, urls
from casket.stores.remote import repeats as databases
from casket.system import forks

try:
    import pymongo
    from pymongo import errors
    from pymongo.collection import Collection as MongoCollection
    from pymongo.database import Database
    from pymongo.read_concern import ReadConcern
    from pymongo.read_preferences import ReadPreference
    from pymongo.write_concern import WriteConcern

    from casket.stores.mongo_files import MongoFiles
except ModuleNotFoundError as error:
    raise missing(error, "pymongo", "mongo") from error

SCHEMA_VERSION = 1

PATIENCE = 10.0
"""Seconds after which an append or a read is given up, connecting included."""

FILE_PATIENCE = 20.0
"""Seconds after which sending or fetching a part of a file is given up."""

LEAVING = 1.0
"""Seconds for ending the sessions at the server, which may be gone."""

NUMBER_KNOWN = 60.0
"""Seconds for which a handle assumes that the last number it saw is still stored."""

CONTESTED = 1.0
"""Seconds for which a handle that met another writer reads before it appends: otherwise the last
writer, which need not read, would always win."""

LOOK_INTERVAL = 1.0
"""Seconds between two checks that appended records still exist; a check is a round trip."""

PAUSE = 0.002
"""The longest pause in seconds before a retry after a conflict; doubled a few times."""

EMPTY_KEPT = 3600.0
"""Seconds for which an empty document is kept: much longer than any append takes."""

DOCUMENTS = 2000
"""The largest number of documents read at a time."""

_Document = dict[str, Any]
_STORE, _RECORDS = "casket_store", "casket_records"
_SCHEMA = {"_id": "schema"}
_INDEXES = [
    # No record is stored twice if an append is repeated.
    pymongo.IndexModel([("records.identity", 1)], name="identities", unique=True, sparse=True),
    pymongo.IndexModel([("last", 1)], name="last"),
    pymongo.IndexModel([("records.session", 1), ("last", 1)], name="sessions"),
    pymongo.IndexModel([("records.experiment", 1), ("last", 1)], name="experiments"),
    pymongo.IndexModel([("records.kind", 1), ("last", 1)], name="kinds"),
    pymongo.IndexModel([("records.claim", 1)], name="claims", sparse=True),
    pymongo.IndexModel([("emptied", 1)], name="emptied", sparse=True),
]
_COLUMNS = ("kind", "experiment", "model", "session", "claim")
_TEXTS = "records.text"

# On disk at a majority of a replica set: an acknowledged append is never rolled back.
_WRITTEN = WriteConcern("majority", j=True)

# Records that could still be rolled back are not read.
_SETTLED = ReadConcern("majority")
_NEWEST = ReadConcern("local")

# Error codes for which a retry does not help.
_REFUSALS = {
    13: "ask the administrator of the server for permission to read and write this database",
    18: "correct the user or the password, or name the database of its users: ?authSource=admin",
    8000: "correct the user or the password",
}
_PERMANENT = frozenset({2, 9, 14, 20, 26, 59, 72, 73, 115, 10334, *_REFUSALS})

T = TypeVar("T")


class MongoStore:
    """Collections `casket_store` and `casket_records` in a MongoDB database.

    The records of an append must fit into 16 MB.

    Args:
        url: such as `mongodb://user@host/database`. Without a password, it is taken from
            `$CASKET_PASSWORD`.
        options: how to open it; the servers sync every append before it returns.
    """

    drops_copies = True

    def __init__(self, url: str, options: base.StoreOptions = base.DEFAULTS) -> None:
        self._url = urls.checked(url)
        self._shown = urls.shown(url)
        self._name = _database_name(url, self._shown)
        self._writing = options.writing
        self._client: pymongo.MongoClient[_Document] | None = None
        self._is_ready = False
        self._heads = options.heads
        # Records appended since the last check that they still exist, and the last of them.
        self._doubtful: list[Record] = []
        self._appended: Record | None = None
        self._inserted = 0  # the document it is in
        self._looked = -math.inf
        self._last = 0
        self._last_seen = self._contested_until = -math.inf
        self._lock = RLock()
        forks.renew_in_children(self)

    def after_fork(self) -> None:
        """Leave the parent's connections to the parent, in the child."""
        self._lock = RLock()
        if self._client is not None:
            _inherited.append(self._client)
            self._doubtful = []
            self._client, self._is_ready = None, False

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        def work(database: Database[_Document]) -> int:
            self._prepare(database)
            whole = self._completed(database, records)
            number = self._append(database, whole, claim)
            if whole is not records:
                self._doubtful = []
            self._appended = records[-1]
            self._doubtful += whole
            return number

        with self._lock:
            return self._guarded(work)

    def _completed(
        self, database: Database[_Document], records: Sequence[Record]
    ) -> Sequence[Record]:
        """Check at intervals that the collections exist; if not, repeat the missing records."""
        last, now = self._appended, time.monotonic()
        if last is None:
            self._looked = now
        if last is None or now - self._looked < LOOK_INTERVAL:
            return records
        if _collection(database).find_one({"_id": self._inserted}, {"_id": 1}) is not None:
            self._looked, self._doubtful = now, []
            return records
        self._is_ready = False
        self._prepare(database)
        return replaced.completed(
            records,
            doubtful=self._doubtful,
            last=last,
            heads=self._heads,
            read=self.records,
            location=self._shown,
        )

    def records(self, **chosen: Unpack[base.Chosen]) -> Iterator[base.Numbered]:
        filters = base.Filters(**chosen)
        pace = databases.Pace(DOCUMENTS)

        def work(database: Database[_Document]) -> list[_Document]:
            if not self._exists(database):
                return []
            return _documents(_collection(database, _SETTLED), filters, pace.rows)

        is_more = True
        while is_more and (documents := self._guarded(work)):
            is_more = len(documents) == pace.rows
            base.check_order([d["last"] for d in documents], filters.after, self._shown)
            yield from _fitting(filters, documents)
            filters = filters._replace(after=documents[-1]["last"])
            pace.came([sum(len(one["text"]) for one in d["records"]) for d in documents])

    def prune(self, tombstone: Record, /) -> None:
        if not names_nothing(tombstone):
            covered = _Covered.by(tombstone, self.append([tombstone]))
            seen: int | None = 0
            while seen is not None:
                seen = self._guarded(partial(covered.drop, after=seen))
        self._guarded(_remove_empty)

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
            self._is_ready = False
            if client is not None:
                with pymongo.timeout(LEAVING):
                    client.close()

    def __del__(self) -> None:
        # No lock: the URL was refused. At the exit of the interpreter, `close` would wait for
        # pymongo's threads, which are gone; the server discards the session by itself.
        if hasattr(self, "_lock") and not sys.is_finalizing():
            self.close()

    @property
    def files(self) -> MongoFiles:
        """The artifacts, in collections of GridFS."""
        return MongoFiles(partial(self._guarded, patience=FILE_PATIENCE), self._shown)

    def _guarded(
        self, work: Callable[[Database[_Document]], T], patience: float | None = None
    ) -> T:
        try:
            with pymongo.timeout(patience or PATIENCE):
                return work(self._connected()[self._name])
        except errors.PyMongoError as error:
            failure = _failure(self._shown, error)
            # Another server may have taken over, without records that a majority did not have.
            self._last, self._last_seen = 0, -math.inf
        raise failure  # here, where the driver's error, which might quote the URL, is gone

    def _connected(self) -> pymongo.MongoClient[_Document]:
        with self._lock:
            if self._client is None:
                self._client = _client(self._url, self._shown)
            return self._client

    def _exists(self, database: Database[_Document]) -> bool:
        """Return whether the collections exist.

        Raises:
            NotFound: they do not, and the store is open for reading.
        """
        if not self._is_ready:
            self._is_ready = self._look(database)
        if not (self._is_ready or self._writing):
            raise NotFound(self._shown)
        return self._is_ready

    def _look(self, database: Database[_Document]) -> bool:
        schema = database[_STORE].find_one(_SCHEMA)
        version = SCHEMA_VERSION if schema is None else schema["version"]
        if version > SCHEMA_VERSION:
            raise StoreRefused(
                self._shown,
                f"its collections are of version {version}, made by a newer casket: upgrade casket",
                errno.EPROTO,
            )
        return schema is not None

    def _prepare(self, database: Database[_Document]) -> None:
        if not self._is_ready and not self._look(database):
            _collection(database).create_indexes(_INDEXES)
            store = database.get_collection(_STORE, write_concern=_WRITTEN)
            with contextlib.suppress(errors.DuplicateKeyError):  # others made them just now
                store.insert_one({**_SCHEMA, "version": SCHEMA_VERSION})
        self._is_ready = True

    def _append(
        self, database: Database[_Document], records: Sequence[Record], claim: str | None
    ) -> int:
        """Append the records that are not stored, provided that no other writer has appended."""
        batch, collection = _Batch(records), _collection(database)
        stored: dict[databases.Identity, int] = {}
        # Conflicts and repetitions are rare; the indexes refuse both.
        must_look = claim is not None or abs(time.time() - self._last_seen) > NUMBER_KNOWN
        for tries in itertools.count():
            if must_look or time.monotonic() < self._contested_until:
                self._last = _last_number(collection, self._last)
            if must_look:
                stored = batch.stored(_collection(database, _SETTLED))
                if claim is not None and databases.must_ask(claim, records, stored):
                    base.refuse_held(claim, partial(_read_all, collection), records)
            try:
                number = batch.insert(collection, self._last, stored)
            except errors.DuplicateKeyError as refused:
                self._contested_until = time.monotonic() + CONTESTED
                must_look = must_look or "_id" not in (refused.details or {}).get("keyPattern", {})
                time.sleep(random.uniform(0.0, PAUSE * 2 ** min(tries, 4)))  # noqa: S311 - no secret
            except errors.DocumentTooLarge:
                break
            else:
                self._inserted = self._last + 1 if number > self._last else self._inserted
                self._last, self._last_seen = batch.end(self._last, stored), time.time()
                return number
        raise self._too_large(records)

    def _too_large(self, records: Sequence[Record]) -> StoreRefused:
        size = sum(len(orjson.dumps(record)) for record in records)
        what = "a record" if len(records) == 1 else f"{len(records)} records at once"
        return StoreRefused(
            self._shown,
            f"{what} of {size:,} bytes: a MongoDB document holds 16 MB; log less at once, or "
            "store an artifact",
            errno.EFBIG,
        )


# Clients that a forked child inherited: closing them would end the parent's sessions, and deleting
# them without closing makes pymongo warn.
_inherited: list[pymongo.MongoClient[_Document]] = []


class _Batch:
    """The records of an append, without duplicates."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._last = databases.identity(records[-1])
        self._texts = {
            databases.identity(record): {
                **{name: databases.column_of(record, name) for name in _COLUMNS},
                "identity": _identity_text(databases.identity(record)),
                "text": encoded(record).decode(),
            }
            for record in databases.once_each(records)
        }

    def stored(self, collection: MongoCollection[_Document]) -> dict[databases.Identity, int]:
        """Return the numbers of the records that are already stored."""
        asked = {_identity_text(identity): identity for identity in self._texts}
        documents = collection.find(
            {"records.identity": {"$in": list(asked)}}, {"records.identity": 1, "records.place": 1}
        )
        return {
            asked[record["identity"]]: document["_id"] + record["place"]
            for document in documents
            for record in document["records"]
            if record["identity"] in asked
        }

    def end(self, last: int, stored: Collection[databases.Identity]) -> int:
        """Return the last number after the insertion of the records that are not stored."""
        return last + sum(one not in stored for one in self._texts)

    def insert(
        self,
        collection: MongoCollection[_Document],
        last: int,
        stored: dict[databases.Identity, int],
    ) -> int:
        """Insert the records that are not stored; return the number of the last record.

        Raises:
            DuplicateKeyError: another writer has appended, or some records are stored.
        """
        fresh = [one for one in self._texts if one not in stored]
        if fresh:
            texts = [{"place": place, **self._texts[one]} for place, one in enumerate(fresh)]
            collection.insert_one({"_id": last + 1, "last": last + len(fresh), "records": texts})
        numbers = {**stored, **{one: number for number, one in enumerate(fresh, last + 1)}}
        return numbers[self._last]


def _documents(
    collection: MongoCollection[_Document], filters: base.Filters, limit: int
) -> list[_Document]:
    """Return the first documents with records that may fit, without their other records."""
    conditions = _conditions(filters)
    # Not $elemMatch, for which SecantusDB uses no index.
    match = {f"records.{name}": value for name, value in conditions.items()}
    match |= {"last": {"$gt": filters.after}, "records": {"$exists": True}}
    stages: list[_Document] = [{"$match": match}, {"$sort": {"last": 1}}, {"$limit": limit}]
    if conditions:
        comparisons = [_comparison(name, value) for name, value in conditions.items()]
        fitting = {"input": "$records", "as": "one", "cond": {"$and": comparisons}}
        stages.append({"$project": {"last": 1, "records": {"$filter": fitting}}})
    return list(collection.aggregate(stages))


def _conditions(filters: base.Filters) -> _Document:
    conditions: _Document = {
        name: databases.column(value)
        for name in ("experiment", "session", "claim")
        if (value := getattr(filters, name)) is not None
    }
    if filters.kinds is not None:
        conditions["kind"] = {"$in": [databases.column(kind) for kind in filters.kinds]}
    return conditions


def _fitting(filters: base.Filters, documents: Sequence[_Document]) -> Iterator[base.Numbered]:
    for document in documents:
        for one in document["records"]:
            number = document["_id"] + one["place"]
            record: Record = orjson.loads(one["text"])
            if number > filters.after and filters.fits(record):
                yield number, record


class _Covered(NamedTuple):
    """The records covered by a tombstone, decided by their columns."""

    tombstone: Record
    number: int

    @classmethod
    def by(cls, tombstone: Record, number: int) -> _Covered:
        body = tombstone["body"]
        columns = {
            **body,
            "sessions": [databases.column(session) for session in body["sessions"]],
            "experiments": [databases.column(experiment) for experiment in body["experiments"]],
            "models": [list(map(databases.column, model)) for model in body["models"]],
        }
        return cls({**tombstone, "body": columns}, number)

    def drop(self, database: Database[_Document], *, after: int) -> int | None:
        """Drop covered records of some documents; return the last `_id`, None at the end."""
        collection = _collection(database)
        candidates = {"_id": {"$gt": after, "$lt": self.number}, "$or": self._conditions()}
        options: dict[str, Any] = {"sort": [("_id", 1)], "limit": DOCUMENTS}
        documents = list(collection.find(candidates, {_TEXTS: 0}, **options))
        changes = self._changes(documents)
        if changes:
            collection.bulk_write(changes, ordered=False)
            return after  # read again: another process may have pruned some of them concurrently
        return documents[-1]["_id"] if documents else None

    def _conditions(self) -> list[_Document]:
        body = self.tombstone["body"]
        experiments = [*body["experiments"], *(experiment for experiment, _ in body["models"])]
        return [
            {"records.session": {"$in": body["sessions"]}},
            {"records.experiment": {"$in": experiments}},
        ]

    def _changes(self, documents: Sequence[_Document]) -> list[pymongo.UpdateOne]:
        is_covered = covering(self.tombstone)
        changes = []
        for document in documents:
            known = document["records"]
            places = [one["place"] for one in known if is_covered(_known(one))]
            if places:
                as_seen = {"_id": document["_id"], "records": {"$size": len(known)}}
                changes.append(pymongo.UpdateOne(as_seen, _drop(places, of=len(known))))
        return changes


def _drop(places: list[int], *, of: int) -> _Document:
    """Return the change that drops some of a document's records."""
    if len(places) < of:
        return {"$pull": {"records": {"place": {"$in": places}}}}
    # Not an empty list: two of those would be equal in the index of identities.
    return {"$unset": {"records": ""}, "$currentDate": {"emptied": True}}


def _remove_empty(database: Database[_Document]) -> None:
    now = database.client.admin.command("hello")["localTime"]
    long_ago = now - timedelta(seconds=EMPTY_KEPT)
    _collection(database).delete_many({"emptied": {"$lt": long_ago}})


def _known(columns: _Document) -> Record:
    """Return a partial record, made from its columns."""
    known: Any = {name: value for name, value in columns.items() if value is not None}
    record: Record = known
    return record


def _comparison(name: str, wanted: Any) -> _Document:
    if isinstance(wanted, dict):
        return {"$in": [f"$$one.{name}", wanted["$in"]]}
    return {"$eq": [f"$$one.{name}", {"$literal": wanted}]}


def _collection(
    database: Database[_Document], concern: ReadConcern = _NEWEST
) -> MongoCollection[_Document]:
    return database.get_collection(
        _RECORDS,
        write_concern=_WRITTEN,
        read_concern=concern,
        read_preference=ReadPreference.PRIMARY,
    )


def _last_number(collection: MongoCollection[_Document], known: int) -> int:
    """Return the last number, which is at least `known`."""
    if known:
        # Not sorted: SecantusDB would scan every document.
        newer = collection.find({"last": {"$gt": known}}, {"_id": 0, "last": 1})
        return max((document["last"] for document in newer), default=known)
    newest = collection.find_one({}, {"last": 1}, sort=[("last", -1)])
    return 0 if newest is None else int(newest["last"])


def _read_all(
    collection: MongoCollection[_Document], **chosen: Unpack[base.Chosen]
) -> Iterator[base.Numbered]:
    """Yield all stored records, including the newest; loads them at once."""
    filters = base.Filters(**chosen)
    return _fitting(filters, _documents(collection, filters, 2**31 - 1))


def _identity_text(identity: databases.Identity) -> str:
    writer, n = identity
    return f"{n}@{writer}"


def _database_name(url: str, shown: str) -> str:
    """Return the name of the database in a URL.

    Raises:
        BadLocation: there is none.
    """
    from urllib.parse import unquote

    path = url.partition("://")[2].partition("?")[0].partition("/")[2]
    if not path:
        raise BadLocation(
            f"{shown} names no database; give one: mongodb://user@host:27017/database"
        )
    return unquote(path)


def _client(url: str, shown: str) -> pymongo.MongoClient[_Document]:
    """Return a client, which connects when it is used.

    Raises:
        BadLocation: pymongo cannot read the URL.
    """
    password = None if urls.has_password(url) else databases.environment_password()
    login: dict[str, Any] = {} if password is None else {"password": password}
    try:
        return pymongo.MongoClient(
            url,
            **login,
            appname="casket",
            timeoutMS=int(PATIENCE * 1000),
            retryWrites=False,  # the retry might reach another server
        )
    except (errors.ConfigurationError, ValueError) as error:
        is_looked_up = url.startswith("mongodb+srv:") and not isinstance(error, errors.InvalidURI)
        lookup = f"its name cannot be looked up: {error}" if is_looked_up else ""
    # Outside of the handler: the driver's error may quote the password.
    if lookup:
        raise StoreUnavailable(shown, lookup, errno.EHOSTUNREACH)
    if "@" in url and password is None and not urls.has_password(url):
        raise StoreRefused(
            shown,
            f"give the password in the URL or in ${databases.PASSWORD_VARIABLE}",
            errno.EACCES,
        )
    raise BadLocation(
        f"{shown}: MongoDB cannot read this URL; it has the form "
        "mongodb://user:password@host:27017/database?option=value, with @ : / ? # % in user and "
        "password written as %40 %3A %2F %3F %23 %25"
    )


def _failure(shown: str, error: errors.PyMongoError) -> StoreUnavailable:
    """Return the error that names the location and how to continue."""
    said = f"MongoDB says: {str(error).partition(', full error')[0].partition(', Timeout:')[0]}"
    code = error.code if isinstance(error, errors.OperationFailure) else None
    if code in _PERMANENT:
        return StoreRefused(
            shown, f"{_REFUSALS.get(code or 0, 'it refused')}; {said}", errno.EACCES
        )
    if error.timeout and not isinstance(error, errors.ServerSelectionTimeoutError):
        return StoreUnavailable(
            shown, f"the server did not answer in time; {said}", errno.ETIMEDOUT
        )
    if isinstance(error, errors.ConnectionFailure):
        return StoreUnavailable(shown, f"the server cannot be reached; {said}", errno.ENOTCONN)
    return StoreUnavailable(shown, f"whether it was written is not known; {said}", errno.EIO)
