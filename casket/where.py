"""The `where` language: conditions such as `params.lr < 0.1 and 'svm' in tags`.

Python's parser reads the text; the nodes named here become closures and all others are refused,
so no text of the user's ever runs as code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import takewhile
from keyword import kwlist
from math import inf
from numbers import Integral, Real
from operator import add, eq, floordiv, ge, gt, le, lt, mod, mul, neg, sub, truediv
from typing import Any

from casket.errors import BadExpression

__all__ = ["MISSING", "Lookup", "compile_where"]

Lookup = Callable[[tuple[str, ...]], Any]
_Reader = Callable[[Lookup], Any]

_LENGTH_LIMIT = 10_000
_DEPTH_LIMIT = 50
_EXAMPLE = "write comparisons joined with and, or, not, such as: params.lr < 0.1 and 'svm' in tags"
_INSTEAD = {
    "==": "= := ===",
    "!=": "<> !==",
    "<=": "=<",
    ">=": "=>",
    "and": "& && AND",
    "or": "| || OR",
    "not": "! ~ NOT",
    "a product, such as x * x": "**",
    'a key in brackets and quotes, such as params["a#b"]': "#",
}
_FOREIGN = {sign: words for words, signs in _INSTEAD.items() for sign in signs.split()}
_FOREIGN |= {word: f'a key like that in brackets, such as params["{word}"]' for word in kwlist}
_QUOTED = r"""(?P<quote>'''|\"\"\"|'|")(?:\\.|[^\\])*?(?:(?P=quote)|\\?\Z)"""
_SIGNS = r":=|[!=]==|<>|=[<>]?|&&?|\|\|?|[!~#]|\*\*|\b(?:AND|OR|NOT)\b"
_KEYWORDS = rf"(?<=\.)(?:{'|'.join(kwlist)})\b"
_FOREIGN_SIGN = re.compile(rf"{_QUOTED}|[<>!=]=(?!=)|(?P<found>{_SIGNS}|{_KEYWORDS})")
_UNREADABLE_CHARACTER = re.compile("[\0\r\n\ud800-\udfff]")
_LITERALS = (ast.List, ast.Tuple, ast.Set)
_WORDS = {"true": True, "false": False, "null": None}


class _Missing:
    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "MISSING"


class _Refused(Exception):
    """What is wrong, and where: an offset in bytes, as the parser counts."""


MISSING = _Missing()
"""What a `Lookup` returns for a name the session does not have."""


def compile_where(expression: str) -> Callable[[Lookup], bool]:
    """Turn a `where` expression into a function that tells whether a session meets it.

    A missing value equals None, differs from all else, and is in no order with anything. Values
    of unlike types are unequal and in no order; dates compare with ISO 8601 text, taken as UTC
    where it names no offset. What cannot be calculated is missing.

    Args:
        expression: the condition, such as `"last.val_loss < 0.3 or 'svm' in tags"`.

    Returns:
        A function of a `Lookup`, which resolves a dotted name, given as its parts, to its value
        or to `MISSING`. It raises only what the lookup raises.

    Raises:
        BadExpression: the expression cannot be read; says where and what to write instead.
    """
    if len(expression) > _LENGTH_LIMIT:
        problem = f"write a shorter expression, of at most {_LENGTH_LIMIT} characters"
        raise BadExpression(f"{expression[:60]!r}...", 0, problem)
    text = expression.strip()
    try:
        read = _read(_parse(text))
    except _Refused as refused:
        problem, offset = refused.args
        before = text.encode(errors="replace")[:offset].decode(errors="ignore")
        position = expression.find(text) + len(before)
        raise BadExpression(expression, position, problem) from None
    except (RecursionError, MemoryError):
        problem = "this is nested too deeply; write a simpler expression"
        raise BadExpression(expression, 0, problem) from None
    return lambda lookup: bool(_truth(read(lookup)))


def _parse(text: str) -> ast.expr:
    if not text:
        raise _Refused(f"the expression is empty; {_EXAMPLE}", 0)
    if sign := _UNREADABLE_CHARACTER.search(text) or _foreign_sign(text):
        instead = _FOREIGN.get(sign[0], "one line of plain text")
        offset = len(text[: sign.start()].encode())
        raise _Refused(f"{sign[0]!r} is not read; write {instead}", offset)
    try:
        tree = ast.parse(text, "<where>", "eval").body
    except SyntaxError as error:
        # The parser gives offset 0 for an expression that stops short.
        offset = len(text[: error.offset - 1 if error.offset else None].encode())
        raise _Refused(f"this cannot be read ({error.msg}); {_EXAMPLE}", offset) from None
    _check_depth(tree)
    return tree


def _foreign_sign(text: str) -> re.Match[str] | None:
    return next((match for match in _FOREIGN_SIGN.finditer(text) if match["found"]), None)


def _check_depth(tree: ast.AST) -> None:
    level = [tree]
    for _ in range(_DEPTH_LIMIT):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if level:
        raise RecursionError


def _read(node: ast.expr) -> _Reader:
    match node:
        case ast.BoolOp(op=op, values=values):
            return _junction([_read(value) for value in values], isinstance(op, ast.Or))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _negation(_read(operand))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _calculation(neg, operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _calculation(_ARITHMETIC[type(op)], left, right)
        case ast.Compare():
            return _comparison(node)
        case ast.Attribute() | ast.Subscript() | ast.Name() if not _is_word(node):
            return _name(_steps(node))
    value = _constant(node)
    return lambda _: value


def _is_word(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in _WORDS


def _constant(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=None | str() | int() | float() as value):
            return value
        case ast.Name(id=word) if word in _WORDS:
            return _WORDS[word]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_constant(item) for item in items]
        case ast.Set(elts=items) if not any(isinstance(item, _LITERALS) for item in items):
            return {_constant(item) for item in items}
        case ast.Call():
            problem = "functions cannot be called; compare a value, such as params.lr < 0.1"
            raise _Refused(problem, node.col_offset)
    problem = "this is not read; write a number or plain quoted text, or join with and, or, not"
    raise _Refused(problem, node.col_offset)


def _steps(node: ast.expr) -> list[str | int]:
    match node:
        case ast.Name(id=name):
            return [_plain(name, node)]
        case ast.Attribute(value=base, attr=name):
            return [*_steps(base), _plain(name, node)]
        case ast.Subscript(value=base, slice=key):
            return [*_steps(base), _key(key)]
    raise _Refused("write a name before a dot or brackets", node.col_offset)


def _plain(name: str, node: ast.expr) -> str:
    if name.startswith("__"):
        offset = max((node.end_col_offset or 0) - len(name.encode()), 0)
        raise _Refused(f'write a key that begins with __ in brackets: params["{name}"]', offset)
    return name


def _key(node: ast.expr) -> str | int:
    key = _constant(node)
    if type(key) is str or type(key) is int:
        return key
    raise _Refused("write quoted text or a whole number between the brackets", node.col_offset)


def _name(steps: list[str | int]) -> _Reader:
    names = tuple(str(step) for step in takewhile(lambda step: isinstance(step, str), steps))
    rest = steps[len(names) :]

    def read(lookup: Lookup) -> Any:
        value = lookup(names)
        for step in rest:
            value = _item(value, step)
        return value

    return read


def _junction(parts: list[_Reader], decisive: bool) -> _Reader:
    def join(lookup: Lookup) -> Any:
        for read in parts:
            value = read(lookup)
            if _truth(value) is decisive:
                break
        return value

    return join


def _negation(read: _Reader) -> _Reader:
    return lambda lookup: not _truth(read(lookup))


def _comparison(node: ast.Compare) -> _Reader:
    for sign, operand in zip(node.ops, node.comparators, strict=True):
        if isinstance(sign, ast.Is | ast.IsNot) and ast.unparse(operand) not in ("None", "null"):
            raise _Refused("only None can follow is; write == or != to compare", operand.col_offset)
    first = _read(node.left)
    tests = [_TESTS[type(sign)] for sign in node.ops]
    links = list(zip(tests, map(_read, node.comparators), strict=True))

    def compare(lookup: Lookup) -> bool:
        left = first(lookup)
        for test, read in links:
            right = read(lookup)
            if not test(left, right):
                return False
            left = right
        return True

    return compare


def _calculation(operation: Callable[..., Any], *operands: ast.expr) -> _Reader:
    readers = [_operand(operand) for operand in operands]
    calculate = _safe(MISSING, lambda *values: _finite(operation, *map(_number, values)))
    return lambda lookup: calculate(*[read(lookup) for read in readers])


def _operand(node: ast.expr) -> _Reader:
    read = _read(node)
    is_constant = isinstance(node, (ast.Constant, *_LITERALS)) or _is_word(node)
    if is_constant and type(_constant(node)) not in (int, float):
        raise _Refused("only numbers are calculated with; write a number", node.col_offset)
    return read


def _finite(operation: Callable[..., Any], *numbers: float) -> Any:
    result = operation(*numbers)
    overflowed = abs(result) == inf and inf not in map(abs, numbers)
    return MISSING if overflowed else result


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError
    # NumPy's numbers warn and wrap where Python's raise.
    return int(value) if isinstance(value, Integral) else float(value)


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
    # Asked first because an exception for each missing value would be slow.
    return _test(lambda a, b: False if a is None or b is None else operation(a, b))


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    if type(left) is type(right):
        return left, right
    if isinstance(left, datetime) or isinstance(right, datetime):
        return _moment(left), _moment(right)
    if isinstance(left, list | tuple | set) and isinstance(right, list | tuple | set):
        kind = set if isinstance(left, set) or isinstance(right, set) else list
        return kind(left), kind(right)
    return None if left is MISSING else left, None if right is MISSING else right


def _moment(value: Any) -> Any:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    naive = isinstance(value, datetime) and value.tzinfo is None
    return value.replace(tzinfo=UTC) if naive else value


def _member(item: Any, container: Any) -> bool:
    if isinstance(container, list | tuple | set):
        return any(_equal(item, each) for each in container)
    return bool(item in container)


def _opposite(test: Callable[..., bool]) -> Callable[..., bool]:
    return lambda left, right: not test(left, right)


_truth = _safe(False, bool)
_item = _safe(MISSING, lambda value, step: value[str(step) if isinstance(value, dict) else step])
_equal = _test(eq)
_within = _test(_member)
_TESTS = {ast.Lt: _order(lt), ast.LtE: _order(le), ast.Gt: _order(gt), ast.GtE: _order(ge)}
_TESTS |= {ast.Eq: _equal, ast.NotEq: _opposite(_equal)}
_TESTS |= {ast.Is: _equal, ast.IsNot: _opposite(_equal)}
_TESTS |= {ast.In: _within, ast.NotIn: _opposite(_within)}
_ARITHMETIC = {ast.Add: add, ast.Sub: sub, ast.Mult: mul, ast.Div: truediv, ast.FloorDiv: floordiv}
_ARITHMETIC |= {ast.Mod: mod}
