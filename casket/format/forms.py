"""The forms of objects that are stored as artifacts in a format of their own.

A form consists of the functions that write and load it; its name is stored with the artifact.
Libraries are imported only when an object of theirs is stored or loaded.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

import orjson

from casket.errors import MissingDependency, UnstorableValue, UntrustedArtifact
from casket.format.configs import parts_of
from casket.format.hashed import HashedFile
from casket.format.values import Encoder, restore

_STATE_SUFFIXES = frozenset({".pt", ".pth"})


class Loading(NamedTuple):
    """A stored object to load.

    Attributes:
        file: its content.
        form: the name of its form.
        index_columns: the number of columns that are the index of a table.
        is_trusted: whether code in it may be run.
        refusal: the exception to raise if it holds code and is not trusted.
    """

    file: BinaryIO
    form: str
    index_columns: int
    is_trusted: bool
    refusal: UntrustedArtifact


def writer_of(form: str) -> Callable[[Any, HashedFile], object]:
    """Return the function that writes objects in a form."""
    return _WRITERS[form]


def load(loading: Loading) -> Any:
    """Load an object.

    Raises:
        UntrustedArtifact: it holds code and is not trusted.
        MissingDependency: the library of its form is not installed.
    """
    return _LOADERS[loading.form](loading)


def may_hold_code(form: str | None) -> bool:
    """Return whether loading an object of a form may run code that is stored in its file."""
    return form in ("joblib", "pickle", "torch", "skops")


def choose(name: str, suffix: str, source: Any) -> tuple[str, str] | None:
    """Return the form of an object and the suffix of its file; None for other objects.

    Args:
        name: the name of the artifact.
        suffix: the suffix of the name, in lower case.
        source: the object.

    Raises:
        UnstorableValue: the library of the form is not installed.
    """
    form = _by_suffix(suffix, source)
    if form is None and suffix not in (".joblib", ".pkl", ".pickle") and _is_state_dict(source):
        is_safe = _is_installed("safetensors")
        form, suffix = ("safetensors", ".safetensors") if is_safe else ("torch", ".pt")
    if form is None:
        return None
    _require(name, form)
    return form, suffix


def _by_suffix(suffix: str, source: Any) -> str | None:
    package = type(source).__module__.partition(".")[0]
    if suffix in (".csv", ".parquet"):
        library = _library_of_frame(source)
        return f"{library}{suffix}" if library else None
    if suffix == ".npy" and package == "numpy":
        return "npy"
    if suffix == ".npz" and isinstance(source, Mapping):
        return "npz"
    if suffix in _STATE_SUFFIXES and "torch" in sys.modules:
        return "torch"
    if suffix in (".safetensors", ".skops"):
        return suffix[1:]
    structured = {".json": "json", ".yaml": "yaml", ".yml": "yaml"}.get(suffix)
    is_structure = structured and (
        isinstance(source, (list, tuple)) or parts_of(source) is not None
    )
    return structured if is_structure else None


def _library_of_frame(source: Any) -> str | None:
    for base in type(source).__mro__:
        library = base.__module__.partition(".")[0]
        if base.__name__ == "DataFrame" and library in ("pandas", "polars"):
            return library
    return None


def _is_state_dict(source: Any) -> bool:
    if not isinstance(source, Mapping) or "torch" not in sys.modules:
        return False
    return bool(source) and all(map(sys.modules["torch"].is_tensor, source.values()))


def _require(name: str, form: str) -> None:
    library = {"yaml": "yaml", "safetensors": "safetensors", "skops": "skops"}.get(form)
    if library is None or _is_installed(library):
        return
    package = "pyyaml" if library == "yaml" else library
    hint = f"pip install {package}, or give the artifact a name with another suffix"
    raise UnstorableValue(name, f"as {form}", hint)


def _is_installed(library: str) -> bool:
    try:
        importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        return False
    return True


def _library(name: str, extra: str | None = None) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name != package:
            raise
        raise MissingDependency(package, extra, "casket" if extra else package) from error


# Arrays.


def write_npy(array: Any, file: Any) -> None:
    """Write a numpy array in `.npy` format."""
    import numpy as np

    np.save(file, array, allow_pickle=False)


def load_npy(file: BinaryIO) -> Any:
    """Load an array in `.npy` format.

    Raises:
        MissingDependency: numpy is not installed.
    """
    return _library("numpy", "pandas").load(file, allow_pickle=False)


def _write_npz(arrays: Mapping[str, Any], file: HashedFile) -> None:
    import numpy as np

    np.savez(file, allow_pickle=False, **arrays)


def _load_npz(loading: Loading) -> Any:
    with load_npy(loading.file) as arrays:
        return dict(arrays)


# Text and structures.


def _write_json(value: Any, file: HashedFile) -> None:
    file.write(orjson.dumps(_plain(value), option=orjson.OPT_INDENT_2))


def _write_yaml(value: Any, file: HashedFile) -> None:
    yaml = importlib.import_module("yaml")
    options: Any = {"sort_keys": False, "allow_unicode": True, "encoding": "utf-8"}
    yaml.safe_dump(_plain(value), file, **options)


def _plain(value: Any) -> Any:
    return Encoder(names=True).encode(value, "")


def _load_yaml(loading: Loading) -> Any:
    return restore(_library("yaml", "import").safe_load(loading.file), _no_array)


def _load_json(loading: Loading) -> Any:
    return restore(orjson.loads(loading.file.read()), _no_array)


def _no_array(kept: dict[str, Any]) -> Any:
    return {"$array": kept}


# Tables.


def index_of(form: str | None, frame: Any) -> int:
    """Return the number of columns that the index of a frame has in its `.csv` file."""
    if form != "pandas.csv":
        return 0
    if type(frame.index).__name__ == "RangeIndex" and frame.index.name is None:
        return 0
    return int(frame.index.nlevels)


def _write_pandas_csv(frame: Any, file: HashedFile) -> None:
    frame.to_csv(file, mode="wb", encoding="utf-8", index=index_of("pandas.csv", frame) > 0)


def _load_pandas_csv(loading: Loading) -> Any:
    index = list(range(loading.index_columns)) or None
    return _library("pandas", "pandas").read_csv(loading.file, index_col=index)


# Figures, weights and estimators.


def _write_torch(value: Any, file: HashedFile) -> None:
    sys.modules["torch"].save(value, file)


def _load_torch(loading: Loading) -> Any:
    torch = _library("torch")
    try:
        return torch.load(loading.file, map_location="cpu", weights_only=True)
    except Exception as error:
        if not loading.is_trusted:
            raise loading.refusal from error
    loading.file.seek(0)
    return torch.load(loading.file, map_location="cpu", weights_only=False)


def _write_safetensors(tensors: Mapping[str, Any], file: HashedFile) -> None:
    _safetensors(next(iter(tensors.values()), None)).save_file(dict(tensors), file.path)


def _safetensors(tensor: Any) -> ModuleType:
    package = type(tensor).__module__.partition(".")[0]
    return importlib.import_module(f"safetensors.{'numpy' if package == 'numpy' else 'torch'}")


def _load_safetensors(loading: Loading) -> Any:
    _library("safetensors")
    library = "torch" if _is_installed("torch") else "numpy"
    return importlib.import_module(f"safetensors.{library}").load(loading.file.read())


def _write_skops(estimator: Any, file: HashedFile) -> None:
    importlib.import_module("skops.io").dump(estimator, file)


def _load_skops(loading: Loading) -> Any:
    io = _library("skops.io")
    content = loading.file.read()
    unknown = io.get_untrusted_types(data=content)
    if unknown and not loading.is_trusted:
        raise loading.refusal
    return io.loads(content, trusted=unknown)


def _load_plotly(loading: Loading) -> Any:
    return _library("plotly.io").from_json(loading.file.read().decode())


def _load_pillow(loading: Loading) -> Any:
    image = _library("PIL.Image").open(loading.file)
    image.load()
    return image


def _load_joblib(loading: Loading) -> Any:
    if not loading.is_trusted:
        raise loading.refusal
    return _library("joblib", "sklearn").load(loading.file)


def _load_pickle(loading: Loading) -> Any:
    if not loading.is_trusted:
        raise loading.refusal
    import pickle

    return pickle.load(loading.file)  # noqa: S301 - written here, or trusted by the user


_Writer = Callable[[Any, HashedFile], object]
_WRITERS: dict[str, _Writer] = {
    "npy": write_npy,
    "npz": _write_npz,
    "json": _write_json,
    "yaml": _write_yaml,
    "pandas.csv": _write_pandas_csv,
    "pandas.parquet": lambda frame, file: frame.to_parquet(file),
    "polars.csv": lambda frame, file: frame.write_csv(file),
    "polars.parquet": lambda frame, file: frame.write_parquet(file),
    "torch": _write_torch,
    "safetensors": _write_safetensors,
    "skops": _write_skops,
}

_LOADERS: dict[str, Callable[[Loading], Any]] = {
    "npy": lambda loading: load_npy(loading.file),
    "npz": _load_npz,
    "text": lambda loading: loading.file.read().decode(),
    "json": _load_json,
    "yaml": _load_yaml,
    "pandas.csv": _load_pandas_csv,
    "pandas.parquet": lambda loading: _library("pandas", "pandas").read_parquet(loading.file),
    "polars.csv": lambda loading: _library("polars", "polars").read_csv(loading.file),
    "polars.parquet": lambda loading: _library("polars", "polars").read_parquet(loading.file),
    "plotly": _load_plotly,
    "pillow": _load_pillow,
    "torch": _load_torch,
    "safetensors": _load_safetensors,
    "skops": _load_skops,
    "joblib": _load_joblib,
    "pickle": _load_pickle,
}
