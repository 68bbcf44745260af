"""The target side of relays: every relay target of this server's workers, and what is appended about them."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import structlog

from mafalda.aio.events import Interrupted, run_unless_set
from mafalda.aio.serial_executor import SerialExecutor
from mafalda.aio.tasks import TaskScope
from mafalda.contract import subjects
from mafalda.contract.ids import derived_id
from mafalda.contract.messages.commands import OpenRelay
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.events import ClosedReason, Event, RelayClosed, RelayFailed, RelayOpened
from mafalda.errors import MafaldaError, NotFound, RelayUnavailable
from mafalda.projection.state import RoomState
from mafalda.telemetry.tracing import handling
from mafalda.workers.config import AgentConfig
from mafalda.workers.core.instructions import Entry, OpenRelayTarget, RelayKey
from mafalda.workers.core.layers import ALL_LAYERS, NO_LAYERS
from mafalda.workers.core.stimuli import RelayTargetEnded, Stimulus
from mafalda.workers.errors import as_mafalda_error
from mafalda.workers.log.publisher import Publisher
from mafalda.workers.relays.origin_layers import OriginLayers
from mafalda.workers.relays.sideband import RelaySideband
from mafalda.workers.relays.source_port import PortOf
from mafalda.workers.relays.target import RelayTarget
from mafalda.workers.relays.target_pipes import TargetPipes
from mafalda.workers.relays.waiters import RelayWaiters

log = structlog.get_logger("mafalda.workers")


class RelayTargets:
    """All relays into this server's workers. Those of the same key run one after the other.

    Args:
        config: Time limits.
        tasks: Where they run.
        publisher: Appends what came of the orders.
        pipes: Our ends of pipes.
        sideband: Carries what a pipe cannot.
        room: The fold of a room.
        port_of: The source side of a server's relays.
        report: Takes ``RelayTargetEnded``.
        opened: Called when a relay target can be consumed.
    """

    def __init__(
        self,
        config: AgentConfig,
        tasks: TaskScope,
        publisher: Publisher,
        pipes: TargetPipes,
        sideband: RelaySideband,
        *,
        room: Callable[[str], RoomState | None],
        port_of: PortOf,
        report: Callable[[Stimulus], None],
        opened: Callable[[RelayKey], None],
    ) -> None:
        self._config = config
        self._tasks = tasks
        self._publisher = publisher
        self._pipes = pipes
        self._sideband = sideband
        self._room = room
        self._port_of = port_of
        self._report = report
        self._opened = opened
        self._runs: SerialExecutor[RelayKey] = SerialExecutor(tasks, "relay")
        self.by_key: dict[RelayKey, RelayTarget] = {}
        self.origins = OriginLayers()
        self.waiters = RelayWaiters(lambda key: self.usable(key) is not None)

    def count(self, worker: str) -> int:
        """How many relay targets a worker has."""
        return sum(key.worker == worker for key in self.by_key)

    # --- users --------------------------------------------------------------------------------------

    def usable(self, key: RelayKey) -> RelayTarget | None:
        """The relay target, if it can be consumed now."""
        target = self.by_key.get(key)
        return target if target and target.is_open else None

    def use(self, key: RelayKey, user: Hashable, *, paused: bool, layer: int = ALL_LAYERS) -> None:
        """Add a user of a producer on a worker, pause or resume one, or change the highest layer that it takes.

        Raises:
            NotFound: It is a relay target that is not open.
        """
        if target := self.by_key.get(key):
            target.use(user, paused=paused, layer=layer)
        else:
            self.origins.use(key, user, NO_LAYERS if paused else layer)

    def release(self, key: RelayKey, user: Hashable) -> None:
        """Remove a user."""
        if target := self.by_key.get(key):
            target.release(user)
        else:
            self.origins.release(key, user)

    def origin_scores(self, key: RelayKey) -> tuple[int, ...] | None:
        """The scores of a relayed producer at its origin; None if the producer has its origin on that worker."""
        target = self.by_key.get(key)
        return target.scores.scores if target else None

    async def wait_closed(self, key: RelayKey) -> None:
        """Return when a relay target that is being closed has left its worker."""
        if key not in self.by_key:
            await self._runs.wait_idle(key)

    # --- instructions -------------------------------------------------------------------------------

    def open(self, instruction: OpenRelayTarget) -> None:
        """Open a relay target, after an earlier one of the same key has ended."""
        key, order = instruction.key, instruction.command
        source = self._port_of(order.source.server, instruction.entry.message)
        target = RelayTarget(
            instruction, self._config, self._pipes, self._sideband, source, lambda: self._is_origin_paused(key)
        )
        self.by_key[key] = target
        self.waiters.ordered(key)
        self._runs.submit(key, lambda: self._run(target))

    def close(self, key: RelayKey, reason: ClosedReason) -> None:
        """Close a relay target whose producer, or source, the log has removed."""
        target = self.by_key.pop(key, None)
        if target is None:
            return
        target.state.close(reason)
        target.closing.set()
        gone = NotFound("the producer, or the way to it, has closed", producer=key.producer, reason=reason)
        self.waiters.reject(key, gone)

    def reconcile(self, key: RelayKey) -> None:
        """Pause or resume a relay target as its origin is."""
        if target := self.by_key.get(key):
            target.reconcile()

    def refuse(self, order: OpenRelay, entry: Entry, error: MafaldaError) -> None:
        """Append that an ordered relay cannot be opened, and reject the consumes that wait for it."""
        self._reject_waiters(order, entry.seq, error)
        work = self._append_failed(order, entry.message, entry.seq, error)
        self._tasks.spawn(work, f"refuse {order.producer}")

    # --- the life of one ------------------------------------------------------------------------------

    async def _run(self, target: RelayTarget) -> None:
        try:
            error = await run_unless_set(target.closing, self._serve(target), f"relay {target.key.producer}")
        except Interrupted:
            await target.close()
            _log("relay_closed", target, reason=target.state.reason)
            return
        await target.end_source()
        await target.close()
        self._report(RelayTargetEnded(target.key, target.seq))
        if error is None:
            await self._append_closed(target)
            _log("relay_closed", target, reason="unused")
        else:
            await self._append_failed(target.order, target.cause, target.seq, error)
            self._reject_waiters(target.order, target.seq, error)

    async def _serve(self, target: RelayTarget) -> MafaldaError | None:
        """Open it and keep it open while it is used; returns why it could not be opened."""
        error: MafaldaError | None = None
        try:
            with handling(target.cause, "agent.open-relay", {"mafalda.producer": target.key.producer}):
                await target.open()
            await self._append_opened(target)
            target.announced()
            self.waiters.opened(target.key)
            self._opened(target.key)
            _log("relay_opened", target)
            await target.run()
        except TimeoutError:
            error = RelayUnavailable("not open in time", timeout_s=self._config.relay_open_timeout_s)
        except Exception as failure:
            if not isinstance(failure, MafaldaError):
                log.exception("relay failed", action="internal_error", producer_id=target.key.producer)
            error = as_mafalda_error(failure)
        if error is not None:
            target.state.failed()
        if self.by_key.get(target.key) is target:
            del self.by_key[target.key]
        return error

    def _is_origin_paused(self, key: RelayKey) -> bool | None:
        room = self._room(key.room)
        origin = room.producers.get(key.producer) if room else None
        return origin.paused if origin else None

    def _reject_waiters(self, order: OpenRelay, seq: int, error: MafaldaError) -> None:
        key = RelayKey(order.room, order.producer, order.target.worker)
        failed = RelayUnavailable("the relay could not be opened", code=error.code, reason=error.reason)
        self.waiters.refuse(key, seq, failed)

    # --- what is appended -----------------------------------------------------------------------------

    async def _append_opened(self, target: RelayTarget) -> None:
        order = target.order
        opened = RelayOpened(producer=order.producer, data=order.data, source=order.source, target=order.target)
        await self._append(order, opened, target.cause, target.seq)

    async def _append_closed(self, target: RelayTarget) -> None:
        order = target.order
        closed = RelayClosed(
            producer=order.producer, data=order.data, source=order.source, target=order.target, reason="unused"
        )
        await self._append(order, closed, target.cause, target.seq)

    async def _append_failed(self, order: OpenRelay, cause: Message, seq: int, error: MafaldaError) -> None:
        failed = RelayFailed(
            producer=order.producer,
            data=order.data,
            source=order.source,
            target=order.target,
            error=ErrorInfo.of(error),
        )
        await self._append(order, failed, cause, seq)
        log.warning(
            "relay failed", action="relay_failed", room_id=order.room, producer_id=order.producer, reason=str(error)
        )

    async def _append(self, order: OpenRelay, event: Event, cause: Message, seq: int) -> None:
        """Append an event of a relay; its id derives from the order, so that the event is stored once."""
        subject = subjects.room_event(order.room, event.action)
        await self._publisher.append(
            event, subject, cause=cause, id=derived_id(event.action, cause.id, seq, order.producer)
        )


def _log(action: str, target: RelayTarget, **fields: object) -> None:
    source = target.order.source
    log.info(
        action.replace("_", " "),
        action=action,
        room_id=target.key.room,
        producer_id=target.key.producer,
        worker_id=target.key.worker,
        source=f"{source.server}/{source.worker}",
        **fields,
    )
