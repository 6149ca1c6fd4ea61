"""Run the core suite on other Python versions, each in an environment of its own.

Usage: python tests/run_versions.py 3.12 3.13
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def find(version: str) -> str | None:
    """Return the interpreter of a version: on the path, or among pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}")]
    candidates += sorted(map(str, pyenv.glob(f"{version}.*/bin/python{version}")))
    for candidate in filter(None, candidates):
        asked = subprocess.run(
            [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.stdout.strip() == version:
            return candidate
    return None


def run(interpreter: str, version: str) -> int:
    """Build `.venv-<version>` and run the core suite in it."""
    environment = ROOT / f".venv-{version}"
    python = str(environment / "bin" / "python")
    subprocess.run([interpreter, "-m", "venv", environment], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "-U", "pip"], check=True)
    install = [python, "-m", "pip", "install", "-q", "-e", str(ROOT), "--group", "core-tests"]
    subprocess.run(install, check=True, cwd=ROOT)
    return subprocess.run(
        # The adapters need the frameworks, which only the full environment has.
        [python, "-m", "pytest", "-q", "-n", "2", "--ignore", "tests/integrations"],
        cwd=ROOT,
        check=False,
    ).returncode


def main(versions: list[str]) -> int:
    """Run all versions that are found; return 1 if one failed."""
    failed = False
    for version in versions:
        interpreter = find(version)
        if interpreter is None:
            print(f"Python {version} is not installed: skipped")
            continue
        print(f"Python {version}: {interpreter}", flush=True)
        failed |= run(interpreter, version) != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
