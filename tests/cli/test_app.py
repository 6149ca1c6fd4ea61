"""Rules of all commands: help, the choice of the file, the messages of mistakes."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

import casket
from casket import Experiment
from casket.cli import options
from casket.cli.app import COMMANDS
from tests.cli import reference
from tests.cli.reference import commands
from tests.pages import PAGES, blocks

ROOT = Path(__file__).parents[2]


def test_every_command_of_the_contract_is_there(run):
    shown = run("--help")
    for name in (
        *("ls", "show", "tail", "diff", "best", "tag", "untag", "rename", "note"),
        *("rm", "clean", "compact"),
        *("export", "import", "merge", "doctor", "sync", "dashboard"),
    ):
        assert re.search(rf"^  {name}\s", shown, re.M), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name, run):
    shown = run(name, "--help")
    assert "\\b" not in shown
    examples = re.findall(r"^ *(casket .+)$", commands()[name].help, re.M)
    assert {line.strip() for line in shown.splitlines()} >= set(examples)
    assert shown.startswith(f"Usage: app {name} [OPTIONS]")
    for parameter in commands()[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_every_command_that_reads_can_write_json():
    without = {
        "tag",
        "untag",
        "rename",
        "note",
        "rm",
        "clean",
        "compact",
        "export",
        "import",
        "merge",
    }
    without |= {"backup", "dashboard", "sweep"}
    for name, command in commands().items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert ("--json" in options) or name in without, name


def test_every_command_that_deletes_or_rewrites_asks():
    for name in ("rm", "clean", "compact"):
        command = commands()[name]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--yes", "--dry-run"} <= options


def test_the_reference_has_every_command_and_option_in_the_words_of_its_help():
    _, _, written = reference.PAGE.read_text().partition(reference.BEGIN)
    assert written.strip() == reference.text().strip(), "run: python -m tests.cli.reference"
    for name, command in commands().items():
        assert f"| `casket {name}` |" in written
        assert COMMANDS[name][1] == reference.sentence(command)
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert f"`{', '.join(parameter.opts)}" in written


def test_every_call_of_casket_in_the_documentation_is_understood():
    texts = [block.text for page in PAGES for block in blocks(page.read_text())]
    lines = re.findall(r"^(?:\$ )?casket (.+)$", _without_breaks("\n".join(texts)), re.M)
    helps = _without_breaks("\n".join(command.help for command in commands().values()))
    lines += re.findall(r"^\s*casket (.+)$", helps, re.M)
    called = [line for line in lines if "[OPTIONS]" not in line]
    assert len(called) > 40
    for line in called:
        name, *arguments = shlex.split(line.partition("  #")[0])
        command = commands()[name]
        if name == "import":  # its source has to exist
            arguments[0] = str(ROOT)
        command.make_context(name, arguments, resilient_parsing=False)


def _without_breaks(text):
    """Join lines that end with a backslash to their next line."""
    return re.sub(r"\\\n\s*", "", text)


def test_the_one_experiment_file_of_the_folder_is_meant(run, tmp_path, monkeypatch, filled):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CASKET_FILE", raising=False)
    (tmp_path / "package.json").write_text('{"name": "not an experiment"}')
    (tmp_path / "notes.db").write_bytes(b"SQLite format 3\0 of something else")
    (tmp_path / "broken.json").mkdir()
    assert len(run.json("ls")) == 4


def test_casket_file_names_the_file(run, filled, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setenv("CASKET_FILE", filled)
    assert len(run.json("ls")) == 4
    assert "nothing.json" in run.error("ls", "nothing.json")


def test_no_file_and_two_files_are_told_apart(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CASKET_FILE", raising=False)
    assert "no experiment file in the current folder: give FILE" in run.error("ls")
    for name in ("a.json", "b.sqlite"):
        Experiment.use(name, exp_id="x").close()
    assert (
        "several experiment files in the current folder: give one of a.json, b.sqlite"
        in run.error("ls")
    )
    assert "no session matches" in run.error("ls", "a.json", code=1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ls", "nowhere.json"], "nowhere.json does not exist"),
        (["ls", "foreign.json"], "foreign.json is not a casket file"),
        (["ls", "{file}", "--where", "params.lr <"], "params.lr <\n"),
        (["ls", "{file}", "--where", "open('x')"], "there is no such function"),
        (["ls", "{file}", "--status", "lost"], "'lost' is not one of"),
        (["best", "units", "{file}"], "no session has units; there are"),
        (["show", "", "{file}"], "is ambiguous"),
        (["export", "{file}"], "give --format"),
        (["export", "{file}", "-o", "a.doc"], "is not a known format"),
        (
            ["export", "{file}", "--format", "csv", "--table", "epochs", "--columns", "lr"],
            "no session has lr; did you mean params.lr?",
        ),
        (["export", "{file}", "--format", "parquet"], "give -o"),
        (["tail", "redis://nowhere"], "no such store is known"),
        (["frobnicate"], "No such command 'frobnicate'"),
    ],
)
def test_bad_use_is_a_message_and_exit_code_2(arguments, said, run, filled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("foreign.json").write_text('{"a": 1}')
    shown = run.error(*(each.format(file=filled) for each in arguments))
    assert said in shown
    assert "Traceback" not in shown
    assert Path("foreign.json").read_text() == '{"a": 1}'


def test_a_bad_expression_shows_the_place_of_the_mistake(run, filled):
    *_, text, marker = run.error("ls", filled, "--where", "loss < 1 & val_acc > 0").splitlines()
    assert text[marker.index("^")] == "&"


def test_a_session_that_is_not_there_is_exit_code_1(run, filled):
    said = run.error("show", "zzz", filled, code=1)
    assert f"no session of {filled} matches 'zzz'" in said


def test_an_ambiguous_beginning_names_what_it_may_mean(run, filled):
    with casket.open(filled) as runs:
        ids = [session.id for session in runs.sessions()]
    shown = run.error("show", "", filled)
    assert all(each in shown for each in ids)
    assert run.json("show", ids[1], filled)["id"] == ids[1]


def test_a_warning_is_one_line_on_the_error_stream(run, tmp_path):
    path = tmp_path / "runs.json"
    Experiment.use(path, exp_id="x").model("m").add_result({"a": 1})
    path.write_bytes(path.read_bytes().replace(b'"4": {', b'"4": }', 1))
    command = [sys.executable, "-m", "casket.cli.app", "ls", path]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.stderr.startswith("warning: ")
    assert "Traceback" not in done.stderr


def test_colors_are_for_terminals_and_no_color_is_respected(run, terminal, filled):
    assert "\x1b[" not in run("ls", filled)
    assert "\x1b[32mcompleted" in terminal("ls", filled)[1]
    assert "\x1b[" not in terminal("ls", filled, NO_COLOR="1")[1]


@pytest.mark.parametrize(
    ("version", "command", "options"),
    [
        ("less 643 (GNU regular expressions)", ("ls", "--page"), "-RS --header=2"),
        ("less 643", ("show", "@last", "--epochs", "--page"), "-RS --header=1"),
        ("less 590", ("ls", "--page"), "-RS"),
        ("none", ("ls", "--page"), "-RS"),
    ],
)
def test_the_header_of_a_table_stays_if_the_pager_can_do_it(
    version, command, options, terminal, filled, tmp_path, monkeypatch
):
    monkeypatch.delenv("LESS", raising=False)
    less = tmp_path / "less"
    less.write_text(f"""#!/bin/sh
if [ "$1" = --version ]; then echo "{version}"; else echo "LESS=$LESS"; cat >/dev/null; fi
""")
    less.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    shown = terminal(*command, filled, PAGER=str(less), PATH=path)[1]
    assert shown == f"LESS={options}\n"


def test_the_pager_is_the_users(terminal, filled, tmp_path):
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho paged; cat\n")
    pager.chmod(0o755)
    assert terminal("ls", filled, "--page", PAGER=str(pager))[1].startswith("paged\n")


def test_the_shell_completes_commands_sessions_and_files(filled):
    def complete(words, position):
        done = subprocess.run(
            [sys.executable, "-c", "from casket.cli.app import main; main()"],
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "_CASKET_COMPLETE": "bash_complete",
                "COMP_WORDS": words,
                "COMP_CWORD": str(position),
                "CASKET_FILE": filled,
            },
        )
        return done.stdout.splitlines()

    assert complete("casket s", 1) == ["plain,show", "plain,sweep", "plain,sync"]
    with casket.open(filled) as runs:
        first = runs.sessions()[0].id
    assert complete(f"casket show {first[:6]}", 2) == [f"plain,{first}"]
    assert "plain,@last" in complete("casket show @", 2)
    assert complete("casket ls ", 2) == ["file,"]
    assert complete("casket best val", 2) == ["plain,val_acc"]
    assert complete("casket ls --sort params.l", 3) == ["plain,params.lr"]
    assert complete("casket ls --columns session,lo", 3) == ["plain,session,loss"]
    assert complete("casket export --group-by params.o", 3) == ["plain,params.opt.name"]
    assert complete("casket ls --tag t", 3) == ["plain,thesis"]
    assert complete("casket rm --experiment d", 3) == ["plain,digits"]
    assert complete("casket rm --model n", 3) == ["plain,net"]


def test_the_command_line_loads_no_framework_and_none_of_the_heavy_packages(run_python, filled):
    code = """
    import sys
    from casket.cli.app import app
    app(["ls", sys.argv[1]], standalone_mode=False)
    heavy = {"numpy", "pandas", "polars", "torch", "keras", "tinydb", "plotille"} & set(sys.modules)
    assert not heavy, heavy
    """
    run_python(code, filled)


def test_a_file_is_recognized_at_any_position(run, filled, tmp_path, monkeypatch):
    monkeypatch.delenv("CASKET_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.sqlite").write_bytes(b"SQLite format 3\0 of something else")
    last = run.json("show", "@last", filled)["id"]
    assert run.json("show", filled, "@last")["id"] == last
    assert run.json("show", filled)["id"] == last
    assert run.json("show", filled, last[:8])["id"] == last
    assert [each["value"] for each in run.json("best", filled, "loss")] == [0.25, 0.35, 0.5]
    assert "no difference" in run("diff", filled, "@last", "@last")
    assert "no difference" in run("diff", "@last", filled, "@last")
    run("tag", filled, "@last", "first", "second")
    run("tag", "@last", "third", filled)
    assert run.json("show", filled)["tags"][-3:] == ["first", "second", "third"]
    run("untag", "@last", filled, "third")
    run("note", filled, "@last", "text")
    assert run.json("show", filled)["note"] == "text"
    assert "session" in run("rm", filled, last, "--dry-run")
    assert "Missing argument 'METRIC'" in run.error("best", filled)
    assert "Missing argument 'B'" in run.error("diff", filled, "@last")
    assert "nothing to remove" in run.error("rm", filled)


@pytest.mark.parametrize("form", ["blitz:{folder}/runs", "sqlite:///{folder}/runs.sqlite"])
def test_a_url_is_recognized_at_any_position(run, filled, tmp_path, form):
    if form.startswith("blitz:"):
        pytest.importorskip("blitzdb")
    url = form.format(folder=tmp_path)
    run("merge", filled, "-o", url)
    assert run.json("show", url, "@last")["id"] == run.json("show", "@last", url)["id"]
    ranked = [run.json("best", *words) for words in ((url, "loss"), ("loss", url))]
    assert [[each["value"] for each in one] for one in ranked] == [[0.25, 0.35, 0.5]] * 2


@pytest.mark.parametrize(
    ("word", "is_store"),
    [
        ("me@host:runs.json", True),
        ("me@host:~/deep/runs.json", True),
        ("sftp://host/runs.json", True),
        ("blitz:runs", True),
        ("a note to me@host: runs.json", False),
        ("stage:final", False),
        ("loss", False),
    ],
)
def test_a_word_is_taken_for_a_store_only_if_it_has_the_form_of_one(word, is_store):
    assert options._is_store(word) is is_store


def test_python_m_casket_is_the_command_line(filled):
    command = [sys.executable, "-m", "casket", "ls", "--json", filled]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.stdout.startswith("[")
    usage = subprocess.run(
        [*command[:3], "--help"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout  # fmt: skip
    assert usage.startswith("Usage: casket ")


@pytest.mark.parametrize(
    ("typed", "meant"), [("sow", "show"), ("expotr", "export"), ("tags", "tag or untag")]
)
def test_a_command_that_does_not_exist_suggests_the_nearest(typed, meant, run):
    assert f"No such command '{typed}'. Did you mean {meant}?" in run.error(typed)
