"""Number formatting, shared by the terminal and the page.

Whole numbers are shown in full. A column of other floats is shown with the digits needed to
distinguish its values, at most `MOST_DIGITS` significant digits. `casket/dashboard/web/facts.js`
implements the same rules, and `tests/dashboard/number_cases.json` tests both implementations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

LEAST_DIGITS, MOST_DIGITS = 4, 7
MARGIN_DIGITS = 2
SMALLEST, LARGEST = 1e-4, 1e16
"""The range in which floats are formatted without an exponent."""

MOST_PLACES = 12
"""The maximum decimals of a mean with a margin; smaller margins are shown with an exponent."""

# Halves are rounded away from zero, as in JavaScript.
_CONTEXTS = {
    digits: Context(prec=digits, rounding=ROUND_HALF_UP) for digits in range(1, MOST_PLACES + 30)
}


def shown_number(number: float, digits: int = MOST_DIGITS) -> str:
    """Format a number: whole numbers in full, others with `digits` significant digits.

    Below 1e16, digits before the decimal point are never rounded.
    """
    if isinstance(number, int):
        return str(int(number))
    if not math.isfinite(number):
        return "NaN" if number != number else ("Infinity" if number > 0 else "-Infinity")
    size = abs(number)
    if size < LARGEST and number == int(number):
        return str(int(number))
    if size < SMALLEST or size >= LARGEST:
        mantissa, _, exponent = f"{_rounded(number, digits):.{digits - 1}e}".partition("e")
        return f"{_without_zeros(mantissa)}e{exponent}"
    whole_digits = len(str(int(size)))
    return _without_zeros(f"{_rounded(number, max(digits, whole_digits)):f}")


def exact(value: Any) -> str:
    """Return a value as text with full precision; None is empty."""
    is_whole = isinstance(value, float) and value.is_integer()
    return "" if value is None else shown_number(value) if is_whole else str(value)


def digits_apart(values: Iterable[Any]) -> int:
    """Return the number of significant digits needed to distinguish the numbers in `values`."""
    numbers = {value for value in values if _is_finite(value)}
    if len(numbers) < 2:
        return MOST_DIGITS
    for digits in range(LEAST_DIGITS, MOST_DIGITS):
        if _are_apart(numbers, digits):
            return digits
    return MOST_DIGITS


def with_margin(mean: float, margin: float) -> str:
    """Format a mean and its margin, rounding the mean to the precision of the margin."""
    if not math.isfinite(margin):
        return shown_number(mean)
    if margin == 0:
        return f"{shown_number(mean)} ± 0"
    places = MARGIN_DIGITS - 1 - _exponent(margin, MARGIN_DIGITS)
    meant = MOST_DIGITS - 1 - _exponent(mean, MOST_DIGITS) if mean else places
    if places > min(meant, MOST_PLACES) or max(abs(mean), margin) >= LARGEST:
        return f"{shown_number(mean)} ± {shown_number(margin, MARGIN_DIGITS)}"
    return f"{_fixed(mean, max(places, 0))} ± {_fixed(margin, max(places, 0))}"


def _are_apart(numbers: Iterable[float], digits: int) -> bool:
    seen = set()
    for number in numbers:
        text = shown_number(number, digits)
        if text in seen:
            return False
        seen.add(text)
    return True


def _is_finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)


def _rounded(number: float, digits: int) -> Decimal:
    return _CONTEXTS[digits].create_decimal(number)


def _exponent(number: float, digits: int) -> int:
    return _rounded(number, digits).adjusted()


def _fixed(number: float, places: int) -> str:
    exact = Decimal(number)
    return f"{exact.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP):f}"


def _without_zeros(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
