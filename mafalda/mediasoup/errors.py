"""The driver's errors: classes of ``mafalda.errors`` where they fit, and its own.

InvalidParameters   refused before anything is sent, or the worker's TypeError
UnsupportedError    well-formed, but the router cannot take it
AlreadyExists       the worker has an object with this id
NotFound            no such object in the worker
WorkerRequestFailed any other refusal of the worker
RequestTimeout      no answer within the deadline
WorkerExited          the process exited by itself
FramingError        the bytes from the worker are not its protocol: the worker is killed
WorkerStartFailed   the process exited, or sent nothing, before WORKER_RUNNING
├── WorkerVersionMismatch   exit code 41
└── WorkerSettingsRefused   exit code 42
WorkerClosed        the worker was closed by the application
ObjectClosed        the object was closed
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
    WorkerExited,
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
    "WorkerExited",
    "WorkerRequestFailed",
    "WorkerSettingsRefused",
    "WorkerStartFailed",
    "WorkerVersionMismatch",
]


class FramingError(Broken):
    """The bytes from the worker are not its protocol."""


class RequestTimeout(DeadlineExceeded):
    """The worker did not answer in time; its answer is dropped if it still comes."""


class WorkerStartFailed(Broken):
    """The worker process could not be started; ``details`` hold the exit code, the signal and its last output."""


class WorkerVersionMismatch(WorkerStartFailed):
    """Exit code 41: the worker got no version of the library (``MEDIASOUP_VERSION``)."""


class WorkerSettingsRefused(WorkerStartFailed):
    """Exit code 42: the worker refuses these settings."""


class WorkerClosed(Closed):
    """The worker was closed by the application."""


class ObjectClosed(Closed):
    """The object (router, transport, producer …) is closed."""
