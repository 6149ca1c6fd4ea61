"""The process of a distributed training that logs."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any


def is_rank_zero() -> bool:
    """Return whether this process is the logging process of a distributed training.

    The rank is taken from torch or jax if they are loaded and initialized, and otherwise from
    `RANK` with `WORLD_SIZE`, as set by torchrun and similar launchers. The process number of a
    cluster scheduler is ignored, because the jobs of an array are separate trainings.
    """
    torch: Any = sys.modules.get("torch.distributed")
    jax: Any = sys.modules.get("jax")
    with suppress(AttributeError):  # None, or a version without this function
        if torch.is_available() and torch.is_initialized():
            return bool(torch.get_rank() == 0)
    with suppress(AttributeError):
        if jax.distributed.is_initialized():
            return bool(jax.process_index() == 0)
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"
