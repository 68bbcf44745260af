"""What the differences between two schemas mean: renamed, moved, new and dropped fields, and what stands in for them.

A rule belongs to one table and one direction. It is used where the source has a field of ``takes`` that the target
lacks, or the target one of ``gives`` that the source lacks. Fields of the same name are carried over as they are, so a
rule is needed only for a required field that only the target has, and for a field that only the source has; a test
fails for each such field of a published version that no rule names.

What does not belong here: walking over messages (``converter``), the generated differences (``differences``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """One change of a table's contents.

    Attributes:
        table: The table's full name.
        takes: Fields of the source that are read or left out.
        gives: Fields of the target that are written.
        apply: Does it in place; None: what is taken is left out.
    """

    table: str
    takes: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    apply: Callable[[Body], None] | None = None


def rename(table: str, old: str, new: str) -> Rule:
    """The same under another name."""

    def apply(body: Body) -> None:
        if old in body:
            body[new] = body.pop(old)

    return Rule(table, (old,), (new,), apply)


def give(table: str, field: str, value: Callable[[], Any]) -> Rule:
    """What stands in for a field that the source does not have."""

    def apply(body: Body) -> None:
        body[field] = value()

    return Rule(table, (), (field,), apply)


def drop(table: str, *fields: str) -> Rule:
    """Fields that the target has no use for."""
    return Rule(table, fields)


# --- what a library says, to our worker's schema ----------------------------------------------------------

# What mediasoup 3.21 and later give to dcSCTP by default, in bytes; before it, libraries could not name these.
_QUEUE_LIMIT, _RECEIVER_WINDOW = 2_000_000, 5_242_880


def _old_sctp_options(body: Body) -> None:
    """One limit of a message's size for both directions; usrsctp's numbers of streams have no counterpart."""
    size = body.pop("maxMessageSize", None)  # of a DirectTransport
    if size is None:
        size = body.pop("maxSctpMessageSize", 0)
    body["maxSendMessageSize"] = body["maxReceiveMessageSize"] = size
    if body.get("enableSctp"):
        # usrsctp took a message that is larger than its buffer; dcSCTP would never send it.
        body["sctpSendBufferSize"] = max(body.get("sctpSendBufferSize", 0), _QUEUE_LIMIT)
        body["sctpPerStreamSendQueueLimit"] = max(size, _QUEUE_LIMIT)
        body["sctpMaxReceiverWindowBufferSize"] = max(size, _RECEIVER_WINDOW)


TO_OURS = (
    rename("FBS.Transport.ListenInfo", "announcedIp", "announcedAddress"),
    give("FBS.Transport.ListenInfo", "flags", dict),
    give("FBS.Transport.ListenInfo", "portRange", dict),
    Rule(
        "FBS.Transport.Options",
        ("maxMessageSize", "numSctpStreams", "maxSctpMessageSize"),
        ("maxSendMessageSize", "maxReceiveMessageSize"),
        _old_sctp_options,
    ),
    # Workers before 3.13.23 did not ask for consent: 0 is never.
    give("FBS.WebRtcTransport.WebRtcTransportOptions", "iceConsentTimeout", lambda: 0),
    # Workers never read it: the encodings of the parameters have it as well.
    drop("FBS.RtpParameters.EncodingMapping", "scalabilityMode"),
)

# --- what our worker says, to a library's schema ----------------------------------------------------------


def _jitter_of_base(body: Body) -> None:
    body["jitter"] = body["base"]["data"][1].get("jitter", 0)


def _one_message_size(body: Body) -> None:
    body["maxMessageSize"] = body.get("maxSendMessageSize", 0)


def _old_sctp_parameters(body: Body) -> None:
    body["maxMessageSize"] = body.get("maxReceiveMessageSize", 0)
    # The library's own numbers are put in afterwards, if it named others (``translator``).
    body["os"] = body["mis"] = 1024


TO_THEIRS = (
    rename("FBS.Transport.Tuple", "localAddress", "localIp"),
    rename("FBS.WebRtcTransport.IceCandidate", "address", "ip"),
    Rule("FBS.RtpStream.RecvStats", gives=("jitter",), apply=_jitter_of_base),
    drop("FBS.RtpStream.BaseStats", "jitter"),
    Rule(
        "FBS.Transport.Dump",
        ("maxSendMessageSize", "maxReceiveMessageSize"),
        ("maxMessageSize",),
        _one_message_size,
    ),
    drop("FBS.Transport.Dump", "sctpNegotiatedCapabilities"),
    Rule(
        "FBS.SctpParameters.SctpParameters",
        (
            "maxSendMessageSize",
            "maxReceiveMessageSize",
            "perStreamSendQueueLimit",
            "maxReceiverWindowBufferSize",
        ),
        ("maxMessageSize", "os", "mis", "sctpBufferedAmount"),
        _old_sctp_parameters,
    ),
    drop("FBS.DataConsumer.DumpResponse", "bufferedAmount"),
    give("FBS.WebRtcServer.DumpResponse", "tupleHashes", list),
    drop("FBS.RtpParameters.RtpParameters", "msid"),
)
