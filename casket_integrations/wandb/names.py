"""The names of W&B that casket has no counterpart for."""

from __future__ import annotations

from typing import Any

from casket_integrations.trackers import ignoring, lacking

_INSTEAD = {
    **dict.fromkeys(("sweep", "agent", "controller"), "model.sweep(space), or `casket sweep`"),
    **dict.fromkeys(("Api", "apis"), 'casket.open("runs.json"), see docs/from-wandb.md'),
    **dict.fromkeys(
        ("use_artifact", "restore", "use_model"),
        'casket.open("runs.json")[session].artifacts[name].path',
    ),
    **dict.fromkeys(
        ("Audio", "Video", "Html", "Object3D", "Molecule", "Plotly"),
        "run.session.add_artifact(name, path)",
    ),
    "plot": "wandb.log({name: figure}) with a figure of Matplotlib or Plotly",
    "keras": "casket.DBCallback",
    **{
        name: f"casket_integrations.{name}"
        for name in ("sklearn", "xgboost", "lightgbm", "catboost", "lightning")
    },
    "integration": "the adapters of casket_integrations",
}
"""What to use instead of a name of W&B."""

_NEED_A_SERVER = {
    *("link_artifact", "link_model", "log_code", "login", "mark_preempting", "pin_config_keys"),
    *("require", "setup", "teardown", "upsert_artifact"),
}


def other(owner: str, name: str) -> Any:
    """Return the value of a name that casket does not provide.

    Args:
        owner: the module or the object, as scripts call it.
        name: the name.

    Returns:
        A function without effect, if the name is one that needs a server.

    Raises:
        AttributeError: otherwise; it says what to use instead.
    """
    if name in _NEED_A_SERVER:
        return ignoring(f"{owner}.{name}")
    raise lacking(owner, name, _INSTEAD)
