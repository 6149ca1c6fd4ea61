"""The config and the summary of a W&B script, and the errors that it may catch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from casket import CasketError
from casket.format.described import described
from casket_integrations.hyperparameters import as_dict, differing


class Error(CasketError):
    """A call that is not valid, such as before `init`."""


class UsageError(Error, ValueError):
    """Arguments that are not valid."""


class Items(MutableMapping[str, Any]):
    """Values that can be read and set as items and as attributes."""

    _values: dict[str, Any]
    _write: Callable[[dict[str, Any]], None]

    def __init__(self, values: dict[str, Any], write: Callable[[dict[str, Any]], None]) -> None:
        vars(self).update(_values=values, _write=write)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __delitem__(self, name: str) -> None:
        raise UsageError(f"{name!r} is stored already: casket removes no values of a session")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"{name!r} is not set; set are {list(self._values)}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def update(self, values: Any = None, /, **named: Any) -> None:
        """Set several values; `allow_val_change` has no effect."""
        named.pop("allow_val_change", None)
        new = {**as_dict(values), **named}
        if changes := differing(described(new), described(self._values)):
            self._write(changes)
        self.note(new)

    def note(self, values: Mapping[str, Any]) -> None:
        """Set values that are stored elsewhere."""
        self._values.update(values)

    def setdefaults(self, values: Any) -> None:
        """Set the values that are not set yet."""
        self.update({name: each for name, each in as_dict(values).items() if name not in self})

    def as_dict(self) -> dict[str, Any]:
        """Return the values as a dict."""
        return dict(self._values)
