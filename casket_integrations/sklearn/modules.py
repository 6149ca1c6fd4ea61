"""The code of the modules that a function or class depends on.

A module of the user is identified by its source and by the modules that it imports, since a score
may depend on any helper or constant in them; an installed package by its version.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import platform
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import resolve_name
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

_INSTALLED = tuple(
    path for name, path in sysconfig.get_paths().items() if name.endswith(("lib", "stdlib"))
)
_OWN = {"casket", "casket_integrations"}
_FOLDERS_OF_PACKAGES = {"site-packages", "dist-packages"}


def version_of(name: str) -> str | None:
    """Return the version of the installed package of a module; None for a module of the user."""
    package = name.partition(".")[0]
    if package in sys.stdlib_module_names or package == "builtins":
        return platform.python_version()
    if package in _OWN:
        return "casket"  # no score depends on its code
    file = file_of(package)
    if file is None or not _is_installed(file):
        return None
    version = getattr(sys.modules.get(package), "__version__", None)
    return version if isinstance(version, str) else _installed_version(package, file)


def dependencies(name: str) -> dict[str, str]:
    """Return a module of the user and all that it imports, each with its version or hash."""
    known: dict[str, str] = {}
    waiting = [name]
    while waiting:
        name = waiting.pop()
        version = version_of(name)
        if version is not None:
            known[name.partition(".")[0]] = version
            continue
        file = file_of(name)
        if file is not None and name not in known:
            state = os.stat(file)
            known[name], imported = _read(name, file, state.st_mtime_ns, state.st_size)
            waiting += imported
    return known


def loaded_code(name: str) -> dict[str, Any]:
    """Return the code of a module's functions as loaded; the source may be newer."""
    members = vars(sys.modules[name]) if name in sys.modules else {}
    return dict(_functions(members, name, ""))


def file_of(name: str) -> str | None:
    """Return the file of a module without importing it; None if it has none."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None)
    spec = _find(name)
    return spec.origin if spec is not None and spec.has_location else None


def code_of(code: CodeType) -> Any:
    """Return the instructions and constants of code, without its location."""
    constants = [code_of(one) if isinstance(one, CodeType) else one for one in code.co_consts]
    return code.co_code, constants, code.co_names, code.co_varnames


def _functions(members: Mapping[str, Any], module: str, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, member in members.items():
        function = inspect.unwrap(getattr(member, "__func__", getattr(member, "fget", member)))
        if getattr(function, "__module__", None) != module:
            continue
        if isinstance(function, FunctionType):
            yield prefix + name, code_of(function.__code__)
        elif isinstance(function, type) and not prefix:
            yield from _functions(vars(function), module, f"{name}.")


def _find(name: str) -> ModuleSpec | None:
    parent, _, _ = name.rpartition(".")
    if not parent:
        return PathFinder.find_spec(name)
    path = getattr(sys.modules.get(parent), "__path__", None)
    if path is None:
        spec = _find(parent)
        path = spec.submodule_search_locations if spec else None
    return PathFinder.find_spec(name, path) if path else None


def _is_installed(file: str) -> bool:
    is_below = any(file.startswith(folder + os.sep) for folder in _INSTALLED)
    return is_below or not _FOLDERS_OF_PACKAGES.isdisjoint(Path(file).parts)


def _installed_version(package: str, file: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return _hash_of_files(file)


@cache
def _hash_of_files(file: str) -> str:
    """Return a hash of the files of a package that has no version."""
    path = Path(file)
    files = sorted(path.parent.rglob("*")) if path.name.startswith("__init__.") else [path]
    hashed = hashlib.sha256()
    for each in files:
        if each.is_file() and each.suffix != ".pyc":
            hashed.update(f"{each.relative_to(path.parent)}\0".encode())
            hashed.update(hashlib.sha256(each.read_bytes()).digest())
    return hashed.hexdigest()


@cache
def _read(name: str, file: str, mtime: int, size: int) -> tuple[str, list[str]]:  # noqa: ARG001 - of the cache
    """Return the hash of a module's code, regardless of comments, and the modules it imports."""
    content = Path(file).read_bytes()
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # a compiled module
        return hashlib.sha256(content).hexdigest(), []
    is_package = Path(file).name == "__init__.py"
    package = name if is_package else name.rpartition(".")[0]
    imported = [module for node in ast.walk(tree) for module in _imported(node, package)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imported


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    """Yield the names of modules that a statement imports, and of members that may be modules."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and (package or not node.level):
        base = resolve_name("." * node.level + (node.module or ""), package)
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
