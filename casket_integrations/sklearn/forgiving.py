"""The rule that logging never stops a fit, for what is done before the recorder is called."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from casket import CasketWarning
from casket.session import describe


class Forgiving:
    """Turns errors into warnings, each text once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    @contextmanager
    def block(self) -> Iterator[None]:
        """Warn of an error that the `with` block raises, and go on behind it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop the fit
            self.warn(f"casket could not log, the fit goes on: {describe(error)}")

    def warn(self, text: str) -> None:
        """Warn, unless the same was said before."""
        if text not in self._said:
            self._said.add(text)
            warnings.warn(text, CasketWarning, stacklevel=3)
