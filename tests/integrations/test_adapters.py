"""Rules of all adapters: small, a single framework each, and clear about missing packages."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "casket_integrations"
MODULES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
HOOKS = [
    f"{name}.py"
    for name in (
        "accelerate", "catboost", "hydra", "ignite", "lightgbm", "optuna", "skorch", "torch",
        "transformers", "xgboost",
    )
]  # fmt: skip
ADAPTERS = ["keras.py", "lightning.py", *HOOKS]
SEARCH = [name for name in MODULES if name.startswith("sklearn")]
SAMPLERS = ["suggesting.py"]
SHARED = [name for name in MODULES if name not in {*ADAPTERS, *SEARCH, *SAMPLERS}]

FRAMEWORKS = {
    "accelerate",
    "catboost",
    "hydra",
    "ignite",
    "jax",
    "keras",
    "lightgbm",
    "lightning",
    "lightning_utilities",
    "omegaconf",
    "optuna",
    "pytorch_lightning",
    "sklearn",
    "skorch",
    "tensorflow",
    "torch",
    "transformers",
    "xgboost",
}
OWN = {
    "keras.py": {"keras"},
    "lightning.py": {"lightning", "lightning_utilities", "pytorch_lightning"},
    **{name: {name.removesuffix(".py")} for name in HOOKS},
    "hydra.py": {"hydra", "omegaconf"},
    **{name: {"sklearn"} for name in SEARCH},
    **{name: {"optuna"} for name in SAMPLERS},
}


def lines_of_code(source):
    """Count the lines of code: no blank lines, no comments, no docstrings."""
    silent = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines.difference_update(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def frameworks_named(source):
    """Return the frameworks that a module imports, also by a text, or only for a type checker."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value if "." in node.value and " " not in node.value else "")
    return {name.partition(".")[0] for name in names} & FRAMEWORKS


DECISION = PACKAGE.parent / "docs" / "decisions" / "0008-adapters.md"


def test_each_private_name_of_a_framework_has_a_test_that_notices_its_end():
    named = re.findall(
        r"`(test_\w+\.py)::(test_\w+)` \|$", DECISION.read_text("utf-8"), re.MULTILINE
    )
    assert len(named) == 10
    for file, test in named:
        assert f"def {test}(" in (Path(__file__).parent / file).read_text("utf-8")


EXAMPLE = '''"""Doc."""

# A comment.
x = [
    1,  # one
]


def f():
    """Doc.

    More.
    """
    return x
'''


def test_the_counter_counts_code():
    assert lines_of_code(EXAMPLE) == 5


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_is_a_table_of_events_under_100_lines(name):
    assert lines_of_code(MODULES[name].read_text("utf-8")) < 100


@pytest.mark.parametrize("name", HOOKS)
def test_an_adapter_over_the_frameworks_own_callback_is_under_60_lines(name):
    assert lines_of_code(MODULES[name].read_text("utf-8")) < 60


@pytest.mark.parametrize("name", SEARCH)
def test_a_file_of_the_search_is_under_150_lines(name):
    assert lines_of_code(MODULES[name].read_text("utf-8")) < 150


@pytest.mark.parametrize("name", OWN)
def test_an_adapter_imports_its_own_framework_only(name):
    assert frameworks_named(MODULES[name].read_text("utf-8")) <= OWN[name]


@pytest.mark.parametrize("name", SHARED)
def test_what_the_adapters_share_imports_no_framework(name):
    # torch and jax are asked for the rank if somebody else has loaded them.
    asked = {"torch"} if name == "ranks.py" else set()
    assert frameworks_named(MODULES[name].read_text("utf-8")) <= asked


LOADED = """
    import sys
    from importlib import import_module
    for name in sys.argv[2:]:
        import_module(name)
    print(sorted({name.partition(".")[0] for name in sys.modules} & set(sys.argv[1].split())))
"""


@pytest.mark.parametrize(
    "modules",
    [
        ["casket"],
        ["casket.writing.experiment", "casket.reading.casket", "casket.writing.session"],
        [f"casket_integrations.{name.removesuffix('.py')}".replace("/", ".") for name in SHARED],
    ],
)
def test_no_framework_is_loaded(run_python, modules):
    frameworks = " ".join({*FRAMEWORKS, "numpy", "pandas", "scipy"})
    assert run_python(LOADED, frameworks, *modules) == "[]"


USES = {
    "accelerate": "from casket_integrations.accelerate import CasketTracker",
    "catboost": "from casket_integrations.catboost import CasketCallback",
    "hydra": "from casket_integrations.hydra import CasketCallback",
    "ignite": "from casket_integrations.ignite import CasketLogger",
    "optuna": "from casket_integrations.optuna import CasketCallback",
    "skorch": "from casket_integrations.skorch import CasketCallback",
    "torch": "from casket_integrations.torch import watch",
    "keras": "from casket import DBCallback",
    "sklearn": "from casket_integrations.sklearn import LoggedGridSearchCV",
    "lightning": "from casket_integrations.lightning import CasketLogger",
    "lightgbm": "from casket_integrations.lightgbm import casket_callback",
    "transformers": "from casket_integrations.transformers import CasketCallback",
    "xgboost": "from casket_integrations.xgboost import CasketCallback",
}
PACKAGES = {name: name for name in USES} | {"sklearn": "scikit-learn"}
BLOCKED = {
    "keras": ("keras",),
    "sklearn": ("sklearn",),
    "lightning": (*sorted(OWN["lightning.py"]),),
    **{name.removesuffix(".py"): (name.removesuffix(".py"),) for name in HOOKS},
}

MISSING = """
    import casket
    try:
        {use}
    except casket.MissingDependency as error:
        print(error)
        print(isinstance(error, ImportError))
"""


@pytest.mark.parametrize("extra", USES)
def test_without_its_framework_an_adapter_names_the_extra(run_python, extra):
    printed = run_python(MISSING.format(use=USES[extra]), without=BLOCKED[extra]).splitlines()
    assert printed == [
        f"{PACKAGES[extra]} is not installed: pip install 'casket[{extra}]'",
        "True",
    ]


BROKEN = """
    import sys
    sys.path.insert(0, sys.argv[1])
    try:
        {use}
    except ImportError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize("extra", USES)
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("raise ImportError('libcudnn.so is too old')", "ImportError libcudnn.so is too old"),
        ("import no_such_thing", "ModuleNotFoundError No module named 'no_such_thing'"),
    ],
)
def test_a_broken_framework_shows_its_own_error(run_python, tmp_path, extra, line, said):
    for package in BLOCKED[extra]:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(line)
    assert run_python(BROKEN.format(use=USES[extra]), tmp_path) == said


def test_everything_else_works_without_keras(run_python):
    code = """
        import casket
        from casket import *
        print("DBCallback" in dir(casket), hasattr(casket, "no_such_thing"))
    """
    assert run_python(code, without=("keras",)) == "True False"
