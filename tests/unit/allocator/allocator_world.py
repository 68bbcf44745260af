"""A fleet, a log and a clock in memory, for tests of the pure core. Every message is encoded and decoded."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.decide.decide import decide
from mafalda.allocator.core.decide.decision import Decision
from mafalda.allocator.core.state.fold import fold_entry
from mafalda.allocator.core.state.log_entry import read_entry
from mafalda.allocator.core.state.open_intents import OpenIntent
from mafalda.allocator.core.state.stimulus import Stimulus, seed_of
from mafalda.allocator.core.state.unplaced import UnplacedPeer
from mafalda.allocator.core.state.view import View
from mafalda.contract import subjects
from mafalda.contract.messages import commands, events, intents, results
from mafalda.contract.messages.envelope import Message, encode
from mafalda.contract.messages.load import ServerLoad, WorkerLoad
from mafalda.contract.messages.payload import Payload, Place
from mafalda.media.rtp import RtpCapabilities
from mafalda.media.transport import SctpStreamParameters
from mafalda.testing.media import DTLS

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@dataclass
class World:
    """One allocator's view, and the log that it came from."""

    config: AllocatorConfig = field(default_factory=AllocatorConfig)
    patient: bool = False  # whether a join waits for capacity before it is refused
    now: float = 100.0
    seq: int = 0
    log: list[tuple[int, str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.patient:
            self.config = self.config.model_copy(update={"join_timeout_s": 0, "full_timeout_s": 0})
        self.view = View(self.config)
        self.view.begin(self.now)

    # --- the log -------------------------------------------------------------------------------------

    def append(
        self,
        subject: str,
        payload: Payload,
        *,
        id: str | None = None,
        cause: str | None = None,
        correlation: str | None = None,
    ) -> int:
        message = Message(
            id=id or f"m{self.seq + 1}",
            source="/test",
            type=payload.type_name(),
            subject=subject,
            time=NOON,
            causationid=cause,
            correlationid=correlation or (f"c-{id}" if id else None),
            data=payload,
        )
        return self.append_raw(subject, encode(message))

    def append_raw(self, subject: str, raw: bytes) -> int:
        self.seq += 1
        self.log.append((self.seq, subject, raw))
        entry = read_entry(self.seq, subject, raw)
        if entry:
            fold_entry(self.view, entry, self.now)
        return self.seq

    def decide(self, stimulus: Stimulus) -> Decision:
        return decide(self.view, stimulus, self.now, random.Random(seed_of(stimulus)))

    def commit(self, decision: Decision) -> Decision:
        """Append what was decided, as the shell would."""
        for append in decision.appends:
            self.append(
                append.subject, append.payload, id=append.id, cause=append.causation, correlation=append.correlation
            )
        return decision

    # --- servers -------------------------------------------------------------------------------------

    def server(
        self, server: str, workers: int = 1, *, region: str | None = None, incarnation: str = "i1", report: bool = True
    ) -> None:
        infos = [
            events.WorkerInfo(worker=f"{server}-{slot}-{incarnation}", pid=100 + slot, slot=slot)
            for slot in range(workers)
        ]
        started = events.ServerStarted(
            server=server, incarnation=incarnation, workers=infos, announced_address="127.0.0.1", region=region
        )
        self.append(subjects.server_event(server, started.action), started)
        if report:
            self.load(server)

    def load(
        self,
        server: str,
        cpu: Mapping[str, float] | float = 0.0,
        *,
        as_of_seq: int | None = None,
        incarnation: str = "i1",
        latency_s: float = 0.0,
        unresponsive: Collection[str] = (),
        **figures: float,
    ) -> bool:
        """A report of all the server's workers: each at ``cpu``."""
        known = self.view.state.servers[server]
        loads = [
            WorkerLoad(
                worker=worker,
                pid=1,
                cpu_ratio=cpu if isinstance(cpu, float | int) else cpu.get(worker, 0.0),
                channel_latency_s=latency_s,
                state="unresponsive" if worker in unresponsive else "ready",
            )
            for worker in known.workers
        ]
        fields = {"interval_s": 1.0, "cpu_count": 4, **figures}
        seq = self.seq if as_of_seq is None else as_of_seq
        report = ServerLoad.model_validate(
            {"server": server, "incarnation": incarnation, "as_of_seq": seq, "workers": loads, **fields}
        )
        return self.view.report(report, self.now)

    def server_event(self, event: events.Event, server: str) -> int:
        return self.append(subjects.server_event(server, event.action), event)

    def kill_worker(self, place: Place, incarnation: str = "i1") -> int:
        died = events.WorkerDied(server=place.server, incarnation=incarnation, worker=place.worker, signal="SIGKILL")
        return self.server_event(died, place.server)

    # --- peers ---------------------------------------------------------------------------------------

    def intent(self, room: str, peer: str, payload: intents.Intent, *, id: str | None = None) -> OpenIntent:
        seq = self.append(f"mafalda.room.{room}.peer.{peer}.intent.{payload.action}", payload, id=id)
        found = self.view.open_intents.get(seq)
        assert found is not None
        return found

    def join(self, room: str, peer: str, *, region: str | None = None, id: str | None = None) -> Decision:
        """Ask to join and commit what is decided."""
        return self.commit(self.decide(self.intent(room, peer, intents.Join(region=region), id=id)))

    def joined(self, room: str, peer: str, *, region: str | None = None) -> Place:
        """Join, be placed, be welcomed by the agent."""
        place = placed(self.join(room, peer, region=region))
        known = self.view.peer((room, peer))
        assert known is not None
        joined = events.PeerJoined(peer=peer, server=place.server, worker=place.worker, generation=known.generation)
        self.append(subjects.room_event(room, joined.action), joined)
        return place

    def leave(self, room: str, peer: str) -> None:
        known = self.view.peer((room, peer))
        assert known is not None
        left = events.PeerLeft(peer=peer, generation=known.generation)
        self.append(subjects.room_event(room, left.action), left)

    def produce(self, room: str, peer: str, producer: str, *, data: bool = False) -> None:
        known = self.view.peer((room, peer))
        assert known is not None
        place = {"server": known.place.server, "worker": known.place.worker, "generation": known.generation}
        common = {"peer": peer, "transport": f"{peer}-t", **place}
        event: events.Event
        if data:
            event = events.DataProducerOpened.model_validate(
                {**common, "data_producer": producer, "sctp_stream_parameters": SctpStreamParameters(stream_id=1)}
            )
        else:
            event = events.ProducerOpened.model_validate(
                {**common, "producer": producer, "media_kind": "audio", "type": "simple"}
            )
        self.append(subjects.room_event(room, event.action), event)

    def consume(self, room: str, peer: str, producer: str, *, data: bool = False) -> OpenIntent:
        payload: intents.Intent
        if data:
            payload = intents.ConsumeData(data_consumer=f"{peer}-{producer}", transport="t", data_producer=producer)
        else:
            payload = intents.Consume(
                consumer=f"{peer}-{producer}", transport="t", producer=producer, rtp_capabilities=RtpCapabilities()
            )
        return self.intent(room, peer, payload)

    def relay_event(self, command: commands.OpenRelay, kind: type[events.Event]) -> int:
        """What the target's agent says of a relay: opened or failed."""
        fields: dict[str, object] = command.model_dump(include={"producer", "data", "source", "target"})
        if kind is events.RelayFailed:
            fields["error"] = {"code": "relay-failed", "message": "no"}
        event = kind.model_validate(fields)
        return self.append(subjects.room_event(command.room, event.action), event)

    def transport_result(self, room: str, peer: str, transport: str, cause: str = "x") -> None:
        known = self.view.peer((room, peer))
        assert known is not None
        result = results.TransportResult(
            transport=transport,
            generation=known.generation,
            ice_candidates=[],
            dtls_parameters=DTLS,
        )
        self.append(subjects.result(room, peer, "create-transport"), result, cause=cause)

    def unplaced(self, room: str, peer: str) -> UnplacedPeer:
        found = self.view.unplaced.get((room, peer))
        assert found is not None
        return found

    def load_of(self, place: Place) -> float:
        """What the view holds the worker to carry, of one core."""
        worker = self.view.fleet.at(place)
        assert worker is not None
        return worker.load / 1_000_000


def placed(decision: Decision) -> Place:
    """Where a decision places a peer."""
    (append,) = decision.commands
    assert isinstance(append.payload, commands.PlacePeer)
    return Place(server=append.payload.server, worker=append.payload.worker)


def relay(decision: Decision) -> commands.OpenRelay:
    """The relay that a decision opens."""
    (append,) = decision.commands
    assert isinstance(append.payload, commands.OpenRelay)
    return append.payload


def rejection(decision: Decision) -> results.Rejected:
    """The rejection that a decision is."""
    (append,) = decision.results
    assert isinstance(append.payload, results.Rejected)
    return append.payload
