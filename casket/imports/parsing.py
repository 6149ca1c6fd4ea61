"""Parsers of numbers, times, JSON, YAML and tables, shared by the importers."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from casket.errors import missing
from casket.imports.report import Report

_PATH = "object/apply:pathlib."
# The spellings of JSON and of Python, the language of most sources.
_TRUTHS = {"true": True, "false": False, "True": True, "False": False}


def value_of(text: str) -> Any:
    """Parse a Boolean, or a finite number in the spelling of Python; return other texts unchanged.

    `3.10` and `8123e45` are unchanged: they may be a version or a hash, and a number would lose
    their spelling.
    """
    value = number_of(text)
    is_finite = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return value if is_finite and repr(value) == text else _TRUTHS.get(text, text)


def number_of(text: str) -> Any:
    """Parse a number printed by Python or NumPy, including NaN; return other strings unchanged."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def whole(value: Any) -> int | None:
    """Return a value that is a 64-bit integer; None for any other value."""
    if isinstance(value, float) and not value.is_integer():
        return None
    if not isinstance(value, (int, float)) or abs(value) >= 2**63:
        return None
    return int(value)


def to_datetime(seconds: float) -> datetime:
    """Convert a Unix timestamp to a datetime; an invalid timestamp becomes 1970."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError, TypeError):
        return datetime.fromtimestamp(0, UTC)


def parse_time(text: Any) -> datetime | None:
    """Parse an ISO 8601 time, in UTC unless it has a time zone; None if it is invalid."""
    try:
        parsed = datetime.fromisoformat(str(text))
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def file_time(path: Path) -> datetime:
    """Return the modification time of a file."""
    return to_datetime(path.stat().st_mtime)


def read_text(path: Path) -> str:
    """Return the text of a file; invalid UTF-8 is replaced."""
    return path.read_bytes().decode("utf-8", "replace")


def read_json(path: Path, report: Report) -> Any:
    """Return the content of a JSON file; None, with a reported problem, if it is unreadable."""
    try:
        return json.loads(read_text(path))
    except (OSError, ValueError) as error:
        report.problem(path, _reason(error))
        return None


def read_json_lines(path: Path, report: Report) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file with an object a line; report invalid lines."""
    for number, line in enumerate(whole_lines(path, report), start=1):
        try:
            content = json.loads(line)
        except ValueError as error:
            report.problem(f"{path}, line {number}", error)
            continue
        if isinstance(content, dict):
            yield content


def read_yaml(path: Path, report: Report, *, core: bool = False) -> Any:
    """Return the content of a YAML file; None, with a reported problem, if it is unreadable.

    Python objects are not constructed: tagged values become plain strings, lists or dicts.

    Args:
        path: the file.
        report: receives the problem.
        core: whether the file follows YAML 1.2, where `1e-05` is a number and `no` and dates are
            texts, instead of YAML 1.1 as PyYAML writes it.

    Raises:
        MissingDependency: PyYAML is not installed.
    """
    yaml, loader = _yaml(core)
    try:
        return _with_text_keys(yaml.load(read_text(path), loader))
    except (OSError, ValueError, yaml.YAMLError) as error:
        report.problem(path, _reason(error))
        return None


_CORE = {
    "null": (r"~|null|Null|NULL|", "~nN"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
"""The plain values of YAML 1.2: a pattern and the possible first characters for each type."""


@cache
def _yaml(core: bool) -> tuple[Any, Any]:
    """Return the package, and a loader that runs no code and accepts every tag."""
    try:
        import yaml  # type: ignore[import-untyped]  # has no types
    except ModuleNotFoundError as error:
        raise missing(error, "yaml", "import") from error

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # has no types
        pass

    def plain(loader: Any, suffix: str, node: Any) -> Any:
        if isinstance(node, yaml.MappingNode):
            return loader.construct_mapping(node, deep=True)
        if isinstance(node, yaml.SequenceNode):
            items = loader.construct_sequence(node, deep=True)
            return str(PurePath(*items)) if suffix.startswith(_PATH) else items
        return loader.construct_scalar(node) or suffix.rpartition(":")[2]

    if core:
        Loader.yaml_implicit_resolvers = {}
        for name, (pattern, first) in _CORE.items():
            tag = f"tag:yaml.org,2002:{name}"
            Loader.add_implicit_resolver(tag, re.compile(f"^(?:{pattern})$"), [*first, ""])
    for prefix in ("!", "tag:yaml.org,2002:python/"):
        Loader.add_multi_constructor(prefix, plain)
    return yaml, Loader


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_text_keys(item) for item in value]
    return value


def whole_lines(path: Path, report: Report) -> list[str]:
    """Return the lines of a file that end with a newline; report a truncated last line."""
    try:
        ended, newline, torn = read_text(path).rpartition("\n")
    except OSError as error:
        report.problem(path, error)
        return []
    if torn.strip():
        report.problem(path, f"the last line is truncated and was skipped: {torn[:40]!r}")
    return (ended + newline).splitlines(keepends=True)


def read_table(path: Path, report: Report, separator: str = ",") -> list[dict[str, str]]:
    """Return the complete rows of a CSV file as dicts by column."""
    text = "".join(whole_lines(path, report))
    rows: list[dict[str, str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        header = next(reader, [])
        for fields in reader:
            if len(fields) == len(header):
                rows.append(dict(zip(header, fields, strict=True)))
            elif fields:
                why = f"{len(fields)} fields for {len(header)} columns; the row was skipped"
                report.problem(f"{path}, line {reader.line_num}", why)
    except csv.Error as error:
        report.problem(f"{path}, line {reader.line_num}", error)
    return rows


def header_of(path: Path) -> str:
    """Return the first line of a text file; empty if it is unreadable."""
    try:
        with path.open("rb") as file:
            return file.readline(1 << 16).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())
