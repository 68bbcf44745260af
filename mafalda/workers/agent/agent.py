"""One incarnation of a server's agent: its parts, wired together, and its life from start to stop."""

from __future__ import annotations

import asyncio
import functools
import secrets
from importlib.metadata import PackageNotFoundError, version

import structlog

from mafalda.aio.serial_executor import SerialExecutor
from mafalda.aio.tasks import TaskScope, background
from mafalda.bus.protocol import Bus
from mafalda.contract import subjects
from mafalda.contract.channels import SERVER_LIFECYCLE_SUBJECTS
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.events import ServerDraining, ServerStarted, ServerStopped, WorkerDied, WorkerStarted
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.queries import ServerInventory
from mafalda.errors import MafaldaError
from mafalda.mediasoup.errors import WorkerExited
from mafalda.workers.agent.dispatcher import Dispatcher, IncarnationLost
from mafalda.workers.agent.draining import ServerDrain
from mafalda.workers.agent.entries import EntriesServer
from mafalda.workers.agent.inventory import take_inventory
from mafalda.workers.agent.liveness_sweep import sweep_sessions
from mafalda.workers.agent.requests import AgentRequests
from mafalda.workers.agent.rooms import RoomLoader
from mafalda.workers.agent.sessions import PeerSessions
from mafalda.workers.agent.stimulus_loop import StimulusLoop
from mafalda.workers.config import AgentConfig
from mafalda.workers.core import Machine
from mafalda.workers.core.drain import AnnounceDrain
from mafalda.workers.core.instructions import RelayKey
from mafalda.workers.core.rate_limits import IntentRates, QueryRates, RoomRates
from mafalda.workers.core.stimuli import EntryRead, WorkerGone, WorkerUp
from mafalda.workers.log.publisher import Publisher
from mafalda.workers.log.reader import LogReader
from mafalda.workers.loudness.levels import AudioLevelExchange
from mafalda.workers.loudness.speakers import RoomSpeakers
from mafalda.workers.passthrough import PassthroughPeers, answer_any_query, handle_any_intent
from mafalda.workers.peers.session.services import PeerServices
from mafalda.workers.relays.requests import RelayRequests
from mafalda.workers.relays.sideband import RelaySideband
from mafalda.workers.relays.source_port import RemoteSource, SourcePort
from mafalda.workers.relays.sources import RelaySources
from mafalda.workers.relays.target_pipes import TargetPipes
from mafalda.workers.relays.targets import RelayTargets
from mafalda.workers.supervision.load import LoadReporter
from mafalda.workers.supervision.routers import Routers
from mafalda.workers.supervision.supervisor import LiveWorker, WorkerSupervisor

log = structlog.get_logger("mafalda.workers")

__all__ = ["Agent", "IncarnationLost"]


class Agent:
    """One incarnation. Get one from ``open_agent``; ``log_reader`` and ``sessions`` exist after ``start``."""

    log_reader: LogReader
    sessions: PeerSessions

    def __init__(self, bus: Bus, config: AgentConfig, tasks: TaskScope) -> None:
        self.config = config
        self.incarnation = secrets.token_hex(8)
        self._bus = bus
        self._tasks = tasks
        self._announced = asyncio.Event()
        self._announcements: SerialExecutor[str] = SerialExecutor(tasks, "announcements of")
        self._is_announced_started = False
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.machine = Machine(config.server, self.incarnation, ())
        self._stimuli = StimulusLoop(self.machine)
        self._publisher = Publisher(bus, config.server)
        self.supervisor = WorkerSupervisor(config, tasks, on_up=self._worker_up, on_gone=self._worker_gone)
        self.routers = Routers(config, tasks, self.supervisor.require)
        self.drain = ServerDrain(self.machine, self._announce_drain)
        self._wire_relays()
        self._passthrough = PassthroughPeers(bus, config, tasks, self.supervisor, self._sideband)
        self.entries = EntriesServer(bus, self._publisher, config)
        self.requests = AgentRequests(
            config.server,
            self._publisher,
            self.relay_sources,
            inventory=self.inventory,
            drain=self.drain,
            receive_notices=self._sideband.receive,
            receive_levels=self.audio_levels.receive,
        )

    # --- life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the workers, append ``ServerStarted``, and read which servers there are.

        Raises:
            WorkerStartFailed: No worker can be started.
            SnapshotMissing: The log's beginning has been discarded, and no snapshot is whole.
        """
        workers = await self.supervisor.start()
        for live in workers:
            self.machine.handle(WorkerUp(live.id))
        started = ServerStarted(
            server=self.config.server,
            incarnation=self.incarnation,
            workers=[live.info for live in workers],
            announced_address=self.config.address,
            region=self.config.region,
            agent_version=_version(),
        )
        self._is_announced_started = True
        patterns = [subjects.server_commands(self.config.server), *SERVER_LIFECYCLE_SUBJECTS]
        snapshot_seq, servers = await LogReader(self._bus, patterns, 0).servers_snapshot()
        self.machine.begin(servers, snapshot_seq)
        seq = await self._publisher.append(started, subjects.server_event(self.config.server, started.action))
        self.log_reader = LogReader(self._bus, patterns, seq)
        for entry in await self.log_reader.past(*SERVER_LIFECYCLE_SUBJECTS, after_seq=snapshot_seq, up_to_seq=seq):
            self.machine.handle(EntryRead(entry))  # nothing is here yet that an instruction could concern
        self._wire_sessions()
        self._spawn_tasks()
        self._announced.set()
        log.info(
            "agent started",
            action="agent_started",
            server_id=self.config.server,
            incarnation=self.incarnation,
            workers=len(workers),
            stream_seq=seq,
        )

    async def follow(self, *, until: asyncio.Future[None] | None = None) -> None:
        """Execute what the log orders, until cancelled or until something else is done.

        Raises:
            IncarnationLost: This incarnation was declared lost.
            AlreadyExists: Another agent was started under the same server id.
        """
        async with background(self._follow(), "agent follows the log") as following:
            ends = (following, self._end) if until is None else (following, self._end, until)
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._end.done():
                self._end.result()
            if following.done():
                following.result()

    async def _follow(self) -> None:
        async for entry in self.log_reader.entries():
            self._stimuli.report(EntryRead(entry))

    async def announce_stop(self) -> None:
        """Append ``ServerStopped``, if the fleet knows this incarnation and the log can be reached in time."""
        if not self._is_announced_started:
            return
        stopped = ServerStopped(server=self.config.server, incarnation=self.incarnation)
        try:
            async with asyncio.timeout(self.config.stop_timeout_s):
                await self._publisher.append(stopped, subjects.server_event(self.config.server, stopped.action))
        except (TimeoutError, MafaldaError) as error:
            log.warning("stop not announced", action="goodbye_failed", reason=str(error))
        log.info("agent stopped", action="agent_stopped", server_id=self.config.server)

    async def inventory(self) -> ServerInventory:
        """What the workers have."""
        pipes = (
            *self.target_pipes.transports(),
            *self.target_pipes.direct_transports(),
            *self.relay_sources.transports(),
        )
        pipe_ids = {pipe.id for pipe in pipes}
        return await take_inventory(
            self.machine,
            self.supervisor,
            self.routers,
            self.relay_targets,
            self.sessions.by_key,
            self.sessions.handed_over.values(),
            pipe_ids,
        )

    # --- wiring -------------------------------------------------------------------------------------

    def _wire_relays(self) -> None:
        config, tasks = self.config, self._tasks
        self._sideband = RelaySideband(tasks, self._publisher)
        self.target_pipes = TargetPipes(
            config,
            tasks,
            self.routers,
            require_worker=self.supervisor.require,
            port_of=self._port_of,
            is_alive=self._is_alive,
        )
        self.relay_targets = RelayTargets(
            config,
            tasks,
            self._publisher,
            self.target_pipes,
            self._sideband,
            room=self.machine.room,
            port_of=self._port_of,
            report=self._stimuli.report,
            opened=self._relay_opened,
        )
        self.relay_requests = RelayRequests(
            config.server, self.incarnation, tasks, self._publisher, lambda key: self.sessions.relay_changed(key)
        )
        self.audio_levels = AudioLevelExchange(
            config,
            tasks,
            self._publisher,
            self.routers,
            room=self.machine.room,
            changed=lambda room, producers: self.sessions.loudest_changed(room, producers),
        )
        self.speakers = RoomSpeakers(self.audio_levels, tasks, self._publisher, room=self.machine.room)
        self.relay_sources = RelaySources(
            config,
            tasks,
            self.routers,
            self.relay_targets,
            self._sideband,
            require_worker=self.supervisor.require,
            has_room=self.machine.has_room,
        )

    def _count_peers(self, room_id: str) -> tuple[int, int]:
        """How many peers of a room are on this server, and how many the room has."""
        room = self.machine.room(room_id)
        places = [peer.place.server for peer in room.peers.values()] if room else []
        return places.count(self.config.server), len(places)

    def _wire_sessions(self) -> None:
        services = PeerServices(
            config=self.config,
            tasks=self._tasks,
            publisher=self._publisher,
            log_reader=self.log_reader,
            rooms=self.machine,
            routers=self.routers,
            relay_targets=self.relay_targets,
            relay_requests=self.relay_requests,
            audio_levels=self.audio_levels,
            speakers=self.speakers,
            report=self._stimuli.report,
            now=self._bus.clock.time,
            grants=self._bus.grants,
            intent_rates=IntentRates(self.config.limits_burst_s, self._bus.clock.time),
            query_rates=QueryRates(self.config.limits_burst_s, self._bus.clock.time),
            room_rates=RoomRates(
                self.config.room_messages_per_s,
                self.config.limits_burst_s,
                self._bus.clock.time,
                self._count_peers,
            ),
        )
        self.sessions = PeerSessions(
            services,
            self.supervisor.alive.get,
            handle_intent=functools.partial(handle_any_intent, self._passthrough),
            reply_query=functools.partial(answer_any_query, self._passthrough),
        )
        rooms = RoomLoader(self._tasks, self.log_reader, lambda: self.machine.seq, self._stimuli.report)
        dispatcher = Dispatcher(
            self.config.server,
            rooms,
            self.sessions,
            self.relay_targets,
            self.relay_sources,
            room=self.machine.room,
            end=self._end_with,
        )
        self._stimuli.begin_with(dispatcher.begin)

    def _spawn_tasks(self) -> None:
        reporter = LoadReporter(
            self.config, self._tasks, self._publisher, self.machine, self.supervisor, self._count_relays
        )
        self._tasks.spawn(reporter.run(), "load reports")
        self._tasks.spawn(reporter.sample(), "load samples")
        sweep = sweep_sessions(
            self.config,
            self.sessions,
            self._bus.clock,
            has_application=lambda session: self._passthrough.get(session) is not None,
        )
        self._tasks.spawn(sweep, "liveness sweep")
        self._tasks.spawn(self.drain.run(), "drain")
        self._tasks.spawn(self.audio_levels.run(), "audio levels")
        self._tasks.spawn(self.speakers.run(), "speakers")
        self._tasks.spawn(self._passthrough.check_applications(), "health checks of applications")

    def _end_with(self, error: Exception) -> None:
        if not self._end.done():
            self._end.set_exception(error)

    # --- workers and relays -------------------------------------------------------------------------

    def _worker_up(self, live: LiveWorker) -> None:
        self._stimuli.report(WorkerUp(live.id))
        started = WorkerStarted(server=self.config.server, incarnation=self.incarnation, worker=live.info)
        self._announce(started)

    def _worker_gone(self, live: LiveWorker, death: WorkerExited) -> None:
        died = WorkerDied(
            server=self.config.server,
            incarnation=self.incarnation,
            worker=live.id,
            exit_code=death.details.get("exit_code"),
            signal=death.details.get("signal"),
        )
        self._announce(died)
        self._stimuli.report(WorkerGone(live.id))

    def _announce(self, event: WorkerStarted | WorkerDied) -> None:
        """Append what happened here, after ``ServerStarted`` and in the order in which it happened."""
        self._announcements.submit(self.config.server, lambda: self._append_server_event(event))

    async def _announce_drain(self, order: AnnounceDrain) -> None:
        """Append that the server drains, or does not, in that same order.

        Raises:
            MafaldaError: It cannot be appended.
        """
        event = ServerDraining(
            server=self.config.server,
            incarnation=self.incarnation,
            draining=order.draining,
            deadline_s=order.deadline_s,
            force=order.force,
        )
        await self._announcements.run(self.config.server, lambda: self._append_server_event(event))

    async def _append_server_event(self, event: WorkerStarted | WorkerDied | ServerDraining) -> None:
        await self._announced.wait()
        await self._publisher.append(event, subjects.server_event(self.config.server, event.action))

    def _relay_opened(self, key: RelayKey) -> None:
        self.relay_requests.opened(key)
        self.sessions.relay_changed(key)

    def _port_of(self, server: str, cause: Message | None) -> SourcePort:
        if server == self.config.server:
            return self.relay_sources
        return RemoteSource(self._publisher, server, self.config.agent_request_timeout_s, cause)

    def _is_alive(self, place: Place) -> bool:
        if place.server == self.config.server:
            return place.worker in self.supervisor.alive
        return self.machine.state.worker(place) is not None

    def _count_relays(self, worker: str) -> tuple[int, int]:
        return self.relay_targets.count(worker), self.relay_sources.count(worker)


def _version() -> str:
    try:
        return version("mafalda")
    except PackageNotFoundError:
        return ""
