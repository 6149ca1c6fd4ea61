"""The permitted imports, and the modules that `import casket` loads."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("casket", "casket_integrations")
    for path in sorted((ROOT / package).rglob("*.py"))
    if "node_modules" not in path.parts
}
CORE = [name for name in MODULES if name.split(".")[0] == "casket"]
STORES = [name for name in CORE if name.startswith("casket.stores.")]

FRAMEWORKS = {"keras", "lightning", "pytorch_lightning", "sklearn", "tensorflow", "torch", "jax"}
# Where a package may be imported at the head of a module.
HOMES = {
    "sqlite3": {
        *(
            f"casket.stores.sqlite.{module}"
            for module in ("store", "files", "locking", "statements", "check", "salvage")
        ),
        "casket.imports.databases",
        "casket.cli.watch",  # its record of what was delivered
    },
    "paramiko": {"casket.stores.sftp.ssh"},
    "pymongo": {"casket.stores.mongo", "casket.stores.mongo_files"},
    "bson": {"casket.stores.mongo"},
    "psycopg": {"casket.stores.postgres"},
    "boto3": {"casket.stores.s3.bucket"},
    "botocore": {"casket.stores.s3.bucket"},
    "blitzdb": {"casket.stores.blitz"},
    "tinydb": {"casket.writing.tinydb", "casket.sftp_storage"},
    "starlette": {
        "casket.dashboard.http.downloads",
        "casket.dashboard.http.middleware",
        "casket.dashboard.http.responses",
        "casket.dashboard.http.routes",
        "casket.dashboard.http.server",
    },
    "uvicorn": {"casket.dashboard.http.connections", "casket.dashboard.http.server"},
}
ON_USE = {
    *("numpy", "pandas", "polars", "joblib", "matplotlib", "plotly", "PIL", "yaml"),
    *FRAMEWORKS,
}
# Modules of the stores that other floors may import; `casket.stores.location` resolves URLs.
STORE_MODULES = {
    "casket.stores",
    "casket.stores.base",
    "casket.stores.simple",
    "casket.stores.inspection",
    "casket.stores.latest",
    "casket.stores.location",
    "casket.stores.urls",
    "casket.stores.remote.cache",
    "casket.stores.remote.files",
    "casket.stores.remote.journal",
    "casket.stores.remote.spool",
}
# From the ground up: a module may import from its own floor and from those below.
FLOORS = [
    {"casket.errors"},
    {"casket.system"},
    {"casket.format"},
    {"casket.stores", "casket.statistics"},
    {"casket.reading"},
    {"casket.writing", "casket.maintenance"},
    {"casket", "casket.sftp_storage", "casket.testing"},
    {"casket.imports", "casket.dashboard", "casket_integrations"},
    {"casket.cli", "casket.__main__"},
]
LAZY_ADAPTER = ("casket", "casket_integrations.keras")
"""`casket.DBCallback` is the Keras adapter, imported when it is asked for."""


class Imports(ast.NodeVisitor):
    """Collects the imports of a module.

    Attributes:
        at_head: modules imported when the module itself is.
        inside: modules imported in functions.
        with_types: these, and the imports for type checkers.
    """

    def __init__(self, name):
        self.name = name
        self.at_head, self.inside, self.for_types = set(), set(), set()
        self._found = self.at_head
        self.visit(ast.parse(MODULES[name].read_text(encoding="utf-8")))

    @property
    def all(self):
        return self.at_head | self.inside

    def visit_Import(self, node):
        self._found.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node):
        assert node.level == 0, f"{self.name}: write imports with the whole name"
        for alias in node.names:
            submodule = f"{node.module}.{alias.name}"
            self._found.add(submodule if submodule in MODULES else node.module)

    @property
    def with_types(self):
        return self.all | self.for_types

    def visit_If(self, node):
        before = self._found
        if "TYPE_CHECKING" in ast.unparse(node.test):
            self._found = self.for_types
        self.generic_visit(node)
        self._found = before

    def visit_FunctionDef(self, node):
        before, self._found = self._found, self.inside
        self.generic_visit(node)
        self._found = before

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - the name ast calls


IMPORTS = {name: Imports(name) for name in MODULES}


def packages(modules):
    return {module.partition(".")[0] for module in modules}


def test_the_reader_of_imports_sees_them():
    frames, serialized = IMPORTS["casket.reading.frames"], IMPORTS["casket.format.serializers"]
    assert "casket.reading.views" in frames.at_head
    assert {"pandas", "polars"} <= frames.inside
    assert not {"pandas", "polars"} & frames.at_head
    assert "casket.errors" in serialized.at_head
    assert "joblib" in serialized.inside
    assert "casket.reading.nearest" not in IMPORTS["casket.writing.refusal"].all
    assert "casket.reading.nearest" in IMPORTS["casket.writing.refusal"].with_types


def floor_of(module):
    """Return the number of a module's floor: that of the longest name it begins with."""
    floors = [
        (len(name), number)
        for number, names in enumerate(FLOORS)
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    return max(floors)[1]


@pytest.mark.parametrize("name", MODULES)
def test_no_import_goes_up_a_floor(name):
    up = {
        imported
        for imported in IMPORTS[name].with_types
        if imported in MODULES
        and floor_of(imported) > floor_of(name)
        and (name, imported) != LAZY_ADAPTER
    }
    assert not up


def test_no_files_import_each_other_in_a_circle():
    graph = {
        name: {
            imported
            for imported in imports.with_types
            if imported in MODULES and imported != name and (name, imported) != LAZY_ADAPTER
        }
        for name, imports in IMPORTS.items()
    }
    TopologicalSorter(graph).prepare()  # raises an error that names the circle


def test_few_modules_stand_directly_in_casket():
    assert len([name for name in CORE if name.count(".") == 1 and not is_package(name)]) <= 10


def is_package(name):
    return MODULES[name].name == "__init__.py"


@pytest.mark.parametrize("name", MODULES)
def test_nobody_imports_the_shipped_test_suite(name):
    assert name == "casket.testing" or "casket.testing" not in IMPORTS[name].all


@pytest.mark.parametrize("name", [name for name in MODULES if name not in CORE])
def test_adapters_know_no_stores(name):
    assert not any(imported.startswith("casket.stores") for imported in IMPORTS[name].all)


@pytest.mark.parametrize("name", CORE)
def test_drivers_are_imported_in_their_one_module_or_when_they_are_used(name):
    at_head = packages(IMPORTS[name].at_head)
    assert not at_head & ON_USE
    for package in at_head & HOMES.keys():
        assert name in HOMES[package], f"{name} imports {package} at its head"


def test_sqlite_is_imported_in_its_homes_alone():
    users = {name for name in CORE if "sqlite3" in packages(IMPORTS[name].all)}
    assert users <= HOMES["sqlite3"]


@pytest.mark.parametrize("name", [name for name in CORE if not name.startswith("casket.cli")])
def test_the_core_imports_no_framework(name):
    assert not packages(IMPORTS[name].all) & FRAMEWORKS


def test_only_location_knows_which_stores_there_are():
    knowing = {
        name
        for name in CORE
        if name not in STORES and {m for m in IMPORTS[name].all if m in STORES} - STORE_MODULES
    }
    # The view for TinyDB shows the JSON store's documents as they stand; its storage on another
    # machine is a file of the SFTP store.
    assert knowing <= {"casket.testing", "casket.writing.tinydb", "casket.sftp_storage"}


def test_importing_casket_is_light(run_python):
    heavy = {
        *("numpy", "pandas", "polars", "tinydb", "sqlite3", "torch", "keras", "sklearn"),
        *("lightning", "paramiko", "pymongo", "psycopg", "psutil", "subprocess", "inspect"),
        *("dataclasses", "asyncio", "ssl", "http", "email", "uuid", "logging", "socket"),
        *(
            "casket.reading.casket",
            "casket.reading.fold",
            "casket.reading.views",
            "casket.reading.frames",
            "casket.format.legacy",
        ),
    }
    # orjson brings modules of its own, dataclasses among them: they are not for us to judge.
    loaded = run_python("""
        import sys
        import orjson
        before = set(sys.modules)
        import casket
        print(*sorted(set(sys.modules) - before))
    """)
    assert "casket.writing.experiment" in loaded.split()
    assert heavy.isdisjoint(loaded.split())


def test_logging_loads_no_more_than_the_store_needs(run_python):
    loaded = run_python("""
        import sys
        before = set(sys.modules)
        from casket import Experiment
        with Experiment.use("runs.json", exp_id="exp").model("net").session() as session:
            session.add_epoch(1, {"loss": 0.5})
        print(*sorted(set(sys.modules) - before))
    """)
    unneeded = {
        "sqlite3",
        "tinydb",
        "casket.reading.frames",
        "casket.reading.casket",
        "casket.writing.tinydb",
    }
    assert "casket.stores.jsonfile.store" in loaded.split()
    assert unneeded.isdisjoint(loaded.split())


@pytest.mark.skipif(sys.platform != "linux", reason="psutil is needed elsewhere")
def test_psutil_is_not_needed_on_linux(run_python):
    status = run_python(
        """
        from casket import Experiment
        model = Experiment.use("runs.json", exp_id="exp").model("net")
        session = model.session()
        print(model.sessions()[0].status)
        session.end()
        """,
        without=("psutil",),
    )
    assert status == "running"


def test_every_public_name_is_there(run_python):
    printed = run_python("""
        import casket
        for name in casket.__all__:
            getattr(casket, name)
        print(set(casket.__all__) <= set(dir(casket)), casket.open.__name__)
    """)
    assert printed == "True open_store"
