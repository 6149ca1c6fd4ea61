"""Runs the Python code of a page of documentation, as a reader does who follows it.

Usage: python tests/pages.py PAGE

The blocks marked `python` run in order, as one script. A block of `text` that follows is its
the code has to print; `...` stands for any text. Blocks marked `py` need a server and do not run.
"""

import contextlib
import doctest
import io
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "adapters").glob("*.md")),
]


class Block(NamedTuple):
    """A fenced block: its language, its text, and the line on which the text begins."""

    language: str
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    fences = re.finditer(r"^```(\w*)\n(.*?)^```$", page, re.M | re.S)
    return [Block(fence[1], fence[2], page.count("\n", 0, fence.start(2)) + 1) for fence in fences]


def run(path: Path) -> None:
    """Run the Python code of a page; raise if it fails or prints something else."""
    names = {"__name__": "__main__"}
    for block, following in pairwise([*blocks(path.read_text()), Block("", "", 0)]):
        if block.language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * (block.line - 1) + block.text, path, "exec"), names)
        wanted = following.text if following.language == "text" else ""
        if not doctest.OutputChecker().check_output(wanted, printed.getvalue(), doctest.ELLIPSIS):
            raise AssertionError(
                f"{path}:{block.line} prints {printed.getvalue()!r}, not {wanted!r}"
            )


if __name__ == "__main__":
    run(Path(sys.argv[1]))
