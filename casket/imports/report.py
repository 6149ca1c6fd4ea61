"""The result of an import: counts and problems."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from casket.errors import shorten
from casket.maintenance.merging import Counts
from casket.system.secrets import redact


class Problem(NamedTuple):
    """An item that could not be imported.

    Attributes:
        what: the file, run or value.
        why: the reason.
    """

    what: str
    why: str


class Report:
    """The result of an import: counts and problems.

    Attributes:
        source: the kind of source, such as `mlflow`.
        path: the path of the source.
        runs: the number of runs read.
        total: the maximum number of runs.
        counts: the numbers of records added, already present, and skipped as deleted.
        left_out: the number of items of each kind that casket does not import, such as `images`.
        problems: the items that could not be read, with reasons.
    """

    def __init__(self, source: str, path: str) -> None:
        self.source = source
        self.path = path
        self.runs = 0
        self.total = 0
        self.counts = Counts()
        self.left_out: Counter[str] = Counter()
        self.problems: list[Problem] = []

    def __repr__(self) -> str:
        return f"<report on {self.source} {self.path}: {sum(self.counts.added.values())} added>"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def problem(self, what: object, why: object) -> None:
        """Report an item that could not be imported."""
        reason = redact(str(why).partition("\n")[0])
        self.problems.append(Problem(shorten(str(what)), shorten(reason)))

    def leave_out(self, kind: str, count: int = 1) -> None:
        """Count items of a kind that casket does not import."""
        if count:
            self.left_out[kind] += count

    def lines(self) -> list[str]:
        """Return the report as sentences."""
        counts = self.counts
        return [
            f"{self.path} ({self.source}): {self.runs} runs read",
            f"added: {_listed(counts.added)}",
            f"already present: {counts.held} records",
            *(
                [f"skipped, because they were deleted here: {counts.removed} records"]
                if counts.removed
                else []
            ),
            *([f"not imported: {_listed(self.left_out)}"] if self.left_out else []),
            *(f"problem: {what}: {why}" for what, why in self.problems),
        ]


def _listed(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.items()) or "nothing"
