"""From what a worker's driver raises to what a peer is told.

What does not belong here: raising.
"""

from __future__ import annotations

from mafalda.errors import Closed, MafaldaError, NotFound, WorkerDied
from mafalda.mediasoup.errors import WorkerClosed


def as_contract_error(error: MafaldaError) -> MafaldaError:
    """The same "no" in the words of the contract; most of the driver's errors are that already."""
    if isinstance(error, WorkerClosed):
        return WorkerDied("the worker is gone")
    if isinstance(error, Closed):
        return NotFound("it has closed meanwhile", **error.details)
    return error
