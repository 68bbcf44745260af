"""What the driver raises: the classes of ``mafalda.errors`` where they fit, and the driver's own.

    InvalidParameters   ours before anything is sent, or the worker's TypeError
    UnsupportedError    well-formed, but the router cannot take it
    AlreadyExists       the worker has an object with this id
    NotFound            no such object in the worker
    WorkerRequestFailed any other "no" of the worker
    RequestTimeout      no answer within the deadline
    WorkerDied          the process ended without us
    FramingError        what came from the worker is not its protocol: the worker is killed
    WorkerStartFailed   ended or was silent before it said that it runs
    ├── WorkerVersionMismatch   exit code 41
    └── WorkerSettingsRefused   exit code 42
    WorkerClosed · ObjectClosed we closed it ourselves

What does not belong here: who raises them when.
"""

from __future__ import annotations

from mafalda.errors import (
    AlreadyExists,
    Broken,
    Closed,
    DeadlineExceeded,
    InvalidParameters,
    MafaldaError,
    NotFound,
    UnsupportedError,
    WorkerDied,
    WorkerRequestFailed,
)

__all__ = [
    "AlreadyExists",
    "Closed",
    "FramingError",
    "InvalidParameters",
    "MafaldaError",
    "NotFound",
    "ObjectClosed",
    "RequestTimeout",
    "UnsupportedError",
    "WorkerClosed",
    "WorkerDied",
    "WorkerRequestFailed",
    "WorkerSettingsRefused",
    "WorkerStartFailed",
    "WorkerVersionMismatch",
]


class FramingError(Broken):
    """The stream from the worker cannot be understood any more."""


class RequestTimeout(DeadlineExceeded):
    """The worker did not answer in time; its answer, should it come, is dropped."""


class WorkerStartFailed(Broken):
    """The worker process could not be started; ``details`` hold exit code, signal and its last words."""


class WorkerVersionMismatch(WorkerStartFailed):
    """Exit code 41: the worker was not told which version of the library speaks to it."""


class WorkerSettingsRefused(WorkerStartFailed):
    """Exit code 42: the worker does not take these settings."""


class WorkerClosed(Closed):
    """The worker was closed by us."""


class ObjectClosed(Closed):
    """The object (router, transport, producer …) is closed."""
