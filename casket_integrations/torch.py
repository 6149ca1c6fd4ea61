"""PyTorch: `watch(session, module, every=100)` logs norms of the gradients and weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from casket import Session
from casket.errors import missing

try:
    import torch
    from torch.optim.optimizer import register_optimizer_step_pre_hook
except ModuleNotFoundError as error:
    raise missing(error, "torch", "torch") from error


class Watch:
    """The hook of `watch`; `remove` ends it."""

    def __init__(self, session: Session, module: torch.nn.Module, every: int) -> None:
        self._session = session
        self._weights = dict(module.named_parameters())
        self._ids = set(map(id, self._weights.values()))
        self._every = every
        self._optimizers: WeakKeyDictionary[Any, tuple[int, bool]] = WeakKeyDictionary()
        self._step = 0
        self._handle = register_optimizer_step_pre_hook(self.before_step)
        session.at_end(self.remove)

    def remove(self) -> None:
        """Remove the hook; has no effect when called again."""
        self._handle.remove()

    def before_step(self, optimizer: Any, *_: Any) -> None:
        """Count a step, and log every so many; called by PyTorch."""
        if self._is_watched(optimizer):
            if self._step % self._every == 0:
                self._session.add_batch(self._step, self._measure())
            self._step += 1

    def _is_watched(self, optimizer: Any) -> bool:
        """Return whether an optimizer has a weight of the module; groups may be added to it."""
        groups = optimizer.param_groups
        count, is_watched = self._optimizers.get(optimizer, (0, False))
        if count != len(groups):
            weights = (weight for group in groups for weight in group["params"])
            is_watched = any(id(weight) in self._ids for weight in weights)
            self._optimizers[optimizer] = len(groups), is_watched
        return is_watched

    @torch.no_grad()
    def _measure(self) -> dict[str, float]:
        gradients = {n: _dense(w.grad) for n, w in self._weights.items() if w.grad is not None}
        return {**_facts("grad", gradients), **_facts("weight", self._weights)}


def watch(session: Session, module: torch.nn.Module, every: int = 100) -> Watch:
    """Log the norms of the gradients and weights of a module before steps of its optimizers.

    Logged are, as a batch, the norms `grad_norm` and `weight_norm` of all parameters together,
    those of each parameter (`grad_norm.<name>`, `weight_norm.<name>`), and the numbers of values
    that are infinite or not a number (`grad_not_finite`, `weight_not_finite`). Steps count from 0.

    Args:
        session: the session to log to; its end removes the hook.
        module: the module, whose parameters must have been moved to their device.
        every: the interval of logged steps.
    """
    if every < 1:
        raise ValueError(f"every={every!r}: give 1 or more: the interval of logged steps")
    return Watch(session, module, every)


def _facts(kind: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return the norms of tensors, and how many of their values are not finite."""
    norms = _on_cpu(torch.linalg.vector_norm(each.float()) for each in tensors.values())
    odd = [each for each, norm in zip(tensors.values(), norms, strict=True) if not norm < _INFINITY]
    return {
        f"{kind}_norm": sum(norm**2 for norm in norms) ** 0.5,
        f"{kind}_not_finite": sum(_on_cpu((~each.isfinite()).sum() for each in odd)),
        **{f"{kind}_norm.{name}": norm for name, norm in zip(tensors, norms, strict=True)},
    }


def _dense(gradient: torch.Tensor) -> torch.Tensor:
    """Return the values of a gradient that may be sparse, as that of an embedding."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def _on_cpu(scalars: Iterable[torch.Tensor]) -> list[Any]:
    """Return the values of scalars, in a single transfer from the device of the first."""
    values = list(scalars)
    return torch.stack([each.to(values[0].device) for each in values]).tolist() if values else []


_INFINITY = float("inf")
