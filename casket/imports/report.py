"""What came over from a source, and what did not."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from casket.maintenance.merging import Counts


class Problem(NamedTuple):
    """Something that could not be brought over.

    Attributes:
        what: a file, a run or a value.
        why: the reason.
    """

    what: str
    why: str


class Report:
    """What came over from a source, and what did not.

    Attributes:
        source: the kind of source, such as `mlflow`.
        path: where it is.
        runs: how many runs were read.
        total: how many there are at most.
        counts: what became of their records: added, held already, left out as deleted here.
        left_out: how many things there are of kinds that casket does not bring over, such as
            `images`.
        problems: what could not be read, and why.
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
        """Note what could not be brought over."""
        self.problems.append(Problem(str(what), str(why).partition("\n")[0]))

    def leave_out(self, kind: str, count: int = 1) -> None:
        """Count things of a kind that casket does not bring over."""
        if count:
            self.left_out[kind] += count

    def lines(self) -> list[str]:
        """Say it in sentences."""
        counts = self.counts
        return [
            f"{self.path} ({self.source}): {self.runs} runs read",
            f"added: {_listed(counts.added)}",
            f"there already: {counts.held} records",
            *([f"deleted here, left out: {counts.removed} records"] if counts.removed else []),
            *([f"casket does not bring over: {_listed(self.left_out)}"] if self.left_out else []),
            *(f"problem: {what}: {why}" for what, why in self.problems),
        ]


def _listed(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.items()) or "nothing"
