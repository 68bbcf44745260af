"""One valid example of every message, and envelopes for payloads. Deterministic.

The examples are also those of the published documents (``docs/messages.md``).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

from mafalda.contract import subjects
from mafalda.contract.channels import CHANNEL_OF, RESULT_ACTIONS
from mafalda.contract.ids import derived_id
from mafalda.contract.messages import commands, events, intents, load, notices, queries, results
from mafalda.contract.messages.allocator_report import AllocatorReport, LateReservation
from mafalda.contract.messages.batches import BatchedIntent, BatchedResult
from mafalda.contract.messages.channel_calls import ChannelCall, ChannelNotice
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.payload import Payload, Place
from mafalda.contract.messages.statistics import StreamStatistics, WayStatistics
from mafalda.contract.messages.subscriptions import ConsumerFormat, ProducerSelector, SubscribedConsumer
from mafalda.errors import NoCapacity, NotFound, RelayUnavailable
from mafalda.testing.media import (
    CANDIDATE,
    DTLS,
    OPUS_PARAMETERS,
    ROUTER_CAPABILITIES,
    SRTP,
    STREAM,
    VP8_SIMULCAST_PARAMETERS,
)

AnyPayload = TypeVar("AnyPayload", bound=Payload)

ROOM, PEER, SERVER = "lobby", "alice", "fra-1"
HERE = Place(server="fra-1", worker="fra-1-0-x7Kq")
THERE = Place(server="ams-2", worker="ams-2-1-b9Tw")
NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)

_WAYS = [
    WayStatistics(
        way="up",
        quality="poor",
        bitrate_bps=350_000,
        loss_ratio=0.18,
        jitter_ms=24,
        round_trip_ms=85,
        available_outgoing_bps=380_000,
        streams=[
            StreamStatistics(
                producer="alice-cam",
                media_kind="video",
                bitrate_bps=310_000,
                loss_ratio=0.19,
                frames_per_second=15,
                width=320,
                height=180,
                encodings=1,
                limitation="bandwidth",
            )
        ],
    ),
    WayStatistics(way="down", quality="excellent", bitrate_bps=1_400_000, loss_ratio=0.001, round_trip_ms=85),
]
_JOIN_ID = derived_id("join", ROOM, PEER)
_EXPLANATION = commands.Explanation(
    policy="pack",
    summary="fra-1-0-x7Kq has the room and is below the watermark.",
    candidates=[
        commands.Candidate(server="fra-1", worker="fra-1-0-x7Kq", outcome="chosen", load=0.31, score=2.31),
        commands.Candidate(server="ams-2", worker="ams-2-1-b9Tw", outcome="above-watermark", load=0.74),
    ],
    passed_over={"server-draining": 2},
)
_ALLOCATOR_REPORT = AllocatorReport(
    allocator="allocator-5f2c81d0",
    as_of_seq=1204,
    decided=310,
    late_reservations=[
        LateReservation(
            kind="advance",
            server="fra-1",
            worker="fra-1-0-i5",
            cost_ratio=0.02,
            age_s=31.5,
            room=ROOM,
            peer=PEER,
            seq=804,
        )
    ],
)
_LOAD = load.ServerLoad(
    server="fra-1",
    incarnation="i5",
    as_of_seq=1204,
    interval_s=1.0,
    region="eu",
    cpu_count=4,
    cpu_ratio=0.21,
    memory_used_ratio=0.4,
    event_loop_lag_s=0.001,
    ports_left=9800,
    workers=[
        load.WorkerLoad(
            worker="fra-1-0-x7Kq",
            pid=4711,
            cpu_ratio=0.31,
            memory_bytes=32_000_000,
            channel_latency_s=0.0002,
            state="ready",
            routers=1,
            transports=4,
            producers=2,
            consumers=6,
            relays_out=1,
            receive_bps=1_200_000,
            send_bps=7_300_000,
        )
    ],
)

_INTENTS: tuple[Payload, ...] = (
    intents.Join(app_data={"name": "Alice"}, region="eu"),
    intents.Leave(),
    intents.EndRoom(),
    intents.SetAudience(audience=True),
    intents.SetAppData(app_data={"name": "Alice", "hand": "up"}),
    intents.ApplyGrants(),
    intents.CreateTransport(transport="alice-send", direction="send"),
    intents.ConnectTransport(transport="alice-send", dtls_parameters=DTLS),
    intents.RestartIce(transport="alice-send"),
    intents.CloseTransport(transport="alice-send"),
    intents.Produce(
        producer="alice-cam", transport="alice-send", media_kind="video", rtp_parameters=VP8_SIMULCAST_PARAMETERS
    ),
    intents.ProduceData(
        data_producer="alice-chat", transport="alice-send", sctp_stream_parameters=STREAM, label="chat"
    ),
    intents.Consume(
        consumer="alice-hears-bob", transport="alice-receive", producer="bob-mic", rtp_capabilities=ROUTER_CAPABILITIES
    ),
    intents.ConsumeData(data_consumer="alice-reads-bob", transport="alice-receive", data_producer="bob-chat"),
    intents.PauseProducer(producer="alice-cam", by="bob"),
    intents.ResumeProducer(producer="alice-cam"),
    intents.CloseProducer(producer="alice-cam"),
    intents.CloseDataProducer(data_producer="alice-chat"),
    intents.PauseConsumer(consumer="alice-hears-bob"),
    intents.ResumeConsumer(consumer="alice-hears-bob"),
    intents.CloseConsumer(consumer="alice-hears-bob"),
    intents.CloseDataConsumer(data_consumer="alice-reads-bob"),
    intents.SetPreferredLayers(consumer="alice-sees-bob", spatial_layer=1, temporal_layer=2),
    intents.SetPriority(consumer="alice-sees-bob", priority=10),
    intents.RequestKeyFrame(consumer="alice-sees-bob"),
    intents.Subscribe(
        subscription="all",
        select=[ProducerSelector(kind="audio"), ProducerSelector(peer="bob")],
        rtp_capabilities=ROUTER_CAPABILITIES,
    ),
    intents.ChangeSubscription(subscription="all", remove=[ProducerSelector(producer="bob-cam")]),
    intents.Unsubscribe(subscription="all"),
    intents.RequestChannel(
        call=ChannelCall(
            method="TRANSPORT_SET_MAX_INCOMING_BITRATE", handler="alice-send", body={"maxIncomingBitrate": 1_500_000}
        )
    ),
    intents.IntentBatch(
        items=[
            BatchedIntent(id=derived_id(it.action), type=it.type_name(), data=it.to_json_dict())
            for it in (
                intents.CreateTransport(transport="alice-receive", direction="receive"),
                intents.ResumeConsumer(consumer="alice-hears-bob"),
            )
        ]
    ),
)
_RESULTS: tuple[Payload, ...] = (
    results.Rejected(intent="consume", error=ErrorInfo.of(NotFound("no such producer", producer="bob-mic"))),
    results.Done(intent="pause-producer", target="alice-cam", generation=1),
    results.JoinResult(
        server=HERE.server, worker=HERE.worker, generation=1, router_rtp_capabilities=ROUTER_CAPABILITIES
    ),
    results.TransportResult(transport="alice-send", generation=1, ice_candidates=[CANDIDATE], dtls_parameters=DTLS),
    results.ProduceResult(producer="alice-cam", transport="alice-send", generation=1, type="simulcast"),
    results.ProduceDataResult(data_producer="alice-chat", transport="alice-send", generation=1),
    results.ConsumeResult(
        consumer="alice-hears-bob",
        producer="bob-mic",
        transport="alice-receive",
        generation=1,
        media_kind="audio",
        type="simple",
        rtp_parameters=OPUS_PARAMETERS,
        paused=True,
        producer_paused=False,
        relayed=True,
    ),
    results.ConsumeDataResult(
        data_consumer="alice-reads-bob",
        data_producer="bob-chat",
        transport="alice-receive",
        generation=1,
        sctp_stream_parameters=STREAM,
        label="chat",
        protocol="",
        relayed=False,
    ),
    results.SubscribeResult(subscription="all", select=[ProducerSelector(kind="audio")], generation=1),
    results.ChannelAnswer(intent="channel", generation=1, accepted=True),
    results.ResultBatch(
        items=[
            BatchedResult(
                intent="resume-consumer",
                causationid=derived_id("resume-consumer"),
                type=results.Done.type_name(),
                data=results.Done(intent="resume-consumer", target="alice-hears-bob", generation=1).to_json_dict(),
            )
        ]
    ),
)
_COMMANDS: tuple[Payload, ...] = (
    commands.PlacePeer(
        room=ROOM,
        peer=PEER,
        server=HERE.server,
        worker=HERE.worker,
        generation=1,
        join=_JOIN_ID,
        app_data={"name": "Alice"},
        region="eu",
        explanation=_EXPLANATION,
    ),
    commands.OpenRelay(
        room=ROOM,
        producer="bob-mic",
        source=THERE,
        target=HERE,
        generation=1,
        explanation=commands.Explanation(policy="relay-tree", summary="The first pipe from ams-2 into fra-1."),
    ),
    commands.OpenRelays(
        room=ROOM,
        target=HERE,
        relays=[commands.RelayOrder(producer="bob-mic", source=THERE, generation=1)],
        explanation=commands.Explanation(policy="relay-tree", summary="1 relay from ams-2."),
    ),
)
_ROOM_EVENTS: tuple[Payload, ...] = (
    events.PeerJoined(peer=PEER, server=HERE.server, worker=HERE.worker, generation=1, app_data={"name": "Alice"}),
    events.PeerMoved(peer=PEER, server=THERE.server, worker=THERE.worker, generation=2, cause="worker-died"),
    events.PeerStranded(
        peer=PEER, generation=2, error=ErrorInfo.of(NoCapacity("no worker below the watermark", candidates=8))
    ),
    events.PeerLeft(peer=PEER, generation=1),
    events.PeerUpdated(peer=PEER, generation=1, app_data={"name": "Alice", "hand": "up"}),
    events.PeerDemoted(peer=PEER, generation=1),
    events.ProducerOpened(
        peer=PEER,
        producer="alice-cam",
        transport="alice-send",
        server=HERE.server,
        worker=HERE.worker,
        generation=1,
        media_kind="video",
        type="simulcast",
        app_data={"source": "webcam"},
    ),
    events.ProducerPaused(peer=PEER, producer="alice-cam", by="bob"),
    events.ProducerResumed(peer=PEER, producer="alice-cam"),
    events.ProducerClosed(peer=PEER, producer="alice-cam", generation=1, reason="closed"),
    events.DataProducerOpened(
        peer=PEER,
        data_producer="alice-chat",
        transport="alice-send",
        server=HERE.server,
        worker=HERE.worker,
        generation=1,
        sctp_stream_parameters=STREAM,
        label="chat",
    ),
    events.DataProducerClosed(peer=PEER, data_producer="alice-chat", generation=1, reason="transport-closed"),
    events.RelayOpened(producer="bob-mic", data=False, source=THERE, target=HERE),
    events.RelayFailed(
        producer="bob-mic",
        data=False,
        source=THERE,
        target=HERE,
        error=ErrorInfo.of(RelayUnavailable("the source does not answer", server="ams-2")),
    ),
    events.RelayClosed(producer="bob-mic", data=False, source=THERE, target=HERE, reason="unused"),
)
_PEER_EVENTS: tuple[Payload, ...] = (
    events.TransportClosed(transport="alice-send", generation=1, reason="ice-failed"),
    events.ConsumerClosed(consumer="alice-hears-bob", producer="bob-mic", generation=1, reason="producer-closed"),
    events.DataConsumerClosed(
        data_consumer="alice-reads-bob", data_producer="bob-chat", generation=1, reason="peer-left"
    ),
    events.ProducerLayersChanged(producer="alice-cam", generation=1, spatial_layer=1),
)
_SUBSCRIBED: tuple[Payload, ...] = (
    events.ConsumersOpened(
        subscription="all",
        transport="alice-receive",
        generation=1,
        consumers=[
            SubscribedConsumer(
                consumer="c1-0",
                producer="bob-mic",
                kind="audio",
                type="simple",
                format=0,
                mid="0",
                encodings=list(OPUS_PARAMETERS.encodings),
                rtcp=OPUS_PARAMETERS.rtcp,
                relayed=True,
            )
        ],
        formats=[ConsumerFormat(format=0, codecs=list(OPUS_PARAMETERS.codecs))],
    ),
    events.ConsumersClosed(subscription="all", generation=1, consumers=["c1-0"]),
    events.StatisticsReported(
        generation=1,
        server=HERE.server,
        worker=HERE.worker,
        interval_s=5.0,
        ways=_WAYS,
        cause="changed",
        scores={"alice-cam": 6},
        layers={"bob-cam": 1},
    ),
)
_SERVER_EVENTS: tuple[Payload, ...] = (
    events.ServerStarted(
        server="fra-1",
        incarnation="i5",
        workers=[events.WorkerInfo(worker="fra-1-0-x7Kq", pid=4711, slot=0)],
        announced_address="192.0.2.10",
        region="eu",
        agent_version="0.1.0",
    ),
    events.ServerStopped(server="fra-1", incarnation="i5"),
    events.ServerDraining(server="fra-1", incarnation="i5", draining=True),
    events.ServerLost(server="fra-1", incarnation="i5"),
    events.WorkerStarted(
        server="fra-1", incarnation="i5", worker=events.WorkerInfo(worker="fra-1-0-p2Zm", pid=4890, slot=0)
    ),
    events.WorkerDied(server="fra-1", incarnation="i5", worker="fra-1-0-x7Kq", signal="SIGKILL"),
    events.RelaysRequested(server="fra-1", incarnation="i5", worker="fra-1-0-x7Kq", room=ROOM, producers=["bob-mic"]),
    events.LoadSampled(load=_LOAD),
)
_QUERIES: tuple[Payload, ...] = (
    queries.QueryRoom(),
    queries.QueryTransport(transport="alice-send"),
    queries.QuerySubscription(subscription="all"),
    queries.QueryEntries(after=41),
    queries.QueryStats(target="producer", id="alice-cam"),
    queries.ReportStatistics(generation=1, interval_s=5.0, ways=_WAYS),
    queries.QueryScores(),
    queries.QuerySpeakers(inbox="_INBOX.lobby.alice.1"),
    queries.QueryChannel(call=ChannelCall(method="TRANSPORT_DUMP", handler="alice-send")),
)
_REQUESTS: tuple[Payload, ...] = (
    queries.ConnectPipe(
        room=ROOM,
        source=HERE,
        target=THERE,
        end=queries.PipeEnd(ip="198.51.100.7", port=40012, srtp_parameters=SRTP),
        enable_rtx=True,
    ),
    queries.CarryProducer(room=ROOM, producer="alice-cam", data=False, source=HERE, target=THERE),
    queries.SetCarried(room=ROOM, producer="alice-cam", source=HERE, target=THERE, wanted="paused"),
    queries.ClosePipe(room=ROOM, source=HERE, target=THERE),
    queries.QueryServer(),
    queries.DrainServer(deadline_s=3600),
    queries.QueryDrain(),
)
_ANSWERS: tuple[Payload, ...] = (
    queries.RoomSnapshot(
        seq=1204,
        peers=[queries.PeerInfo(peer=PEER, app_data={"name": "Alice"})],
        producers=[queries.ProducerInfo(producer="alice-cam", peer=PEER, media_kind="video", paused=False)],
        data_producers=[queries.DataProducerInfo(data_producer="alice-chat", peer=PEER, label="chat", protocol="")],
    ),
    queries.SubscriptionSnapshot(
        subscription="all",
        generation=1,
        transport="alice-receive",
        consumers=[
            SubscribedConsumer(
                consumer="c1-0",
                producer="bob-mic",
                kind="audio",
                type="simple",
                format=0,
                mid="0",
                encodings=list(OPUS_PARAMETERS.encodings),
                rtcp=OPUS_PARAMETERS.rtcp,
            )
        ],
        formats=[ConsumerFormat(format=0, codecs=list(OPUS_PARAMETERS.codecs))],
    ),
    queries.LogEntries(
        seq=1204,
        entries=[
            queries.LogEntry(
                seq=1203,
                subject=subjects.room_event(ROOM, "peer-left"),
                message={"id": "e7", "type": "mafalda.event.peer-left.v1", "data": {"peer": "bob", "generation": 1}},
            )
        ],
    ),
    queries.StatisticsTaken(interval_s=5.0),
    queries.Scores(sent={"alice-cam": 6}, received={"bob-cam": 9}),
    queries.Speakers(room=ROOM, speakers=[queries.Speaker(peer="bob", producer="bob-mic")]),
    queries.Stats(stats=[{"type": "inbound-rtp", "ssrc": 22220001, "packetCount": 1500, "bitrate": 800_000}]),
    queries.PipeConnected(end=queries.PipeEnd(ip="192.0.2.10", port=40018, srtp_parameters=SRTP)),
    queries.ProducerCarried(media_kind="audio", type="simple", rtp_parameters=OPUS_PARAMETERS),
    queries.Ok(),
    queries.ServerInventory(
        server="fra-1",
        incarnation="i5",
        seq=1204,
        workers=["fra-1-0-x7Kq"],
        peers=[
            queries.PeerInventory(
                room=ROOM,
                peer=PEER,
                worker="fra-1-0-x7Kq",
                generation=1,
                transports=["alice-send"],
                producers=["alice-cam"],
                consumers=["alice-hears-bob"],
                data_producers=["alice-chat"],
                data_consumers=[],
            )
        ],
        relays=[queries.RelayInventory(room=ROOM, producer="bob-mic", data=False, source=THERE, target=HERE)],
    ),
    queries.DrainStatus(server="fra-1", state="draining", peers=3, leaving=1, unmovable=1, deadline_in_s=3599.5),
)
_SENT = ChannelNotice(
    event="DATAPRODUCER_SEND", handler="alice-chat", body={"ppid": 51, "data": {"$bytes": "aGVsbG8="}}
)
_NOTICES: tuple[Payload, ...] = (
    notices.ChannelNotices(items=[_SENT]),
    notices.AudioLevelsWanted(room=ROOM, listener="ams-2"),
    notices.AudioLevels(room=ROOM, levels={"alice-mic": -31, "bob-mic": -127}),
    notices.RelayNotices(room=ROOM, source=THERE, target=HERE, items=[_SENT]),
)

#: One valid example of every message, by its class.
EXAMPLES: dict[type[Payload], Payload] = {
    type(payload): payload
    for group in (
        _INTENTS,
        _RESULTS,
        _COMMANDS,
        _ROOM_EVENTS,
        _PEER_EVENTS,
        _SUBSCRIBED,
        _SERVER_EVENTS,
        (_LOAD, _ALLOCATOR_REPORT),
        _QUERIES,
        _REQUESTS,
        _ANSWERS,
        _NOTICES,
    )
    for payload in group
}


def example(payload_type: type[AnyPayload]) -> AnyPayload:
    """A valid payload of this type, always the same."""
    found = EXAMPLES[payload_type]
    assert isinstance(found, payload_type)
    return found


def subject_of(payload: Payload, *, room: str = ROOM, peer: str = PEER, server: str = SERVER) -> str:
    """A subject that this payload belongs on. A room, peer or server in the payload takes precedence over arguments."""
    action = payload.action
    match payload:
        case results.Done() | results.Rejected():
            action = payload.intent
        case commands.PlacePeer():
            room, server = payload.room, payload.server
        case commands.OpenRelay() | commands.OpenRelays():
            room, server = payload.room, payload.target.server
        case notices.RelayNotices():
            server = payload.target.server
        case events.LoadSampled():
            server = payload.load.server
        case AllocatorReport():
            return f"mafalda.allocator.{payload.allocator}.report.{action}"
        case _:
            server = getattr(payload, "server", server)
            action = RESULT_ACTIONS.get(type(payload), (action,))[0]
    pattern = CHANNEL_OF[type(payload)].pattern
    return pattern.format(room=room, peer=peer, server=server, action=action, inbox="alice.1")


def message(
    payload: Payload,
    *,
    id: str | None = None,
    subject: str | None = None,
    source: str = "/test",
    at: datetime = NOON,
    cause: Message | None = None,
) -> Message:
    """Put a payload into an envelope. Without an id, the id is derived from the payload.

    Args:
        payload: The data.
        id: The message id.
        subject: The subject; by default ``subject_of(payload)``.
        source: The CloudEvent's source.
        at: The CloudEvent's time.
        cause: The message that caused this one; the correlation and causation ids come from it.
    """
    return Message(
        id=id or derived_id(payload.type_name(), payload.model_dump_json()),
        source=source,
        type=payload.type_name(),
        subject=subject or subject_of(payload),
        time=at,
        dataschema=payload.schema_uri(),
        correlationid=cause.correlation if cause else None,
        causationid=cause.id if cause else None,
        data=payload,
    )
