from __future__ import annotations

import gc
import getpass
import json
import os
import platform
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from casket.system import git as module
from casket.system.git import DirtyCheck, dirty_check
from casket.system.secrets import redact
from casket.writing.provenance import provenance
from tests.waiting import PATIENCE, eventually

ROOT = Path(__file__).parents[1]

on_posix = pytest.mark.skipif(not hasattr(os, "posix_spawnp"), reason="needs posix_spawn")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=n", "-c", "user.email=e@x", *arguments]
    # Neither the developer's settings nor the repository of a hook that runs these tests.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def head(folder: Path) -> str:
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def empty_repository(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "--initial-branch=main")
    return folder


@pytest.fixture
def repository(empty_repository: Path) -> Path:
    (empty_repository / "train.py").write_text("print('training')\n")
    git(empty_repository, "add", ".")
    git(empty_repository, "commit", "--message=first")
    return empty_repository


@pytest.fixture(autouse=True)
def no_latest_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_latest", None)


@pytest.fixture
def run_from(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make it look as if the main script, or the session without a script, ran from a folder."""

    def run(place: Path) -> None:
        main = ModuleType("__main__")
        if place.suffix == ".py":
            main.__file__ = str(place)
        else:
            monkeypatch.chdir(place)
        monkeypatch.setitem(sys.modules, "__main__", main)

    return run


RunFrom = Callable[[Path], None]


def commit_and_branch() -> tuple[str | None, str | None]:
    told = provenance()
    return told["commit"], told["branch"]


# The provenance of every session


def test_it_has_every_key_and_fits_into_json() -> None:
    told = provenance()
    assert list(told) == [
        "commit",
        "branch",
        "dirty",
        "user",
        "host",
        "pid",
        "platform",
        "python",
        "command_line",
        "start",
    ]
    assert json.loads(json.dumps(told)) == told


def test_it_tells_of_this_process() -> None:
    told = provenance()
    assert told["pid"] == os.getpid()
    assert told["host"] == platform.node()
    assert told["python"] == platform.python_version()
    assert platform.system() in told["platform"]
    assert told["dirty"] is None


def test_the_start_is_utc_with_microseconds() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", provenance()["start"])


def test_it_costs_a_few_milliseconds(repository: Path, run_from: RunFrom) -> None:
    run_from(repository)
    provenance()
    assert median(seconds(provenance) for _ in range(50)) < 0.020


def test_starting_a_check_costs_a_few_milliseconds(repository: Path) -> None:
    assert median(seconds(lambda: DirtyCheck(str(repository))) for _ in range(15)) < 0.050


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def test_importing_it_imports_nothing_slow() -> None:
    # Under a bare package, as the imports of casket itself are measured elsewhere.
    code = (
        "import sys, types; package = sys.modules['casket'] = types.ModuleType('casket')\n"
        f"package.__path__ = [{str(ROOT / 'casket')!r}]\n"
        "import casket.format.records; before = set(sys.modules)\n"
        "import casket.writing.provenance, casket.system.processes\n"
        "slow = {'subprocess', 'platform', 'dataclasses', 'inspect', 'psutil', 'hashlib'}\n"
        "print(*slow & (set(sys.modules) - before))"
    )
    assert python(code) == ""


def importing_casket() -> dict[str, str]:
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def python(code: str, *options: str, folder: Path | None = None) -> str:
    environment = importing_casket()
    command = [sys.executable, *options, "-c", code]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_a_user_the_system_does_not_know_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (KeyError, OSError, ImportError):
        monkeypatch.setattr(getpass, "getuser", failing_with(error))
        assert provenance()["user"] is None


def failing_with(error: type[BaseException]) -> Callable[..., Any]:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    return fail


def test_a_system_without_uname_has_a_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "uname", raising=False)
    monkeypatch.setattr(platform, "platform", lambda: "Windows-11")
    assert provenance()["platform"] == "Windows-11"
    monkeypatch.setattr(platform, "platform", failing_with(OSError))
    assert provenance()["platform"] is None


def test_a_host_without_a_name_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    nameless = SimpleNamespace(nodename="", sysname="Linux", release="6", machine="arm64")
    monkeypatch.setattr(os, "uname", lambda: nameless, raising=False)
    told = provenance()
    assert (told["host"], told["platform"]) == (None, "Linux-6-arm64")


# The commit and the branch


def test_the_working_folders_commit_and_branch_are_told(
    repository: Path, run_from: RunFrom
) -> None:
    run_from(repository)
    assert commit_and_branch() == (head(repository), "main")


def test_the_repository_is_looked_for_upwards(repository: Path, run_from: RunFrom) -> None:
    deep = repository / "a" / "b"
    deep.mkdir(parents=True)
    run_from(deep)
    assert commit_and_branch() == (head(repository), "main")


def test_the_main_script_counts_more_than_the_working_folder(
    repository: Path, tmp_path: Path, run_from: RunFrom
) -> None:
    run_from(tmp_path)
    run_from(repository / "train.py")
    assert commit_and_branch() == (head(repository), "main")


def test_a_script_run_through_a_symbolic_link_belongs_to_its_repository(
    repository: Path, tmp_path: Path, run_from: RunFrom
) -> None:
    link = tmp_path / "link.py"
    link.symlink_to(repository / "train.py")
    run_from(link)
    assert commit_and_branch() == (head(repository), "main")


def test_a_real_script_tells_its_own_repository(repository: Path, tmp_path: Path) -> None:
    script = "import json, casket.writing.provenance as p; print(json.dumps(p.provenance()))"
    (repository / "train.py").write_text(script)
    command = [sys.executable, str(repository / "train.py"), "--password", "hush"]
    environment = importing_casket()
    told = json.loads(subprocess.check_output(command, cwd=tmp_path, env=environment))
    assert (told["commit"], told["branch"]) == (head(repository), "main")
    assert told["command_line"][-2:] == ["--password", "***"]


def test_outside_of_a_repository_they_are_none(tmp_path: Path, run_from: RunFrom) -> None:
    run_from(tmp_path)
    assert commit_and_branch() == (None, None)


def test_a_detached_head_has_no_branch(repository: Path, run_from: RunFrom) -> None:
    git(repository, "checkout", "--detach")
    run_from(repository)
    assert commit_and_branch() == (head(repository), None)


def test_an_unborn_branch_has_no_commit(empty_repository: Path, run_from: RunFrom) -> None:
    run_from(empty_repository)
    assert commit_and_branch() == (None, "main")


def test_a_branch_with_slashes_is_told_whole(repository: Path, run_from: RunFrom) -> None:
    git(repository, "checkout", "-b", "feature/a/b")
    run_from(repository)
    assert commit_and_branch() == (head(repository), "feature/a/b")


def test_packed_refs_are_read(repository: Path, run_from: RunFrom) -> None:
    git(repository, "tag", "--annotate", "--message=t", "v1")
    git(repository, "branch", "another-main")
    git(repository, "pack-refs", "--all")
    assert not (repository / ".git/refs/heads/main").exists()
    run_from(repository)
    assert commit_and_branch() == (head(repository), "main")


def test_a_loose_ref_counts_more_than_a_packed_one(repository: Path, run_from: RunFrom) -> None:
    git(repository, "pack-refs", "--all")
    git(repository, "commit", "--allow-empty", "--message=second")
    run_from(repository)
    assert commit_and_branch() == (head(repository), "main")


def test_a_worktree_has_its_own_commit_and_branch(
    repository: Path, tmp_path: Path, run_from: RunFrom
) -> None:
    tree = tmp_path / "tree"
    git(repository, "worktree", "add", "-b", "side", str(tree))
    git(tree, "commit", "--allow-empty", "--message=aside")
    run_from(tree)
    assert commit_and_branch() == (head(tree), "side")
    assert head(tree) != head(repository)
    git(repository, "pack-refs", "--all")
    assert commit_and_branch() == (head(tree), "side")


def test_a_submodule_has_its_own_commit(
    repository: Path, tmp_path: Path, run_from: RunFrom
) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "--initial-branch=outer")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "add", str(repository), "inner")
    run_from(outer / "inner")
    assert commit_and_branch() == (head(repository), "main")


def test_a_branch_that_is_a_symbolic_ref_is_followed(repository: Path, run_from: RunFrom) -> None:
    git(repository, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    git(repository, "symbolic-ref", "HEAD", "refs/heads/alias")
    run_from(repository)
    assert commit_and_branch() == (head(repository), "alias")


def test_refs_that_run_in_a_circle_have_no_commit(repository: Path, run_from: RunFrom) -> None:
    (repository / ".git/refs/heads/main").write_text("ref: refs/heads/main\n")
    run_from(repository)
    assert commit_and_branch() == (None, "main")


def test_a_head_outside_of_the_branches_has_no_branch(repository: Path, run_from: RunFrom) -> None:
    commit = head(repository)
    git(repository, "update-ref", "refs/bisected/x", commit)
    (repository / ".git/HEAD").write_text("ref: refs/bisected/x\n")
    run_from(repository)
    assert commit_and_branch() == (commit, None)


def test_a_commit_of_sha256_is_told_whole(tmp_path: Path, run_from: RunFrom) -> None:
    git(tmp_path, "init", "--initial-branch=main", "--object-format=sha256")
    git(tmp_path, "commit", "--allow-empty", "--message=first")
    run_from(tmp_path)
    assert commit_and_branch() == (head(tmp_path), "main")
    assert len(head(tmp_path)) == 64


def test_a_reftable_repository_is_unknown(repository: Path, run_from: RunFrom) -> None:
    # As `git init --ref-format=reftable` writes it; not every git in use can.
    (repository / ".git/HEAD").write_text("ref: refs/heads/.invalid\n")
    (repository / ".git/refs/heads/main").unlink()
    (repository / ".git/refs/heads").rmdir()
    (repository / ".git/refs/heads").write_text("this repository uses the reftable format\n")
    run_from(repository)
    assert commit_and_branch() == (None, None)


@pytest.mark.parametrize("text", ["", "garbage", "ref:", "ref: \0", "ref: ../../secret", "\udcff"])
def test_an_unreadable_head_is_unknown(text: str, repository: Path, run_from: RunFrom) -> None:
    (repository / ".git/HEAD").write_bytes(os.fsencode(text))
    run_from(repository)
    assert commit_and_branch() == (None, None)


@pytest.mark.parametrize("text", ["", "not a hash\n"])
def test_a_broken_ref_has_no_commit(text: str, repository: Path, run_from: RunFrom) -> None:
    git(repository, "pack-refs", "--all")
    (repository / ".git/refs/heads/main").write_text(text)
    run_from(repository)
    assert commit_and_branch() == (None, "main")


def test_a_worktree_whose_repository_is_gone_is_unknown(tmp_path: Path, run_from: RunFrom) -> None:
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")
    run_from(tmp_path)
    assert commit_and_branch() == (None, None)


def test_an_empty_git_folder_is_passed_over(repository: Path, run_from: RunFrom) -> None:
    below = repository / "below"
    (below / ".git").mkdir(parents=True)
    run_from(below)
    assert commit_and_branch() == (head(repository), "main")


@on_posix
def test_a_branch_that_is_not_utf_8_fits_into_json(repository: Path, run_from: RunFrom) -> None:
    (repository / ".git/HEAD").write_bytes(b"ref: refs/heads/caf\xe9\n")
    (repository / os.fsdecode(b".git/refs/heads/caf\xe9")).write_text(head_of_main(repository))
    run_from(repository)
    commit, branch = commit_and_branch()
    assert (commit, branch) == (head_of_main(repository), "caf\\udce9")


def head_of_main(repository: Path) -> str:
    return (repository / ".git/refs/heads/main").read_text().strip()


@on_posix
def test_a_working_folder_that_is_gone_is_no_error(tmp_path: Path, run_from: RunFrom) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    run_from(gone)
    gone.rmdir()
    assert commit_and_branch() == (None, None)
    assert dirty_check().result() is None


def test_a_main_module_of_a_strange_file_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    strange: Any = ModuleType("__main__")
    strange.__file__ = object()
    monkeypatch.setitem(sys.modules, "__main__", strange)
    assert commit_and_branch() == (None, None)
    monkeypatch.delitem(sys.modules, "__main__")
    assert provenance()["pid"] == os.getpid()


# The command line and its secrets


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    def tell(*arguments: str) -> list[str]:
        monkeypatch.setattr(sys, "orig_argv", list(arguments))
        told: list[str] = provenance()["command_line"]
        return told

    return tell


CommandLine = Callable[..., list[str]]


def test_the_command_line_is_told_as_it_was_typed(command_line: CommandLine) -> None:
    typed = ("python", "-O", "-m", "train", "--lr", "0.1", "--name=a b", "x@y", "")
    assert command_line(*typed) == list(typed)


def test_without_an_original_command_line_the_scripts_own_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "orig_argv", [])
    monkeypatch.setattr(sys, "argv", ["train.py", "--token=x"])
    assert provenance()["command_line"] == ["train.py", "--token=***"]
    monkeypatch.delattr(sys, "orig_argv")
    monkeypatch.delattr(sys, "argv")
    assert provenance()["command_line"] is None


@pytest.mark.parametrize(
    "option",
    [
        "--password",
        "--db-password",
        "--db.passwd",
        "-password",
        "--PASSWORD",
        "--pass",
        "--db_pass",
        "--token",
        "--hf_token",
        "--authToken",
        "--api-key",
        "--api_key",
        "--apikey",
        "--secret",
        "--client-secret",
        "--aws-secret-access-key",
        "--credentials",
        "--auth",
        "--basic-auth",
        "--jwt",
        "--bearer",
        "--pw",
        "-pw",
        "--db_pw",
        "--openai-key",
        "--wandb_key",
        "--ssh-key",
        "--webhook",
        "--slack-webhook-url",
    ],
)
def test_the_value_of_a_secret_option_is_hidden(option: str, command_line: CommandLine) -> None:
    assert command_line(option, "hush", "--lr", "1") == [option, "***", "--lr", "1"]
    assert command_line(f"{option}=hush=a b\nc", "1") == [f"{option}=***", "1"]


@pytest.mark.parametrize("setting", ["db.password", "+token", "API_KEY", "secret"])
def test_the_value_of_a_secret_setting_is_hidden(setting: str, command_line: CommandLine) -> None:
    assert command_line(f"{setting}=hush", "1") == [f"{setting}=***", "1"]


@pytest.mark.parametrize(
    "option",
    [
        "--max-tokens",
        "--tokenizer",
        "--token-dropout",
        "--key",
        "--monkey",
        "--compass",
        "--passes",
        "--api-key-file",
        "--author",
        "--auth-mode",
        "--bearer-format",
        "--webhook-timeout",
        "--pwm",
        "token",
    ],
)
def test_options_that_only_sound_secret_are_kept(option: str, command_line: CommandLine) -> None:
    assert command_line(option, "5", f"{option}s=5") == [option, "5", f"{option}s=5"]


def test_a_secret_option_without_a_value_hides_no_other_option(command_line: CommandLine) -> None:
    arguments = ("--add-bos-token", "--epochs", "10", "--token")
    assert command_line(*arguments) == list(arguments)


def test_a_secret_that_starts_with_a_dash_is_hidden(command_line: CommandLine) -> None:
    assert command_line("--password", "-x7!") == ["--password", "***"]
    assert command_line("--password", "--7x!") == ["--password", "***"]
    assert command_line("--password", "--token", "x") == ["--password", "--token", "***"]


def test_passwords_in_urls_are_hidden_in_arguments(command_line: CommandLine) -> None:
    typed = ("pg://me:hush@host/db", "--db=pg://me:hu sh's@host/db", "--db", "pg://me:h@host")
    hidden = ["pg://me:***@host/db", "--db=pg://me:***@host/db", "--db", "pg://me:***@host"]
    assert command_line(*typed) == hidden


def test_an_argument_that_only_holds_a_url_keeps_the_rest(command_line: CommandLine) -> None:
    argument = '--config={"server":"http://host:80","user":"a@b"}'
    assert command_line(argument) == [argument]


def test_bytes_that_are_not_utf_8_fit_into_json(command_line: CommandLine) -> None:
    assert command_line("caf\udce9") == ["caf\\udce9"]


def test_a_command_line_of_very_many_arguments_is_cut_short(command_line: CommandLine) -> None:
    told = command_line("python", *["image.png"] * 100_000)
    assert told[:3] == ["python", "image.png", "image.png"]
    left_out = 100_001 - (len(told) - 1)
    assert told[-1] == f"... {left_out} more arguments"
    assert len(json.dumps(told)) < 25_000


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("pg://me:hush@host:5432/db?x=1", "pg://me:***@host:5432/db?x=1"),
        ("pg://me:h%40u%2Fsh@host", "pg://me:***@host"),
        ("pg://me:h@u/s:h#?&=@host/db", "pg://me:***@host/db"),
        ("pg://me:hu'sh\"x@host", "pg://me:***@host"),
        ("pg://me:@host", "pg://me:***@host"),
        ("redis://:hush@host/0", "redis://:***@host/0"),
        ("pg://me@corp.com:hush@host", "pg://me@corp.com:***@host"),
        ("pg://o'brien:hush@host", "pg://o'brien:***@host"),
        ("jdbc:postgresql://me:hush@host", "jdbc:postgresql://me:***@host"),
        ("mongodb+srv://me:hush@a,b/db", "mongodb+srv://me:***@a,b/db"),
        ("HTTPS://ghp_hush@github.com/a/b", "HTTPS://***@github.com/a/b"),
        ("pg://host/db?user=me&password=hush&ssl=1", "pg://host/db?user=me&password=***&ssl=1"),
        ("host=x password='hu sh' port=1", "host=x password='***' port=1"),
        ('{"api_key": "hu\\"sh", "lr": 1}', '{"api_key": "***", "lr": 1}'),
        ("from a://u:hush@x to b://u:hush@y.", "from a://u:***@x to b://u:***@y."),
        ("cannot open 'pg://u:hush@x', ask a@b", "cannot open 'pg://u:***@x', ask a@b"),
        ('{"db":"pg://u:hush@x","mail":"a@b"}', '{"db":"pg://u:***@x","mail":"a@b"}'),
        ("Authorization: Bearer hush.hush", "Authorization: ***"),
        ("authorization: Basic aHVzaA==\nAccept: */*", "authorization: ***\nAccept: */*"),
        ("curl -H 'Authorization: token hush' http://x", "curl -H 'Authorization: ***' http://x"),
        ('{"Authorization": "Bearer hush"}', '{"Authorization": "***"}'),
        ("X-Api-Key: hush", "X-Api-Key: ***"),
        ("X-Auth-Token: hush", "X-Auth-Token: ***"),
        ("Cookie: session=hush; a=b", "Cookie: ***"),
        ("refused: Bearer eyJhbGciOi1", "refused: Bearer ***"),
        ("password: hush", "password: ***"),
        ("wrong (user: me, passwd: hush, port: 1)", "wrong (user: me, passwd: ***, port: 1)"),
        ("db:\n  token: hush\n  port: 1", "db:\n  token: ***\n  port: 1"),
        ("https://a.net/b?sv=1&sig=hu%2Fsh&se=2", "https://a.net/b?sv=1&sig=***&se=2"),
        ("https://a/b?X-Amz-Signature=hush#c", "https://a/b?X-Amz-Signature=***#c"),
        ("GET /b?X-Amz-Credential=hush&n=1", "GET /b?X-Amz-Credential=***&n=1"),
        ("https://maps.example.com/?key=hush", "https://maps.example.com/?key=***"),
        ("https://hooks.slack.com/services/T0/B0/hush", "https://hooks.slack.com/***"),
        ("https://discord.com/api/webhooks/1/hush", "https://discord.com/api/webhooks/***"),
        ("'https://a.webhook.office.com/webhookb2/hush'", "'https://a.webhook.office.com/***'"),
        ("https://api.telegram.org/bot1:hush/send", "https://api.telegram.org/bot***/send"),
        ("sh -c 'train --password hush --lr 1'", "sh -c 'train --password *** --lr 1'"),
        ("train --auth=me:hush --openai-key hush -x", "train --auth=*** --openai-key *** -x"),
    ],
)
def test_secrets_in_text_are_hidden(text: str, hidden: str) -> None:
    assert redact(text) == hidden
    assert redact(hidden) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a plain text: with a colon, me@example.com",
        "sftp://me@host/runs.json",
        "ssh://git@github.com/a/b",
        "http://localhost:8080/dashboard",
        "https://example.com/@me/notes",
        "file:///data/a:b@c",
        '{"db":"pg://host","n":1,"mail":"a@b"}',
        "max_tokens=5 unexpected token: x",
        "https://example.com/webhook-guide?page=2",
        "KeyError: 'password'",
        "the bearer of this message: me",
        "train --auth --lr 1 --sort-keys a",
        "f(x; key=3): signature=(a, b)",
        "Secretary: me",
    ],
)
def test_text_without_secrets_is_kept(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "part",
    [
        *("://a:", "a", "a-", "://", "pass", "\"'", "x://u:p@"),
        *(
            "https://hook",
            "https://a/b/",
            "-token",
            "--a-key ",
            "authorization: ",
            "?a-",
            "bearer ",
        ),
    ],
)
def test_hiding_takes_time_in_proportion_to_the_text(part: str) -> None:
    text = f"@ {part * 20_000}"
    assert seconds(lambda: redact(text)) < 2.0


# Whether the code is changed since its commit


def answer(folder: Path) -> bool | None:
    return DirtyCheck(str(folder)).result(wait=PATIENCE)


def test_a_repository_as_committed_is_clean(repository: Path) -> None:
    assert answer(repository) is False


def test_a_changed_file_makes_it_dirty(repository: Path) -> None:
    (repository / "train.py").write_text("print('changed')\n")
    assert answer(repository) is True


def test_a_staged_change_makes_it_dirty(repository: Path) -> None:
    (repository / "train.py").write_text("print('changed')\n")
    git(repository, "add", ".")
    assert answer(repository) is True


def test_a_deleted_file_makes_it_dirty(repository: Path) -> None:
    (repository / "train.py").unlink()
    assert answer(repository) is True


def test_a_touched_file_does_not_make_it_dirty(repository: Path) -> None:
    os.utime(repository / "train.py", (1, 1))
    assert answer(repository) is False


def test_an_untracked_file_does_not_make_it_dirty(repository: Path) -> None:
    (repository / "notes.txt").write_text("untracked")
    assert answer(repository) is False


def test_the_whole_repository_counts_wherever_the_script_lies(repository: Path) -> None:
    below = repository / "below"
    below.mkdir()
    (repository / "train.py").write_text("print('changed')\n")
    assert answer(below) is True


def test_a_worktree_is_dirty_for_itself(repository: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    git(repository, "worktree", "add", str(tree))
    (tree / "train.py").write_text("print('changed')\n")
    assert (answer(tree), answer(repository)) == (True, False)


def test_the_check_changes_nothing_in_the_repository(repository: Path) -> None:
    os.utime(repository / "train.py", (1, 1))
    index = repository / ".git/index"
    before = index.read_bytes()
    answer(repository)
    assert index.read_bytes() == before


def test_the_repository_of_a_git_hook_is_not_asked(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "train.py").write_text("print('changed')\n")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "no-index"))
    assert answer(repository) is True


def test_an_unborn_branch_cannot_be_told(empty_repository: Path) -> None:
    (empty_repository / "train.py").write_text("print('training')\n")
    git(empty_repository, "add", ".")
    assert answer(empty_repository) is None


def test_a_repository_git_cannot_read_cannot_be_told(repository: Path) -> None:
    (repository / ".git/index").write_text("garbage")
    assert answer(repository) is None


def test_very_many_changes_make_it_dirty(repository: Path) -> None:
    for number in range(3000):
        (repository / f"a file of a rather long name, number {number}").touch()
    git(repository, "add", ".")
    assert answer(repository) is True


def test_outside_of_a_repository_nothing_is_asked(tmp_path: Path) -> None:
    check = DirtyCheck(str(tmp_path))
    assert check.done
    assert check.result(wait=PATIENCE) is None


def test_without_git_it_cannot_be_told(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    check = DirtyCheck(str(repository))
    assert check.done
    assert check.result() is None


def test_without_posix_spawn_git_is_asked_too(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_spawnp", raising=False)
    assert answer(repository) is False
    (repository / "train.py").write_text("print('changed')\n")
    assert answer(repository) is True


def test_a_check_dropped_without_posix_spawn_gives_no_warning(
    repository: Path, slow_git: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_spawnp", raising=False)
    DirtyCheck(str(repository))
    gc.collect()


@pytest.fixture
def slow_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A git that hangs, as on a dead network mount."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "git").write_text("#!/bin/sh\nexec sleep 600\n")
    (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")


def pid_of(check: DirtyCheck) -> int:
    git: Any = check._git
    pid: int = git._pid
    return pid


@on_posix
def test_a_git_that_hangs_is_not_waited_for(repository: Path, slow_git: None) -> None:
    check = DirtyCheck(str(repository))
    assert check.result() is None
    assert seconds(lambda: check.result(wait=0.05)) < 5.0
    assert not check.done


@on_posix
def test_a_git_that_hangs_is_killed_in_the_end(
    repository: Path, slow_git: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = DirtyCheck(str(repository))
    pid = pid_of(check)
    monkeypatch.setattr(module, "_GIT_TIME_LIMIT", 0.0)
    assert check.result(wait=PATIENCE) is None
    assert check.done
    assert not exists(pid)


@on_posix
def test_a_dropped_check_leaves_no_process_behind(repository: Path, slow_git: None) -> None:
    check = DirtyCheck(str(repository))
    pid = pid_of(check)
    assert exists(pid)
    del check
    gc.collect()
    eventually(lambda: not exists(pid))


def exists(pid: int) -> bool:
    """Whether there is such a process, be it a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@on_posix
def test_at_exit_a_git_that_hangs_is_killed_without_a_word(
    repository: Path, slow_git: None
) -> None:
    code = "import casket.system.git as p; print(p.dirty_check()._git._pid)"
    pid = int(python(code, "-X", "dev", "-W", "error", folder=repository))
    eventually(lambda: not exists(pid))


@on_posix
def test_a_child_reaped_by_somebody_else_cannot_be_told(repository: Path) -> None:
    check = DirtyCheck(str(repository))
    os.waitpid(pid_of(check), 0)
    assert check.done
    assert check.result(wait=PATIENCE) is None


@on_posix
def test_while_another_thread_looks_nobody_waits(repository: Path) -> None:
    check = DirtyCheck(str(repository))
    with check._lock:
        assert check.result() is None
        assert not check.done
    assert check.result(wait=PATIENCE) is False


@on_posix
def test_git_gets_no_descriptor_of_this_process(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\nif [ -e /dev/fd/7 ]; then exit 141; fi\n")
    git.chmod(git.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    code = (
        "import os, casket.system.git as p; os.dup2(1, 7, inheritable=True)\n"
        "print(p.DirtyCheck().result(wait=20))"
    )
    assert python(code, folder=repository) == "False"


FORK = """
import os, sys, time, casket.system.git as p
check = p.dirty_check()
if sys.argv[1] == "answered":
    check.result(wait=20)
child = os.fork()
if not child:
    print(check.done, check.result(wait=20), p.dirty_check() is check, flush=True)
    print(p.dirty_check().result(wait=20), flush=True)
    del check
    sys.exit()
os.waitpid(child, 0)
print(check.result(wait=20))
"""


@on_posix
def test_a_forked_child_asks_anew_and_leaves_its_parents_check_alone(repository: Path) -> None:
    assert fork(repository, "asked") == ["True None False", "False", "False"]


@on_posix
def test_a_forked_child_knows_what_was_known_before(repository: Path) -> None:
    assert fork(repository, "answered") == ["True False True", "False", "False"]


def fork(repository: Path, when: str) -> list[str]:
    environment = importing_casket()
    command = [sys.executable, "-c", FORK, when]
    done = subprocess.run(
        command, cwd=repository, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_one_check_is_shared_for_a_minute(
    repository: Path, run_from: RunFrom, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_from(repository)
    check = dirty_check()
    assert dirty_check() is check
    assert check.result(wait=PATIENCE) is False
    (repository / "train.py").write_text("print('changed')\n")
    assert dirty_check().result(wait=PATIENCE) is False
    monkeypatch.setattr(module, "_ANSWER_KEPT", 0.0)
    assert dirty_check().result(wait=PATIENCE) is True


def test_another_repository_is_asked_for_itself(
    repository: Path, tmp_path: Path, run_from: RunFrom
) -> None:
    run_from(repository)
    check = dirty_check()
    run_from(tmp_path)
    assert dirty_check() is not check
    assert dirty_check().result(wait=PATIENCE) is None
