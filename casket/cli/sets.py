"""Sets of params from the options of `casket sweep`."""

from __future__ import annotations

import csv
import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from casket.errors import MissingDependency

MOST = 1_000_000
"""The largest number of values of a range."""


def sets_of(
    grid: tuple[str, ...],
    params_file: Path | None,
    draws: int | None,
    space: tuple[str, ...],
    seed: int,
) -> dict[str, list[Any]] | list[dict[str, Any]]:
    """Return the sets of params that the options describe."""
    if bool(grid) + bool(params_file) + bool(draws) != 1:
        raise click.UsageError("give one of --grid, --params FILE and --random N")
    if bool(space) != bool(draws):
        raise click.UsageError("--random N and --space go together")
    if grid:
        return {name: _values(text) for name, text in _pairs(grid)}
    if params_file:
        return _read_sets(params_file)
    draw_by_name = {name: _distribution(text) for name, text in _pairs(space)}
    chance = random.Random(seed)  # noqa: S311 - no secret
    return [{name: draw(chance) for name, draw in draw_by_name.items()} for _ in range(draws or 0)]


def _pairs(options: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs = [_pair(text) for text in options]
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise click.UsageError(f"{name} is given twice: write all of its values at once")
    return pairs


def _pair(text: str) -> tuple[str, str]:
    name, equals, values = text.partition("=")
    if not equals or not name.strip() or not values.strip():
        raise click.UsageError(f"{text!r} is not of the form NAME=VALUES, such as lr=0.1,0.01")
    return name.strip(), values.strip()


def _values(text: str) -> list[Any]:
    """Return the values of an option: a range such as `0:10:2`, or values between commas."""
    if set(text) <= set("0123456789:-") and ":" in text:
        return _range(text)
    try:
        values: list[Any] = json.loads(f"[{text}]")
    except ValueError:
        values = [_value(part.strip()) for part in text.split(",")]
    unread = [each for each in values if isinstance(each, str) and set(each) & set("()[]{}")]
    if unread and f'"{unread[0]}"' not in text:
        raise click.UsageError(f"{unread[0]!r} in {text!r} cannot be read; quote text as in JSON")
    return values


def _range(text: str) -> list[Any]:
    try:
        values = range(*map(int, text.split(":")))
    except (TypeError, ValueError):
        raise click.UsageError(f"{text!r} is no range such as 0:10 or 0:10:2") from None
    if not 0 < len(values) <= MOST:
        raise click.UsageError(f"{text!r} has {len(values)} values; give 1 to {MOST}")
    return list(values)


def _value(text: str) -> Any:
    """Return a value as JSON reads it; anything else is text."""
    try:
        return json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text))
    except ValueError:
        return text


def _distribution(text: str) -> Callable[[random.Random], Any]:
    match = _DISTRIBUTION.fullmatch(text)
    if match is None:
        values = _values(text)
        return lambda chance: chance.choice(values)
    low, high = (_value(match[name].strip()) for name in ("low", "high"))
    if low > high or (match["kind"] == "loguniform" and low <= 0):
        raise click.UsageError(f"{text}: the first number must be smaller, and positive for logs")
    return lambda chance: _DRAWS[match["kind"]](chance, low, high)


_NUMBER = r"\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*"
_DISTRIBUTION = re.compile(
    rf"(?P<kind>uniform|loguniform|randint)\((?P<low>{_NUMBER}),(?P<high>{_NUMBER})\)"
)
_DRAWS: dict[str, Callable[[random.Random, Any, Any], Any]] = {
    "uniform": lambda chance, low, high: chance.uniform(low, high),
    "loguniform": lambda chance, low, high: math.exp(chance.uniform(math.log(low), math.log(high))),
    "randint": lambda chance, low, high: chance.randint(int(low), int(high)),
}


def _read_sets(path: Path) -> list[dict[str, Any]]:
    """Read sets of params from a file.

    Raises:
        click.UsageError: the file does not hold a list of sets.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".csv":
            rows = list(csv.DictReader(text.splitlines()))
            if any(None in row for row in rows):
                raise ValueError("a row has more values than there are columns")
            return [{name: _value(value) for name, value in row.items() if value} for row in rows]
        sets = _yaml(text) if path.suffix in {".yaml", ".yml"} else json.loads(text)
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{path}: {error}") from error
    if not isinstance(sets, list) or not all(isinstance(each, dict) for each in sets):
        raise click.UsageError(f'{path}: give a list of sets, such as [{{"lr": 0.1}}]')
    return sets


def _yaml(text: str) -> Any:
    try:
        import yaml  # type: ignore[import-untyped]  # has no types
    except ImportError as error:
        raise MissingDependency("pyyaml", "import") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(error) from error
