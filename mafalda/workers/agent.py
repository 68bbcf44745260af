"""One agent: everything wired together, and the loop that feeds the log to the machine.

What does not belong here: what entries mean (``machine``), how instructions are done (the other files).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import structlog

from mafalda.aio.tasks import TaskScope, open_tasks
from mafalda.bus.protocol import Bus, Delivery
from mafalda.contract import subjects
from mafalda.contract.channels import fits
from mafalda.contract.messages.envelope import Message, decode
from mafalda.contract.messages.events import ServerStarted, ServerStopped, WorkerDied, WorkerStarted
from mafalda.contract.messages.notices import RelayNotices
from mafalda.contract.messages.payload import Payload, Place
from mafalda.contract.messages.queries import (
    CarryProducer,
    ClosePipe,
    ConnectPipe,
    QueryServer,
    ServerInventory,
    SetCarried,
)
from mafalda.errors import AlreadyExists, MafaldaError, MalformedMessage
from mafalda.mediasoup.errors import WorkerDied as WorkerDeath
from mafalda.telemetry.tracing import handling
from mafalda.workers.config import AgentConfig
from mafalda.workers.core import Machine
from mafalda.workers.core import instructions as told
from mafalda.workers.log.publisher import Voice
from mafalda.workers.log.reader import Following
from mafalda.workers.passthrough import PassthroughPeers, answer_any_query, handle_any_intent
from mafalda.workers.peers.intents.producers import yield_producer
from mafalda.workers.peers.session.session import PeerSession
from mafalda.workers.relays.pipes import SourcePort
from mafalda.workers.relays.scores import Scores
from mafalda.workers.relays.sideband import Beside
from mafalda.workers.relays.sources import Sources
from mafalda.workers.relays.target_pipes import RemoteSource, TargetPipes
from mafalda.workers.relays.targets import Mirror, Mirrors
from mafalda.workers.services import Services
from mafalda.workers.supervision.inventory import take_inventory
from mafalda.workers.supervision.load import LoadReporter
from mafalda.workers.supervision.routers import Routers
from mafalda.workers.supervision.supervisor import LiveWorker, Supervisor

#: What changes which workers there are; load samples, on the same subjects, do not.
SERVER_EVENTS = tuple(
    f"mafalda.server.*.event.{name}"
    for name in ("server-started", "server-stopped", "server-draining", "server-lost", "worker-started", "worker-died")
)
#: How often peers are looked at for signs of life, in seconds.
_LOOK_EVERY_S = 1.0
log = structlog.get_logger("mafalda.workers")

Ready = asyncio.Event | Callable[[], object] | None


class IncarnationLost(Exception):
    """The fleet has given this incarnation up."""


async def run_agent(bus: Bus, config: AgentConfig, *, ready: Ready = None) -> None:
    """Run a server's agent until it is cancelled; then say goodbye and close everything.

    An incarnation that was declared lost while it was out of reach drops all it has and begins anew.

    Args:
        bus: Where it hears and speaks; not closed here.
        config: What it is told.
        ready: Set, or called, when the agent takes commands.

    Raises:
        WorkerStartFailed: No worker can be started.
        AlreadyExists: Another agent was started under the same server id; the later one has it.
    """
    while True:
        try:
            async with open_agent(bus, config) as agent:
                if isinstance(ready, asyncio.Event):
                    ready.set()
                elif ready is not None:
                    ready()
                await agent.follow()
        except IncarnationLost:
            log.error("incarnation lost", action="incarnation_lost", server_id=config.server)


@asynccontextmanager
async def open_agent(bus: Bus, config: AgentConfig) -> AsyncIterator[Agent]:
    """One incarnation, from its ``ServerStarted`` to its ``ServerStopped``. Call its ``follow`` to let it act."""
    async with open_tasks() as tasks:
        agent = Agent(bus, config, tasks)
        try:
            await agent.start()
            async with (
                bus.serve(subjects.agent_request(config.server, "*"), handler=agent.answer_request),
                bus.listen(subjects.agent_notice(config.server, "*")) as notices,
            ):
                tasks.spawn(agent.hear_notices(notices), "other agents are heard")
                yield agent
        except (IncarnationLost, AlreadyExists):
            raise
        except BaseException:
            await agent.say_goodbye()
            raise
        else:
            await agent.say_goodbye()


class Agent:
    """One incarnation of a server's agent. Get one from ``open_agent``."""

    def __init__(self, bus: Bus, config: AgentConfig, tasks: TaskScope) -> None:
        self.config = config
        self.incarnation = secrets.token_hex(8)
        self._bus = bus
        self._tasks = tasks
        self._voice = Voice(bus, config.server)
        self._announced = asyncio.Event()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_known = False
        self.machine = Machine(config.server, self.incarnation, ())
        self.supervisor = Supervisor(config, tasks, on_up=self._worker_up, on_gone=self._worker_gone)
        self.routers = Routers(config, tasks)
        self.pipes = TargetPipes(config, tasks, self.supervisor, self.routers, port_of=self._port_of, lives=self._lives)
        self.beside = Beside(config.server, tasks, self._voice)
        self.scores = Scores(self.beside)
        self.mirrors = Mirrors(
            config,
            tasks,
            self._voice,
            self.machine,
            self.pipes,
            self.beside,
            self.scores,
            port_of=self._port_of,
            on_ended=self._mirror_ended,
        )
        self.sources = Sources(
            config,
            tasks,
            self.supervisor,
            self.routers,
            self.mirrors,
            self.beside,
            self.scores,
            has_room=self.machine.serves,
        )
        self.passthrough_peers = PassthroughPeers(bus, config, tasks, self.supervisor)
        self.actors: dict[tuple[str, str], PeerSession] = {}
        self._services: Services | None = None
        self._peer_tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._room_tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def services(self) -> Services:
        """What the parts share; there since ``start``."""
        assert self._services is not None, "the agent has not started"
        return self._services

    # --- life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the workers, say so, learn which servers there are."""
        workers = await self.supervisor.start()
        for live in workers:
            self.machine.on_worker_up(live.id)
        started = ServerStarted(
            server=self.config.server,
            incarnation=self.incarnation,
            workers=[live.info for live in workers],
            announced_address=self.config.address,
            region=self.config.region,
            agent_version=_version(),
        )
        self._is_known = True
        seq = await self._voice.say(started, subjects.server_event(self.config.server, started.action))
        following = Following(self._bus, [subjects.server_commands(self.config.server), *SERVER_EVENTS], seq)
        for entry in await following.past(*SERVER_EVENTS, up_to_seq=seq):
            self.machine.on_entry(entry)
        self._services = Services(
            bus=self._bus,
            config=self.config,
            tasks=self._tasks,
            voice=self._voice,
            machine=self.machine,
            following=following,
            supervisor=self.supervisor,
            routers=self.routers,
            mirrors=self.mirrors,
            beside=self.beside,
            scores=self.scores,
            execute=self.execute,
        )
        reporter = LoadReporter(self.config, self._voice, self.machine, self.supervisor, self._relays)
        self._tasks.spawn(reporter.run(), "load reports")
        self._tasks.spawn(self._look_after_peers(), "peers' signs of life")
        self._tasks.spawn(self.passthrough_peers.check_applications(), "applications' health checks")
        self._announced.set()
        log.info(
            "agent started",
            action="agent_started",
            server_id=self.config.server,
            incarnation=self.incarnation,
            workers=len(workers),
            stream_seq=seq,
        )

    async def follow(self) -> None:
        """Act on the log, for ever.

        Raises:
            IncarnationLost: Another incarnation has to take over.
            AlreadyExists: Another agent has taken over this server id.
        """
        loop = asyncio.create_task(self._follow(), name="agent follows the log")
        try:
            await asyncio.wait((loop, self._over), return_when=asyncio.FIRST_COMPLETED)
            (self._over if self._over.done() else loop).result()
        finally:
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)

    def _end_with(self, error: Exception) -> None:
        if not self._over.done():
            self._over.set_exception(error)

    async def _follow(self) -> None:
        async for entry in self.services.following.entries():
            try:
                self.execute(self.machine.on_entry(entry))
            except Exception:
                log.exception("internal error", action="internal_error", stream_seq=entry.seq)

    async def say_goodbye(self) -> None:
        """Tell the fleet that this server ends on purpose, if it knows it and the log can be reached soon."""
        if not self._is_known:
            return
        stopped = ServerStopped(server=self.config.server, incarnation=self.incarnation)
        try:
            async with asyncio.timeout(self.config.stop_timeout_s):
                await self._voice.say(stopped, subjects.server_event(self.config.server, stopped.action))
        except (TimeoutError, MafaldaError) as error:
            log.warning("fleet not told of the end", action="goodbye_failed", reason=str(error))
        log.info("agent stopped", action="agent_stopped", server_id=self.config.server)

    def is_idle(self) -> bool:
        """Whether everything that was asked is done, as far as is known here."""
        return (
            not self.machine.is_loading()
            and all(actor.is_idle for actor in self.actors.values())
            and all(mirror.state == "open" for mirror in self.mirrors.by_key.values())
        )

    # --- instructions -------------------------------------------------------------------------------

    def execute(self, instructions: Iterable[told.Instruction]) -> None:
        """Begin what the machine says, in its order."""
        for instruction in instructions:
            self._execute(instruction)

    def _execute(self, instruction: told.Instruction) -> None:
        match instruction:
            case told.HandleIntent(room, peer, entry):
                if actor := self.actors.get((room, peer)):
                    actor.enqueue_intent(entry)
            case told.LoadRoom(room):
                self._room_task(room, self._load_room)
            case told.RestRoom(room):
                self.sources.room_gone(room)
                self.mirrors.waiting.room_gone(room)
            case told.ForgetRoom(room):
                self._room_task(room, self._forget_room)
            case told.AdoptPeer():
                self._adopt(instruction)
            case told.DropPeer(room, peer):
                if actor := self.actors.pop((room, peer), None):
                    actor.stop()
            case told.OpenMirror():
                self.mirrors.open(instruction)
            case told.CloseMirror(key, reason):
                self.mirrors.close(key, reason)
            case told.SettleMirror(key):
                self.mirrors.settle(key)
            case told.RefuseRelay(command, entry, error):
                self.mirrors.refuse(command, entry.seq, error)
                self._tasks.spawn(
                    self.mirrors.say_failed(command, entry.message, entry.seq, error), f"refuse {command.producer}"
                )
            case told.StopCarrying(room, producer, worker, target):
                self.sources.stop(room, producer, worker, target)
            case told.PlaceGone(place):
                self.sources.place_gone(place)
            case told.CheckWaiting(room):
                self.mirrors.waiting.check(room, self.machine.room(room))
            case told.YieldProducer(room, peer, producer):
                if actor := self.actors.get((room, peer)):
                    self._yield(actor, producer)
            case told.StartOver():
                self._end_with(IncarnationLost())
            case told.StandDown(incarnation):
                self._end_with(
                    AlreadyExists(
                        "another agent runs under this server id", server=self.config.server, incarnation=incarnation
                    )
                )

    def _adopt(self, order: told.AdoptPeer) -> None:
        command = order.command
        live = self.supervisor.alive.get(command.worker)
        if live is None:  # it died a moment ago; the log is about to say so
            self.execute(self.machine.on_peer_ended(command.room, command.peer, command.generation))
            return
        key = (command.room, command.peer)
        actor = PeerSession(
            self.services,
            live,
            order.entry,
            command,
            handle=partial(handle_any_intent, self.passthrough_peers),
            answer_query=partial(answer_any_query, self.passthrough_peers),
        )
        self.actors[key] = actor
        previous = self._peer_tasks.get(key)
        task = self._tasks.spawn(actor.run(previous), f"peer {command.room} {command.peer}")
        self._peer_tasks[key] = task
        task.add_done_callback(lambda done: self._peer_done(key, actor, done))

    def _peer_done(self, key: tuple[str, str], actor: PeerSession, task: asyncio.Task[None]) -> None:
        if self._peer_tasks.get(key) is task:
            del self._peer_tasks[key]
        if self.actors.get(key) is actor:
            del self.actors[key]

    def _yield(self, actor: PeerSession, producer: str) -> None:
        actor.jobs.add(lambda: yield_producer(actor, producer))

    # --- rooms --------------------------------------------------------------------------------------

    def _room_task(self, room: str, work: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        """Load and forget a room one after the other."""
        previous = self._room_tasks.get(room)

        async def after() -> None:
            if previous:
                await asyncio.wait([previous])
            await work(room)

        task = self._tasks.spawn(after(), f"room {room}")
        self._room_tasks[room] = task
        task.add_done_callback(lambda done: self._room_done(room, done))

    def _room_done(self, room: str, task: asyncio.Task[None]) -> None:
        if self._room_tasks.get(room) is task:
            del self._room_tasks[room]

    async def _load_room(self, room: str) -> None:
        following = self.services.following
        patterns = _room_patterns(room)
        await following.add(*patterns)
        known_seq, last_seq = self.machine.seq, await following.last_seq()
        servers = await following.past(*SERVER_EVENTS, after_seq=known_seq, up_to_seq=last_seq)
        rooms = await following.past(*patterns, up_to_seq=last_seq)
        self.execute(self.machine.on_room_loaded(room, [*servers, *rooms], last_seq))

    async def _forget_room(self, room: str) -> None:
        await self.services.following.remove(*_room_patterns(room))

    # --- workers and peers --------------------------------------------------------------------------

    def _worker_up(self, live: LiveWorker) -> None:
        self.machine.on_worker_up(live.id)
        started = WorkerStarted(server=self.config.server, incarnation=self.incarnation, worker=live.info)
        self._tasks.spawn(self._announce(started), f"announce {live.id}")

    def _worker_gone(self, live: LiveWorker, death: WorkerDeath) -> None:
        died = WorkerDied(
            server=self.config.server,
            incarnation=self.incarnation,
            worker=live.id,
            exit_code=death.details.get("exit_code"),
            signal=death.details.get("signal"),
        )
        self._tasks.spawn(self._announce(died), f"announce the death of {live.id}")
        self.execute(self.machine.on_worker_gone(live.id))

    async def _announce(self, event: WorkerStarted | WorkerDied) -> None:
        await self._announced.wait()
        await self._voice.say(event, subjects.server_event(self.config.server, event.action))

    async def _look_after_peers(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            for actor in list(self.actors.values()):
                gone = actor.liveness.is_gone(
                    loop.time(), ice_grace_s=self.config.ice_grace_s, idle_grace_s=self.config.idle_grace_s
                )
                if gone and not actor.is_over and self.passthrough_peers.get(actor) is None:
                    actor.liveness.hear(loop.time())
                    actor.time_out("no sign of life")

    def _mirror_ended(self, mirror: Mirror) -> None:
        self.execute(self.machine.on_mirror_ended(mirror.key, mirror.seq))

    # --- other agents and operators -----------------------------------------------------------------

    async def answer_request(self, delivery: Delivery) -> Message:
        """Answer another agent, or an operator.

        Raises:
            MafaldaError: Why not; the bus answers with it.
        """
        message = decode(delivery.data)
        address = subjects.parse(delivery.subject)
        if address is None or not fits(address, message.data):
            raise MalformedMessage("this is no request", type=message.type)
        with handling(message, f"agent.{message.data.action}", {"mafalda.server": self.config.server}):
            answer = await self._answer(message.data)
            return self._voice.answer(answer, delivery.reply or delivery.subject, message)

    async def _answer(self, request: Payload) -> Payload:
        match request:
            case ConnectPipe():
                return await self.sources.connect_pipe(request)
            case CarryProducer():
                return await self.sources.carry(request)
            case SetCarried():
                return await self.sources.set_carried(request)
            case ClosePipe():
                return await self.sources.close_pipe(request)
            case QueryServer():
                return await self.inventory()
        raise MalformedMessage("unknown request", action=request.action)

    async def hear_notices(self, deliveries: AsyncIterator[Delivery]) -> None:
        """Hear what other agents tell this one, for ever."""
        async for delivery in deliveries:
            try:
                message = decode(delivery.data)
            except MafaldaError as error:
                log.warning("notice refused", action="notice_refused", subject=delivery.subject, reason=str(error))
                continue
            address = subjects.parse(delivery.subject)
            if address is not None and fits(address, message.data) and isinstance(message.data, RelayNotices):
                self.beside.hear(message.data)

    async def inventory(self) -> ServerInventory:
        """What the workers really have."""
        ends = (end for _, end in (*self.pipes.transports(), *self.sources.transports()))
        pipes = [transport.id for transport in (*ends, *self.pipes.direct_transports())]
        return await take_inventory(self.machine, self.supervisor, self.routers, self.mirrors, self.actors, pipes)

    def _port_of(self, server: str, cause: Message | None) -> SourcePort:
        if server == self.config.server:
            return self.sources
        return RemoteSource(self._voice, server, self.config.agent_request_timeout_s, cause)

    def _lives(self, place: Place) -> bool:
        if place.server == self.config.server:
            return place.worker in self.supervisor.alive
        return self.machine.state.worker(place) is not None

    def _relays(self, worker: str) -> tuple[int, int]:
        return sum(key.worker == worker for key in self.mirrors.by_key), self.sources.carried(worker)


def _room_patterns(room: str) -> tuple[str, str]:
    return subjects.room_event(room, "*"), subjects.room_commands(room)


def _version() -> str:
    try:
        return version("mafalda")
    except PackageNotFoundError:
        return ""
