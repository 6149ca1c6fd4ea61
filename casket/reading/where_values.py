"""Comparison and arithmetic of values in `where` expressions; no function here raises."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from numbers import Integral, Real
from operator import add, eq, floordiv, ge, gt, le, lt, mod, mul, neg, sub, truediv
from typing import Any

_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)


class _Missing:
    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()
"""The result of a lookup for a name that the session does not have."""


def _safe(otherwise: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*values: Any) -> Any:
        try:
            return function(*values)
        except Exception:  # noqa: BLE001 - a value's own methods may raise anything
            return otherwise

    return call


def _test(operation: Callable[[Any, Any], Any]) -> Callable[..., bool]:
    return _safe(False, lambda left, right: bool(operation(*_alike(left, right))))


def _order(operation: Callable[[Any, Any], Any]) -> Callable[..., bool]:
    # Checked first because an exception for each missing value would be slow.
    unordered = (type(None), list, tuple)
    return _test(
        lambda a, b: (
            not isinstance(a, unordered) and not isinstance(b, unordered) and operation(a, b)
        )
    )


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    if type(left) is type(right):
        return (None, None) if left is MISSING else (left, right)
    if isinstance(left, datetime) or isinstance(right, datetime):
        return _time(left), _time(right)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return list(left), list(right)
    return None if left is MISSING else left, None if right is MISSING else right


def _time(value: Any) -> Any:
    if isinstance(value, str) and _TIME.fullmatch(value):
        value = datetime.fromisoformat(value)
    is_naive = isinstance(value, datetime) and value.tzinfo is None
    return value.replace(tzinfo=UTC) if is_naive else value


def _is_member(value: Any, container: Any) -> bool:
    if isinstance(container, list | tuple):
        return any(_equal(value, each) for each in container)
    return bool(value in container)


def _opposite(test: Callable[..., bool]) -> Callable[..., bool]:
    return lambda left, right: not test(left, right)


def _calculation(operation: Callable[..., Any]) -> Callable[..., Any]:
    return _safe(MISSING, lambda *values: _finite(operation, *map(_number, values)))


def _finite(operation: Callable[..., Any], *numbers: float) -> Any:
    result = operation(*numbers)
    has_overflown = abs(result) == math.inf and math.inf not in map(abs, numbers)
    return MISSING if has_overflown else result


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError
    # NumPy's numbers warn and wrap around where Python's raise.
    return int(value) if isinstance(value, Integral) else float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


truth: Callable[[Any], bool] = _safe(False, bool)
item = _safe(MISSING, lambda value, key: value[str(key) if isinstance(value, dict) else key])
negative = _calculation(neg)
_equal = _test(eq)
_within = _test(_is_member)
TESTS: dict[str, Callable[..., bool]] = {
    "<": _order(lt), "<=": _order(le), ">": _order(gt), ">=": _order(ge),
    "==": _equal, "!=": _opposite(_equal), "is": _equal, "is not": _opposite(_equal),
    "in": _within, "not in": _opposite(_within),
}  # fmt: skip
_OPERATIONS = {"+": add, "-": sub, "*": mul, "/": truediv, "//": floordiv, "%": mod}
ARITHMETIC = {sign: _calculation(operation) for sign, operation in _OPERATIONS.items()}
FUNCTIONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "abs": ("abs(x)", _calculation(abs)),
    "len": ("len(x)", _safe(MISSING, len)),
    "lower": ("lower(x)", _safe(MISSING, lambda x: _text(x).lower())),
    "startswith": ("startswith(x, y)", _safe(MISSING, lambda x, y: _text(x).startswith(_text(y)))),
    "endswith": ("endswith(x, y)", _safe(MISSING, lambda x, y: _text(x).endswith(_text(y)))),
    "isfinite": ("isfinite(x)", _safe(MISSING, lambda x: math.isfinite(_number(x)))),
}

OF_METRICS = {"best": "best(metric)", "last": "last(metric)"}
"""The functions whose argument is the name of a metric."""
