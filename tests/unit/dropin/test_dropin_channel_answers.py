"""What the drop-in answers when the worker's own answer was lost."""

from __future__ import annotations

from typing import Any

import pytest

from mafalda.contract.messages.channel_calls import ChannelCall
from mafalda.contract.messages.intents import RequestChannel
from mafalda.contract.messages.results import ChannelAnswer
from mafalda.dropin.fleet.channel_answers import ChannelAnswers, make_call
from mafalda.mediasoup.channel.worker_side import RESPONSE_BODIES
from mafalda.workers.passthrough.calls import WRITES

STORED = ChannelAnswer(intent="channel", generation=1, accepted=True)
DUMPS: dict[str, dict[str, Any]] = {
    "CONSUMER_DUMP": {
        "data": {"base": {"priority": 7}, "preferredSpatialLayer": 2, "preferredTemporalLayer": 1},
    },
    "DATACONSUMER_DUMP": {"id": "o", "subchannels": [1, 2]},
    "TRANSPORT_DUMP": {
        "iceParameters": {"usernameFragment": "u", "password": "p", "iceLite": True},
        "dtlsParameters": {"fingerprints": [], "role": "CLIENT"},
        "tuple": {"localPort": 1},
    },
}


def intent(method: str) -> RequestChannel:
    return RequestChannel(call=make_call(method, "o", None))


def answers(dumps: dict[str, dict[str, Any]]) -> ChannelAnswers:
    async def query(room: str, peer: str, call: ChannelCall) -> ChannelAnswer:
        assert (room, peer, call.handler) == ("r", "p", "o")
        return STORED.model_copy(update={"body": dumps[call.method]})

    return ChannelAnswers(query)


@pytest.mark.parametrize("method", sorted(WRITES - {"DATACONSUMER_SEND"}))
async def test_a_lost_answer_is_empty_or_recovered(method: str) -> None:
    found = answers(DUMPS)
    if found.is_complete(intent(method), STORED):
        assert method not in RESPONSE_BODIES
    else:
        recovered = await found.recover("r", "p", intent(method), STORED)
        assert isinstance(recovered, ChannelAnswer)
        assert recovered.body


async def test_answers_are_found_in_the_dump() -> None:
    async def recovered(method: str, dumps: dict[str, dict[str, Any]] = DUMPS) -> object:
        answer = await answers(dumps).recover("r", "p", intent(method), STORED)
        assert isinstance(answer, ChannelAnswer)
        return answer.body

    assert await recovered("CONSUMER_SET_PRIORITY") == {"priority": 7}
    layers = {"spatialLayer": 2, "temporalLayer": 1}
    assert await recovered("CONSUMER_SET_PREFERRED_LAYERS") == {"preferredLayers": layers}
    simple = {"CONSUMER_DUMP": {"data": {"base": {"priority": 1}, "preferredSpatialLayer": -1}}}
    assert await recovered("CONSUMER_SET_PREFERRED_LAYERS", simple) == {}
    assert await recovered("DATACONSUMER_ADD_SUBCHANNEL") == {"subchannels": [1, 2]}
    assert await recovered("TRANSPORT_RESTART_ICE") == DUMPS["TRANSPORT_DUMP"]["iceParameters"]
    assert await recovered("WEBRTCTRANSPORT_CONNECT") == {"dtlsLocalRole": "CLIENT"}


def test_a_refusal_is_stored_whole() -> None:
    refused = STORED.model_copy(update={"accepted": False, "error": "TypeError", "reason": "no"})
    assert answers({}).is_complete(intent("CONSUMER_SET_PRIORITY"), refused)
