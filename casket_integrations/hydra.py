"""Hydra: a callback in the configuration makes a session of each job, for `casket.attach()`.

hydra:
  callbacks:
    casket:
      _target_: casket_integrations.hydra.CasketCallback
      model: runs.json
      exp_id: digits
      model_id: net
"""

# ruff: noqa: ARG002 - the signatures of the events are Hydra's
from __future__ import annotations

from typing import Any

from casket import ExistingParamsException
from casket.errors import missing
from casket.writing import attaching
from casket_integrations.recorder import Recording

try:
    from hydra.core.utils import JobReturn, JobStatus
    from hydra.experimental.callback import Callback
    from omegaconf import DictConfig, OmegaConf
except ModuleNotFoundError as error:
    raise missing(error, "hydra", "hydra") from error


class CasketCallback(Recording, Callback):
    """Makes a session of each job, in a single run and in a multirun with any launcher.

    The job logs to `casket.attach()`. The params are the configuration of the job without `hydra`;
    the overrides and the paths of the run are in `meta["hydra"]`. If the job raises an exception,
    the session has the status failed.

    See `Recording` for the arguments. With `ensure_unique`, `casket.attach()` refuses known params,
    because Hydra turns exceptions of callbacks into warnings.
    """

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Start the session."""
        job = OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])
        self.recorder.describe(OmegaConf.to_container(job, resolve=True))
        try:
            self.recorder.start()
        except ExistingParamsException as refusal:
            attaching.refuse(refusal)
            raise
        if self.recorder.session is not None:
            attaching.announce(self.recorder.session)
        hydra = config.hydra
        facts = {"overrides": list(hydra.overrides.task), "output_dir": hydra.runtime.output_dir}
        self.recorder.meta({"hydra": {**facts, "cwd": hydra.runtime.cwd, "job": hydra.job.name}})

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """End the session."""
        attaching.withdraw()
        has_failed = job_return.status == JobStatus.FAILED
        self.recorder.end(job_return._return_value if has_failed else None)
