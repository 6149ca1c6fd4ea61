"""The installed package: small, complete, typed, for every Python it names."""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = {
    f"casket/dashboard/web/{name}"
    for name in (
        *("index.html", "shell/app.js", "shell/base.css", "vendor/preact.js"),
        *(
            "vendor/preact/hooks.js",
            "vendor/@preact/signals.js",
            "vendor/htm.js",
            "vendor/uplot.js",
            "vendor/uplot.css",
        ),
        *("vendor/echarts.js", "vendor/licences.txt"),
    )
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the sdist."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The Python of an environment that holds the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    subprocess.run([str(python), "-m", "pip", "install", "-q", str(wheel)], check=True)
    return python


def test_the_base_install_is_small(installed):
    listed = subprocess.check_output(
        [str(installed), "-m", "pip", "list", "--format", "json"], text=True
    )
    packages = {package["name"] for package in json.loads(listed)} - {"pip", "setuptools"}
    assert "casket" in packages
    assert len(packages) <= 12
    (site,) = (installed.parent.parent / "lib").glob("python*/site-packages")
    not_ours = re.compile(r"^(pip|setuptools|_distutils_hack|pkg_resources)\b")
    size = sum(
        path.stat().st_size
        for path in site.rglob("*")
        if path.is_file() and not not_ours.match(path.relative_to(site).parts[0])
    )
    assert size <= 25e6


def test_the_wheel_works_by_itself(installed, tmp_path):
    script = """
import casket
with casket.Experiment.use("runs.json", exp_id="x").model("m").session({"a": 1}) as session:
    session.add_epoch(1, {"loss": 0.5})
with casket.open("runs.json") as runs:
    print(casket.__version__, runs.sessions()[0].last["loss"])
    try:
        runs.to_pandas()
    except casket.MissingDependency as error:
        print(error)
"""
    command = [str(installed), "-W", "error", "-c", script]
    out = subprocess.check_output(command, cwd=tmp_path, text=True)
    assert out.splitlines() == [
        f"{PROJECT['version']} 0.5",
        "pandas is not installed: pip install 'casket[pandas]'",
    ]


def test_the_wheel_holds_both_packages_their_types_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "casket",
        "casket_integrations",
    }
    assert {"casket/py.typed", "casket_integrations/py.typed", "casket/testing.py"} <= set(names)
    assert set(names) >= PAGE


def test_the_sdist_holds_what_builds_and_tests_it(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"pyproject.toml", "README.md", "LICENSE", "tests/test_packaging.py", "Makefile"}
    assert wanted | PAGE | {"hatch_build.py"} <= names
    assert not [name for name in names if "node_modules" in name]


def test_a_wheel_of_the_sdist_needs_no_npm_and_holds_the_same_page(built, tmp_path):
    (sdist,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path / "dist")]
    # Neither npm nor the package that provides it is available: everything is built already.
    offline = {**os.environ, "PATH": os.path.dirname(sys.executable), "npm_config_offline": "true"}
    subprocess.run([*command, str(source)], check=True, capture_output=True, env=offline)
    (again,) = (tmp_path / "dist").glob("*.whl")
    assert page_in(again) == page_in(wheel)


def page_in(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: archive.read(name)
            for name in archive.namelist()
            if name.startswith("casket/dashboard/")
        }


def test_a_report_is_written_by_the_base_install(installed, tmp_path):
    script = """
import casket
with casket.Experiment.use("runs.json", exp_id="x").model("m").session({"a": 1}) as session:
    session.add_epoch(1, {"loss": 0.5})
"""
    subprocess.run([str(installed), "-c", script], cwd=tmp_path, check=True)
    command = [str(installed.parent / "casket"), "export", "runs.json", "-o", "report.html"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert b'id="casket-data"' in (tmp_path / "report.html").read_bytes()
    command = [str(installed.parent / "casket"), "dashboard", "runs.json"]
    refused = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "pip install 'casket[dashboard]'" in refused.stderr


def test_version_and_classifiers_agree():
    import casket

    assert casket.__version__ == PROJECT["version"]
    assert PROJECT["requires-python"] == ">=3.11"
    for version in ("3.11", "3.12", "3.13", "3.14"):
        assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]


def test_every_extra_of_the_contract_is_there():
    extras = "sklearn keras lightning sftp s3 mongo postgres blitz pandas polars dashboard all"
    frameworks = (
        "xgboost lightgbm catboost transformers accelerate optuna skorch ignite hydra torch"
    )
    sources = {"import", "neptune"}
    notebooks = {"notebook", "watch"}
    expected = {*extras.split(), *frameworks.split(), *sources, *notebooks, "system"}
    assert set(PROJECT["optional-dependencies"]) == expected


def test_pre_commit_comes_with_the_tests_and_accepts_its_configuration():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert any(str(each).startswith("pre-commit") for each in groups["tests"])
    pytest.importorskip("pre_commit")
    configuration = ROOT / ".pre-commit-config.yaml"
    command = [sys.executable, "-m", "pre_commit", "validate-config", str(configuration)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
