"""Which messages about a server are of another incarnation than the one that the log knows. Pure.

They change nothing. Old ones of an agent that was restarted are such messages, and so are forged ones.
"""

from __future__ import annotations

from mafalda.contract.messages import events
from mafalda.contract.messages.load import ServerLoad
from mafalda.contract.messages.payload import Payload
from mafalda.projection.state import State

IncarnationEvent = (
    events.ServerStopped | events.ServerLost | events.ServerDraining | events.WorkerStarted | events.WorkerDied
)


def foreign_event(state: State, payload: Payload) -> IncarnationEvent | None:
    """The payload, if it is an event of a server's other incarnation, or of a server that was never started."""
    if not isinstance(payload, IncarnationEvent):
        return None
    known = state.servers.get(payload.server)
    return payload if known is None or known.incarnation != payload.incarnation else None


def is_foreign_load(state: State, load: ServerLoad) -> bool:
    """Whether a load report is of another incarnation of a server that the log knows."""
    known = state.servers.get(load.server)
    return known is not None and known.incarnation != load.incarnation
