"""The virtual worker between a library's bytes and a bus, with a fleet that answers as the test has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mafalda.bus.compose import compose
from mafalda.bus.protocol import REPLY_HEADER, Delivery, Follower
from mafalda.contract import subjects
from mafalda.contract.messages.envelope import decode
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.intents import Join, Produce
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.results import ChannelAnswer, Done, JoinResult, Rejected
from mafalda.dropin.fleet import client
from mafalda.dropin.fleet.client import FleetCallbacks, open_fleet
from mafalda.dropin.process.settings import WorkerSettings
from mafalda.dropin.virtual import library_request, remaking
from mafalda.dropin.virtual import places as places_module
from mafalda.dropin.virtual.virtual_worker import VirtualWorker
from mafalda.errors import MafaldaError, NoCapacity, NotFound, WorkerExited
from mafalda.media.rtp import RtpCapabilities
from mafalda.mediasoup.channel import messages
from mafalda.testing.memory_bus import MemoryBus
from tests.conformance.mediasoup.driver_samples import until

DATA = {
    "dataProducerId": "d",
    "type": "direct",
    "label": "chat",
    "protocol": "",
    "paused": False,
}
DATA_MADE = {"id": "d", "type": "direct", "label": "chat", "protocol": "", "paused": False}


class Library:
    """Sends requests to a virtual worker and keeps its responses by request id."""

    def __init__(self) -> None:
        self.responses: dict[int, messages.Response] = {}
        self.notified: list[tuple[str, str]] = []  # about which object, what
        self.worker: VirtualWorker
        self.bus = MemoryBus()
        self.intents: Follower
        self.has_died = False
        self.joins: list[Join] = []

    def die(self) -> None:
        self.has_died = True

    def take(self, payload: bytes) -> None:
        message = messages.decode(payload)
        if isinstance(message, messages.Response):
            self.responses[message.id] = message
        elif isinstance(message, messages.Notification):
            self.notified.append((message.handler_id, message.event))

    def send(self, id: int, method: str, handler: str, body: dict[str, Any] | None) -> None:
        self.worker.receive(messages.encode_request(id, method, handler, body))

    async def response(self, id: int) -> messages.Response:
        await until(lambda: id in self.responses)
        return self.responses[id]

    async def intent(self) -> tuple[Delivery, str]:
        """The next intent that was stored, and its action."""
        async with asyncio.timeout(10):
            delivery = await anext(self.intents)
        return delivery, decode(delivery.data).data.action

    async def answer(self, intent: Delivery, result: Payload, *, privately: bool = False) -> None:
        cause, address = decode(intent.data), subjects.parse(intent.subject)
        assert address is not None
        if privately:
            inbox = intent.headers[REPLY_HEADER]
            await self.bus.publish(inbox, compose(result, subject=inbox, source="/agent", cause=cause))
        else:
            subject = subjects.result(address.room or "", address.peer or "", address.action or "")
            await self.bus.append(subject, compose(result, subject=subject, source="/agent", cause=cause))


def placed(worker: str) -> JoinResult:
    return JoinResult(server="s", worker=worker, generation=1, router_rtp_capabilities=RtpCapabilities())


#: Such a transport cannot be made again when its worker dies.
SECURED = {
    "base": {"enableSctp": False},
    "listenInfo": {"protocol": "udp", "ip": "127.0.0.1", "portRange": {}, "flags": {}},
    "rtcpMux": True,
    "enableSrtp": True,
    "srtpCryptoSuite": "AEAD_AES_128_GCM",
}


async def add_transport(library: Library, id: int, transport: str, place: str, *, secured: bool = False) -> None:
    """Make a direct transport, or a plain one with SRTP, on a worker of the fleet."""
    options = SECURED if secured else {"base": {"direct": True, "maxMessageSize": 1000}}
    body = {"transportId": transport, "options": options}
    library.send(id, f"ROUTER_CREATE_{'PLAIN' if secured else 'DIRECT'}TRANSPORT", "r", body)
    join, action = await library.intent()
    assert action == "join"
    joined = decode(join.data).data
    assert isinstance(joined, Join)
    library.joins.append(joined)
    await library.answer(join, placed(place))
    create, action = await library.intent()
    assert action == "create-transport"
    made = ChannelAnswer(intent="create-transport", target=transport, generation=1, accepted=True, body={})
    await library.answer(create, made, privately=True)
    assert (await library.response(id)).accepted


@asynccontextmanager
async def with_transport(
    settings: WorkerSettings | None = None, *, places_only: bool = False
) -> AsyncIterator[Library]:
    """A library that has a router and a direct transport in it; or the router only."""
    library = Library()
    worker_settings = settings or WorkerSettings()
    worker = library.worker = VirtualWorker(worker_settings, 1, library.take, lambda: None, library.die)
    callbacks = FleetCallbacks(
        worker.notify_library, worker.place_lost, worker.moved, lambda _: None, on_no_capacity=worker.no_capacity
    )
    fleets = open_fleet(library.bus, callbacks, tenant=worker_settings.tenant)
    async with fleets as fleet, library.bus.follow(subjects.ALL_INTENTS) as library.intents:
        library.send(1, "WORKER_CREATE_ROUTER", "", {"routerId": "r"})  # before the fleet is known
        worker.begin(fleet)
        assert (await library.response(1)).accepted
        if not places_only:
            await add_transport(library, 2, "t", "w")
        yield library
        await worker.close()


async def test_what_nobody_answers_is_refused_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with with_transport() as library:
        monkeypatch.setattr(library_request, "ANSWER_TIMEOUT_S", 0.01)
        library.send(3, "TRANSPORT_PRODUCE_DATA", "t", DATA)
        produce, action = await library.intent()
        assert action == "produce-data"
        response = await library.response(3)
        assert (response.accepted, response.error) == (False, "Error")
        # It is made after all: the library knows nothing of it, so it is closed.
        made = ChannelAnswer(intent="channel", generation=1, accepted=True, body={})
        await library.answer(produce, made, privately=True)
        _, action = await library.intent()
        assert action == "close-data-producer"


async def test_what_the_fleet_never_answers_is_closed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "INTENT_TIMEOUT_S", 4.0)
    async with with_transport() as library:
        library.send(3, "TRANSPORT_PRODUCE_DATA", "t", DATA)
        assert (await library.intent())[1] == "produce-data"
        assert (await library.response(3)).error == "Error"
        close, action = await library.intent()
        assert action == "close-data-producer"
        await library.answer(close, Done(intent="close-data-producer", generation=1))
        library.send(4, "TRANSPORT_PRODUCE_DATA", "t", DATA)  # its id is free again
        assert (await library.intent())[1] == "produce-data"


@pytest.mark.parametrize(
    ("method", "handler", "body", "error"),
    [
        ("TRANSPORT_DUMP", "nobody", None, "NotFoundError"),
        ("ROUTER_CLOSE_TRANSPORT", "r", {"transportId": "nobody"}, "NotFoundError"),
        ("WORKER_CREATE_ROUTER", "", {"routerId": "r"}, "Error"),
        ("WORKER_CREATE_ROUTER", "", {"routerId": "not an id"}, "TypeError"),
        ("WORKER_WEBRTCSERVER_CLOSE", "", {"webRtcServerId": "nobody"}, "NotFoundError"),
    ],
)
async def test_what_cannot_be_done_is_refused_at_once(
    method: str, handler: str, body: dict[str, Any] | None, error: str
) -> None:
    async with with_transport() as library:
        library.send(9, method, handler, body)
        response = await library.response(9)
        assert (response.accepted, response.error) == (False, error)
        assert f"[method:{method}]" in (response.reason or "")


@pytest.mark.parametrize("setting", ["transports", "router", "die"])
async def test_what_ends_with_a_worker(setting: str) -> None:
    async with with_transport(WorkerSettings(on_worker_death=setting)) as library:
        await add_transport(library, 3, "other", "w2")
        await add_transport(library, 5, "doomed", "w3", secured=True)
        library.worker.place_lost(lambda place: place.worker == "w3")
        assert library.has_died == (setting == "die")
        if setting == "router":
            left = [await library.intent() for _ in range(2)]
            addresses = [subjects.parse(intent.subject) for intent, _ in left]
            assert [action for _, action in left] == ["leave", "leave"]
            assert {address.peer for address in addresses if address is not None} == {"t", "other"}
        else:
            library.send(4, "TRANSPORT_PRODUCE_DATA", "other", DATA)
            assert (await library.intent())[1] == "produce-data"


async def test_joins_name_the_tenant() -> None:
    async with with_transport(WorkerSettings(tenant="shop")) as library:
        assert [(join.tenant, join.app_data["application"]) for join in library.joins] == [("shop", "shop")]


async def test_a_drain_spares_the_application_that_dies_with_its_workers() -> None:
    """Its worker lives, and the fleet gives the transport another place: only the transport ends."""
    async with with_transport(WorkerSettings(on_worker_death="die")) as library:
        await add_transport(library, 3, "doomed", "w3", secured=True)
        library.worker.moved("r", "doomed", placed("w2").model_copy(update={"generation": 2}))
        left, action = await library.intent()
        address = subjects.parse(left.subject)
        assert address is not None
        assert (action, address.peer, library.has_died) == ("leave", "doomed", False)


async def test_a_transport_that_can_be_is_made_again_with_what_is_on_it() -> None:
    async with with_transport(WorkerSettings(on_worker_death="die")) as library:
        library.send(3, "TRANSPORT_PRODUCE_DATA", "t", DATA)
        produce, _ = await library.intent()
        made = ChannelAnswer(intent="channel", generation=1, accepted=True, body=DATA_MADE)
        await library.answer(produce, made, privately=True)
        assert (await library.response(3)).accepted
        library.worker.place_lost(lambda place: place.worker == "w")
        library.send(4, "DATAPRODUCER_PAUSE", "d", None)  # waits until it is there again
        place = placed("w2").model_copy(update={"generation": 2})
        library.worker.moved("r", "t", place)
        done = []
        for _ in range(3):
            intent, action = await library.intent()
            done.append(action)
            answer = ChannelAnswer(
                intent=action, generation=2, accepted=True, body={} if action != "produce-data" else DATA_MADE
            )
            await library.answer(intent, answer, privately=True)
        assert done == ["create-transport", "produce-data", "pause-producer"]
        assert (await library.response(4)).accepted
        assert not library.has_died


def moved_to(worker: str, generation: int) -> JoinResult:
    return placed(worker).model_copy(update={"generation": generation})


async def answer_next(library: Library, action: str, result: Payload | None = None) -> None:
    """Answer the next intent, which must be this one; without a result, as done."""
    intent, found = await library.intent()
    assert found == action
    body = DATA_MADE if action == "produce-data" else {}
    done = ChannelAnswer(intent=action, generation=1, accepted=True, body=body)
    await library.answer(intent, result or done, privately=result is None)


def refused(action: str, error: MafaldaError) -> Rejected:
    return Rejected(intent=action, error=ErrorInfo.of(error))


async def consume_data(library: Library) -> None:
    """Transport t produces data, and the transport other, on another worker, consumes it."""
    await add_transport(library, 3, "other", "w2")
    library.send(4, "TRANSPORT_PRODUCE_DATA", "t", DATA)
    await answer_next(library, "produce-data")
    assert (await library.response(4)).accepted
    library.send(5, "TRANSPORT_CONSUME_DATA", "other", {**DATA, "dataConsumerId": "c"})
    await answer_next(library, "consume-data")
    assert (await library.response(5)).accepted


async def test_a_drain_spares_the_application_even_if_a_transport_cannot_be_made_again() -> None:
    async with with_transport(WorkerSettings(on_worker_death="die")) as library:
        library.worker.moved("r", "t", moved_to("w2", 2))
        await answer_next(library, "create-transport", refused("create-transport", NotFound("no router")))
        assert (await library.intent())[1] == "leave"
        assert not library.has_died


async def test_a_transport_whose_next_worker_dies_too_is_made_on_the_one_after_it() -> None:
    async with with_transport(WorkerSettings(on_worker_death="die")) as library:
        library.worker.place_lost(lambda place: place.worker == "w")
        library.worker.moved("r", "t", moved_to("w2", 2))
        await answer_next(library, "create-transport", refused("create-transport", WorkerExited("it is gone")))
        library.send(3, "TRANSPORT_PRODUCE_DATA", "t", DATA)
        await answer_next(library, "produce-data", refused("produce-data", WorkerExited("it is gone")))
        library.worker.place_lost(lambda place: place.worker == "w2")
        library.worker.moved("r", "t", moved_to("w3", 3))
        await answer_next(library, "create-transport")
        await answer_next(library, "produce-data")
        assert (await library.response(3)).accepted
        assert not library.has_died


async def test_a_consumer_whose_producer_does_not_come_back_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remaking, "REOPEN_TIMEOUT_S", 0.0)
    async with with_transport() as library:
        await consume_data(library)
        library.worker.place_lost(lambda place: place.worker == "w")
        library.worker.notify_library("c", "DATACONSUMER_DATAPRODUCER_CLOSE", None)
        library.worker.moved("r", "t", moved_to("w3", 2))
        await answer_next(library, "create-transport")
        await answer_next(library, "produce-data", refused("produce-data", NotFound("no such thing")))
        await answer_next(library, "consume-data", refused("consume-data", NotFound("no such producer")))
        await until(lambda: library.notified == [("c", "DATACONSUMER_DATAPRODUCER_CLOSE")])


async def test_the_library_knows_of_every_consumer_that_ends_with_a_router() -> None:
    async with with_transport(WorkerSettings(on_worker_death="router")) as library:
        await consume_data(library)
        await add_transport(library, 6, "doomed", "w3", secured=True)
        library.worker.place_lost(lambda place: place.worker == "w3")
        assert ("c", "DATACONSUMER_DATAPRODUCER_CLOSE") in library.notified


async def test_nothing_dies_with_a_worker_that_has_no_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    async with with_transport(WorkerSettings(on_worker_death="die")) as library:
        library.worker.place_lost(lambda place: place.worker == "elsewhere")
        assert not library.has_died


async def test_a_join_that_succeeds_too_late_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async with with_transport() as library:
        monkeypatch.setattr(client, "JOIN_TIMEOUT_S", 0.6)
        body = {"transportId": "late", "options": {"base": {"direct": True, "maxMessageSize": 1000}}}
        library.send(3, "ROUTER_CREATE_DIRECTTRANSPORT", "r", body)
        join, action = await library.intent()
        assert action == "join"
        assert not (await library.response(3)).accepted
        await library.answer(join, placed("w"))
        leave, action = await library.intent()
        address = subjects.parse(leave.subject)
        assert address is not None
        assert (action, address.peer) == ("leave", "late")
        await library.answer(leave, Done(intent="leave", generation=1))


async def test_a_codec_s_channels_may_be_0_as_node_s_library_writes_them_for_video() -> None:
    async with with_transport() as library:
        parameters = {
            "codecs": [{"mimeType": "video/VP8", "payloadType": 101, "clockRate": 90000, "channels": 0}],
            "headerExtensions": [],
            "encodings": [{"ssrc": 1, "dtx": False}],
            "rtcp": {"cname": "c", "reducedSize": True},
        }
        mapping = {
            "codecs": [{"payloadType": 101, "mappedPayloadType": 101}],
            "encodings": [{"ssrc": 1, "mappedSsrc": 2}],
        }
        body = {
            "producerId": "p",
            "kind": "video",
            "rtpParameters": parameters,
            "rtpMapping": mapping,
            "keyFrameRequestDelay": 0,
            "paused": False,
        }
        library.send(3, "TRANSPORT_PRODUCE", "t", body)
        produce, action = await library.intent()
        assert action == "produce"
        sent = decode(produce.data).data
        assert isinstance(sent, Produce)
        assert sent.rtp_parameters.codecs[0].channels is None


# --- places ahead ---------------------------------------------------------------------------------------

AHEAD = WorkerSettings(places_ahead=1, transports_per_peer=2)
WEBRTC = {"base": {}, "listen": ("ListenIndividual", {"listenInfos": [SECURED["listenInfo"]]})}


async def answer_place(library: Library, worker: str = "w") -> str:
    """Grant the place that is asked for next; its peer."""
    intent, action = await library.intent()
    join, address = decode(intent.data).data, subjects.parse(intent.subject)
    assert action == "join"
    assert isinstance(join, Join)
    assert address is not None
    assert join.lease_s is not None
    library.joins.append(join)
    await library.answer(intent, placed(worker))
    return address.peer or ""


def ask_transport(library: Library, id: int, transport: str) -> None:
    body = {"transportId": transport, "options": WEBRTC}
    library.send(id, "ROUTER_CREATE_WEBRTCTRANSPORT", "r", body)


async def peer_of(library: Library, expected: str) -> str:
    """The peer of the next intent, which must be this one."""
    intent, action = await library.intent()
    address = subjects.parse(intent.subject)
    assert (action, address is not None) == (expected, True)
    return (address.peer if address else None) or ""


@asynccontextmanager
async def with_places() -> AsyncIterator[tuple[Library, list[str]]]:
    """A library with a router, and two places at hand, which belong together."""
    async with with_transport(AHEAD, places_only=True) as library:
        places = [await answer_place(library) for _ in range(2)]
        assert [join.beside for join in library.joins] == [None, places[0]]
        yield library, places


async def test_a_transport_takes_the_place_at_hand() -> None:
    async with with_places() as (library, places):
        ask_transport(library, 3, "first")
        ask_transport(library, 4, "second")
        assert [await peer_of(library, "create-transport") for _ in range(2)] == places


async def test_the_next_places_are_asked_for_when_a_transport_is_made() -> None:
    async with with_places() as (library, places):
        ask_transport(library, 3, "first")
        intent, _ = await library.intent()
        made = ChannelAnswer(intent="create-transport", target="first", generation=1, accepted=True, body={})
        await library.answer(intent, made, privately=True)
        further = [await answer_place(library) for _ in range(2)]
        ask_transport(library, 4, "second")
        assert await peer_of(library, "create-transport") == places[1]
        ask_transport(library, 5, "third")
        assert await peer_of(library, "create-transport") == further[0]


async def test_a_place_is_given_back_when_its_worker_dies() -> None:
    async with with_places() as (library, places):
        left = asyncio.gather(peer_of(library, "leave"), peer_of(library, "leave"))
        while not left.done():  # the drop-in may not have read yet where they are
            library.worker.place_lost(lambda place: place.worker == "w")
            await asyncio.sleep(0)
        assert set(await left) == set(places)
        ask_transport(library, 3, "first")
        assert await peer_of(library, "join") == "first"


async def test_a_place_is_given_back_when_its_router_is_closed() -> None:
    async with with_places() as (library, places):
        library.send(3, "WORKER_CLOSE_ROUTER", "", {"routerId": "r"})
        assert {await peer_of(library, "leave") for _ in range(2)} == set(places)


async def test_a_place_is_given_back_when_it_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places_module, "KEPT_S", 0.5)
    async with with_places() as (library, places):
        assert {await peer_of(library, "leave") for _ in range(2)} == set(places)


async def test_a_place_is_not_used_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The drop-in stood still while its timer was due; by now its agent may have ended the lease."""
    async with with_places() as (library, places):
        later = places_module._now() + places_module.KEPT_S
        monkeypatch.setattr(places_module, "_now", lambda: later)
        ask_transport(library, 3, "first")
        asked = {(await library.intent())[0].subject for _ in range(3)}
        left = {subjects.intent("r", place, "leave") for place in places}
        assert asked == {subjects.intent("r", "first", "join"), *left}


async def test_no_place_is_asked_for_in_a_router_that_was_closed_meanwhile() -> None:
    async with with_places() as (library, places):
        ask_transport(library, 3, "first")
        create, _ = await library.intent()
        library.send(4, "WORKER_CLOSE_ROUTER", "", {"routerId": "r"})
        assert {await peer_of(library, "leave") for _ in range(2)} == set(places)
        made = ChannelAnswer(intent="create-transport", target="first", generation=1, accepted=True, body={})
        await library.answer(create, made, privately=True)
        await library.response(3)
        library.send(5, "WORKER_CREATE_ROUTER", "", {"routerId": "other"})
        place, action = await library.intent()
        address = subjects.parse(place.subject)
        assert (action, address.room if address else None) == ("join", "other")


async def test_places_are_given_back_to_a_fleet_that_is_full() -> None:
    async with with_places() as (library, places):
        library.send(3, "ROUTER_CREATE_DIRECTTRANSPORT", "r", {"transportId": "t", "options": {"base": {}}})
        join, _ = await library.intent()
        await library.answer(join, refused("join", NoCapacity("full")))
        assert {await peer_of(library, "leave") for _ in range(2)} == set(places)


async def test_a_transport_whose_place_is_refused_meanwhile_asks_for_another() -> None:
    """Nobody waited for the place when it was asked for, so it was not tried again; now somebody does."""
    async with with_transport(AHEAD, places_only=True) as library:
        join, _ = await library.intent()
        await library.intent()
        ask_transport(library, 3, "first")
        await library.answer(join, refused("join", NoCapacity("full")))
        again, action = await library.intent()
        asked = decode(again.data).data
        assert (action, again.subject) == ("join", join.subject)
        assert isinstance(asked, Join)
        assert asked.lease_s is None
