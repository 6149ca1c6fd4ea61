"""Config objects and names: what `casket.format.values` stores beyond plain values.

A config object (a Namespace, a dataclass, an instance of attrs or pydantic, an OmegaConf config,
any mapping) is stored as the dict of its parts. The libraries are recognized by attributes of the
type and never imported.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Mapping
from enum import Enum
from typing import Any

from casket.format.arrays import package_of, plain

_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
_FUNCTIONS = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType)


def parts_of(value: Any) -> Any:
    """Return the parts of a config object by name; None for another object.

    The root model of pydantic returns its only part, which may be any value.

    Raises:
        Exception: a part cannot be read; the library may raise anything.
    """
    kind = type(value)
    if isinstance(value, Mapping):
        return value
    if isinstance(value, types.SimpleNamespace) or _is_namespace(kind):
        return vars(value)
    if hasattr(kind, "__dataclass_fields__"):
        from dataclasses import fields  # already loaded, since a dataclass exists

        return {field.name: getattr(value, field.name) for field in fields(value)}
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in kind.__attrs_attrs__}
    if any(base.__name__ == "BaseModel" and _is_pydantic(base) for base in kind.__mro__):
        parts = dict(value)
        return parts["root"] if getattr(kind, "__pydantic_root_model__", False) else parts
    if package_of(kind) is None and hasattr(kind, "keys") and hasattr(kind, "__getitem__"):
        return dict(value)
    return None


def _is_namespace(kind: type) -> bool:
    argparse = sys.modules.get("argparse")  # whoever has a Namespace has imported it
    return argparse is not None and issubclass(kind, argparse.Namespace)


def _is_pydantic(base: type) -> bool:
    return base.__module__.partition(".")[0] == "pydantic"


def key_text(key: Any) -> str | None:
    """Return a key of a dict as text; None if its type cannot be a key in JSON.

    Numbers that are equal have the same text, since params with equal values are equal.
    """
    if isinstance(key, Enum):
        return key_text(key.value)
    if package_of(type(key)) == "numpy" and hasattr(key, "dtype") and not key.shape:
        return key_text(plain(key))
    if key is None or isinstance(key, (bool, str)):
        return str(key)
    if isinstance(key, float):
        is_whole = key.is_integer() and abs(key) < 2**53
        return str(int(key)) if is_whole else repr(float(key))
    return str(int(key)) if isinstance(key, int) else None


def name_of(value: Any) -> str | None:
    """Return a text for an object that is the same in every process.

    Returns:
        The qualified name of a class, function or module; the `repr` of another object, or None
        if it holds an address, as it does by default.

    Raises:
        Exception: `repr` failed; it may raise anything.
    """
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, _FUNCTIONS) and _is_of_a_module(value):
        return None if value.__name__ == "<lambda>" else qualified_name(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return None
    text = repr(value)
    return None if _ADDRESS.search(text) else text


def _is_of_a_module(function: Any) -> bool:
    """Return whether a function belongs to a module or class, not to an object with a state."""
    return isinstance(getattr(function, "__self__", None), (type, types.ModuleType, type(None)))


def qualified_name(value: Any) -> str:
    """Return the name of a class or function with its module, except for a builtin."""
    module = value.__module__
    return value.__qualname__ if module in (None, "builtins") else f"{module}.{value.__qualname__}"


def describe(value: Any) -> str:
    """Return a text for any object, without memory addresses so that it is the same in each run."""
    try:
        text = qualified_name(value) if isinstance(value, _FUNCTIONS) else _repr(value)
    except Exception:  # noqa: BLE001 - any code of the user's
        text = f"<{type(value).__name__}>"
    return _ADDRESS.sub("", text).encode(errors="replace").decode()


def _repr(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def hint(value: Any) -> str:
    """Return the advice of an exception that refuses an object."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "keep bytes with session.add_artifact(name, data)"
    if callable(value):
        return "store its name"
    return "store the numbers or text in it, or keep it with session.add_artifact(name, object)"


def hint_for_nameless(value: Any) -> str:
    """Return the advice of an exception that refuses an object for which `name_of` is None."""
    if getattr(value, "__name__", None) == "<lambda>":
        return "a lambda has no name; define the function with def, or store its source as text"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return hint(value)
    return "its repr holds a memory address, which differs in every run; store its name or values"
