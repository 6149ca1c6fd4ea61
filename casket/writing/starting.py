"""How a session begins: as the only one with its params, as a repetition, or continued."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import chain, count
from typing import TYPE_CHECKING, Any, Protocol

from casket.errors import CasketError
from casket.format.lifecycle import changes_of
from casket.format.records import Record, claim_key
from casket.format.values import restore
from casket.stores.base import Claimed
from casket.writing import claims
from casket.writing.arguments import checked_index, checked_tags, checked_text
from casket.writing.backend import Backend
from casket.writing.capture import captured_at_once
from casket.writing.capture.choices import Plan
from casket.writing.log import SessionLog
from casket.writing.parent import Parent
from casket.writing.refusal import ExistingParamsException

if TYPE_CHECKING:
    from casket.reading.nearest import Near
    from casket.reading.views import SessionView


class SessionsModel(Protocol):
    """The interface of a model that sessions use."""

    id: str
    backend: Backend
    parent: Parent | None
    copied_within: Parent | None

    @property
    def experiment_id(self) -> str:
        """The id of the experiment of the model."""

    def within(self, parent: str | Parent) -> SessionsModel:
        """Return the model with a session as the parent of the sessions that it starts."""

    def session(
        self,
        params: Mapping[str, Any] | None = None,
        ensure_unique: bool = True,
        *,
        repeat: bool = False,
        name: str | None = None,
    ) -> Any:
        """Start or continue a `Session`."""

    def children_of(self, session_id: str) -> list[SessionView]:
        """Return the children of a session."""

    def has_children(self, session_id: str) -> bool:
        """Return whether a session has children."""

    def plan(self) -> Plan:
        """Return what a session records besides what its script logs."""

    def read_head(self, session_id: str) -> SessionView | None:
        """Return a session without its metrics, or None if it does not exist."""

    def view_of(self, holder: claims.Holder) -> SessionView:
        """Return the session that holds a claim."""

    def nearest_but(
        self, session_id: str | None, params: Mapping[str, Any], n: int = 3
    ) -> list[Near]:
        """Return the sessions whose params are nearest to `params`, except for a given session."""


def start(
    model: SessionsModel,
    params: Mapping[str, Any] | None,
    ensure_unique: bool,
    repeat: bool = False,
    labels: Mapping[str, Any] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> SessionLog:
    """Start or continue a session.

    Args:
        model: the model of the session.
        params: as for `Model.session`.
        ensure_unique: as for `Model.session`.
        repeat: as for `Model.session`.
        labels: further members of the start, such as `name`.
        meta: values to add to the meta of the start.
    """
    log = _log_of(model, params)
    log.labels, log.meta = dict(labels or {}), dict(meta or {})
    if repeat:
        _repeat(log, log.start())
    elif ensure_unique:
        _begin_unique(log, log.start(), model)
    else:
        _begin_or_continue(log)
    return log


def add_params(log: SessionLog, params: Mapping[str, Any], model: SessionsModel) -> bool:
    """Add params to a session without children, to which no epoch, batch or result was logged.

    A single append releases the claim on the earlier params and claims the new ones.

    Returns:
        Whether they were added; False if the session has logged something or has children, or if
        another process has it open, too, which could change the params at the same time.

    Raises:
        ExistingParamsException: a running or completed session has the new params.
    """
    logged = log.backend.store.records(session=log.id, kinds={"epoch", "batch", "result"})
    # The params of children contain those of their parent.
    if next(iter(logged), None) is not None or model.has_children(log.id):
        return False
    holder = claims.look_at(log.backend, log.id)
    identity = holder.life.identity
    if identity is None or not {*holder.life.open_writers} <= {log.writer.id, *holder.gone}:
        return False
    start = log.changed_start(params, changes_of(identity) + 1)
    if start["claim"] != log.claim:
        _append_changed(log, start, model)
        log.adopt(start)
    return True


def _append_changed(log: SessionLog, start: Record, model: SessionsModel) -> None:
    if not log.repeats:
        # Refused before the start is numbered, so that no number of the session is missing.
        for holder in claims.holders(log.backend, start["claim"]):
            if holder.may_run or holder.is_completed:
                raise _existing(holder, model, start)
    start["n"] = next(log.writer.numbers)
    if log.repeats:
        _repeat(log, start)
    else:
        _begin_unique(log, start, model)


def labels(name: str | None, tags: Iterable[str], group: str | None) -> dict[str, Any]:
    """Return the labels that were given as members of a start.

    Raises:
        UnstorableValue: a label is not text.
    """
    given: dict[str, Any] = {}
    if name is not None:
        given["name"] = checked_text(name, "name")
    if checked := checked_tags(tags):
        given["tags"] = checked
    if group is not None:
        given["group"] = checked_text(group, "group")
    return given


def resume(model: SessionsModel, start: Record) -> SessionLog:
    """Continue a session, regardless of its status.

    Args:
        model: the model of the session.
        start: the start of the session that has its current params.
    """
    params, extended = start["body"]["params"], "extended" in start
    owner = (model.backend, model.experiment_id, model.id)
    log = SessionLog(*owner, params, extended, start["body"].get("parent"))
    _continue(log, claims.look_at(model.backend, start["session"]))
    return log


def resume_last(model: SessionsModel, params: Mapping[str, Any] | None) -> SessionLog:
    """Continue the last session with these params that is not running, or start a session."""
    log = _log_of(model, params)
    for holder in claims.holders(model.backend, log.claim):
        if not holder.may_run and _continues_alone(log, holder):
            return log
    _repeat(log, log.start())
    return log


def write_one_result(
    model: SessionsModel, params: Mapping[str, Any] | None, result: Any, index_by: Any, plan: Plan
) -> None:
    """Write a complete session that contains a single result."""
    log = _log_of(model, params)
    encoded, extended = log.backend.encode(result, "result")
    body = {"index": checked_index(index_by), "result": encoded}
    end = {"status": "completed", "of": log.writer.id}
    records = [log.start(), log.record("result", body, extended)]
    log.append([*records, *captured_at_once(log, plan), log.record("end", end)])


def claim_of(model: SessionsModel, params: Mapping[str, Any] | None) -> str:
    """Return the claim of a session with these params, within the parent of the model if any."""
    encoded, _, parent = _identity(model, params)
    return claim_key(model.experiment_id, model.id, encoded, parent)


def _log_of(model: SessionsModel, params: Mapping[str, Any] | None) -> SessionLog:
    return SessionLog(model.backend, model.experiment_id, model.id, *_identity(model, params))


def _identity(
    model: SessionsModel, params: Mapping[str, Any] | None
) -> tuple[dict[str, Any], bool, str | None]:
    """Return the encoded params, whether they are extended, and the id of the parent, if any."""
    encoded, extended = model.backend.encode_config(params, "params")
    parent = model.parent
    if parent is None:
        return encoded, extended, None
    return {**parent.params, **encoded}, parent.extended or extended, parent.id


def _begin_unique(log: SessionLog, start: Record, model: SessionsModel) -> None:
    """Append a start, unless a running or completed session has its params.

    Raises:
        ExistingParamsException: a running or completed session has these params.
    """
    claim = start["claim"]
    ends: dict[str, list[Record]] = {}
    refused: list[tuple[str, int]] = []
    while True:
        try:
            log.append([*chain(*ends.values()), start], claim=claim)
            return
        except Claimed as claimed:
            holder = _holder(log, claimed, refused)
        if holder.life.holds(claim) and (holder.may_run or holder.is_completed):
            raise _existing(holder, model, start)
        # Accumulated, because repetitions allow several sessions to hold the claim.
        ends[holder.session] = holder.ends()


def _holder(log: SessionLog, claimed: Claimed, refused: list[tuple[str, int]]) -> claims.Holder:
    """Return the state of the session that holds the claim.

    Args:
        log: the log of the refused session.
        claimed: the refusal of the store.
        refused: the sessions returned before, with the number of their records.

    Raises:
        CasketError: the store keeps refusing although its records do not show a reason.
    """
    holder = claims.look_at(log.backend, claimed.session or "")
    # Either another process has written since, or the missing ends are written next.
    state = (holder.session, len(holder.life))
    if refused.count(state) > 1:
        raise CasketError(
            f"{log.backend.location}: session {claimed.session} holds these params, but its "
            "records do not show why; `casket doctor` examines the file"
        )
    refused.append(state)
    return holder


def _existing(
    holder: claims.Holder, model: SessionsModel, start: Record
) -> ExistingParamsException:
    """Return the exception, which reads its details on access."""
    params = start["body"]["params"]
    if "extended" in start:
        params = restore(params, model.backend.files.load_array)
    return ExistingParamsException(
        lambda: model.view_of(holder),
        lambda: model.nearest_but(holder.session, params),
        is_open_here=holder.is_open_here,
    )


def _begin_or_continue(log: SessionLog) -> None:
    refused: list[tuple[str, int]] = []
    while True:
        for holder in claims.holders(log.backend, log.claim):
            _continue(log, holder)
            return
        try:
            log.append([log.start()], claim=log.claim)
            return
        except Claimed as claimed:
            log.renew()
            _holder(log, claimed, refused)  # another process has just started a session


def _continue(log: SessionLog, holder: claims.Holder) -> None:
    """Continue a session, also beside the writers that continue it at the same time."""
    refused: list[tuple[str, int]] = []
    while True:
        try:
            _append_next(log, holder)
            return
        except Claimed:
            # Another process has continued it since it was read.
            log.renew()
            holder = _holder(log, Claimed(holder.session), refused)


def _continues_alone(log: SessionLog, holder: claims.Holder) -> bool:
    """Continue a session that was not running, unless another process is doing so.

    Returns:
        Whether this process continues the session.
    """
    try:
        _append_next(log, holder)
    except Claimed:
        log.renew()
        return False
    return True


def _append_next(log: SessionLog, holder: claims.Holder) -> None:
    """Append a start as the next writer of a session.

    The position in the order of the writers is claimed, so that no writer is unaware of those
    before it.

    Raises:
        Claimed: another process has continued the session since it was read.
    """
    log.id = holder.session
    log.follows = len(holder.life.starts)
    start, position = log.start(), log.record("meta", {})
    position["claim"] = log.claim_on(["follows", log.id, log.follows])
    log.append([*holder.ends(), start, position], claim=position["claim"])


def _repeat(log: SessionLog, start: Record) -> None:
    """Append a start even if other sessions have its params, and number the repetition.

    The number is claimed in addition to the params, so that repetitions have distinct numbers.
    """
    log.repeats = True
    was_repetition = start["body"].pop("repeat", 0)
    earlier = claims.starts_with(log.backend, start["claim"])
    numbered = log.record("meta", {"repeat": 0}) if was_repetition else None
    if next(claims.holders(log.backend, start["claim"]), None) is None:
        # If another process is starting the first session, this session is a repetition.
        with suppress(Claimed):
            log.append([start, numbered] if numbered else [start], claim=start["claim"])
            return
    numbered = numbered or log.record("meta", {})
    numbers = [known["body"].get("repeat", 0) for known in earlier.values()]
    for number in count(max(numbers, default=0) + 1):
        numbered["claim"] = log.claim_on([start["body"]["params"], "repeat", number])
        start["body"]["repeat"] = numbered["body"]["repeat"] = number
        with suppress(Claimed):
            log.append([start, numbered], claim=numbered["claim"])
            return
