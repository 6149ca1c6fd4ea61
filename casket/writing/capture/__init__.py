"""What a session records besides what its script logs: code, packages, output, system metrics.

The modules are loaded when a session needs them, because importing casket has to be quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from casket.system import forks
from casket.writing.capture.choices import NOTHING, Plan

if TYPE_CHECKING:
    from casket.format.records import Record
    from casket.writing.capture.recording import Recording
    from casket.writing.log import SessionLog


def begin(log: SessionLog, plan: Plan) -> Recording | None:
    """Begin to record for a session that has started; return None if there is nothing to do."""
    if plan == NOTHING:
        return None
    with forks.held_off():
        from casket.writing.capture.recording import Recording
    return Recording(log, plan)


def captured_at_once(log: SessionLog, plan: Plan) -> list[Record]:
    """Return the records of the code and packages for a session that is written at once."""
    if not plan.collected:
        return []
    with forks.held_off():
        from casket.writing.capture.recording import collected_records
    return collected_records(log, plan)
