"""The target side of relays: producers of other workers, produced again here under their own ids.

Each mirror has one keeper task that makes it equal to what is wanted: paused as its origin is, carried as its
consumers want it, closed when nobody has wanted it for a while. What does not belong here: whether it should be
(``machine``), the pipes (``target_pipes``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Literal

import structlog

from mafalda.aio.tasks import TaskScope
from mafalda.contract import subjects
from mafalda.contract.ids import derived_id
from mafalda.contract.messages.commands import OpenRelay
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.events import ClosedReason, RelayClosed, RelayOpened
from mafalda.contract.messages.events import RelayFailed as RelayFailedEvent
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.queries import CarryProducer, ProducerCarried, SetCarried
from mafalda.errors import MafaldaError, NotFound, RelayFailed
from mafalda.mediasoup import DataProducer, PipeTransport, Producer
from mafalda.projection.state import RoomState
from mafalda.telemetry.tracing import handling
from mafalda.workers.config import AgentConfig
from mafalda.workers.core import Demand
from mafalda.workers.core.instructions import Entry, OpenRelayTarget, RelayKey
from mafalda.workers.core.stimuli import RelayTargetEnded, Stimulus
from mafalda.workers.errors import as_contract_error
from mafalda.workers.log.publisher import Publisher
from mafalda.workers.relays import direct_data
from mafalda.workers.relays.pipes import PipeKey
from mafalda.workers.relays.scores import Scores
from mafalda.workers.relays.sideband import RelaySideband, Stop
from mafalda.workers.relays.target_pipes import PortOf, TargetPipes
from mafalda.workers.relays.waiters import Waiting

#: After the source did not do what was asked: how long until it is asked again.
_RETRY_S = 1.0
#: What the source is given to confirm that a relay has ended.
_GOODBYE_S = 1.0
log = structlog.get_logger("mafalda.workers")


@dataclass(slots=True, eq=False)
class RelayTarget:
    """One producer on one worker that is not its origin."""

    key: RelayKey
    order: OpenRelay
    cause: Message
    seq: int
    demand: Demand
    state: Literal["opening", "open", "closed"] = "opening"
    producer: Producer | DataProducer | None = None
    stop_hearing: Stop | None = None
    reason: ClosedReason = "producer-closed"
    carried: Literal["flowing", "paused"] = "flowing"
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    keeper: asyncio.Task[None] | None = None

    @property
    def pipe(self) -> PipeKey:
        """The pipe that it comes over."""
        return PipeKey(self.key.room, self.order.source, self.order.target)


class RelayTargets:
    """All relays into this server's workers.

    Args:
        config: Grace periods, deadlines.
        tasks: Where the keepers run.
        publisher: Says what came of the orders.
        pipes: Our ends.
        sideband: Brings what a pipe cannot.
        scores: Keeps the origin's.
        port_of: The source's side on a server, asked because of some message.
        room: The fold of a room.
        report: Takes ``RelayTargetEnded``.
    """

    def __init__(
        self,
        config: AgentConfig,
        tasks: TaskScope,
        publisher: Publisher,
        pipes: TargetPipes,
        sideband: RelaySideband,
        scores: Scores,
        *,
        port_of: PortOf,
        room: Callable[[str], RoomState | None],
        report: Callable[[Stimulus], None],
    ) -> None:
        self._config = config
        self._tasks = tasks
        self._publisher = publisher
        self._pipes = pipes
        self._sideband = sideband
        self._scores = scores
        self._port_of = port_of
        self._room = room
        self._report = report
        self.by_key: dict[RelayKey, RelayTarget] = {}
        self._ending: dict[RelayKey, asyncio.Task[None]] = {}
        self.waiters = Waiting(self.usable)

    # --- consumers ----------------------------------------------------------------------------------

    def usable(self, key: RelayKey) -> RelayTarget | None:
        """The mirror, if it can be consumed now."""
        mirror = self.by_key.get(key)
        return mirror if mirror and mirror.state == "open" else None

    def want(self, key: RelayKey, who: Hashable, *, paused: bool) -> None:
        """Somebody takes a producer on a worker, flowing or paused. Nothing to do at its origin.

        Raises:
            NotFound: It is a mirror, and it is not open (any more).
        """
        mirror = self.by_key.get(key)
        if mirror is None:
            return
        if mirror.state != "open":
            raise NotFound("the relay is closing", producer=key.producer)
        mirror.demand.add(who, _now(), paused=paused)
        mirror.changed.set()

    def drop(self, key: RelayKey, who: Hashable) -> None:
        """Somebody takes it no more."""
        if mirror := self.by_key.get(key):
            mirror.demand.remove(who, _now())
            mirror.changed.set()

    # --- what the machine tells -----------------------------------------------------------------------

    def open(self, told: OpenRelayTarget) -> None:
        """Open a mirror, after what was there under the same key before has ended."""
        demand = Demand(quiet_since=_now(), empty_since=_now())
        mirror = RelayTarget(told.key, told.command, told.entry.message, told.entry.seq, demand)
        self.by_key[told.key] = mirror
        self.waiters.hope(told.key)
        previous = self._ending.get(told.key)
        mirror.keeper = self._tasks.spawn(self._keep(mirror, previous), f"mirror {told.key.producer}")

    def close(self, key: RelayKey, reason: ClosedReason) -> None:
        """The origin, or the way to it, is gone."""
        mirror = self.by_key.pop(key, None)
        if mirror is None:
            return
        mirror.state, mirror.reason = "closed", reason
        self._end(mirror)
        gone = NotFound("the producer, or the way to it, has closed", producer=key.producer, reason=reason)
        self.waiters.fail(key, gone)

    def reconcile(self, key: RelayKey) -> None:
        """The origin may have been paused or resumed."""
        if mirror := self.by_key.get(key):
            mirror.changed.set()

    # --- the keeper -----------------------------------------------------------------------------------

    async def _keep(self, mirror: RelayTarget, previous: asyncio.Task[None] | None) -> None:
        if previous:
            await asyncio.wait([previous])
        try:
            with handling(mirror.cause, "agent.open-relay", {"mafalda.producer": mirror.key.producer}):
                await self._open(mirror)
        except MafaldaError as error:
            await self._failed(mirror, as_contract_error(error))
            return
        except TimeoutError:
            await self._failed(mirror, RelayFailed("not open in time", timeout_s=self._config.relay_open_timeout_s))
            return
        except Exception:
            log.exception("relay failed", action="internal_error", producer_id=mirror.key.producer)
            await self._failed(mirror, MafaldaError("internal error"))
            return
        while mirror.state == "open":
            mirror.changed.clear()
            settled = await self._settle(mirror)
            close_at = mirror.demand.may_close_at(self._config.relay_unused_s)
            if close_at is not None and close_at <= _now():
                await self._retire(mirror)
                return
            next_at = [_now() + _RETRY_S] if not settled else [at for at in (close_at, self._pause_at(mirror)) if at]
            try:
                async with asyncio.timeout_at(min(next_at, default=None)):
                    await mirror.changed.wait()
            except TimeoutError:
                continue  # something is due

    async def _open(self, mirror: RelayTarget) -> None:
        async with asyncio.timeout(self._config.relay_open_timeout_s):
            end = await self._pipes.acquire(mirror.pipe, mirror, cause=mirror.cause)
            if not mirror.order.data:
                mirror.stop_hearing = self._scores.expect(mirror.pipe, mirror.key.producer)
            mirror.producer = await self._produce(mirror, end, await self._carry(mirror))
        order = mirror.order
        opened = RelayOpened(producer=order.producer, data=order.data, source=order.source, target=order.target)
        await self._publisher.append(
            opened,
            subjects.room_event(order.room, opened.action),
            cause=mirror.cause,
            id=derived_id("relay-opened", mirror.cause.id, mirror.seq),
        )
        if mirror.state == "closed":
            return
        mirror.state = "open"
        mirror.demand.empty_since = mirror.demand.quiet_since = _now()
        self.waiters.wake(mirror.key)
        self._log("relay_opened", mirror)

    async def _produce(
        self, mirror: RelayTarget, end: PipeTransport, carried: ProducerCarried
    ) -> Producer | DataProducer:
        if carried.direct:
            return await self._produce_directly(mirror, carried)
        if mirror.order.data:
            return await end.produce_data(
                id=mirror.key.producer,
                sctp_stream_parameters=carried.sctp_stream_parameters,
                label=carried.label,
                protocol=carried.protocol,
            )
        if carried.media_kind is None or carried.rtp_parameters is None:
            raise RelayFailed("the source answers without RTP parameters", producer=mirror.key.producer)
        self._scores.begin(mirror.pipe, mirror.key.producer, carried.scores)
        return await end.produce(
            id=mirror.key.producer,
            kind=carried.media_kind,
            rtp_parameters=carried.rtp_parameters,
            rtp_mapping=carried.rtp_mapping,
            paused=carried.paused,
            key_frame_request_delay=self._config.relay_key_frame_request_delay_ms or None,
        )

    async def _produce_directly(self, mirror: RelayTarget, carried: ProducerCarried) -> DataProducer:
        transport = await self._pipes.acquire_direct(mirror.pipe)
        producer = await transport.produce_data(
            id=mirror.key.producer, label=carried.label, protocol=carried.protocol, paused=carried.paused
        )
        mirror.stop_hearing = direct_data.mirror(self._sideband, mirror.pipe, producer)
        return producer

    async def _settle(self, mirror: RelayTarget) -> bool:
        """Bring about what is wanted; whether that worked."""
        try:
            await self._settle_origin(mirror)
            await self._settle_carried(mirror)
        except MafaldaError as error:
            self._log("relay_unsettled", mirror, reason=str(error))
            return False
        return True

    async def _settle_origin(self, mirror: RelayTarget) -> None:
        """Pause or resume the mirror as its origin is."""
        room = self._room(mirror.key.room)
        origin = room.producers.get(mirror.key.producer) if room else None
        producer = mirror.producer
        if origin is None or producer is None or producer.paused == origin.paused:
            return
        await (producer.pause() if origin.paused else producer.resume())

    async def _settle_carried(self, mirror: RelayTarget) -> None:
        """Let the source send only what somebody takes. Data is never paused: what is not sent is lost."""
        if mirror.order.data:
            return
        if mirror.demand.level == "flowing":
            wanted: Literal["flowing", "paused"] = "flowing"
        else:
            pause_at = self._pause_at(mirror)
            if pause_at is None or pause_at > _now():
                return
            wanted = "paused"
        if wanted == mirror.carried:
            return
        try:
            await self._ask(mirror, wanted)
        except NotFound:  # the source has forgotten it: begin again
            await self._carry(mirror)
            await self._ask(mirror, wanted)
        mirror.carried = wanted

    def _pause_at(self, mirror: RelayTarget) -> float | None:
        """When the source is to be told that nobody takes it; consumers that start paused resume soon as a rule."""
        if mirror.order.data or mirror.carried == "paused":
            return None
        return mirror.demand.may_pause_at(self._config.relay_pause_after_s)

    async def _carry(self, mirror: RelayTarget) -> ProducerCarried:
        order = mirror.order
        request = CarryProducer(
            room=order.room, producer=order.producer, data=order.data, source=order.source, target=order.target
        )
        return await self._port_of(order.source.server, mirror.cause).carry(request)

    async def _ask(self, mirror: RelayTarget, wanted: Literal["flowing", "paused", "closed"]) -> None:
        order = mirror.order
        request = SetCarried(
            room=order.room, producer=order.producer, source=order.source, target=order.target, wanted=wanted
        )
        await self._port_of(order.source.server, mirror.cause).set_carried(request)

    # --- the end --------------------------------------------------------------------------------------

    async def _retire(self, mirror: RelayTarget) -> None:
        """Nobody has wanted it for the grace period."""
        self._forget(mirror)
        await self._end_source(mirror)
        await self._release(mirror)
        self._report(RelayTargetEnded(mirror.key, mirror.seq))
        order = mirror.order
        closed = RelayClosed(
            producer=order.producer, data=order.data, source=order.source, target=order.target, reason="unused"
        )
        await self._publisher.append(
            closed,
            subjects.room_event(order.room, closed.action),
            cause=mirror.cause,
            id=derived_id("relay-closed", mirror.cause.id, mirror.seq),
        )
        self._log("relay_closed", mirror, reason="unused")

    async def _failed(self, mirror: RelayTarget, error: MafaldaError) -> None:
        """Undo what was done, say so, keep nothing in mind."""
        self._forget(mirror)
        await self._end_source(mirror)
        await self._release(mirror)
        self._report(RelayTargetEnded(mirror.key, mirror.seq))
        await self.say_failed(mirror.order, mirror.cause, mirror.seq, error)
        self._reject_waiters(mirror.order, mirror.seq, error)

    async def say_failed(self, order: OpenRelay, cause: Message, seq: int, error: MafaldaError) -> None:
        """Tell that an ordered relay is not there, and those who wait for it."""
        failed = RelayFailedEvent(
            producer=order.producer,
            data=order.data,
            source=order.source,
            target=order.target,
            error=ErrorInfo.of(error),
        )
        await self._publisher.append(
            failed,
            subjects.room_event(order.room, failed.action),
            cause=cause,
            id=derived_id("relay-failed", cause.id, seq),
        )
        log.warning(
            "relay failed", action="relay_failed", room_id=order.room, producer_id=order.producer, reason=str(error)
        )

    def refuse(self, order: OpenRelay, entry: Entry, error: MafaldaError) -> None:
        """An ordered relay cannot be opened: append that, and reject the consumes that wait for it."""
        self._reject_waiters(order, entry.seq, error)
        self._tasks.spawn(self.say_failed(order, entry.message, entry.seq, error), f"refuse {order.producer}")

    def _reject_waiters(self, order: OpenRelay, seq: int, error: MafaldaError) -> None:
        key = RelayKey(order.room, order.producer, order.target.worker)
        self.waiters.refuse(
            key, seq, RelayFailed("the relay could not be opened", code=error.code, reason=error.reason)
        )

    def _end(self, mirror: RelayTarget) -> None:
        """Cancel the keeper, then close what it made."""

        async def end() -> None:
            if mirror.keeper:
                mirror.keeper.cancel()
                await asyncio.wait([mirror.keeper])
            await self._release(mirror)
            self._log("relay_closed", mirror, reason=mirror.reason)

        self._keep_order(mirror, self._tasks.spawn(end(), f"mirror {mirror.key.producer} end"))

    def _keep_order(self, mirror: RelayTarget, end: asyncio.Task[None]) -> None:
        """Whoever comes next under this key waits for this end."""
        self._ending[mirror.key] = end
        end.add_done_callback(lambda done: self._ended(mirror.key, done))

    def _ended(self, key: RelayKey, task: asyncio.Task[None]) -> None:
        if self._ending.get(key) is task:
            del self._ending[key]

    async def _release(self, mirror: RelayTarget) -> None:
        if mirror.stop_hearing is not None:
            mirror.stop_hearing()
        try:
            if mirror.producer is not None:
                await mirror.producer.close()
        finally:
            await self._pipes.release(mirror.pipe, mirror)

    async def _end_source(self, mirror: RelayTarget) -> None:
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await self._ask(mirror, "closed")
        except (MafaldaError, TimeoutError) as error:  # it sees our event in the log as well
            self._log("relay_source_not_told", mirror, reason=str(error))

    def _forget(self, mirror: RelayTarget) -> None:
        mirror.state = "closed"
        if mirror.keeper:
            self._keep_order(mirror, mirror.keeper)
        if self.by_key.get(mirror.key) is mirror:
            del self.by_key[mirror.key]

    def _log(self, action: str, mirror: RelayTarget, **fields: object) -> None:
        log.info(
            action.replace("_", " "),
            action=action,
            room_id=mirror.key.room,
            producer_id=mirror.key.producer,
            worker_id=mirror.key.worker,
            source=_text(mirror.order.source),
            **fields,
        )


def _now() -> float:
    return asyncio.get_running_loop().time()


def _text(place: Place) -> str:
    return f"{place.server}/{place.worker}"
