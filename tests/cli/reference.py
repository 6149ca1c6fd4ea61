"""Writes the part of `docs/cli.md` that follows from the commands themselves.

Usage: python -m tests.cli.reference
"""

from pathlib import Path

import click

from casket.cli.app import COMMANDS, app

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
BEGIN = "<!-- From here on written by `python -m tests.cli.reference`. -->\n"


def commands() -> dict[str, click.Command]:
    """Return the commands by name, in the order of `casket --help`."""
    context = click.Context(app)
    return {name: app.get_command(context, name) for name in COMMANDS}


def sentence(command: click.Command) -> str:
    """Return the first sentence of a command's help."""
    return " ".join(command.help.split("\n\n")[0].split())


def text() -> str:
    """Return the table of commands, and a section for each."""
    rows = [f"| `casket {name}` | {sentence(command)} |" for name, command in commands().items()]
    sections = [section(name, command) for name, command in commands().items()]
    return "\n".join(["| command | |", "| --- | --- |", *rows, "", *sections])


def section(name: str, command: click.Command) -> str:
    """Return a command's help, as a section of the page."""
    context = click.Context(command, info_name=f"casket {name}")
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    paragraphs = [paragraph(part) for part in command.help.split("\n\n")]
    rows = [row(option, context) for option in command.params if isinstance(option, click.Option)]
    table = "\n".join(["| option | |", "| --- | --- |", *rows])
    return "\n\n".join([f"### {name}", f"```\n{usage}\n```", *paragraphs, table]) + "\n"


def paragraph(part: str) -> str:
    """Return a paragraph of help; lines after a backspace are examples."""
    if not part.strip().startswith("\b"):
        return " ".join(part.split())
    lines = [line.strip() for line in part.replace("\b", "").strip().splitlines()]
    return "\n".join(["```", *lines, "```"])


def row(option: click.Option, context: click.Context) -> str:
    """Return an option as a row of a table."""
    names = " / ".join(filter(None, (", ".join(option.opts), ", ".join(option.secondary_opts))))
    value = "" if option.is_flag else f" {option.make_metavar(context)}"
    default = f" (default: {option.default})" if option.show_default else ""
    return f"| `{_escaped(names + value)}` | {_escaped(option.help)}{default} |"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<", "\\<")


if __name__ == "__main__":
    written, _, _ = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{written}{BEGIN}\n{text()}")
