"""Hostile text, streams that fail, and encodings that lack characters."""

import csv
import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

import casket
from casket import Experiment
from casket.cli import terminal as streams
from tests.cli.many import SEPARATOR
from tests.cli.reference import commands
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]

HOSTILE = "\x1b]52;c;QUFB\x07\x1b[2J\x9b31m\x7f\u202egpj\u2066\rX\b\nstatus completed"
"""Writes to the clipboard, clears the screen, turns the direction of text, forges a line."""

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
OWN_STYLE = re.compile(r"\x1b\[(0|1|3[0-7])m|\x1b\[K|\x1b\[\?25[lh]|\x1b\[\d+F\x1b\[J|\r")
"""Colors, and the moves of the cursor by which progress and tables are drawn anew."""


@pytest.fixture
def hostile(file_url):
    """A file with control characters in every text that can hold them."""
    experiment = Experiment.use(file_url, exp_id=f"e{HOSTILE}", tags=(f"t{HOSTILE}",))
    model = experiment.model(f"m{HOSTILE}", {f"c{HOSTILE}": HOSTILE})
    for number in (1, 2):
        labels = {"name": f"n{HOSTILE}{number}", "group": f"g{HOSTILE}"}
        session = model.session({"lr": number, f"p{HOSTILE}": f"{HOSTILE}{number}"}, **labels)
        for epoch in (1, 2, 3):
            session.add_epoch(epoch, {"loss": 1 / epoch, f"acc{HOSTILE}": epoch, "s": HOSTILE})
            session.add_batch(epoch, {f"b{HOSTILE}": 1.0}, epoch=epoch)
        session.add_result({f"r{HOSTILE}": HOSTILE}, index_by=f"i{HOSTILE}")
        session.add_meta({f"k{HOSTILE}": [HOSTILE]})
        session.add_artifact(f"a{HOSTILE}".replace("/", "-"), b"x")
        if number == 2:
            session.end("failed", error=f"ValueError: {HOSTILE}")
        else:
            session.end()
    experiment.close()
    return file_url


SHOWING = [
    ["ls"], ["ls", "--sort", "lr"], ["ls", "--json"], ["ls", "--csv"], ["ls", "--page"],
    ["ls", "--columns", "id,experiment,model,tags,note,error,params,config,meta"],
    ["ls", "--group-by", "experiment"], ["ls", "--group-by", "model", "--csv"],
    ["ls", "--where", "nothing == 1"], ["ls", "--columns", "nothing"],
    ["best", "loss"], ["best", "loss", "--json"], ["best", "nothing"],
    ["show", "@last"], ["show", "@last", "--json"], ["show", "@last", "--metrics", "nothing"],
    ["diff", "params.lr < 1.5", "@last", "--all"], ["diff", "params.lr == 1", "@last", "--json"],
    ["tail"], ["backup"], ["watch", "--once"],
    ["export", "--format", "csv"], ["export", "--format", "csv", "--table", "epochs"],
    ["export", "--format", "json"], ["export", "--format", "jsonl"],
    ["export", "--format", "markdown"], ["export", "--format", "latex"],
    ["export", "--format", "markdown", "--group-by", "experiment"],
    ["doctor"], ["doctor", "--json"], ["clean", "--failed"], ["clean", "--failed", "--dry-run"],
    ["compact", "--yes"], ["rm", "@last"], ["rm", "--model", "nothing"], ["tag", "@last", HOSTILE],
    ["untag", "@last", HOSTILE], ["note", "@last", HOSTILE], ["note", "nothing", "x"],
    ["rename", "@last", f"r{HOSTILE}"], ["rename", "nothing", "x"],
]  # fmt: skip


def on(file, arguments):
    """Return the arguments of a command, with the file given in the way that it takes."""
    with_option = arguments[0] in {"rm", "tag", "untag", "note", "rename"}
    return [*arguments, *(["-f"] if with_option else []), file]


def test_no_text_of_a_file_drives_the_terminal(terminal, hostile, tmp_path):
    results = prepared(tmp_path, [on(hostile, arguments) for arguments in SHOWING])
    environment = {"PAGER": "cat", "XDG_STATE_HOME": str(tmp_path)}
    code, shown = terminal(
        results, "same", module="tests.cli.many", answer="n\n" * 99, **environment
    )
    assert code == 0
    assert "Traceback" not in shown
    assert set(json.loads((results / "codes").read_text())) == {0, 1, 2}
    parts = shown.split(SEPARATOR)
    assert len(parts) == len(SHOWING) + 1
    for arguments, part in zip(SHOWING, parts, strict=False):
        rest = OWN_STYLE.sub("", part)
        assert not CONTROL.search(rest), (arguments, rest)
        is_document = arguments[0] == "export" or "--csv" in arguments
        assert is_document or "\nstatus completed" not in rest, (arguments, rest)
        assert rest.strip() or arguments[0] in {"tag", "untag", "note", "rename"}, arguments


@pytest.mark.parametrize("command", ["merge", "import", "doctor", "sweep"])
def test_damage_and_sources_with_hostile_text_are_shown_safely(command, terminal, tmp_path):
    path = tmp_path / f"{HOSTILE[:9]}.json"
    with Experiment.use(path, exp_id="x").model("m").session() as session:
        session.add_artifact(f"a{HOSTILE}".replace("/", "-"), b"x")
    for file in path.with_name(f"{path.name}.files").iterdir():
        file.unlink()
    arguments = {"merge": ["-o", "all.json"], "import": ["all.json"], "doctor": ["--repair"]}
    names = ["--experiment", f"e{HOSTILE}", "--model", f"m{HOSTILE}", "--grid", f"a{HOSTILE[:9]}=1"]
    arguments["sweep"] = [*names, "--", "sleep", "1"]  # so that its table is drawn anew
    _, shown = terminal(command, path, *arguments[command], answer="n\n")
    assert "Traceback" not in shown
    assert not CONTROL.search(OWN_STYLE.sub("", shown)), repr(shown)


def test_a_table_of_hostile_text_keeps_its_shape(terminal, hostile):
    _, shown = terminal("ls", hostile, columns=100, NO_COLOR="1")
    assert max(map(len, shown.splitlines()[1:4])) <= 100
    header, *rows = shown.splitlines()[1:4]
    assert {row.index("completed" if "completed" in row else "failed") for row in rows} == {
        header.index("status")
    }


def test_json_is_exact_in_a_terminal_too(run, terminal, hostile):
    _, shown = terminal("show", "@last", hostile, "--json")
    described = json.loads(shown)
    assert described["model"] == f"m{HOSTILE}"
    assert described["params"] == {"lr": 2, f"p{HOSTILE}": f"{HOSTILE}2"}
    assert described["params"] == run.json("show", "@last", hostile)["params"]
    lines = run("export", hostile, "--format", "jsonl").splitlines()
    assert json.loads(lines[1])["error"] == f"ValueError: {HOSTILE}"


@pytest.mark.parametrize("command", [["ls", "--csv"], ["export", "--format", "csv"]])
def test_csv_is_exact_where_it_is_no_terminal(command, run, hostile):
    name, *options = command
    rows = list(csv.DictReader(io.StringIO(run(name, hostile, *options), newline="")))
    assert [row["model"] for row in rows] == [f"m{HOSTILE}"] * 2
    assert rows[1]["error"] == f"ValueError: {HOSTILE}"


TEXTS = ["=1+1", "+a", "-a", "@SUM(A1)", "\t=1", "\r=1"]


@pytest.mark.parametrize(
    "command", [["ls", "--csv"], ["export", "--format", "csv"], ["ls", "--group-by", "t", "--csv"]]
)
def test_a_spreadsheet_runs_no_text_of_a_file(command, run, tmp_path):
    path = tmp_path / "runs.json"
    model = Experiment.use(path, exp_id="x").model("m")
    for text in TEXTS:
        model.add_result({"loss": -1.5, "=x": -2}, params={"t": text, "n": "-0.5", "l": -3})
    name, *options = command
    lines = list(csv.reader(io.StringIO(run(name, path, *options), newline="")))
    risky = {cell for line in lines for cell in line if re.match(r"[=@\t\r]|[+-]\D", cell)}
    assert not risky - {"-Infinity"}
    assert {f"'{text}" for text in TEXTS} <= {cell for line in lines for cell in line}
    if "--group-by" not in command:
        row = dict(zip(*lines[:2], strict=True))
        assert (row["params.n"], row["params.l"]) == ("-0.5", "-3")
        assert float(row["last.loss"]) == -1.5


OUTPUTS = {
    name: next(arguments for arguments in SHOWING if arguments[0] == name)
    for name in ("ls", "best", "show", "diff", "doctor", "backup")
}
OUTPUTS |= {
    "--help": ["--help"], "--version": ["--version"], "ls --help": ["ls", "--help"],
    "ls --json": ["ls", "--json"], "ls --csv": ["ls", "--csv"],
    "show --json": ["show", "@last", "--json"],
    "ls --group-by": ["ls", "--group-by", "lr"],
    "export csv": ["export", "--format", "csv"], "export html": ["export", "--format", "html"],
    "export latex": ["export", "--format", "latex"], "sync": ["sync"],
    "clean": ["clean", "--failed", "--dry-run"], "compact": ["compact", "--dry-run"],
    "rm": ["rm", "@last", "--dry-run"], "merge": ["merge", "-o", "all.json"],
    "import": ["import"], "dashboard": ["dashboard", "--no-open", "--port", "0"],
}  # fmt: skip


def prepared(folder, commands):
    """Return a folder with the commands for `tests.cli.many`."""
    results = folder / "results"
    results.mkdir(exist_ok=True)
    (results / "commands").write_text(json.dumps([[*map(str, each)] for each in commands]))
    return results


class Done(NamedTuple):
    code: int
    out: bytes
    err: bytes


def each_of(commands, way, file, **environment):
    """Run commands with an output that is spoilt in some way."""
    results = prepared(file.parent, [complete(each, file) for each in commands])
    subprocess.run(
        [sys.executable, "-m", "tests.cli.many", str(results), way], check=True, timeout=PATIENCE,
        stdin=subprocess.DEVNULL, cwd=file.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    codes = json.loads((results / "codes").read_text())
    return [
        Done(code, *((results / f"{i}.{kind}").read_bytes() for kind in ("out", "err")))
        for i, code in enumerate(codes)
    ]


def complete(arguments, file):
    """Return the arguments of a command with its file."""
    if {"--help", "--version", "sync"} & set(arguments):
        return arguments
    made = [file.parent / "made.json"] if arguments[0] == "import" else []
    return [*on(file, arguments), *made]


@pytest.fixture
def logged(tmp_path):
    """A file of completed and failed sessions with text that is not ASCII."""
    path = tmp_path / "runs.json"
    model = Experiment.use(path, exp_id="é").model("模型")
    for lr in (0.1, 0.2):
        with model.session({"lr": lr, "größe": "ü"}) as session:
            for epoch in (1, 2, 3):
                session.add_epoch(epoch, {"loss": lr / epoch})
    model.session({"lr": 9.0}).end("failed", error="Fehler: größer")
    return path


WRITING = [arguments for name, arguments in OUTPUTS.items()]


@pytest.mark.parametrize(
    ("way", "message"),
    [("full", "No space left on device"), ("closed", "Bad file descriptor"), ("broken", "")],
)
def test_an_output_that_fails_is_no_traceback(way, message, logged):
    for arguments, done in zip(WRITING, each_of(WRITING, way, logged), strict=True):
        assert b"Traceback" not in done.err, (arguments, done.err)
        assert b"Exception ignored" not in done.err, (arguments, done.err)
        assert done.code == (2 if message else streams.BROKEN_PIPE), (arguments, done.err)
        said = f"standard output cannot be written: {message}".encode()
        assert (said in done.err) == bool(message), (arguments, done.err)


def test_a_standard_error_that_fails_changes_no_exit_code(logged):
    calls = [each for each in WRITING if each[0] != "dashboard"] + [["show", "nothing"]]
    expected = [(done.code, bool(done.out)) for done in each_of(calls, "same", logged)]
    for way in ("full!", "closed!", "broken!"):
        assert [(done.code, bool(done.out)) for done in each_of(calls, way, logged)] == expected


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-16"])
def test_an_encoding_that_lacks_characters_is_no_traceback(encoding, logged):
    calls = [each for each in WRITING if each[0] != "dashboard"]
    for done in each_of(calls, "same", logged, PYTHONIOENCODING=encoding, LC_ALL="C"):
        assert b"Traceback" not in done.err
        assert done.code in {0, 1}, done.err


def test_what_is_read_by_programs_is_utf_8_everywhere(logged):
    calls = [["ls", "--json"], ["ls"], ["show", "@last"]]
    exact, *shown = each_of(calls, "same", logged, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert json.loads(exact.out)[0]["model"] == "模型"
    assert all(done.out.isascii() for done in shown)
    assert b"experiment ?, model ??" in shown[0].out


def test_an_output_that_cannot_be_written_is_a_message(run, logged, tmp_path):
    assert "cannot be written" in run.error("export", logged, "-o", "/dev/full", "--format", "csv")
    assert Path("/dev/full").is_char_device()
    nowhere = tmp_path / "no folder" / "a.csv"
    assert "cannot be written" in run.error("export", logged, "-o", nowhere)
    nowhere = nowhere.with_suffix(".parquet")
    assert "cannot be written" in run.error("export", logged, "-o", nowhere)


def test_an_export_goes_through_a_link_and_a_pipe(run, logged, tmp_path):
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "target.csv")
    run("export", logged, "-o", link)
    assert link.is_symlink()
    assert (tmp_path / "target.csv").read_text() == run("export", logged, "--format", "csv")
    command = [sys.executable, "-m", "casket.cli.app", "export", str(logged), "-o", "/dev/stdout"]
    done = subprocess.run([*command, "--format", "csv"], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.stdout == (tmp_path / "target.csv").read_text()


def test_a_closed_descriptor_is_not_the_files(logged):
    before = logged.read_bytes()
    command = 'exec >&- 2>&-; exec "$@"'
    casket_tag = [sys.executable, "-m", "casket.cli.app", "tag", "@last", "x", "-f", str(logged)]
    subprocess.run(["sh", "-c", command, "sh", *casket_tag], check=True, cwd=ROOT)
    assert logged.read_bytes().startswith(before[:-4])
    with casket.open(logged) as runs:
        assert runs.sessions()[-1].tags == ("x",)


def test_messages_end(run, filled):
    long = "x" * 100_000
    for arguments in (["show", long, filled], ["ls", filled, "--where", f"{long} > 1"], [long]):
        said = run.error(*arguments, code=1 if arguments[0] == "show" else 2)
        assert len(said) < 2_500


def test_ctrl_c_ends_a_command_with_130_in_silence(filled):
    command = [sys.executable, "-m", "casket.cli.app", "tail", "-f", str(filled)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    Experiment.use(filled, exp_id="other").model("m")
    while process.poll() is None:
        with Experiment.use(filled, exp_id="other").model("m").session({"n": time.time()}):
            pass
        if select.select([process.stdout], [], [], 0.5)[0]:
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert said.strip() == ""


def test_a_prompt_without_an_answer_says_what_to_give(logged):
    (done,) = each_of([["rm", "@last"]], "same", logged)
    assert b"give --yes" in done.err
    assert done.code == 2


def test_every_command_is_tried_with_hostile_text():
    tried = {arguments[0] for arguments in SHOWING} | {"merge", "import", "sweep"}
    assert set(commands()) - tried == {"sync", "dashboard"}
