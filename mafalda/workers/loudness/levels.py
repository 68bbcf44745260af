"""The levels of a room's audio producers: measured where they are, sent to the servers whose peers want the loudest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from mafalda.aio.serial_executor import SerialExecutor
from mafalda.aio.tasks import TaskScope
from mafalda.contract import subjects
from mafalda.contract.messages.notices import AudioLevels, AudioLevelsWanted
from mafalda.errors import MafaldaError
from mafalda.projection.state import RoomState
from mafalda.workers.config import AgentConfig
from mafalda.workers.core.loudness import RoomLoudness
from mafalda.workers.log.publisher import Publisher
from mafalda.workers.loudness.meter import LevelMeter
from mafalda.workers.supervision.routers import Routers

#: How often a server asks for the levels of a room, and for how long it is sent them without asking again, in seconds.
ASK_S, LEASE_S = 4.0, 10.0
log = structlog.get_logger("mafalda.workers")


class AudioLevelExchange:
    """Measures producers of this server for those who asked, and ranks those of rooms whose peers here want it.

    Args:
        config: How often is measured.
        tasks: Runs what takes time.
        publisher: Sends notices to other agents.
        routers: Have the observers.
        room: The fold of a room.
        changed: Called with a room and the producers that are, or are not any more, among its loudest.
    """

    def __init__(
        self,
        config: AgentConfig,
        tasks: TaskScope,
        publisher: Publisher,
        routers: Routers,
        *,
        room: Callable[[str], RoomState | None],
        changed: Callable[[str, frozenset[str]], None],
    ) -> None:
        self._config = config
        self._tasks = tasks
        self._publisher = publisher
        self._routers = routers
        self._room = room
        self._changed = changed
        self._rankings: dict[str, RoomLoudness] = {}  # of rooms whose peers here want the loudest
        self._counts: dict[str, dict[int, int]] = {}  # of each such room: how many want so many
        self._leases: dict[str, dict[str, float]] = {}  # of each room that is measured: until when, by server
        self._meters: dict[tuple[str, str], LevelMeter] = {}  # by room and worker
        self._setups: SerialExecutor[str] = SerialExecutor(tasks, "audio levels")

    # --- who wants the loudest ------------------------------------------------------------------------

    def want(self, room: str, count: int) -> None:
        """A subscription wants so many of a room, until ``unwant``."""
        counts = self._counts.setdefault(room, {})
        counts[count] = counts.get(count, 0) + 1
        if room not in self._rankings:
            self._rankings[room] = RoomLoudness()
            self._ask(room)
        self._rankings[room].loudest(count)

    def unwant(self, room: str, count: int) -> None:
        """End ``want``."""
        counts = self._counts.get(room, {})
        counts[count] = counts.get(count, 0) - 1
        if counts[count] <= 0:
            del counts[count]
        if not counts:
            self._counts.pop(room, None)
            self._rankings.pop(room, None)

    def loudest(self, room: str, count: int) -> frozenset[str]:
        """The loudest producers of a room; none while nothing is known."""
        ranking = self._rankings.get(room)
        return ranking.loudest(count) if ranking else frozenset()

    def producer_opened(self, room: str, producer: str) -> None:
        """A room has one more producer, perhaps with the id of one that has closed: observers have removed that one."""
        for key, meter in self._meters.items():
            if key[0] == room:
                meter.forget(producer)
        if room in self._rankings:
            self._ask(room)
        if room in self._leases:
            self._measure(room)

    async def run(self) -> None:
        """Ask again at intervals, and stop measuring for those who do not, until cancelled."""
        while True:
            await asyncio.sleep(ASK_S)
            for room in list(self._rankings):
                self._ask(room)
            for room in list(self._leases):
                self._measure(room)

    def _ask(self, room: str) -> None:
        state = self._room(room)
        servers = {it.place.server for it in state.producers.values() if it.media_kind == "audio"} if state else set()
        for server in sorted(servers):
            wanted = AudioLevelsWanted(room=room, listener=self._config.server)
            if server == self._config.server:
                self.receive(wanted)
            else:
                self._send(server, wanted)

    # --- measuring ------------------------------------------------------------------------------------

    def receive(self, notice: AudioLevelsWanted | AudioLevels) -> None:
        """Take a notice of another agent, or of this one."""
        match notice:
            case AudioLevelsWanted(room=room, listener=listener):
                is_new = room not in self._leases
                self._leases.setdefault(room, {})[listener] = asyncio.get_running_loop().time() + LEASE_S
                if is_new or listener == self._config.server:
                    self._measure(room)
            case AudioLevels(room=room, levels=levels):
                self._rank(room, levels)

    def _measure(self, room: str) -> None:
        self._setups.submit(room, lambda: self._observe(room))

    async def _observe(self, room: str) -> None:
        """Observe the audio producers that a room has here; nothing any more once nobody asks."""
        now = asyncio.get_running_loop().time()
        leases = {server: until for server, until in self._leases.get(room, {}).items() if until > now}
        state = self._room(room)
        if not leases or state is None:
            self._leases.pop(room, None)
            await self._stop(room)
            return
        self._leases[room] = leases
        for producer in list(state.producers.values()):
            if producer.media_kind == "audio" and producer.place.server == self._config.server:
                await self._add(room, producer.place.worker, producer.producer)

    async def _add(self, room: str, worker: str, producer: str) -> None:
        key = (room, worker)
        router = self._routers.existing(room, worker)
        if router is None:
            return
        try:
            meter = self._meters.get(key)
            if meter is None or meter.closed:
                interval_ms = self._config.audio_level_interval_ms
                meter = self._meters[key] = await LevelMeter.open(router, interval_ms, self._teller(room, key))
            await meter.add(producer)
        except MafaldaError as error:  # the producer or the router is closing; the next round sees what is left
            log.info("not measured", action="audio_not_measured", room_id=room, producer_id=producer, reason=str(error))

    def _teller(self, room: str, key: tuple[str, str]) -> Callable[[dict[str, int]], None]:
        def tell(levels: dict[str, int]) -> None:
            state, meter = self._room(room), self._meters.get(key)
            if meter is not None:
                meter.retain(state.producers if state else ())
            self._tell(room, levels)

        return tell

    def _tell(self, room: str, levels: dict[str, int]) -> None:
        for server in self._leases.get(room, ()):
            if server == self._config.server:
                self._rank(room, levels)
            else:
                self._send(server, AudioLevels(room=room, levels=levels))

    async def _stop(self, room: str) -> None:
        for key in [key for key in self._meters if key[0] == room]:
            try:
                await self._meters.pop(key).close()
            except MafaldaError as error:
                log.info("not closed", action="meter_not_closed", room_id=room, reason=str(error))

    def _send(self, server: str, notice: AudioLevelsWanted | AudioLevels) -> None:
        work = self._publisher.publish(notice, subjects.agent_notice(server, notice.action))
        self._tasks.spawn(work, f"{notice.action} to {server}")

    # --- ranking --------------------------------------------------------------------------------------

    def _rank(self, room: str, levels: dict[str, int]) -> None:
        ranking, state = self._rankings.get(room), self._room(room)
        if ranking is None:
            return
        now = asyncio.get_running_loop().time()
        counts = self._counts.get(room, {})
        before = {count: ranking.loudest(count) for count in counts}
        ranking.retain(state.producers if state else ())
        ranking.measure(levels, now)
        changed = frozenset[str]().union(*(before[count] ^ ranking.loudest(count) for count in counts))
        if changed:
            self._changed(room, changed)
