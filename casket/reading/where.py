"""The `where` language: conditions such as `params.lr < 0.1 and 'svm' in tags`.

`docs/where.md` is the reference. A condition is compiled to closures by recursive descent; text
from the user is never executed as code. `casket/dashboard/web/where.js` implements the same
language for the page, and `tests/dashboard/where_cases.json` tests both implementations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Any, NamedTuple

from casket.errors import BadExpression
from casket.reading.where_values import (
    ARITHMETIC,
    FUNCTIONS,
    MISSING,
    OF_METRICS,
    TESTS,
    item,
    negative,
    truth,
)

__all__ = ["KEYWORDS", "MISSING", "Condition", "Lookup", "Name", "compile_where"]

Lookup = Callable[[tuple[str, ...]], Any]
Reader = Callable[[Lookup], Any]

LONGEST, DEEPEST = 10_000, 30
WORDS = {"True": True, "true": True, "False": False, "false": False, "None": None, "null": None}
KEYWORDS = frozenset({*WORDS, "and", "or", "not", "in", "is", "AND", "OR", "NOT"})
"""Keywords; they are names only in backquotes or after a dot."""

_EXAMPLE = "write comparisons joined with and, or, not, such as params.lr < 0.1 and 'svm' in tags"
_ADVICE = {
    "==": "= := ===",
    "!=": "<> !== ≠",
    "<=": "=< ≤",
    ">=": "=> ≥",
    "and": "& && AND",
    "or": "| || OR",
    "not": "! ~ NOT",
    "-": "−",  # noqa: RUF001 - a word processor's minus, and its quotes
    "straight quotes": "‘ ’ “ ”",  # noqa: RUF001
    "a product, such as x * x": "**",
    "a list, such as [1, 2]": "{ }",
    "the name in backquotes, such as params.`a#b`": "# $ : ; ? @ ^ \\",
    "the closing quote, too": "' \" `",
}
_FOREIGN = {sign: advice for advice, signs in _ADVICE.items() for sign in signs.split()}
_SPACE = "\u00a0\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_TOKEN = re.compile(
    rf"(?P<space>[ \t\r\n{_SPACE}]+)"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    # Non-ASCII characters count as letters, except spaces and a word processor's signs.
    rf"|(?P<name>[^\x00-/:-@\[-^`{{-\x7f{_SPACE}≠≤≥−‘’“”\ud800-\udfff]+)"  # noqa: RUF001
    r"|(?P<quoted>`[^`]+`)"
    r"""|(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
    r"|(?P<foreign>[!=]==|<>|=[<>]|:=|&&|\|\||\*\*)"
    r"|(?P<sign>[<>=!]=|//|[-+*/%<>()\[\],.])",
    re.DOTALL,
)
_ESCAPE = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\.", re.DOTALL)


class Name(NamedTuple):
    """A name in a condition: its parts and its position in the text."""

    parts: tuple[str, ...]
    start: int
    stop: int


class Condition(NamedTuple):
    """A compiled condition and the names it contains."""

    read: Reader
    names: list[Name]

    def __call__(self, lookup: Lookup) -> bool:
        """Return whether a session meets the condition; only `lookup` may raise."""
        return truth(self.read(lookup))


def compile_where(expression: str) -> Condition:
    """Compile a `where` expression.

    Args:
        expression: the condition, such as `"last.val_loss < 0.3 or 'svm' in tags"`.

    Returns:
        A function of a `Lookup`, which resolves a dotted name, passed as a tuple of its parts, to
        its value or to `MISSING`.

    Raises:
        BadExpression: the expression cannot be parsed; the message marks the position.
    """
    if len(expression) > LONGEST:
        problem = f"write a shorter expression, of at most {LONGEST} characters"
        raise BadExpression(f"{expression[:60]!r}...", 0, problem)
    try:
        parser = _Parser(expression)
        return Condition(parser.whole(), parser.names)
    except _Refused as refused:
        problem, position = refused.args
        raise BadExpression(expression, position, problem) from None


class _Refused(Exception):
    """Raised for a syntax error, with the problem and its position."""


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    value: Any


def _tokens(text: str) -> Iterator[_Token]:
    at, last = 0, ""
    while at < len(text):
        match = _TOKEN.match(text, at)
        kind, sign = (match.lastgroup or "", match[0]) if match else ("foreign", text[at])
        if kind == "foreign" or (kind == "name" and sign in _FOREIGN and last != "."):
            advice = _FOREIGN.get(sign, "plain text")
            raise _Refused(f"{sign} is not read here; write {advice}", at)
        if kind != "space":
            yield _Token(kind, sign, at, _value(kind, sign, at))
            last = sign
        at += len(sign)
    yield _Token("end", "", at, None)


def _value(kind: str, text: str, start: int) -> Any:
    if kind == "number":
        return int(text) if text.isdigit() and len(text) < 300 else float(text)
    if kind == "text":
        return _ESCAPE.sub(lambda escape: _unescaped(escape, start + 1), text[1:-1])
    return text.strip("`")


def _unescaped(escape: re.Match[str], start: int) -> str:
    try:
        # JSON's escapes, which also combine surrogate pairs.
        return "'" if escape[0] == r"\'" else str(json.loads(f'"{escape[0]}"'))
    except ValueError:
        problem = r"this escape is not read; write \\ for a backslash"
        raise _Refused(problem, start + escape.start()) from None


class _Parser:
    """A recursive-descent parser over `_LEVELS`, which starts with the lowest precedence."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = self._depth = 0
        self.names: list[Name] = []

    @property
    def _token(self) -> _Token:
        return self._tokens[self._at]

    def _next(self) -> _Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _accept(self, *texts: str) -> str:
        is_there = self._token.kind in {"sign", "name"} and self._token.text in texts
        return self._next().text if is_there else ""

    def _unexpected(self) -> _Refused:
        text = self._token.text
        problem = f"{text} is not expected here" if text else "the condition is incomplete"
        return _Refused(f"{problem}; {_EXAMPLE}", self._token.start)

    def whole(self) -> Reader:
        read = self._level(0)
        if self._token.kind != "end":
            raise self._unexpected()
        return read

    def _nested(self, level: int) -> Reader:
        self._depth += 1
        if self._depth > DEEPEST:
            problem = "this is nested too deeply; write a simpler expression"
            raise _Refused(problem, self._token.start)
        read = self._level(level)
        self._depth -= 1
        return read

    def _level(self, level: int) -> Reader:
        if level == len(_LEVELS):
            return self._factor()
        signs, join = _LEVELS[level]
        if join is None:
            return self._negated(level) if self._accept("not") else self._level(level + 1)
        start = self._at
        first, links = self._level(level + 1), []
        while sign := self._sign(signs):
            operand = self._at
            links.append((_OPERATIONS.get(sign), self._level(level + 1)))
            if sign in ARITHMETIC:
                self._check_number(start)
                self._check_number(operand)
        return join(first, links) if links else first

    def _sign(self, signs: tuple[str, ...]) -> str:
        if "is" not in signs:
            return self._accept(*signs)
        if self._accept("not"):
            if not self._accept("in"):
                raise self._unexpected()
            return "not in"
        sign = self._accept(*signs)
        if sign != "is":
            return sign
        sign = "is not" if self._accept("not") else "is"
        if self._token.text not in {"None", "null"}:
            problem = "only None can follow is; write == or != to compare"
            raise _Refused(problem, self._token.start)
        return sign

    def _negated(self, level: int) -> Reader:
        read = self._nested(level)
        return lambda lookup: not truth(read(lookup))

    def _factor(self) -> Reader:
        if not self._accept("-"):
            return self._primary()
        self._check_number(self._at)
        read = self._nested(len(_LEVELS))
        return lambda lookup: negative(read(lookup))

    def _check_number(self, at: int) -> None:
        token = self._tokens[at]
        if token.kind == "text" or token.text == "[" or token.text in WORDS:
            raise _Refused("only numbers are calculated with; write a number", token.start)

    def _primary(self) -> Reader:
        token = self._token
        is_word = token.kind == "name" and token.text in WORDS
        if is_word or token.kind in {"number", "text"}:
            value = WORDS[self._next().text] if is_word else self._next().value
            return lambda _: value
        if token.kind == "quoted" or (token.kind == "name" and token.text not in KEYWORDS):
            return self._name()
        opening = self._accept("(", "[")
        if not opening:
            raise self._unexpected()
        items, has_comma = self._items(token, ")" if opening == "(" else "]")
        if opening == "(" and len(items) == 1 and not has_comma:
            return items[0]
        return lambda lookup: [read(lookup) for read in items]

    def _items(self, opening: _Token, closing: str) -> tuple[list[Reader], bool]:
        items: list[Reader] = []
        comma = ""
        while not self._accept(closing):
            if self._token.kind == "end":
                raise _Refused(f"this {opening.text} is never closed", opening.start)
            if items and not comma:
                raise self._unexpected()
            items.append(self._nested(0))
            comma = self._accept(",")
        return items, bool(comma) or len(items) > 1

    def _name(self) -> Reader:
        first, steps = self._token, self._steps()
        if self._token.text != "(":
            return self._value_of(first, steps)
        if len(steps) == 1 and first.text in OF_METRICS:
            return self._of_metric(first)
        return self._call(first, len(steps))

    def _steps(self) -> list[str | int]:
        """Parse a name and what follows it after dots and in brackets."""
        steps: list[str | int] = [self._next().value]
        while self._token.text in {".", "["}:
            steps.append(self._member() if self._accept(".") else self._key())
        return steps

    def _value_of(self, first: _Token, steps: list[str | int]) -> Reader:
        parts = tuple(takewhile(lambda step: type(step) is str, steps))
        keys = steps[len(parts) :]
        last = self._tokens[self._at - 1]
        self.names.append(Name(parts, first.start, last.start + len(last.text)))  # type: ignore[arg-type]
        return _within(parts, keys) if keys else lambda lookup: lookup(parts)  # type: ignore[arg-type]

    def _of_metric(self, name: _Token) -> Reader:
        """Parse `best(val_loss)`, another form of `best.val_loss`."""
        self._next()
        is_name = self._token.kind == "name" and self._token.text not in KEYWORDS
        steps = self._steps() if is_name or self._token.kind == "quoted" else []
        is_metric = bool(steps) and all(type(step) is str for step in steps)
        if not is_metric or not self._accept(")"):
            raise _Refused(f"write {OF_METRICS[name.text]}, with the name of a metric", name.start)
        return self._value_of(name, [name.text, *steps])

    def _member(self) -> str:
        if self._token.kind not in {"name", "quoted"}:
            raise _Refused("write a name after the dot", self._token.start)
        return str(self._next().value)

    def _key(self) -> str | int:
        self._next()
        start, minus = self._token.start, self._accept("-")
        token = self._token
        if type(token.value) is not int and (minus or token.kind != "text"):
            raise _Refused("write quoted text or a whole number between the brackets", start)
        key: str | int = -self._next().value if minus else self._next().value
        if not self._accept("]"):
            raise self._unexpected()
        return key

    def _call(self, name: _Token, length: int) -> Reader:
        usage, function = FUNCTIONS.get(name.text, ("", None))
        if length > 1 or function is None:
            usages = ", ".join([*(usage for usage, _ in FUNCTIONS.values()), *OF_METRICS.values()])
            raise _Refused(f"there is no such function; there are {usages}", name.start)
        arguments, _ = self._items(self._next(), ")")
        if len(arguments) != usage.count(",") + 1:
            raise _Refused(f"write {usage}", name.start)
        return lambda lookup: function(*[read(lookup) for read in arguments])


_Links = list[tuple[Any, Reader]]


def _junction(decisive: bool) -> Callable[[Reader, _Links], Reader]:
    def join(first: Reader, links: _Links) -> Reader:
        def read(lookup: Lookup) -> Any:
            value = first(lookup)
            for _, part in links:
                if truth(value) is decisive:
                    break
                value = part(lookup)
            return value

        return read

    return join


def _comparison(first: Reader, links: _Links) -> Reader:
    def read(lookup: Lookup) -> bool:
        left = first(lookup)
        for test, part in links:
            right = part(lookup)
            if not test(left, right):
                return False
            left = right
        return True

    return read


def _calculation(first: Reader, links: _Links) -> Reader:
    def read(lookup: Lookup) -> Any:
        value = first(lookup)
        for operation, part in links:
            value = operation(value, part(lookup))
        return value

    return read


def _within(parts: tuple[str, ...], keys: list[str | int]) -> Reader:
    def read(lookup: Lookup) -> Any:
        value = lookup(parts)
        for key in keys:
            value = item(value, key)
        return value

    return read


_OPERATIONS = TESTS | ARITHMETIC
_LEVELS: list[tuple[tuple[str, ...], Callable[[Reader, _Links], Reader] | None]] = [
    (("or",), _junction(decisive=True)),
    (("and",), _junction(decisive=False)),
    (("not",), None),
    (("<", "<=", ">", ">=", "==", "!=", "in", "is"), _comparison),
    (("+", "-"), _calculation),
    (("*", "/", "//", "%"), _calculation),
]
