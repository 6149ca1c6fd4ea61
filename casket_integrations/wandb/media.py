"""Media and artifacts of W&B scripts: `Image`, `Table`, `Histogram` and `Artifact`."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from casket import Session
from casket.errors import missing
from casket_integrations.trackers import warn_once


class Medium(ABC):
    """A value of `log` that is not stored as it is."""

    @abstractmethod
    def store(self, session: Session, name: str, step: int) -> Any:
        """Store the medium under a name, and return a value to log instead, or None."""


class Image(Medium):
    """An image: an array or a tensor, a figure, an image of Pillow, or the path of a file."""

    def __init__(
        self,
        data_or_path: Any,
        mode: str | None = None,
        caption: str | None = None,
        file_type: str | None = None,
        normalize: bool = True,
        **unsupported: Any,
    ) -> None:
        if any(each is not None for each in unsupported.values()):
            warn_once("casket stores an Image without grouping, classes, boxes and masks")
        self._data, self._mode, self._suffix = data_or_path, mode, f".{file_type or 'png'}"
        self._normalizes = normalize
        self.caption = caption

    def store(self, session: Session, name: str, step: int) -> Any:
        """Store the image as an artifact; log its caption."""
        data, suffix = _figure(self._data), self._suffix
        if isinstance(data, (str, os.PathLike)):
            suffix = Path(data).suffix or suffix
        elif hasattr(data, "shape"):
            data = self._of_array(data)
        session.add_artifact(f"{name}{suffix}", data, step=step)
        return self.caption

    def _of_array(self, data: Any) -> Any:
        try:
            import numpy as np
            from PIL import Image as Pillow
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            raise missing(error, package, "pandas" if package == "numpy" else "all") from error
        is_tensor = hasattr(data, "detach")
        array = np.asarray(data.detach().cpu() if is_tensor else data)
        if is_tensor and array.ndim == 3:  # the channels come first
            array = np.moveaxis(array, 0, -1)
        array = array.squeeze() if array.ndim > 2 else array
        if self._normalizes and array.dtype.kind == "f":
            low, high = float(array.min()), float(array.max())
            if low < 0:
                array = (array - low) / ((high - low) or 1)
            if low < 0 or high <= 1:
                array = array * 255
        return Pillow.fromarray(array.clip(0, 255).astype("uint8"), self._mode)


class Table(Medium):
    """A table, stored as an artifact in W&B's own format, `NAME.table.json`."""

    def __init__(
        self,
        columns: Sequence[Any] | None = None,
        data: Any = None,
        rows: Any = None,
        dataframe: Any = None,
        **_: Any,
    ) -> None:
        data = rows if data is None else data
        if hasattr(data, "columns"):
            dataframe = data
        if dataframe is not None:
            columns, data = list(dataframe.columns), dataframe.to_numpy()
        items = data.tolist() if hasattr(data, "tolist") else data or ()
        default = ("Input", "Output", "Expected")
        self.columns = list(default if columns is None else columns)
        self.data = [list(row) for row in items]

    def add_data(self, *row: Any) -> None:
        """Add a row."""
        if len(row) != len(self.columns):
            raise ValueError(f"a row of {len(row)} values: give {len(self.columns)}, one a column")
        self.data.append(list(row))

    def add_column(self, name: str, data: Iterable[Any]) -> None:
        """Add a column."""
        values = list(data)
        if self.columns and len(values) != len(self.data):
            raise ValueError(f"column {name!r} has {len(values)} values: give {len(self.data)}")
        rows = self.data if self.columns else [[] for _ in values]
        self.data = [[*row, value] for row, value in zip(rows, values, strict=True)]
        self.columns.append(name)

    def get_column(self, name: str) -> list[Any]:
        """Return the values of a column."""
        position = self.columns.index(name)
        return [row[position] for row in self.data]

    def store(self, session: Session, name: str, step: int) -> None:
        """Store the table, and the media in its cells as artifacts of their own."""
        rows = [
            [_cell(session, f"{name}/{i}-{column}", cell, step) for column, cell in pairs]
            for i, pairs in enumerate(zip(self.columns, row, strict=True) for row in self.data)
        ]
        table = {"columns": self.columns, "data": rows}
        session.add_artifact(f"{name}.table.json", table, step=step)


class Histogram(Medium):
    """A histogram, logged as a metric with the members `values` and `bins`."""

    def __init__(self, sequence: Any = None, np_histogram: Any = None, num_bins: int = 64) -> None:
        if np_histogram is None:
            try:
                import numpy as np
            except ModuleNotFoundError as error:
                raise missing(error, "numpy", "pandas") from error
            values = sequence.detach().cpu() if hasattr(sequence, "detach") else sequence
            np_histogram = np.histogram(np.ravel(np.asarray(values)), bins=num_bins)
        self.histogram, self.bins = (list(map(_plain, each)) for each in np_histogram)

    def store(self, *_: Any) -> dict[str, list[Any]]:
        """Return the histogram, to be logged."""
        return {"values": self.histogram, "bins": self.bins}


class Artifact:
    """Files under a common name; each becomes an artifact of the session, `NAME/FILE`."""

    def __init__(
        self,
        name: str,
        type: str,  # noqa: A002 - named by W&B
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        self.name, self.type, self.description = name, type, description
        self.metadata = dict(metadata or {})
        self._members: list[tuple[str, Any]] = []
        self._references: list[str] = []

    def add_file(self, local_path: Any, name: str | None = None, **_: Any) -> None:
        """Add a file."""
        self._members.append((name or Path(local_path).name, Path(local_path)))

    def add_dir(self, local_path: Any, name: str | None = None, **_: Any) -> None:
        """Add the files of a folder."""
        for file in sorted(path for path in Path(local_path).rglob("*") if path.is_file()):
            inner = file.relative_to(local_path).as_posix()
            self._members.append((f"{name}/{inner}" if name else inner, file))

    def add(self, obj: Any, name: str, **_: Any) -> None:
        """Add a table, an image or another medium."""
        self._members.append((name, obj))

    def add_reference(self, uri: Any, **_: Any) -> None:
        """Add the URI of a file, which is not copied, to the meta."""
        self._references.append(str(uri))

    @contextmanager
    def new_file(self, name: str, mode: str = "w", **_: Any) -> Iterator[Any]:
        """Open a new file of the artifact for writing."""
        with TemporaryDirectory(prefix="casket-") as folder:
            path = Path(folder, "new")
            with path.open(mode) as file:
                yield file
            self._members.append((name, path.read_bytes()))

    def wait(self, **_: Any) -> Artifact:
        """Return the artifact, which is stored already."""
        return self

    def store(self, session: Session, aliases: Sequence[str] = ()) -> None:
        """Store the files, and what describes them as meta of the session."""
        for name, member in self._members:
            if isinstance(member, Medium):
                member.store(session, f"{self.name}/{name}", 0)
            else:
                session.add_artifact(f"{self.name}/{name}", member)
        facts = {
            "type": self.type,
            "description": self.description,
            "metadata": self.metadata,
            "references": self._references,
            "aliases": list(aliases),
        }
        session.add_meta({f"artifact {self.name}": {k: v for k, v in facts.items() if v}})


def to_log(
    session: Session, data: Mapping[str, Any], step: int, prefix: str = ""
) -> dict[str, Any]:
    """Store the media among logged data as artifacts, and return the values that remain."""
    values = {}
    for key, given in data.items():
        name, value = f"{prefix}{key}", _medium(given)
        if isinstance(value, Mapping):
            inner = to_log(session, value, step, f"{name}.")
            if inner or not value:
                values[key] = inner
        elif isinstance(value, Medium):
            if (logged := value.store(session, name, step)) is not None:
                values[key] = logged
        elif isinstance(value, (list, tuple)) and any(isinstance(each, Medium) for each in value):
            for i, each in enumerate(value):
                _cell(session, f"{name}/{i}", each, step)
        else:
            values[key] = value
    return values


def _medium(value: Any) -> Any:
    """Return a figure as an image, and other values as they are."""
    is_figure = _figure(value) is not value or hasattr(value, "savefig")
    return Image(value) if is_figure or type(value).__module__.startswith("plotly.") else value


def _figure(value: Any) -> Any:
    """Return the current figure for the module `matplotlib.pyplot`."""
    return value.gcf() if getattr(value, "__name__", "") == "matplotlib.pyplot" else value


def _cell(session: Session, name: str, value: Any, step: int) -> Any:
    """Store a medium; return its name, or any other value as it is."""
    if not isinstance(value, Medium):
        return value
    value.store(session, name, step)
    return name


def _plain(number: Any) -> Any:
    return number.item() if hasattr(number, "item") else number
