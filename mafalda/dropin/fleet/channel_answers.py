"""The worker's own answers, which the log does not store: where to get one whose message to the inbox was lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from mafalda.contract.messages.channel_calls import ChannelCall
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.results import (
    ChannelAnswer,
    ConsumeDataResult,
    ConsumeResult,
    Done,
    JoinResult,
    ProduceDataResult,
    ProduceResult,
)
from mafalda.errors import WorkerRequestFailed
from mafalda.mediasoup.codec.channel_json import to_json

Query = Callable[[str, str, ChannelCall], Awaitable[ChannelAnswer]]


def make_call(
    method: str, handler: str, body: dict[str, Any] | None, own_addresses: list[str] | None = None, **more: Any
) -> ChannelCall:
    """A request of the library as it is published.

    Args:
        method: The channel's.
        handler: The id of the object that it is for; empty for the worker itself.
        body: In the codec's shape.
        own_addresses: The listen addresses in the body that are those of the application's own host.
        more: Further fields of ``ChannelCall``.
    """
    return ChannelCall(
        method=method, handler=handler, body=to_json(body) if body else None, home=own_addresses or [], **more
    )


class ChannelAnswers:
    """``PrivateAnswers`` of the drop-in. The answer to the making of an object is its dump, except for media.

    Args:
        query: Sends a request that changes nothing to the worker of a peer.
    """

    def __init__(self, query: Query) -> None:
        self._query = query

    def is_complete(self, stored: Payload) -> bool:
        """Whether the worker's answer has no body, so that the stored result is all of it."""
        return isinstance(stored, Done | JoinResult)

    async def recover(self, room: str, peer: str, stored: Payload) -> Payload:
        """What the worker answered, or what answers the same.

        Raises:
            MafaldaError: It cannot be had any more.
        """
        match stored:
            case ChannelAnswer(intent="create-transport", target=str(target)):
                return await self._query(room, peer, make_call("TRANSPORT_DUMP", target, None))
            case ProduceDataResult(data_producer=target):
                return await self._query(room, peer, make_call("DATAPRODUCER_DUMP", target, None))
            case ConsumeDataResult(data_consumer=target):
                return await self._query(room, peer, make_call("DATACONSUMER_DUMP", target, None))
            case ProduceResult() | ConsumeResult():
                return stored
        raise WorkerRequestFailed("it is done, but the worker's answer was lost")
