"""All errors that Mafalda raises or sends, classified by their cause.

    MafaldaError
    ├── BadInput                 the sender must change the input; a retry changes nothing
    │   ├── IllegalId · MalformedMessage · MessageTooLarge · UnknownType · UnknownVersion · IllegalReplySubject
    │   ├── BadToken             a credential that proves nothing
    │   ├── InvalidParameters    parameters that would crash a worker, or that it refuses
    │   └── UnsupportedError     well-formed, but no router here can take it (codec, capability)
    ├── Refused                  well-formed, but not possible in the present state of the room
    │   ├── NotFound · AlreadyExists · NotJoined · StaleGeneration · CannotConsume · NotGranted · AudienceCannotProduce
    │   ├── RateLimited · TooManyTransports · TooManyProducers · TooManyConsumers · TooManyPeers
    │   └── NoCapacity           no worker below the watermark
    ├── Broken                   something outside failed; a retry may help
    │   ├── WorkerExited · WorkerRequestFailed · BusUnavailable · DeadlineExceeded · RelayUnavailable
    │   ├── LogFull              the log refuses entries until an operator makes room
    │   └── PermissionDenied     NATS refused a subject to this credential
    ├── Conflict                 another writer was first (expected sequence): fold and decide again
    └── Closed                   this side closed it

``ERRORS_BY_CODE`` has each class by its code on the wire.
"""

from __future__ import annotations

from typing import Any, ClassVar


class MafaldaError(Exception):
    """The root class.

    ``code`` is the error's name on the wire; ``details`` are fields of the log line and the message, never secrets.
    """

    code: ClassVar[str] = "error"

    def __init__(self, reason: str, /, **details: Any) -> None:
        super().__init__(reason)
        self.reason = reason
        self.details = details

    def __str__(self) -> str:
        fields = " ".join(f"{key}={value!r}" for key, value in self.details.items())
        return f"{self.reason} ({fields})" if fields else self.reason


class BadInput(MafaldaError):
    code = "bad-input"


class IllegalId(BadInput):
    code = "illegal-id"


class MalformedMessage(BadInput):
    code = "malformed-message"


class MessageTooLarge(BadInput):
    code = "message-too-large"


class UnknownType(BadInput):
    code = "unknown-type"


class UnknownVersion(BadInput):
    code = "unknown-version"


class IllegalReplySubject(BadInput):
    code = "illegal-reply-subject"


class InvalidParameters(BadInput):
    code = "invalid-parameters"


class UnsupportedError(BadInput):
    code = "unsupported"


class BadToken(BadInput):
    """A token that proves nothing: wrong signature, unknown key, expired, or other claims than agreed."""

    code = "bad-token"


class Refused(MafaldaError):
    code = "refused"


class NotFound(Refused):
    code = "not-found"


class AlreadyExists(Refused):
    code = "already-exists"


class NotJoined(Refused):
    code = "not-joined"


class StaleGeneration(Refused):
    code = "stale-generation"


class CannotConsume(Refused):
    code = "cannot-consume"


class NotGranted(Refused):
    """The peer's token does not permit it; for what subjects cannot express."""

    code = "not-granted"


class AudienceCannotProduce(Refused):
    """A peer that joined as audience only receives."""

    code = "audience-cannot-produce"


class NoCapacity(Refused):
    code = "no-capacity"


class RateLimited(Refused):
    """A peer sends more than its limit allows: ``limit``, ``allowed`` and ``retry_after_s`` are among the details."""

    code = "rate-limited"

    @property
    def retry_after_s(self) -> float:
        """Seconds until the same message would be accepted; 0 if the answer does not say."""
        given = self.details.get("retry_after_s")
        return given if isinstance(given, int | float) else 0.0


class TooManyTransports(Refused):
    code = "too-many-transports"


class TooManyProducers(Refused):
    code = "too-many-producers"


class TooManyConsumers(Refused):
    code = "too-many-consumers"


class TooManyPeers(Refused):
    code = "too-many-peers"


class Broken(MafaldaError):
    code = "broken"


class WorkerExited(Broken):
    code = "worker-died"


class WorkerRequestFailed(Broken):
    code = "worker-request-failed"


class BusUnavailable(Broken):
    code = "bus-unavailable"


class LogFull(Broken):
    """The log stores nothing new: its stream, its NATS account or the disk under it is full."""

    code = "log-full"


class LogTruncated(Broken):
    """Entries that were to be read are no longer in the log: its retention has discarded them."""

    code = "log-truncated"


class DeadlineExceeded(Broken):
    code = "deadline-exceeded"


class RelayUnavailable(Broken):
    code = "relay-failed"


class PermissionDenied(Broken):
    code = "permission-denied"


class Conflict(MafaldaError):
    """A conditional append lost: ``details["actual"]`` is the aggregate's real last sequence."""

    code = "conflict"


class Closed(MafaldaError):
    code = "closed"


def _by_code(root: type[MafaldaError]) -> dict[str, type[MafaldaError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _by_code(child)
    return found


#: Every class above, by its code on the wire.
ERRORS_BY_CODE = _by_code(MafaldaError)
