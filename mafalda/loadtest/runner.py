"""The load test: start publishers, participants, then viewers, replace some, measure, and leave."""

from __future__ import annotations

import asyncio
import random
import resource
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import psutil
import structlog

from mafalda.bus.protocol import Bus
from mafalda.errors import MafaldaError, NotJoined
from mafalda.loadtest.config import LoadTestConfig
from mafalda.loadtest.fleet import FleetRequests, open_requests
from mafalda.loadtest.hub import MediaHub
from mafalda.loadtest.participants import Conversation, LoadParticipant
from mafalda.loadtest.peers import LoadPeer, LoadPublisher, LoadViewer, describe
from mafalda.loadtest.report import (
    ConversationFigures,
    MediaFigures,
    OwnCost,
    PeerCounts,
    Report,
    count_failures,
    percentiles_ms,
)
from mafalda.loadtest.stream_table import Totals

_LEAVE_CONCURRENCY = 64
_MAX_LATENCY_SAMPLES = 100_000
#: Beside one socket a peer: standard streams, NATS, epoll.
_SPARE_DESCRIPTORS = 64

_log = structlog.get_logger(__name__)


class LoadTest:
    """Made by ``open_load_test``. ``run`` it once; ``report`` at any time.

    Args:
        fleet: Requests to the fleet.
        hub: The media endpoints.
        group: What runs in the background is a task of it.
        background: The tasks to cancel at the end.
        config: What to do.
        run_id: Part of the peers' ids, so that two tests in the same rooms do not collide.
    """

    def __init__(
        self,
        fleet: FleetRequests,
        hub: MediaHub,
        group: asyncio.TaskGroup,
        background: list[asyncio.Task[None]],
        config: LoadTestConfig,
        run_id: str,
    ) -> None:
        #: Set when every peer has joined or failed, and the measuring begins.
        self.measuring = asyncio.Event()
        self._fleet = fleet
        self._hub = hub
        self._group = group
        self._background = background
        self._config = config
        self._run_id = run_id
        self._phase = "publishers join"
        self._numbers = 0
        self._publishers: dict[str, list[LoadPublisher]] = {room: [] for room in room_ids(config)}
        self._viewers: list[LoadViewer] = []
        self._conversations: list[Conversation] = []
        self._replaced = 0
        self._began = time.monotonic()
        self._joining_took_s: float | None = None
        self._mark: _Mark | None = None
        self._end_mark: _Mark | None = None

    async def run(self) -> None:
        """Do all of it but leaving. A peer that fails is counted, and the others go on."""
        config = self._config
        opens: list[Callable[[], Coroutine[Any, Any, None]]] = []
        for room, publishers in self._publishers.items():
            for shape in config.publishers:
                publisher = LoadPublisher(self._fleet, self._hub, config, room, self._id("pub"), shape)
                publishers.append(publisher)
                opens.append(partial(self._open_publisher, publisher))
        await self._paced(opens)
        began = time.monotonic()
        if config.participants:
            self._phase = "participants join"
            await self._paced(self._participants())
        self._phase = "viewers join"
        # Room by room in turn, so that rooms grow together.
        rooms = [room for _ in range(config.viewers) for room in self._publishers]
        await self._paced([partial(self._open_viewer, room) for room in rooms])
        self._joining_took_s = time.monotonic() - began
        self._phase = "measuring"
        self._mark = _Mark.now(self._hub.table.totals())
        self.measuring.set()
        await self._measure()
        self._end_mark = _Mark.now(self._hub.table.totals())
        for viewer in self._viewers:
            if viewer.error is None:
                viewer.check_silence()
        self._phase = "done"

    def _participants(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """Make the participants of each room; what opens them, room by room in turn."""
        config = self._config
        for room in self._publishers:
            made = [
                LoadParticipant(self._fleet, self._hub, config, room, self._id("part"))
                for _ in range(config.participants)
            ]
            self._conversations.append(Conversation(made, config))
        return [
            partial(self._open_publisher, participant)
            for of_rooms in zip(*(it.participants for it in self._conversations), strict=True)
            for participant in of_rooms
        ]

    async def leave(self) -> None:
        """Leave all rooms, a few peers at a time."""
        waiting: deque[LoadPeer] = deque((*self._viewers, *self._all_participants(), *self._all_publishers()))

        async def leave_some() -> None:
            while waiting:
                await self._leave(waiting.popleft())

        await asyncio.gather(*(leave_some() for _ in range(_LEAVE_CONCURRENCY)))

    def report(self) -> Report:
        """The figures as of now."""
        participants = self._all_participants()
        receivers: Sequence[LoadViewer | LoadParticipant] = [*self._viewers, *participants]
        peers: Sequence[LoadPeer] = [*self._all_publishers(), *receivers]
        joins = [(each.joined_ns - each.started_ns) / 1e9 for each in peers if each.joined_ns]
        firsts = [(it.first_packet_ns - it.started_ns) / 1e9 for it in receivers if it.first_packet_ns]
        totals = self._hub.table.totals()
        end = self._end_mark or _Mark.now(totals)
        begin = self._mark or end
        return Report(
            phase=self._phase,
            elapsed_s=round(time.monotonic() - self._began, 1),
            measured_s=round(end.at_s - begin.at_s, 1),
            publishers=_counts(self._all_publishers(), 0),
            viewers=_counts(self._viewers, self._replaced),
            participants=_counts(participants, 0),
            join_ms=percentiles_ms(joins),
            first_packet_ms=percentiles_ms(firsts),
            media=self._media(totals, begin, end),
            conversation=ConversationFigures(
                turns=sum(it.turns for it in self._conversations),
                unheard=sum(it.unheard for it in self._conversations),
                delay_ms=percentiles_ms([delay_s for it in self._conversations for delay_s in it.delays_s]),
            ),
            own=_own(begin, end),
            viewers_by_server=dict(Counter(it.server for it in receivers if it.is_present)),
            failures=count_failures([each.error for each in peers]),
            joining_took_s=round(self._joining_took_s, 2) if self._joining_took_s is not None else None,
        )

    # --- steps ------------------------------------------------------------------------------------------

    async def _paced(self, opens: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
        """Begin these at the configured rate, and await them all."""
        begin = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, open_peer in enumerate(opens):
                if rate := self._config.join_rate:
                    await asyncio.sleep(max(0.0, begin + number / rate - time.monotonic()))
                group.create_task(open_peer(), name=f"join-{number}")

    async def _open_publisher(self, publisher: LoadPublisher) -> None:
        try:
            await publisher.open()
        except MafaldaError as error:
            publisher.fail(describe(error))
            return
        self._background.append(self._group.create_task(publisher.send(), name=f"send {publisher.peer}"))

    async def _open_viewer(self, room: str) -> None:
        viewer = LoadViewer(self._fleet, self._hub, self._config, room, self._id("view"))
        self._viewers.append(viewer)
        try:
            await viewer.open([each for each in self._publishers[room] if each.error is None])
        except MafaldaError as error:
            viewer.fail(describe(error))

    async def _measure(self) -> None:
        """Wait for the end; meanwhile replace viewers."""
        end = time.monotonic() + self._config.duration_s
        async with asyncio.TaskGroup() as group:
            for conversation in self._conversations:
                group.create_task(conversation.run(end), name="conversation")
            if self._config.churn:
                interval_s = 1 / self._config.churn
                while time.monotonic() + interval_s < end:
                    await asyncio.sleep(interval_s)
                    group.create_task(self._replace_one(), name="replace a viewer")
            await asyncio.sleep(max(0.0, end - time.monotonic()))

    async def _replace_one(self) -> None:
        """One viewer leaves, and a new one joins its room."""
        staying = [each for each in self._viewers if not each.is_leaving and each.error is None and each.joined_ns]
        if not staying:
            return
        leaving = random.choice(staying)
        leaving.is_leaving = True
        self._replaced += 1
        await asyncio.gather(self._leave(leaving), self._open_viewer(leaving.room))

    async def _leave(self, peer: LoadPeer) -> None:
        try:
            await peer.leave()
        except NotJoined:  # the fleet removed it, or never had it
            return
        except MafaldaError as error:
            _log.warning("a peer left without an answer", action="load_leave", peer_id=peer.peer, reason=str(error))

    # --- figures ----------------------------------------------------------------------------------------

    def _all_publishers(self) -> list[LoadPublisher]:
        return [each for publishers in self._publishers.values() for each in publishers]

    def _all_participants(self) -> list[LoadParticipant]:
        return [each for it in self._conversations for each in it.participants]

    def _media(self, totals: Totals, begin: _Mark, end: _Mark) -> MediaFigures:
        hub, measured_s = self._hub, max(end.at_s - begin.at_s, 1e-9)
        if len(hub.latencies_s) > _MAX_LATENCY_SAMPLES:
            hub.latencies_s[:] = hub.latencies_s[::2]
        return MediaFigures(
            streams=totals.streams,
            packets_sent=sum(each.sent for each in (*self._all_publishers(), *self._all_participants())),
            packets_received=totals.received,
            packets_lost=totals.lost,
            loss_ratio=round(totals.lost / totals.expected, 6) if totals.expected else 0.0,
            out_of_order=totals.out_of_order,
            dropped_here=hub.dropped_here,
            unknown=hub.unknown,
            packets_per_s=round((end.totals.received - begin.totals.received) / measured_s, 1),
            bits_per_s=round(8 * (end.totals.received_bytes - begin.totals.received_bytes) / measured_s),
            jitter_ms=percentiles_ms(hub.table.jitters_s().tolist()),
            latency_ms=percentiles_ms(hub.latencies_s),
            decrypted=hub.decrypted,
            decrypt_failures=hub.decrypt_failures,
        )

    def _id(self, kind: str) -> str:
        self._numbers += 1
        return f"{kind}-{self._run_id}-{self._numbers}"


class _Mark:
    """A moment: what was received, and what the process had used."""

    def __init__(self, at_s: float, cpu_s: float, totals: Totals) -> None:
        self.at_s = at_s
        self.cpu_s = cpu_s
        self.totals = totals

    @classmethod
    def now(cls, totals: Totals) -> _Mark:
        """This moment."""
        return cls(time.monotonic(), time.process_time(), totals)


def _own(begin: _Mark, end: _Mark) -> OwnCost:
    cpu_s, packets = end.cpu_s - begin.cpu_s, end.totals.received - begin.totals.received
    return OwnCost(
        cpu_ratio=round(cpu_s / max(end.at_s - begin.at_s, 1e-9), 3),
        cpu_us_per_packet=round(cpu_s / packets * 1e6, 2) if packets else None,
        memory_bytes=psutil.Process().memory_info().rss,
    )


def _counts(peers: Sequence[LoadPeer], replaced: int) -> PeerCounts:
    joined = sum(1 for each in peers if each.joined_ns)
    return PeerCounts(len(peers), joined, sum(1 for each in peers if each.error is not None), replaced)


def room_ids(config: LoadTestConfig) -> list[str]:
    """The ids of the test's rooms."""
    return [f"{config.room_prefix}-{number}" for number in range(1, config.rooms + 1)]


@asynccontextmanager
async def open_load_test(bus: Bus, config: LoadTestConfig, run_id: str) -> AsyncIterator[LoadTest]:
    """A load test against the fleet behind this bus; its peers leave when the block ends.

    Args:
        bus: Connected.
        config: What to do.
        run_id: Part of the peers' ids.
    """
    _allow_sockets(config)
    hub = MediaHub(receive_buffer_bytes=config.receive_buffer_bytes, handshake_timeout_s=config.media_timeout_s)
    try:
        async with (
            open_requests(bus, room_ids(config), config.request_timeout_s) as fleet,
            asyncio.TaskGroup() as group,  # what fails in it ends the test
        ):
            background = [group.create_task(hub.run(), name="read media")]
            test = LoadTest(fleet, hub, group, background, config, run_id)
            try:
                yield test
            finally:
                for task in background:
                    task.cancel()
                await test.leave()
    finally:
        hub.close()


def _allow_sockets(config: LoadTestConfig) -> None:
    """Raise the soft limit of open files to what one socket a peer needs."""
    wanted = config.rooms * (len(config.publishers) + 2 * config.viewers + 2 * config.participants) + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        if limit < wanted:
            _log.warning("few open files are allowed", action="load_limits", allowed=limit, wanted=wanted)
