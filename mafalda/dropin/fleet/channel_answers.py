"""The worker's own answers, which the log does not store: where to get one whose message to the inbox was lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mafalda.contract.messages.channel_calls import ChannelCall
from mafalda.contract.messages.intents import RequestChannel
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
from mafalda.mediasoup.channel.worker_side import RESPONSE_BODIES
from mafalda.mediasoup.codec.channel_json import to_json

Query = Callable[[str, str, ChannelCall], Awaitable[ChannelAnswer]]
_AnswerIn = Callable[[dict[str, Any]], dict[str, Any]]


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

    def is_complete(self, intent: Payload, stored: Payload) -> bool:
        """Whether the worker's answer has no body, so that the stored result is all of it."""
        match intent, stored:
            case _, ChannelAnswer(accepted=False):
                return True
            case RequestChannel(call=call), ChannelAnswer():
                return call.method not in RESPONSE_BODIES
        return isinstance(stored, Done | JoinResult)

    async def recover(self, room: str, peer: str, intent: Payload, stored: Payload) -> Payload:
        """What the worker answered, or what answers the same.

        Raises:
            MafaldaError: It cannot be had any more.
        """
        match intent, stored:
            case _, ChannelAnswer(intent="create-transport", target=str(target)):
                return await self._query(room, peer, make_call("TRANSPORT_DUMP", target, None))
            case _, ProduceDataResult(data_producer=target):
                return await self._query(room, peer, make_call("DATAPRODUCER_DUMP", target, None))
            case _, ConsumeDataResult(data_consumer=target):
                return await self._query(room, peer, make_call("DATACONSUMER_DUMP", target, None))
            case _, ProduceResult() | ConsumeResult():
                return stored
            case RequestChannel(call=call), ChannelAnswer() if call.method in _IN_DUMP:
                read, answer_in = _IN_DUMP[call.method]
                dumped = await self._query(room, peer, make_call(read, call.handler, None))
                if not dumped.accepted or not isinstance(dumped.body, dict):
                    return dumped
                return dumped.model_copy(update={"body": answer_in(dumped.body)})
        raise WorkerRequestFailed("it is done, but the worker's answer was lost")


def _fields(*names: str) -> _AnswerIn:
    """The fields of the dump, of these names, that it has."""
    return lambda dump: {name: dump[name] for name in names if name in dump}


def _priority(dump: dict[str, Any]) -> dict[str, Any]:
    return {"priority": dump["data"]["base"]["priority"]}


def _preferred_layers(dump: dict[str, Any]) -> dict[str, Any]:
    """A consumer without layers is answered without them; its dump has -1."""
    spatial, temporal = (dump["data"].get(f"preferred{kind}Layer") for kind in ("Spatial", "Temporal"))
    if spatial is None or spatial < 0:
        return {}
    return {"preferredLayers": {"spatialLayer": spatial, "temporalLayer": temporal}}


#: Methods whose answer is also in the object's dump: what reads the dump, and how the answer is found in it. All other
#: methods that an intent may request have an empty answer.
_IN_DUMP: Mapping[str, tuple[str, _AnswerIn]] = {
    "CONSUMER_SET_PRIORITY": ("CONSUMER_DUMP", _priority),
    "CONSUMER_SET_PREFERRED_LAYERS": ("CONSUMER_DUMP", _preferred_layers),
    "DATACONSUMER_SET_SUBCHANNELS": ("DATACONSUMER_DUMP", _fields("subchannels")),
    "DATACONSUMER_ADD_SUBCHANNEL": ("DATACONSUMER_DUMP", _fields("subchannels")),
    "DATACONSUMER_REMOVE_SUBCHANNEL": ("DATACONSUMER_DUMP", _fields("subchannels")),
    "TRANSPORT_RESTART_ICE": ("TRANSPORT_DUMP", lambda dump: dict(dump["iceParameters"])),
    "WEBRTCTRANSPORT_CONNECT": ("TRANSPORT_DUMP", lambda dump: {"dtlsLocalRole": dump["dtlsParameters"]["role"]}),
    "PLAINTRANSPORT_CONNECT": ("TRANSPORT_DUMP", _fields("tuple", "rtcpTuple", "srtpParameters")),
    "PIPETRANSPORT_CONNECT": ("TRANSPORT_DUMP", _fields("tuple")),
}
