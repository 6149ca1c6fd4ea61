"""The accelerators of this machine that this process uses.

NVIDIA's are read by nvidia-ml-py, those of other vendors by what `register_accelerators` adds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol


class Accelerators(Protocol):
    """Accelerators of a vendor."""

    def read(self) -> dict[int, dict[str, float]]:
        """Return the state of each accelerator that this process uses, by its number.

        Of each: `percent`, `memory_bytes`, `watts` and `celsius`, as far as they are known.
        """


_registered: list[Callable[[], Accelerators]] = []


def register_accelerators(make: Callable[[], Accelerators]) -> None:
    """Add the accelerators of a vendor to the system metrics of this process.

    Args:
        make: called once, when sampling begins; returns an object with the methods of
            `Accelerators`.
    """
    _registered.append(make)


def accelerators() -> list[Accelerators]:
    """Return the accelerators of all vendors whose libraries can be loaded."""
    return [*_nvidia(), *(make() for make in _registered)]


def _nvidia() -> list[Accelerators]:
    try:
        import pynvml  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver
        return []
    return [Nvidia(pynvml)]


class Nvidia:
    """NVIDIA's accelerators.

    Args:
        nvml: the module `pynvml` of nvidia-ml-py, initialized.
    """

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        count = nvml.nvmlDeviceGetCount()
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]
        names = [_text(nvml.nvmlDeviceGetUUID(handle)) for handle in handles]
        self._handles = {i: handles[i] for i in visible(names)}

    def read(self) -> dict[int, dict[str, float]]:
        """Return the state of each accelerator; see `Accelerators`."""
        return {number: self._state(handle) for number, handle in self._handles.items()}

    def _state(self, handle: Any) -> dict[str, float]:
        nvml = self._nvml
        questions: dict[str, Callable[[], float]] = {
            "percent": lambda: float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            "memory_bytes": lambda: int(nvml.nvmlDeviceGetMemoryInfo(handle).used),
            "watts": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            "celsius": lambda: float(
                nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
            ),
        }
        state = {}
        for name, ask in questions.items():
            with suppress(nvml.NVMLError):  # not every model answers all of them
                state[name] = ask()
        return state


def visible(names: list[str]) -> list[int]:
    """Return the numbers of the accelerators that this process uses.

    `CUDA_VISIBLE_DEVICES` limits them; a rank of several on this machine (`LOCAL_RANK`) uses the
    one of its number.

    Args:
        names: the UUIDs of all accelerators of the machine.
    """
    limit = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = list(range(len(names)))
    if limit is not None:
        numbers = _listed([each.strip() for each in limit.split(",")], names)
    rank = os.environ.get("LOCAL_RANK", "")
    if rank.isdecimal() and int(rank) < len(numbers) > 1:
        return [numbers[int(rank)]]
    return numbers


def _listed(limit: list[str], names: list[str]) -> list[int]:
    """Return the numbers of listed accelerators; as in CUDA, an unknown one ends the list."""
    numbers = []
    for each in limit:
        if each.isdecimal() and int(each) < len(names):
            numbers.append(int(each))
            continue
        matching = [i for i, name in enumerate(names) if each and name.startswith(each)]
        if len(matching) != 1:
            break
        numbers += matching
    return numbers


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
