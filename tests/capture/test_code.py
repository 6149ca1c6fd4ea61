"""The patch of uncommitted changes: it restores the code, keeps limits and holds no secret."""

import os
import shutil
from threading import Event

import pytest

from casket.system.secrets import has_secret
from casket.writing.capture import code
from tests.capture.conftest import git


def patch() -> str:
    made = code.patch(Event())
    return "" if made is None else made.decode(errors="surrogateescape")


def files(folder):
    """Return the content of all files of a working copy."""
    paths = (path for path in folder.rglob("*") if ".git" not in path.parts and path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_the_patch_restores_the_working_copy(repository, tmp_path):
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repository), str(clone))
    (repository / "train.py").write_text("a = 10\nb = 2\n" + "# ...\n" * 20 + "z = 30")
    (repository / "gone.py").unlink()
    (repository / "staged.py").write_text("staged\n")
    git(repository, "add", "staged.py")
    (repository / "staged.py").write_text("staged\nand changed\n")
    (repository / "new package").mkdir()
    (repository / "new package" / "löss.py").write_bytes(b"x = '\xe9'\r\ny = 2")
    (repository / "new package" / "__init__.py").touch()
    git(repository, "config", "diff.noprefix", "true")
    git(repository, "config", "color.ui", "always")
    (tmp_path / "code.patch").write_bytes(code.patch(Event()))
    git(clone, "apply", str(tmp_path / "code.patch"))
    assert files(clone) == files(repository)


def test_a_new_file_that_ends_in_a_newline_is_restored(repository, tmp_path):
    (repository / "model.cu").write_text("one\n\ntwo\n")
    (tmp_path / "code.patch").write_text(patch())
    (repository / "model.cu").unlink()
    git(repository, "apply", str(tmp_path / "code.patch"))
    assert (repository / "model.cu").read_text() == "one\n\ntwo\n"


def test_without_changes_or_without_a_commit_there_is_no_patch(repository, tmp_path, monkeypatch):
    assert code.patch(Event()) is None
    (tmp_path / "outside").mkdir()
    monkeypatch.chdir(tmp_path / "outside")
    assert code.patch(Event()) is None
    git(tmp_path / "outside", "init", "-q")
    (tmp_path / "outside" / "new.py").write_text("x\n")
    assert code.patch(Event()) is None


def test_the_repository_is_not_changed(repository):
    (repository / "train.py").write_text("changed\n")
    index = (repository / ".git" / "index").stat()
    os.utime(repository / "gone.py", (1, 1))
    assert "changed" in patch()
    assert (repository / ".git" / "index").stat() == index


def test_only_source_files_of_the_user_are_added(repository):
    names = ["new.py", "data.csv", "runs.json", ".hidden/x.py", "env/site-packages/y.py", "ig.py"]
    for name in names:
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text("content\n")
    (repository / ".gitignore").write_text("ig.py\n")
    assert [line for line in patch().splitlines() if line.startswith("+++")] == ["+++ b/new.py"]


def test_what_is_left_out_is_named(repository, monkeypatch):
    monkeypatch.setattr(code, "UNTRACKED_ROOM", 100)
    (repository / "train.py").write_bytes(b"\0" * 10)
    (repository / "large.py").write_text("x" * 101)
    (repository / "odd.py").write_bytes(b"a\0b")
    (repository / "small.py").write_text("small\n")
    (repository / ".env").write_text("A=1\n")
    git(repository, "add", "-f", ".env")
    lines = patch().splitlines()
    commit = git(repository, "rev-parse", "HEAD").strip()
    assert lines[:5] == [
        f"Uncommitted changes against commit {commit}",
        "Left out: .env: files of this name hold secrets",
        "Left out: train.py: binary, or larger than 1 MB",
        "Left out: large.py: the untracked files have more than 100 bytes",
        "Left out: odd.py: binary, or has an unusual name",
    ]
    assert "+small" in lines
    assert "A=1" not in patch()


def test_changes_of_data_do_not_fill_the_patch(repository):
    (repository / "data.csv").write_text("1\n" * 700_000)
    git(repository, "add", "data.csv")
    (repository / "train.py").write_text("changed\n")
    assert "Left out: data.csv: binary, or larger than 1 MB" in patch()
    assert "+changed" in patch()
    assert len(patch()) < 10_000


def test_a_patch_beyond_the_limit_keeps_whole_files(repository, monkeypatch):
    monkeypatch.setattr(code, "LARGEST_PATCH", 1_000)
    (repository / "gone.py").write_text("first\n")
    (repository / "train.py").write_text("x\n" * 1_000)
    text = patch()
    assert "+first" in text
    assert "+x" not in text
    assert "Left out: the rest: git" in text


def test_a_hunk_with_a_secret_is_left_out_whole(repository, tmp_path):
    source = (repository / "train.py").read_text()
    (repository / "train.py").write_text(
        'a = 1\nAPI_KEY = "sk-hush-123"\n' + source[6:] + "w = 4\n"
    )
    (repository / "new.py").write_text('connect("postgresql://me:hush@db/x")\n')
    text = patch()
    assert "hush" not in text
    assert "Left out: train.py @@ -1,4 +1,5 @@: contains a secret" in text
    assert "Left out: new.py @@ -0,0 +1,1 @@: contains a secret" in text
    (tmp_path / "code.patch").write_text(text)
    git(repository, "checkout", "-q", "train.py")
    git(repository, "apply", str(tmp_path / "code.patch"))
    assert (repository / "train.py").read_text() == source + "w = 4\n"


@pytest.mark.parametrize(
    "line",
    [
        'API_KEY = "sk-abc123def456"',
        'os.environ["OPENAI_API_KEY"] = "abc123def"',
        "password: str = 'hunter2!'",
        'url = "postgresql://me:hush@db/x"',
        '{"token": "abcdef123456"}',
        'x = "hf_abcdefgh1234567"',
        "-----BEGIN RSA PRIVATE KEY-----",
        'run("mysql --password=hunter2 x")',
        'headers = {"Authorization": "Bearer abc12345678"}',
        'client = OpenAI(api_key="sk-proj-12345")',
        'wandb.login(key="0123456789abcdef0123456789abcdef01234567")',
        'WANDB_KEY = "0123456789abcdef0123456789abcdef01234567"',
        'OPENAI_KEY="abc123def456abc123def456"',
    ],
)
def test_a_secret_in_source_code_is_noticed(line):
    assert has_secret(f"x = 1\n{line}\n", is_python=True)


@pytest.mark.parametrize(
    "line", ["PASSWORD=hunter2", "token: abc", "export API_KEY=abc", "db_password: hush"]
)
def test_a_secret_in_settings_is_noticed(line):
    assert has_secret(line, is_python=False)


@pytest.mark.parametrize(
    "line",
    [
        'tokenizer.pad_token = "[PAD]"',
        "f(pad_token=tokenizer.eos_token, max_token=512)",
        'eos_token="</s>"',
        "f(token=eos if eos else None)",
        'password = os.environ["PASSWORD"]',
        'connect(password=os.environ["DB_PASSWORD"], token=token)',
        "api_key=None,",
        'parser.add_argument("--token", default=None)',
        "secret = getpass.getpass()",
        "token=x[0],",
        "tokens = text.split()",
        'sort(key="validation_loss_of_the_model")',
    ],
)
def test_usual_code_is_no_secret(line):
    assert not has_secret(f"{line}\n", is_python=True)


def test_a_git_that_takes_too_long_is_killed(repository, tmp_path, monkeypatch):
    real = shutil.which("git")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text(
        f'#!/bin/sh\ncase "$*" in *ls-files*) exec sleep 600;; esac\nexec {real} "$@"\n'
    )
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr("casket.system.git._GIT_TIME_LIMIT", 0.5)
    (repository / "train.py").write_text("changed\n")
    text = patch()
    assert "+changed" in text
    assert "Left out: the rest: git ls-files took too long" in text


def test_without_git_it_cannot_be_made(repository, monkeypatch):
    (repository / "train.py").write_text("changed\n")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OSError, match="git"):
        code.patch(Event())


def test_packages_are_those_of_the_metadata():
    import importlib.metadata
    import re

    from casket.writing.capture.packages import packages

    versions = {}
    for package in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower()
        versions.setdefault(name, package.version)
    assert packages().decode().splitlines() == [f"{n}=={v}" for n, v in sorted(versions.items())]
