"""Conversions of exceptions to the errors of the contract."""

from __future__ import annotations

from mafalda.errors import Closed, MafaldaError, NotFound, WorkerExited
from mafalda.mediasoup.errors import WorkerClosed


def as_contract_error(error: MafaldaError) -> MafaldaError:
    """The driver's error as a peer gets it; most of the driver's errors are the contract's already."""
    if isinstance(error, WorkerClosed):
        return WorkerExited("the worker is gone")
    if isinstance(error, Closed):
        return NotFound("it has closed meanwhile", **error.details)
    return error


def as_mafalda_error(error: Exception) -> MafaldaError:
    """Any exception as an error that may be sent: an unexpected one becomes "internal error", without its details."""
    return as_contract_error(error) if isinstance(error, MafaldaError) else MafaldaError("internal error")


def place_gone(reason: str) -> WorkerExited:
    """The error of an intent for a place that the peer has no more, with the reason why."""
    return WorkerExited("the peer's place is gone; ask again after its next join result", reason=reason)
