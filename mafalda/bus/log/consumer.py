"""An ephemeral JetStream consumer, read by pull requests on a plain subscription.

nats-py's ``fetch`` costs a task for each message, and its ordered consumer can stall for good when a server stops. This
one checks its own progress: consumer sequences without a gap, and a message within ``STALL_S`` while some are pending.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
from nats.aio.msg import Msg

from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.jetstream_api import ApiRefused, call
from mafalda.bus.connection.subscription_buffer import BufferedMessage, SubscriptionBuffer
from mafalda.errors import BusUnavailable, PermissionDenied

#: Messages requested at once; the next batch is requested when half of it has come.
BATCH = 1000
#: Seconds without a message while some are pending, after which the consumer is given up.
STALL_S = 2.0
#: Seconds after which a server deletes a consumer whose reader died.
_INACTIVE_S = 30
_NS = 1_000_000_000


class ConsumerLost(Exception):
    """This consumer delivers no more; another one may."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """A consumer on a server.

    ``pending`` is the number of messages that it will deliver, as far as the server that holds it knows. In a cluster
    (``is_clustered``) that server may lag behind the stream's leader.
    """

    stream: str
    name: str
    pending: int
    is_clustered: bool


async def create_consumer(connection: Connection, stream: str, settings: dict[str, Any]) -> Consumer:
    """Create an ephemeral consumer without acknowledgements.

    Args:
        connection: Where.
        stream: Its name.
        settings: Fields of JetStream's consumer configuration, such as ``filter_subjects``.

    Raises:
        BusUnavailable: JetStream refused it, or did not answer.
    """
    config = {
        "ack_policy": "none",
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": _INACTIVE_S * _NS,
        "max_waiting": 16,
        **settings,
    }
    try:
        made = await call(connection, f"CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config})
    except ApiRefused as refused:
        raise BusUnavailable("a stream cannot be read", stream=stream, reason=str(refused)) from None
    return Consumer(stream, made["name"], made["num_pending"], is_clustered=made.get("cluster") is not None)


async def delete_consumer(connection: Connection, consumer: Consumer) -> None:
    """Ask the server to delete a consumer, and wait for nothing: what is lost here is deleted after a while anyway."""
    with suppress(BusUnavailable):
        await connection.publish(f"$JS.API.CONSUMER.DELETE.{consumer.stream}.{consumer.name}", b"")


async def pull(connection: Connection, consumer: Consumer) -> AsyncGenerator[tuple[Msg, int], None]:
    """All messages of a consumer with their stream sequences, until it says that none is pending.

    Raises:
        ConsumerLost: It fell silent, skipped something, or went away.
        PermissionDenied: This credential may not.
    """
    buffer = SubscriptionBuffer(limit=4 * BATCH)
    inbox = connection.new_inbox()
    subscription = await connection.subscribe(inbox, buffer)
    request = orjson.dumps({"batch": BATCH, "expires": 5 * _NS})
    pending, requested, delivered = consumer.pending, 0, 0
    try:
        while pending:
            if requested - delivered <= BATCH // 2:
                await connection.publish(
                    f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.name}", request, reply=inbox
                )
                requested += BATCH
            if not await buffer.wait(STALL_S):
                raise ConsumerLost("silence")
            while (item := buffer.pop()) is not None and pending:
                if isinstance(item, PermissionDenied):
                    raise item
                if not isinstance(item, BufferedMessage):
                    raise ConsumerLost(item.value)
                message = item.message
                if not message.reply:
                    _check_status(message)
                    requested = delivered
                    continue
                seq, consumer_seq, pending = _positions(message.reply)
                delivered += 1
                if consumer_seq != delivered:
                    raise ConsumerLost(f"skipped from {delivered} to {consumer_seq}")
                yield message, seq
    except BusUnavailable as error:  # a publish while disconnected
        raise ConsumerLost(str(error)) from None
    finally:
        await connection.unsubscribe(subscription)


def _check_status(message: Msg) -> None:
    """A status instead of a message: the pull request is over (404, 408), else the consumer is (409).

    Raises:
        ConsumerLost: The consumer is over.
    """
    status = (message.headers or {}).get("Status", "")
    if status not in ("404", "408"):
        raise ConsumerLost(f"status {status}")


def _positions(reply: str) -> tuple[int, int, int]:
    """Stream sequence, consumer sequence and pending messages, from ``$JS.ACK.…`` with or without a domain."""
    tokens = reply.split(".")
    if len(tokens) == 9:
        return int(tokens[5]), int(tokens[6]), int(tokens[8])
    return int(tokens[7]), int(tokens[8]), int(tokens[10])
