"""Resolution of names such as `params.lr` and `val_loss`, with suggestions for unknown names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from casket.errors import BadExpression
from casket.reading.rows import Kind
from casket.reading.summary import best_value, best_values, epoch_count, numeric_metrics
from casket.reading.views import SessionView
from casket.reading.where import KEYWORDS, MISSING, Name, compile_where

Parts = tuple[str, ...]
Meaning = Callable[[SessionView], Any]

KINDS: tuple[Kind, ...] = get_args(Kind)
MOST_NAMED = 8
"""The number of names listed by a message if no known name is similar."""

OCCASIONAL_META = frozenset(
    {
        "capture",
        "clash",
        "data",
        "exit_code",
        "job",
        "optuna",
        "pruned",
        "repeat",
        "rerun_of",
        "starts",
        "sweep",
    }
)
"""Names that casket writes to the meta of some sessions; they are always known."""

_GROUPS = frozenset({"params", "config", "meta", "last", "best"})
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_OWN: dict[str, Meaning] = {
    "id": lambda session: session.id,
    "parent": lambda session: session.parent_id,
    "name": lambda session: session.name,
    "group": lambda session: session.group,
    "experiment": lambda session: session.experiment,
    "model": lambda session: session.model,
    "status": lambda session: session.status,
    "tags": lambda session: session.tags,
    "started": lambda session: session.started,
    "ended": lambda session: session.ended,
    "duration": lambda session: session.duration.total_seconds(),
    "age": lambda session: session.age.total_seconds(),
    "error": lambda session: session.error,
    "note": lambda session: session.note,
    "epochs": epoch_count,
    "params": lambda session: session.params,
    "config": lambda session: session.config,
    "meta": lambda session: session.meta,
}


def _tail(name: str) -> str:
    return name.partition(".")[2] if _group(name) else name.removeprefix("last.")


def _group(name: str) -> str:
    group, dot, _ = name.partition(".")
    return group if dot and group in _GROUPS - {"last"} else ""


class Names:
    """Resolves the names of `where` expressions for the sessions of a store.

    A bare name is a metric if any session has a metric of that name, otherwise a param.

    Args:
        sessions: all sessions, including those excluded by a filter.
    """

    def __init__(self, sessions: Iterable[SessionView]) -> None:
        self._sessions = list(sessions)
        self._meanings: dict[Parts, Meaning] = {}

    def value(self, session: SessionView, name: Parts) -> Any:
        """Return the value of a name for a session, or `MISSING` if it has no value."""
        if name not in self._meanings:
            self._meanings[name] = self._meaning(name)
        return self._meanings[name](session)

    def given(self, session: SessionView, name: Parts) -> Any:
        """Return the value of a name for a session, or None if it has no value."""
        value = self.value(session, name)
        return None if value is MISSING else value

    def parts(self, text: str) -> Parts:
        """Return the parts of a single name, such as the value of an option.

        Backquotes are optional: `val/acc` is parsed as a name, not as a division.

        Raises:
            BadExpression: no session has the name.
        """
        plain = tuple(text.split("."))
        if self._is_known(plain) or not ("`" in text or "[" in text):
            self.check([Name(plain, 0, len(text))], text)
            return plain
        [name, *others] = compile_where(text).names or [Name(plain, 0, len(text))]
        self.check([name], text)
        if others or name.stop < len(text.rstrip()):
            raise BadExpression(text, name.stop, "write one name here")
        return name.parts

    def check(self, names: Iterable[Name], expression: str) -> None:
        """Check that each name of an expression exists in some session.

        In a store without sessions every name is valid; before anything is logged, every metric
        is valid.

        Raises:
            BadExpression: no session has a name; the message suggests similar names.
        """
        for name in names:
            if not self._is_known(name.parts):
                raise BadExpression(expression, name.start, self._problem(name, expression))

    def check_metric(self, metric: str) -> None:
        """Check that a session logged numbers under a flat name.

        Raises:
            BadExpression: no session did; the message suggests similar metrics.
        """
        known = dict.fromkeys(
            name
            for session in self._sessions
            for names in (
                *(session.logged(kind).metrics() for kind in KINDS),
                numeric_metrics(session),
            )
            for name in names
        )
        if known and metric not in known:
            near = nearest_names(metric, known)
            raise BadExpression(metric, 0, unknown_name(metric, near, list(known)))

    def _is_known(self, name: Parts) -> bool:
        if not self._sessions or (len(name) == 1 and name[0] in _OWN):
            return True
        if len(name) > 1 and name[0] == "meta" and name[1] in OCCASIONAL_META:
            return True
        if any(self.value(session, name) is not MISSING for session in self._sessions):
            return True
        is_no_metric = len(name) > 1 and name[0] in {"params", "config", "meta"}
        return not is_no_metric and not any(session.last for session in self._sessions)

    def _meaning(self, name: Parts) -> Meaning:
        first, rest, flat = name[0], name[1:], ".".join(name)
        if not rest and first in _OWN:
            return _OWN[first]
        if rest and first in _GROUPS and first != "best":
            return lambda session: inside(getattr(session, first), rest)
        is_metric = any(flat in session.last for session in self._sessions)
        if rest and first == "best" and not is_metric:
            metric = ".".join(rest)
            return lambda session: best_value(session, metric, MISSING)
        if is_metric:
            return lambda session: session.last.get(flat, MISSING)
        return lambda session: inside(session.params, name)

    def _problem(self, name: Name, expression: str) -> str:
        known = list(dict.fromkeys(self._written()))
        text = expression[name.start : name.stop]
        quoted = _misread(known, expression[name.start :])
        return unknown_name(text, [quoted] if quoted else nearest_names(text, known), known)

    def _written(self) -> Iterator[str]:
        """Yield the names that sessions have, in the syntax of `where` expressions."""
        for session in self._sessions:
            yield from map(_written_metric, session.last)
        yield from (name for name in _OWN if name not in _GROUPS)
        for session in self._sessions:
            for group in ("params", "config", "meta"):
                yield from (written((group, *path)) for path in _paths(getattr(session, group)))
            yield from (written(("best", name)) for name in best_values(session))


def unknown_name(text: str, near: Sequence[str], known: Sequence[str]) -> str:
    """Return the error message for a name that no session has."""
    if near:
        *others, last = map(_one_line, near)
        meant = f"{', '.join(others)} or {last}" if others else last
        return f"no session has {text}; did you mean {meant}?"
    more = f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else ""
    return f"no session has {text}; there are {', '.join(map(_one_line, known[:MOST_NAMED]))}{more}"


def _one_line(name: str) -> str:
    return " ".join(name.split())


def nearest_names(text: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Return the names most similar to an unknown name, preferring names of the same group."""
    names = list(known)
    group, wanted = _group(text), _tail(text).lower()
    own = [name for name in names if _group(name) == group]
    near = _near(wanted, own, n) or _near(wanted, names, n)
    return near or _near(text.lower(), names, n, form_of=str)


def _near(
    wanted: str, names: Iterable[str], n: int, form_of: Callable[[str], str] = _tail
) -> list[str]:
    forms: dict[str, str] = {}
    for name in names:
        forms.setdefault(form_of(name).lower(), name)
    near = get_close_matches(wanted, forms, n, cutoff=0.7)
    return [forms[form] for form in near or [form for form in forms if wanted in form][:n]]


def written(name: Parts) -> str:
    """Return a name in the syntax of `where` expressions, such as ``params.`weird key` ``."""
    first, *rest = ".".join(name).split(".")
    return "".join([_word(first, is_first=True), *(_word(part, is_first=False) for part in rest)])


def _written_metric(metric: str) -> str:
    return written(("last", metric) if metric in _OWN else (metric,))


def _word(part: str, *, is_first: bool) -> str:
    if _PLAIN.fullmatch(part) and not (is_first and part in KEYWORDS):
        return part if is_first else f".{part}"
    if "`" in part or not part or not part.isprintable():
        return f"{'last' if is_first else ''}[{json.dumps(part)}]"
    return f"`{part}`" if is_first else f".`{part}`"


def _misread(known: Iterable[str], rest: str) -> str | None:
    """Return the backquoted name that a text starts with, ignoring the missing backquotes."""
    text = _bare(rest)
    matches = [
        (-len(form), len(name), name)
        for name in known
        if "`" in name
        for form in (_bare(name), _bare(_tail(name)))
        if text.startswith(form)
    ]
    return min(matches)[2] if matches else None


def _bare(name: str) -> str:
    return name.replace("`", "").replace(" ", "")


def _paths(nested: Mapping[str, Any]) -> Iterator[Parts]:
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            yield from ((key, *path) for path in _paths(value))
        else:
            yield (key,)


def inside(values: Mapping[str, Any], path: Parts) -> Any:
    """Return the value under a path of keys, or under a flat key such as `opt.name`."""
    inner: Any = values
    for key in path:
        if not isinstance(inner, Mapping) or key not in inner:
            return values.get(".".join(path), MISSING)
        inner = inner[key]
    return inner
