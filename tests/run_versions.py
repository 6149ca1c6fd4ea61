"""Run the core suite on other Python versions, and the adapters on their oldest frameworks.

Each runs in an environment of its own.

Usage: python tests/run_versions.py 3.12 3.13 oldest
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
FRAMEWORKS = (
    *("accelerate", "hydra", "ignite", "lightgbm", "optuna", "sklearn", "skorch", "xgboost"),
)
"""The extras whose oldest versions install without a compiler or libraries of GPUs."""

OF_THEIR_TIME = ("omegaconf<2.4", "scipy<1.16")
"""The newest versions with which Hydra 1.3.0 and scikit-learn 1.5 do not warn."""
TESTS = (
    *("accelerate", "boosting", "frameworks", "hydra", "ignite", "optuna", "skorch", "torch"),
    *("sklearn_drop_in", "sklearn_kill", "sklearn_resume", "sklearn_scores", "sklearn_search"),
)


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


def oldest() -> list[str]:
    """Return the oldest version that each extra of a framework admits, and torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    bounds = [project["project"]["optional-dependencies"][name] for name in FRAMEWORKS]
    pins = [bound.replace(">=", "==") for (bound,) in bounds]
    tests = [each for each in project["dependency-groups"]["tests"] if isinstance(each, str)]
    torch = [each for each in tests if each.startswith("torch==")]
    return [*(pin.replace("xgboost==", "xgboost-cpu==") for pin in pins), *torch]


def run(interpreter: str, version: str, packages: list[str], tests: list[str]) -> int:
    """Build `.venv-<version>` with packages besides those of the core suite, and run tests."""
    environment = ROOT / f".venv-{version}"
    python = str(environment / "bin" / "python")
    subprocess.run([interpreter, "-m", "venv", environment], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "-U", "pip"], check=True)
    install = [python, "-m", "pip", "install", "-q", "-e", str(ROOT), "--group", "core-tests"]
    subprocess.run([*install, *packages], check=True, cwd=ROOT)
    command = [python, "-m", "pytest", "-q", "-n", "2", *tests]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def run_oldest() -> int:
    """Run the tests of the adapters on the oldest frameworks; return the exit code."""
    files = [f"tests/integrations/test_{name}.py" for name in TESTS]
    return run(sys.executable, "oldest", [*oldest(), *OF_THEIR_TIME], files)


def main(versions: list[str]) -> int:
    """Run all versions that are found; return 1 if one failed."""
    failed = False
    for version in versions:
        if version == "oldest":
            failed |= run_oldest() != 0
            continue
        interpreter = find(version)
        if interpreter is None:
            print(f"Python {version} is not installed: skipped")
            continue
        print(f"Python {version}: {interpreter}", flush=True)
        # The adapters need the frameworks, which only the full environment has.
        failed |= run(interpreter, version, [], ["--ignore", "tests/integrations"]) != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
